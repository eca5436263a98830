/**
 * How long a leaf that was signed until now may live: what a denial has to outlast.
 * @module
 */
import type { Policy } from "./policy.ts";
import type { Snapshot } from "./snapshot.ts";

/**
 * By how much a leaf that is signed outside may outlive what was asked for: the clock of the signer
 * may be ahead.
 */
const REMOTE_EXCESS_MS = 60_000;

/**
 * The time, in milliseconds from now, after which no leaf can be alive that any replica signs
 * without knowing what is known here now: the longest leaf life of every published root and of the
 * configuration in force, for as long as a replica may sign without an answer of the store, with
 * the clocks of two replicas apart and the request in its queue.
 */
export function leafHorizonMs(
  { state, config }: Pick<Snapshot, "state" | "config">,
  policy: Policy,
): number {
  const longest = Math.max(
    config.leafTtlMs,
    ...state.roots.map(({ leafTtlMaxMs }) => leafTtlMaxMs),
  );
  const unaware = Math.max(policy.maxStalenessMs ?? 0, policy.maxAgeMs ?? 0, policy.replicaTtlMs);
  const queued = policy.maxQueueMs / (1 - policy.renewalShare);
  return longest + unaware + 2 * policy.maxClockSkewMs + queued + REMOTE_EXCESS_MS;
}
