/**
 * The store port: where the state lives. One contract suite, test/contracts/store.ts, holds every implementation.
 *
 * - `read` gives the last committed state, or null where there never was one. It throws `state_corrupt` for a document
 *   whose MAC is wrong and `schema_unknown` for one of a newer schema, and leaves the document as it is.
 * - `commit` replaces the state at once and as a whole, or not at all. It is refused with `index_mismatch` when the
 *   stored index or commit id is not the expected one, and with `lease_lost` when the term is below the highest one
 *   granted for the lease `operation`: both are compared in the same atomic step as the write. A write is never sent
 *   twice. When `commit` throws `store_unavailable` the outcome is unknown: the caller reads the commit id back.
 *   Once it has returned, no crash of this process loses the state.
 * - `watch` resolves when the stored commit id may differ from `commitId`, or `signal` fires. It may resolve for no
 *   reason; it never stays silent about a change for longer than the implementation's poll interval.
 * - `now` is the store's clock. Every instant that decides something is taken from it, never from a replica's.
 * @module
 */
import type { CaState } from "./ca/state.ts";

export interface Expected {
  /** 0 where nothing is stored. */
  readonly index: number;
  /** Null where nothing is stored. */
  readonly commitId: string | null;
  /** The term of the lease `operation` under which the caller works. */
  readonly term: number;
}

export interface Store {
  /** @throws {StoreError} */
  read(): Promise<CaState | null>;
  /** @throws {ConflictError} `index_mismatch` @throws {NotReadyError} `lease_lost` @throws {StoreError} */
  commit(next: CaState, expected: Expected): Promise<void>;
  watch(commitId: string | null, signal: AbortSignal): Promise<void>;
  /** @throws {StoreError} */
  now(): Promise<Date>;
  /** Ends this instance; the stored state stays. */
  close(): Promise<void>;
}
