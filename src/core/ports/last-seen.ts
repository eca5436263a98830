/**
 * The recollection port: what a replica saw last, kept beside it and not in the store. A store that
 * lost writes, or all of its state, is noticed by it also after a restart.
 * @module
 */

import type { CaState } from "../state.ts";
import type { Mark } from "./record-store.ts";

export interface Recollected {
  readonly state: CaState;
  /** The highest term of the lease `operation` that was seen. */
  readonly term: number;
  /**
   * When the store last confirmed that state, by this replica's clock; null if that is not known.
   */
  readonly confirmedAt: Date | null;
}

export interface Recollection {
  /**
   * What was kept last, or null.
   * @throws {StoreError} when it cannot be trusted
   * @throws {SealError} `kek_unknown`
   */
  load(): Promise<Recollected | null>;
  /** @throws {StoreError} */
  save(seen: Recollected): Promise<void>;
}

/** The same for access control: which write of its set this replica saw last. */
export interface AccessRecollection {
  /**
   * Null if nothing was kept for this cluster.
   * @throws {StoreError} when it cannot be trusted
   * @throws {SealError} `kek_unknown`
   */
  load(clusterId: string): Promise<Mark | null>;
  /** @throws {StoreError} */
  save(clusterId: string, seen: Mark): Promise<void>;
}
