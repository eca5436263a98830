/**
 * The part of the CA's work that concerns what providers keep outside: what a failed change made
 * there is undone, an issuer is renewed, what was left behind is deleted, and what is relied on is
 * looked after.
 * @module
 */

import { ConfigError, ConflictError, InvariantError, NotReadyError, reasonOf } from "../errors.ts";
import type { Clock } from "../ports/clock.ts";
import type { Log } from "../ports/log.ts";
import type { Compensation, Inspection, ProviderHealth } from "../ports/provider.ts";
import type { Operation, Operations } from "./operation.ts";
import type { Policy } from "./policy.ts";
import type { Plan } from "./schedule.ts";
import type { Snapshot } from "./snapshot.ts";

export interface UpkeepOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly policy: Policy;
  readonly operations: Operations;
  readonly snapshot: () => Snapshot | null;
  /**
   * Takes up another root that stands where the active one stood.
   * @throws {ConfigError} where that needs force
   */
  readonly followRoot: () => Promise<void>;
  readonly renew: () => Promise<void>;
  /** Has cross-signed certificates made again. @returns whether there was one to make */
  readonly cross: () => Promise<boolean>;
  readonly collect: () => Promise<void>;
}

export interface Upkeep {
  /**
   * Undoes what a change made outside, the latest first, as long as it has its lease. What cannot
   * be undone now is left for `tidy`. It never rejects.
   * @param base the commit id of the state that the change was worked out from; null: there was
   * none.
   */
  abandon(undos: readonly Compensation[], base: string | null, operation: Operation): Promise<void>;
  /**
   * Tries again to undo what could not be undone: as a change of its own, and only where nothing
   * was committed since. A later change may have put to use what a failed one had made. It never
   * rejects.
   */
  tidy(): Promise<void>;
  /**
   * Does one step, if one is due and the last one that failed is long enough ago.
   * @returns what it did, or the plan.
   * @throws {CaError}
   */
  step(due: Plan): Promise<Plan>;
  /**
   * Ends the provider that signs, and waits a little for what it still does outside. It never
   * rejects.
   */
  close(): Promise<void>;
  /** How what is outside is doing, with what was found on looking. */
  health(): ProviderHealth;
}

/** How long whoever ends waits for what is outside, in milliseconds. */
const CLOSE_MS = 2000;

interface Leftover {
  readonly undo: Compensation;
  readonly base: string | null;
}

interface Trouble {
  readonly reason: string;
  readonly since: Date;
}

interface Retry {
  (work: () => Promise<void>): Promise<void>;
  /** Whether the last failure is long enough ago. */
  isDue(): boolean;
}

/**
 * Whether so much time has passed since an instant; also if the clock was ahead then and says
 * nothing about it any more.
 */
function hasPassed(clock: Clock, since: number, ms: number): boolean {
  return Math.abs(clock.now().getTime() - since) >= ms;
}

/**
 * Runs a step; after each failure in a row the next try waits twice as long, up to Consul's 256 s
 * (consul-ca.md §4.8).
 */
function createRetry(clock: Clock): Retry {
  let failures = 0;
  let failedAt = 0;
  let waitMs = 0;
  const attempt = async (work: () => Promise<void>): Promise<void> => {
    try {
      await work();
      [failures, waitMs] = [0, 0];
    } catch (error) {
      failures = Math.min(8, failures + 1);
      [failedAt, waitMs] = [clock.now().getTime(), 1000 * 2 ** failures];
      throw error;
    }
  };
  return Object.assign(attempt, { isDue: () => hasPassed(clock, failedAt, waitMs) });
}

