/**
 * The part of the CA's work that concerns what providers keep outside: what a failed change made there is undone, an issuer
 * is renewed, what was left behind is deleted, and what is relied on is looked after.
 * @module
 */
import type { Clock } from "../clock.ts";
import { ConfigError, ConflictError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { Inspection, ProviderHealth, Undo } from "../provider.ts";
import { reasonOf } from "./follower.ts";
import type { Plan } from "./plan.ts";
import type { Policy } from "./policy.ts";
import type { Snapshot } from "./snapshot.ts";

export interface UpkeepOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly policy: Policy;
  readonly snapshot: () => Snapshot | null;
  /** Takes up another root that stands where the active one stood. @throws {ConfigError} where that needs force */
  readonly followRoot: () => Promise<void>;
  readonly renew: () => Promise<void>;
  readonly collect: () => Promise<void>;
}

export interface Upkeep {
  /** Undoes what a change made outside, the latest first; what cannot be undone now is tried again. It never rejects. */
  abandon(undos: readonly Undo[]): Promise<void>;
  /** Does one step, if one is due and the last one that failed is long enough ago. @returns what it did, or the plan. @throws {CaError} */
  step(due: Plan): Promise<Plan>;
  /** How what is outside is doing, with what was found on looking. */
  health(): ProviderHealth;
}

export function createUpkeep(options: UpkeepOptions): Upkeep {
  const { clock, log, policy, snapshot } = options;
  let leftovers: readonly Undo[] = [];
  let failures = 0;
  let notBefore = 0;
  let inspectAt = 0;
  /** Why the root that stands outside was not taken up, and since when. */
  let refused: { readonly reason: string; readonly since: Date } | null = null;

  const undo = async (undos: readonly Undo[]): Promise<readonly Undo[]> => {
    const failed: Undo[] = [];
    for (const step of undos.toReversed())
      await step().catch((error: unknown) => {
        log.warn("Cannot undo yet what a change that failed had made outside", { reason: reasonOf(error) });
        failed.unshift(step);
      });
    return failed;
  };

  /** Runs a step; after each failure in a row the next try waits twice as long, up to Consul's 256 s (consul-ca.md §4.8). */
  const attempt = async (work: () => Promise<void>): Promise<void> => {
    try {
      await work();
      failures = 0;
      notBefore = 0;
    } catch (error) {
      failures = Math.min(8, failures + 1);
      notBefore = clock.now().getTime() + 1000 * 2 ** failures;
      throw error;
    }
  };

  const inspect = async (): Promise<boolean> => {
    inspectAt = clock.now().getTime() + policy.inspectMs;
    const found: Inspection | undefined = await snapshot()?.provider?.inspect?.();
    if (found === undefined || !found.rootReplaced) refused = null;
    if (found?.issuerLost) {
      await options.renew();
      return true;
    }
    if (!found?.rootReplaced) return false;
    try {
      await options.followRoot();
      refused = null;
      return true;
    } catch (error) {
      if (!(error instanceof ConfigError || error instanceof ConflictError)) throw error;
      refused ??= { reason: error.message, since: clock.now() };
      return false;
    }
  };

  return {
    async abandon(undos) {
      leftovers = [...leftovers, ...(await undo(undos))];
    },
    async step(due) {
      const now = clock.now().getTime();
      const wait: Plan = { kind: "wait", until: new Date(Math.max(now + 1, notBefore)) };
      if (now < notBefore) return due.kind === "wait" ? due : wait;
      if (leftovers.length > 0) {
        await attempt(async () => {
          leftovers = await undo(leftovers);
          if (leftovers.length > 0) notBefore = now + 2000;
        });
        return wait;
      }
      if (due.kind === "renew") await attempt(options.renew);
      else if (due.kind === "collect") await attempt(options.collect);
      else if (now >= inspectAt) await attempt(async () => void (await inspect()));
      return due;
    },
    health() {
      const { obstacle = null, notes = [] } = snapshot()?.provider?.health ?? {};
      if (refused === null) return { obstacle, notes };
      const note = `another root stands outside since ${refused.since.toISOString()} and is not taken up: ${refused.reason}; PUT /v1/connect/ca/rotate with {"ForceWithoutCrossSigning": true} takes it up`;
      return { obstacle, notes: [...notes, note] };
    },
  };
}
