/**
 * The record store port: tokens, policies, auth methods, binding rules and denials, one record
 * each. It knows names, versions and opaque documents; their content and authenticity are up to the
 * caller. test/contracts/record-store.ts tests every implementation.
 *
 * - Every write has an index, one above the one before, and a tip: a random name, which tells a
 *   write from one that the store lost and wrote over.
 * - `read` returns what changed since a mark, as one consistent read, and the mark to go on from.
 *   It returns everything, with `complete` set, if the store does not know what changed: without a
 *   mark, after more than CHANGES_KEPT writes, or if the store lost writes.
 * - `write` makes all changes in one atomic step, or none. It throws `index_mismatch` if a record is
 *   not at the expected version, and `name_taken` if another record of its kind has the key. All are
 *   compared before anything is written. A write changes each record once; a key that one record
 *   gives up is free for another one of the same write.
 *   With `set`, it throws `set_moved` if the last write is not the one that the caller knows, and
 *   `state_regressed` if the stop mark is not the one that the caller knows, after the records were
 *   compared. The set document is replaced and the stop mark cleared in the same step. A `set` whose
 *   `at` is null is an operator's decision: nothing is compared, and all stored records are deleted
 *   first. Without `set`, as versions write that know no set document, the set document stays.
 *   A write is never sent twice. If `write` throws a StoreError, the outcome is unknown and the
 *   caller reads the records back; a write that still arrives later fails on the versions once
 *   another write has changed them.
 * - `stop` sets the stop mark, unless another write was made since the caller read. It stays until a
 *   write resolves it.
 * - `claim` returns true once for each id, to the first replica that asks. The claim expires after
 *   `ttlMs` by the store's clock, but not before `until`, and is kept until `forgetClaims` deletes
 *   it: a store must not expire it by itself, since a clock that is ahead for a moment would. If it
 *   throws, the id may be claimed.
 * - `forgetClaims` deletes the claims that expired at an instant or before it.
 * - `watch` resolves when what is stored may differ from the mark, or `signal` fires. It may resolve
 *   without a change. While the store answers, it resolves within a second of a change.
 * @module
 */

export const RECORD_KINDS = [
  "access-key",
  "bootstrap",
  "token",
  "policy",
  "role",
  "auth-method",
  "binding-rule",
  "denial",
  "tombstone",
] as const;
export type RecordKind = (typeof RECORD_KINDS)[number];

/**
 * For how many writes `read` knows what changed. A replica reads within a second; a burst of logins
 * is hundreds of writes.
 */
export const CHANGES_KEPT = 1000;

export interface RecordName {
  readonly kind: RecordKind;
  /** One to 200 letters, digits, `_`, `.` or `-`. */
  readonly id: string;
}

export interface StoredRecord extends RecordName {
  /** 1 for a new record, one more with each change; 1 again after the record was deleted. */
  readonly version: number;
  /** Unique among the records of the kind, or null: a policy's name, a token's hash. */
  readonly key: string | null;
  readonly document: string;
  /** Indexes of the writes that created the record and that changed it last. */
  readonly createIndex: number;
  readonly modifyIndex: number;
}

export interface RecordChange extends RecordName {
  /** The version that is stored, or was if all is replaced; 0 if there is no record. */
  readonly expected: number;
  /** Null deletes. */
  readonly next: { readonly key: string | null; readonly document: string } | null;
}

/** The last write that a reader knows. */
export interface Mark {
  readonly index: number;
  readonly tip: string;
}

/** Before the first write. */
export const NOTHING_WRITTEN: Mark = { index: 0, tip: "" };

export interface Changes extends Mark {
  /** Whether `records` are all records; others were deleted. */
  readonly complete: boolean;
  readonly records: readonly StoredRecord[];
  /** The records deleted since; empty if `complete`. */
  readonly gone: readonly RecordName[];
  /** The set document of the last write that had one, or null. */
  readonly set: string | null;
  /** The stop mark, or null. */
  readonly stopped: string | null;
}

/** The set document of a write: what it states about all records. */
export interface SetChange {
  /** The last write that the caller knows; null replaces all that is stored. */
  readonly at: Mark | null;
  /** The index of this write, above every one that was seen. */
  readonly index: number;
  readonly document: string;
  /** The stop mark that this write clears; null if the caller knows of no mark. */
  readonly resolves: string | null;
}

export interface RecordStore {
  /** @param since null for everything. @throws {StoreError} */
  read(since: Mark | null): Promise<Changes>;
  /**
   * @param tip a random name for this write.
   * @returns the index of the write.
   * @throws {ConflictError} `index_mismatch`, `name_taken`, `set_moved`
   * @throws {StoreError} `state_regressed` and others
   */
  write(changes: readonly RecordChange[], tip: string, set?: SetChange): Promise<number>;
  /** @param found the tip of the last write that the caller has read. @throws {StoreError} */
  stop(mark: string, found: string): Promise<void>;
  /** @param until the earliest expiry, by the caller's clock. @throws {StoreError} */
  claim(id: string, ttlMs: number, until: Date): Promise<boolean>;
  /** @param until by the store's clock. @throws {StoreError} */
  forgetClaims(until: Date): Promise<void>;
  watch(tip: string, signal: AbortSignal): Promise<void>;
}
