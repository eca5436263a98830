/**
 * Rollback of the resources that a failed change created outside, and its retry.
 * @module
 */
import { NotReadyError, reasonOf } from "../errors.ts";
import type { Log } from "../ports/log.ts";
import type { Compensation } from "../ports/provider.ts";

/** A compensating action that failed. */
interface Leftover {
  readonly compensation: Compensation;
  /** The commit id of the state that its change began with; null if there was none. */
  readonly base: string | null;
}

/** What rollback uses of a change: what it began with, and its lease. */
interface RollbackContext {
  readonly base: string | null;
  /** @returns false if the lease expired, so that another change may run. */
  readonly extendLease: () => Promise<boolean>;
}

export class Rollback {
  readonly #log: Log;
  #leftovers: readonly Leftover[] = [];

  constructor(log: Log) {
    this.#log = log;
  }

  /** Whether compensating actions failed that `retry` has to repeat. */
  get isIncomplete(): boolean {
    return this.#leftovers.length > 0;
  }

  /**
   * Runs the compensating actions of a failed change, the latest first, as long as its lease is
   * held. Those that fail are kept for `retry`; it never rejects.
   */
  async run(compensations: readonly Compensation[], context: RollbackContext): Promise<void> {
    const { base, extendLease } = context;
    for (const compensation of compensations.toReversed())
      try {
        if (!(await extendLease()))
          throw new NotReadyError("operation_running", "another change may run");
        await compensation();
      } catch (error) {
        this.#log.warn("Failed to roll back provider resources of an aborted change; will retry", {
          reason: reasonOf(error),
        });
        this.#leftovers = [{ compensation, base }, ...this.#leftovers];
      }
  }

  /**
   * Repeats the compensating actions that failed. Resources of a change before the last commit
   * stay, because that commit may use them.
   * @param context of the change in which it runs.
   * @throws {Error} if a compensating action failed again
   */
  async retry(context: RollbackContext): Promise<void> {
    const free = this.#leftovers.filter(({ base }) => base === context.base);
    const resources = this.#leftovers.length - free.length;
    if (resources > 0)
      this.#log.warn(
        "Keeping provider resources of an aborted change: the CA was changed since and may use them",
        { resources },
      );
    this.#leftovers = [];
    await this.run(
      free.map(({ compensation }) => compensation),
      context,
    );
    if (this.isIncomplete) throw new Error("Provider resources are left");
  }
}
