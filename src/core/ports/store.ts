/**
 * The store port: where the state lives. One contract suite, test/contracts/store.ts, holds every
 * implementation.
 *
 * - `read` gives what is stored in one consistent look. It throws `state_corrupt` for a document
 *   whose MAC is wrong and
 *   `schema_unknown` for one of a newer schema, and leaves the document as it is.
 * - `commit` replaces the state at once and as a whole, or not at all. It is refused with
 *   `index_mismatch` when the
 *   stored index or commit id is not the expected one, with `lease_lost` when the term is below the
 *   highest one granted
 *   for the lease `operation`, and with `state_regressed` when the term is above it (the store
 *   forgot a grant) or a stop
 *   mark is set that the commit does not resolve. All are compared in the same atomic step as the
 *   write. A write is never
 *   sent twice. When `commit` throws a StoreError the outcome is unknown until a term above the
 *   caller's has been granted,
 *   which keeps a write that is still on its way from being accepted, and the commit id has been
 *   read back.
 *   Once it has returned, no crash of this process loses the state.
 * - `stop` sets the stop mark: the store lost writes that this replica has seen, and until an
 *   operator decides no commit
 *   is accepted. Where a mark is set already, the state with the higher index and the higher term
 *   stay in it. Nothing
 *   happens where the stored commit id is not the one that was found lacking: what was lost may be
 *   back by now.
 * - `watch` resolves when the stored commit id may differ from `commitId`, or `signal` fires. It
 *   may resolve for no
 *   reason; it never stays silent about a change for longer than the implementation's poll
 *   interval.
 * - `now` is the store's clock. Every instant that decides something is taken from it, never from a
 *   replica's.
 * @module
 */
import type { CaState } from "../state.ts";

/** What is stored, in one consistent look. */
export interface Stored {
  /** The last committed state, or null where there never was one. */
  readonly state: CaState | null;
  /** The highest term granted for the lease `operation`; 0 before the first. */
  readonly term: number;
  /** The commit id of the state in the stop mark, or null where none is set. */
  readonly stopped: string | null;
  /**
   * The id of the key-encryption key under which the state has its MAC, or null where there is no
   * state.
   */
  readonly kek: string | null;
}

/** A state as text that can be kept anywhere: keys sealed, the whole under a MAC. */
export interface StateCodec {
  encode(state: CaState): Promise<string>;
  /** @throws {StoreError} `state_corrupt`, `schema_unknown` @throws {SealError} `kek_unknown` */
  decode(document: string): Promise<CaState>;
}

export interface Expected {
  /** 0 where nothing is stored. */
  readonly index: number;
  /** Null where nothing is stored. */
  readonly commitId: string | null;
  /** The term of the lease `operation` under which the caller works. */
  readonly term: number;
  /**
   * The commit id of the state in the stop mark that this commit takes away. None: there must be no
   * mark.
   */
  readonly resolves?: string;
}

/** Why all changes are stopped: a replica has seen a state that the store lost. */
export interface StopMark {
  /** What was seen. */
  readonly state: CaState;
  /** The highest term of the lease `operation` that was seen. */
  readonly term: number;
  /** In words, for an operator. */
  readonly reason: string;
  /** The replica that noticed. */
  readonly by: string;
}

/** A stop mark as it is set. */
export interface NewStopMark extends StopMark {
  /** The commit id that was stored when it was noticed; null where nothing was. */
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
   * The stop mark, with when it was set by the store's clock, or null.
   * @throws {StoreError}
   * @throws {SealError}
   */
  stopMark(): Promise<(StopMark & { readonly at: Date }) | null>;
  watch(commitId: string | null, signal: AbortSignal): Promise<void>;
  /** @throws {StoreError} */
  now(): Promise<Date>;
  /** Ends this instance; the stored state stays. */
  close(): Promise<void>;
}
