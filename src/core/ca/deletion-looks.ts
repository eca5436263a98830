/**
 * Looks at the store's clock and remembers the looks by which it is decided what may be deleted.
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
import type { CaState } from "../state.ts";
import { autoRotationAt } from "./auto-rotation.ts";
import type { CaPorts } from "./ca-ports.ts";
import { garbageDueAt } from "./garbage.ts";
import { lookFor } from "./schedule.ts";
import type { Policy } from "./timing-and-limits.ts";

/** How often a look is retried that lost against a concurrent one of another replica. */
const TRIES = 3;

type Ports = Pick<CaPorts, "looks" | "clock" | "providers"> & {
  readonly store: Pick<CaPorts["store"], "now">;
};

export class DeletionClock {
  readonly #ports: Ports;
  readonly #policy: Policy;
  /** The reading that this process compares its next one with. */
  #before: Reading | null = null;

  constructor(ports: Ports, policy: Policy) {
    this.#ports = ports;
    this.#policy = policy;
  }

  /** Looks once, for what may be deleted of a state. @throws {StoreError} */
  look(state: CaState | null): Promise<DeletionTime> {
    const { providers } = this.#ports;
    const dates =
      state === null
        ? undefined
        : {
            collectAt: garbageDueAt(state, providers),
            rotateAt: autoRotationAt(state, providers),
          };
    return this.lookWith(lookFor(state, this.#policy, dates));
  }

  /** Looks once. A look that cannot be saved confirms nothing. @throws {StoreError} */
  async lookWith(options: LookOptions): Promise<DeletionTime> {
    const { store, looks: remembered, clock } = this.#ports;
    for (let tries = 1; ; tries++) {
      const { looks, version } = await remembered.load();
      const now = await store.now();
      const reading = { wallMs: now.getTime(), monotonicMs: clock.monotonicMs?.() ?? null };
      const next = look(looks, reading, this.#before, options);
      if (next === looks || (await remembered.save(next, version))) {
        this.#before = reference(this.#before, reading);
        return deletionTime(next, now);
      }
      if (tries === TRIES) return deletionTime([], now);
    }
  }
}
