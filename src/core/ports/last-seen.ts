/**
 * What this replica saw last in the store, kept outside of the store. With it a replica detects
 * after a restart that the store lost writes or all of its state.
 * @module
 */

import type { CaState } from "../state.ts";
import type { Mark } from "./record-store.ts";

export interface LastSeen {
  readonly state: CaState;
  /** The highest term of the lease `operation` that was seen. */
  readonly term: number;
  /**
   * When the store last confirmed that state, by this replica's clock; null if that is not known.
   */
  readonly confirmedAt: Date | null;
}

export interface LastSeenStore {
  /**
   * @returns null if nothing was saved.
   * @throws {StoreError} `state_corrupt` for what cannot be trusted
   * @throws {SealError} `kek_unknown`
   */
  load(): Promise<LastSeen | null>;
  /** @throws {StoreError} */
  save(seen: LastSeen): Promise<void>;
}

/** The same for access control: the last write of its set that this replica saw. */
export interface AclLastSeenStore {
  /**
   * @returns null if nothing was saved for this cluster.
   * @throws {StoreError} `state_corrupt` for what cannot be trusted
   * @throws {SealError} `kek_unknown`
   */
  load(clusterId: string): Promise<Mark | null>;
  /** @throws {StoreError} */
  save(clusterId: string, seen: Mark): Promise<void>;
}
