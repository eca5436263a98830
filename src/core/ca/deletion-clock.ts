/**
 * Looks at the store's clock, and remembers the looks by which it is decided what may be deleted.
 * @module
 */

import {
  type DeletionTime,
  deletionTime,
  type LookOptions,
  look,
  type Reading,
  reference,
} from "../deletion-time.ts";
import type { Clock } from "../ports/clock.ts";
import type { LookStore } from "../ports/looks.ts";
import type { Store } from "../ports/store.ts";

/** How often a look is tried again that another replica was faster with. */
const TRIES = 3;

export class DeletionClock {
  readonly #store: Pick<Store, "now">;
  readonly #looks: LookStore;
  readonly #clock: Clock;
  /** What this process compares its next look with. */
  #before: Reading | null = null;

  constructor(store: Pick<Store, "now">, looks: LookStore, clock: Clock) {
    this.#store = store;
    this.#looks = looks;
    this.#clock = clock;
  }

  /**
   * Looks once. A look that cannot be saved confirms nothing.
   * @throws {StoreError}
   */
  async look(options: LookOptions): Promise<DeletionTime> {
    for (let tries = 1; ; tries++) {
      const { looks, version } = await this.#looks.load();
      const now = await this.#store.now();
      const reading = { wallMs: now.getTime(), monotonicMs: this.#clock.monotonicMs?.() ?? null };
      const next = look(looks, reading, this.#before, options);
      if (next === looks || (await this.#looks.save(next, version))) {
        this.#before = reference(this.#before, reading);
        return deletionTime(next, now);
      }
      if (tries === TRIES) return deletionTime([], now);
    }
  }
}
