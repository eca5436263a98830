/**
 * The looks port: where the looks at the clock are remembered by which deletion-time.ts decides,
 * over a restart and, if several replicas share a store, for whichever of them leads next. They are
 * no secret and need no MAC: anyone who forges them can shorten the span, but nothing is deleted
 * before the clock says that its time is over.
 *
 * - `load` gives what was saved last, and no looks if there is nothing or it cannot be read.
 * - `save` replaces exactly what `load` gave, by its version, in one step; else it changes nothing
 *   and answers false.
 * @module
 */
import type { Looks } from "../deletion-time.ts";

export interface StoredLooks {
  readonly looks: Looks;
  /** Opaque. */
  readonly version: string;
}

export interface LookStore {
  /** @throws {StoreError} */
  load(): Promise<StoredLooks>;
  /** @throws {StoreError} */
  save(looks: Looks, version: string): Promise<boolean>;
}
