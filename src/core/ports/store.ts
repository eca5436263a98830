/**
 * The store port: the state of the CA. test/contracts/store.ts tests every implementation.
 *
 * - `read` returns what is stored as one consistent read. It throws `state_corrupt` for a document
 *   with an invalid MAC and `schema_unknown` for one of a newer schema, and leaves it unchanged.
 * - `commit` replaces the state atomically. It throws `index_mismatch` if the stored index or commit
 *   id is not the expected one, `lease_lost` if the term is below the highest one granted for the
 *   lease `operation`, and `state_regressed` if the term is above it (the store lost a grant) or a
 *   stop mark is set that the commit does not resolve. All are compared in the same atomic step as
 *   the write. A write is never sent twice. If `commit` throws a StoreError, the outcome is unknown
 *   until a higher term was granted, under which a write that is still on its way is refused, and
 *   the commit id was read back. Once it has resolved, no crash of this process loses the state.
 * - `stop` sets the stop mark: the store lost writes that this replica has seen, and no commit is
 *   accepted until an operator decides. If a mark is set already, the higher index with its state
 *   and the higher term stay. Nothing happens if the stored commit id is not `found` any more: the
 *   lost writes may be back.
 * - `watch` resolves when the stored commit id may differ from `commitId`, or `signal` fires. It may
 *   resolve without a change; it resolves at the latest after the implementation's poll interval.
 * - `now` is the store's clock, by which all expiry is decided, never by a replica's.
 * @module
 */
import type { CaState } from "../state.ts";

/** What is stored, as one consistent read. */
export interface Stored {
  /** The last committed state; null before the first commit. */
  readonly state: CaState | null;
  /** The highest term granted for the lease `operation`; 0 before the first. */
  readonly term: number;
  /** The commit id of the state in the stop mark; null if no mark is set. */
  readonly stopped: string | null;
  /** The id of the key-encryption key of the state's MAC; null if there is no state. */
  readonly kek: string | null;
}

/** A state as text for any store: its keys encrypted, with a MAC over the whole. */
export interface StateCodec {
  encode(state: CaState): Promise<string>;
  /** @throws {StoreError} `state_corrupt`, `schema_unknown` @throws {SealError} `kek_unknown` */
  decode(document: string): Promise<CaState>;
  /** As `decode`, also a state of another datacenter. */
  decodeAny(document: string): Promise<CaState>;
}

export interface Expected {
  /** 0 if nothing is stored. */
  readonly index: number;
  /** Null if nothing is stored. */
  readonly commitId: string | null;
  /** The term of the lease `operation` under which the caller works. */
  readonly term: number;
  /**
   * The commit id of the state in the stop mark that this commit removes; without it there must be
   * no mark.
   */
  readonly resolves?: string;
}

/** Why all changes are stopped: a replica saw a state that the store lost. */
export interface StopMark {
  /** The state that was lost. */
  readonly state: CaState;
  /** The highest term of the lease `operation` that was seen. */
  readonly term: number;
  /** A text for an operator. */
  readonly reason: string;
  /** The replica that detected it. */
  readonly by: string;
}

/** A stop mark to set. */
export interface NewStopMark extends StopMark {
  /** The commit id that was stored when it was detected; null if nothing was. */
  readonly found: string | null;
}

export interface Store {
  /** @throws {StoreError} @throws {SealError} `kek_unknown` */
  read(): Promise<Stored>;
  /**
   * @throws {ConflictError} `index_mismatch`
   * @throws {NotReadyError} `lease_lost`
   * @throws {StoreError}
   */
  commit(next: CaState, expected: Expected): Promise<void>;
  /** @throws {StoreError} */
  stop(mark: NewStopMark): Promise<void>;
  /**
   * The stop mark, with the time when it was set by the store's clock; null if no mark is set.
   * @throws {StoreError}
   * @throws {SealError}
   */
  stopMark(): Promise<(StopMark & { readonly at: Date }) | null>;
  watch(commitId: string | null, signal: AbortSignal): Promise<void>;
  /** @throws {StoreError} */
  now(): Promise<Date>;
}