export function createUpkeep(options: UpkeepOptions): Upkeep {
  const { clock, log, policy, operations, snapshot } = options;
  let leftovers: readonly Leftover[] = [];
  let inspectedAt = Number.NEGATIVE_INFINITY;
  /** Why the root that stands outside was not taken up, and since when. */
  let refused: Trouble | null = null;
  /** Why what was left behind cannot be deleted. */
  let uncollected: Trouble | null = null;
  /** Why what signs leaves cannot be renewed. */
  let unrenewed: Trouble | null = null;
  /** Why a cross-signed certificate that ends too soon cannot be made again. */
  let uncrossed: Trouble | null = null;

  /** @returns what is left */
  const undoAll = async (
    steps: readonly Leftover[],
    operation: Operation,
  ): Promise<readonly Leftover[]> => {
    const left: Leftover[] = [];
    for (const step of steps.toReversed())
      try {
        if (!(await operations.hold(operation)))
          throw new NotReadyError("operation_running", "another change may run by now");
        await step.undo();
      } catch (error) {
        log.warn("Cannot undo yet what a change that failed had made outside", {
          reason: reasonOf(error),
        });
        left.unshift(step);
      }
    return left;
  };

  const [renewing, crossing, collecting, inspecting, undoing] = [1, 2, 3, 4, 5].map(() =>
    createRetry(clock),
  ) as [Retry, Retry, Retry, Retry, Retry];

  /**
   * The certificate that there is lasts for some time yet: a failure is said once, and nothing
   * waits for it.
   */
  const cross = async (): Promise<boolean> => {
    try {
      await crossing(async () => {
        if (!(await options.cross()))
          throw new InvariantError("No cross-signed certificate is due after all");
      });
      uncrossed = null;
      return true;
    } catch (error) {
      const reason = reasonOf(error);
      if (reason !== uncrossed?.reason)
        log.warn("Failed to renew a cross-signed certificate; will retry", { reason });
      uncrossed = { reason, since: uncrossed?.since ?? clock.now() };
      return false;
    }
  };

  /** What is left behind harms nobody: a failure is said once, and nothing waits for it. */
  const collect = async (): Promise<boolean> => {
    try {
      await collecting(options.collect);
      uncollected = null;
      return true;
    } catch (error) {
      const reason = reasonOf(error);
      if (reason !== uncollected?.reason)
        log.warn("Cannot delete yet what was left behind outside", { reason });
      uncollected = { reason, since: uncollected?.since ?? clock.now() };
      return false;
    }
  };

  /** @throws {Error} where something is left */
  const undoLeftovers = () =>
    operations.run("RENEWING", async (operation) => {
      const current = snapshot()?.state.commitId ?? null;
      const free = leftovers.filter(({ base }) => base === current);
      if (free.length < leftovers.length)
        log.warn(
          "What a change that failed had made outside stays there: the CA was changed since and may use it",
          {
            steps: leftovers.length - free.length,
          },
        );
      leftovers = free;
      leftovers = await undoAll(free, operation);
      if (leftovers.length > 0) throw new Error("Something is left");
    });

  const inspect = async (): Promise<void> => {
    inspectedAt = clock.now().getTime();
    const found: Inspection | undefined = await snapshot()?.provider?.external?.inspect();
    if (found === undefined || !found.rootReplaced) refused = null;
    if (found?.issuerLost) await options.renew();
    if (!found?.rootReplaced) return;
    try {
      await options.followRoot();
      refused = null;
    } catch (error) {
      if (!(error instanceof ConfigError || error instanceof ConflictError)) throw error;
      refused ??= { reason: error.message, since: clock.now() };
    }
  };

  return {
    async abandon(undos, base, operation) {
      const steps = undos.map((undo) => ({ undo, base }));
      leftovers = [...leftovers, ...(await undoAll(steps, operation))];
    },
    async tidy() {
      if (leftovers.length > 0 && undoing.isDue())
        await undoing(undoLeftovers).catch(() => undefined);
    },
    async step(due) {
      const now = clock.now();
      const waiting: Plan =
        due.kind === "wait"
          ? due
          : { kind: "wait", until: new Date(now.getTime() + policy.leaderRetryMs) };
      if (due.kind !== "renew") unrenewed = null;
      if (due.kind === "renew" && renewing.isDue()) {
        await renewing(options.renew).catch((error: unknown) => {
          unrenewed = { reason: reasonOf(error), since: unrenewed?.since ?? clock.now() };
          throw error;
        });
        unrenewed = null;
        return due;
      }
      if (due.kind !== "cross") uncrossed = null;
      if (due.kind === "cross" && crossing.isDue() && (await cross())) return due;
      if (due.kind === "collect" && collecting.isDue() && (await collect())) return due;
      if (hasPassed(clock, inspectedAt, policy.inspectMs) && inspecting.isDue())
        await inspecting(inspect);
      return waiting;
    },
    async close() {
      const over = new AbortController();
      await Promise.race([snapshot()?.provider?.close(), clock.sleep(CLOSE_MS, over.signal)]);
      over.abort();
    },
    health() {
      const { obstacle = null, notes: own = [] } = snapshot()?.provider?.external?.health ?? {};
      const trouble = (what: string, found: Trouble | null) =>
        found === null ? [] : [`${what} since ${found.since.toISOString()}: ${found.reason}`];
      const notes = [
        ...own,
        ...trouble("what was left behind cannot be deleted", uncollected),
        ...trouble("what signs leaves cannot be renewed", unrenewed),
        ...trouble("a cross-signed certificate of a retired root cannot be renewed", uncrossed),
      ];
      if (refused === null) return { obstacle, notes };
      const note = `another root stands outside since ${refused.since.toISOString()} and is not taken up: ${refused.reason}; PUT /v1/connect/ca/rotate with {"ForceWithoutCrossSigning": true} takes it up`;
      return { obstacle, notes: [...notes, note] };
    },
  };
}
