/**
 * The looks port: stores the looks at the clock by which deletion-time.ts decides, over a restart
 * and, if several replicas share a store, for the next leader. Looks are not secret and need no
 * MAC: forging them can shorten the span, but nothing is deleted before it has expired by the clock.
 *
 * - `load` returns what was saved last; no looks if nothing was saved or it cannot be read.
 * - `save` replaces exactly what `load` returned, by its version, atomically; else it changes
 *   nothing and returns false.
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
