/**
 * The access store port: where tokens, policies, auth methods, binding rules and denials live, one
 * record each. It knows names, versions and opaque documents; what is in a document, and that
 * nobody but us wrote it, is the caller's business. One contract suite,
 * test/contracts/record-store.ts, holds every implementation.
 *
 * - `read` gives what changed since a mark in one consistent look, and the mark to go on from.
 *   Where the store cannot
 *   tell what changed, because there is no mark, because it was too long ago, or because the store
 *   lost writes, it gives
 *   everything and says so with `complete`.
 * - `write` makes all changes in one atomic step, or none. It is refused with `index_mismatch` when
 *   a record is not at
 *   the version that is expected, and with `name_taken` when another record of its kind has the key
 *   that one asks for.
 *   All are compared before anything is written. A write changes each record once; a key that it
 *   gives up is free for
 *   another one of its records.
 *   With `set`, the write is refused with `set_moved` unless the last write is the one that the
 *   caller knows, and with
 *   `state_regressed` unless the stop mark is the one that the caller knows. The records are
 *   compared first. The set
 *   document is replaced, and the stop mark cleared, in the same step as the records. A set
 *   document that replaces all is
 *   for what an operator decided on: nothing is compared, and all records that were stored are
 *   dropped first, whatever they
 *   look like. Without `set` it is the write of a
 *   version that knows no set document: that stays as it is, and is not about this write.
 *   A write is never sent twice. When `write` throws a StoreError the outcome is unknown; the
 *   caller reads the records
 *   back. A write that is still on its way then is held off by the versions, once another one has
 *   changed them.
 * - `stop` sets the stop mark, unless another write was made since the caller read. It stays until
 *   a write resolves it.
 * - `claim` is true once for each id, for whichever replica asks first. It keeps the id, with its
 *   end `ttlMs` from now on
 *   by the store's clock but not before `until`, until `forgetClaims` deletes it: no store lets it
 *   expire by itself, since a
 *   clock that is ahead for a moment would end it. When it throws, the id may be claimed.
 * - `forgetClaims` deletes the claims that ended at an instant or before it.
 * - `watch` resolves when what is stored may differ from the mark, or `signal` fires. It may
 *   resolve for no reason; it
 *   never stays silent about a change for longer than a second while the store answers.
 * - Every write has an index, one above the one before, and a tip: a random name, by which writes
 *   that were lost and
 *   written over are told apart.
 * @module
 */

export const RECORD_KINDS = [
  "access-key",
  "bootstrap",
  "token",
  "policy",
  "auth-method",
  "binding-rule",
  "denial",
  "tombstone",
] as const;
export type RecordKind = (typeof RECORD_KINDS)[number];

/**
 * How far back `read` can tell what changed, in writes. A replica follows within a second; a burst
 * of logins is hundreds.
 */
export const CHANGES_KEPT = 1000;

export interface RecordName {
  readonly kind: RecordKind;
  /** One to 200 letters, digits, `_`, `.` or `-`. */
  readonly id: string;
}

export interface StoredRecord extends RecordName {
  /**
   * 1 for a new record, one more with each change. A record that is deleted and made again begins
   * anew.
   */
  readonly version: number;
  /**
   * What no other record of the kind has, or null: a policy's name, a token's hash. As free of form
   * as an id.
   */
  readonly key: string | null;
  readonly document: string;
  /** Indexes of the writes that made it and that changed it last. */
  readonly createIndex: number;
  readonly modifyIndex: number;
}

export interface RecordChange extends RecordName {
  /** The version that is stored, or was if all is replaced; 0 for none. */
  readonly expected: number;
  /** Null deletes. */
  readonly next: { readonly key: string | null; readonly document: string } | null;
}

/** Where a reader is. */
export interface Mark {
  readonly index: number;
  readonly tip: string;
}

/** Before the first write. */
export const NOTHING_WRITTEN: Mark = { index: 0, tip: "" };

export interface Changes extends Mark {
  /** Whether `records` are all that there are; whatever is not among them is gone then. */
  readonly complete: boolean;
  readonly records: readonly StoredRecord[];
  /** What was deleted since; empty when `complete`. */
  readonly gone: readonly RecordName[];
  /** The set document of the last write that had one, or null. */
  readonly set: string | null;
  /** The stop mark, or null. */
  readonly stopped: string | null;
}

/** What a write says of the whole set of records. */
export interface SetChange {
  /** The last write that the caller knows; null replaces all that is stored. */
  readonly at: Mark | null;
  /** The index that this write gets, above every one that was seen. */
  readonly index: number;
  readonly document: string;
  /** The stop mark that the caller knows, and that this write clears; null for none. */
  readonly resolves: string | null;
}

export interface AccessStore {
  /** @param since null for everything. @throws {StoreError} */
  read(since: Mark | null): Promise<Changes>;
  /**
   * @param tip a random name for this write.
   * @returns the index of the write.
   * @throws {ConflictError} `index_mismatch`, `name_taken`, `set_moved` @throws {StoreError}
   * `state_regressed` and others
   */
  write(changes: readonly RecordChange[], tip: string, set?: SetChange): Promise<number>;
  /** @param found the tip of the last write that the caller has read. @throws {StoreError} */
  stop(mark: string, found: string): Promise<void>;
  /** @param until the end by the caller's clock. @throws {StoreError} */
  claim(id: string, ttlMs: number, until: Date): Promise<boolean>;
  /** @param until by the store's clock. @throws {StoreError} */
  forgetClaims(until: Date): Promise<void>;
  watch(tip: string, signal: AbortSignal): Promise<void>;
}
