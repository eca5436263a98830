/**
 * How many leaves may be signed: Consul's two limits (consul-ca.md §4.9), and always a bound on what is in flight, so
 * that a flood is answered at once instead of piling up.
 * @module
 */
import type { Clock } from "../clock.ts";
import { RateLimitedError } from "../errors.ts";
import type { CommonConfig } from "../provider.ts";
import type { Policy } from "./policy.ts";

export type Limits = Pick<CommonConfig, "csrMaxPerSecond" | "csrMaxConcurrent">;

export interface Limiter {
  /** Counts a request in, whatever will become of it. @throws {RateLimitedError} when too many are in flight. */
  arrive(): void;
  /** Counts a request out again. */
  depart(): void;
  /**
   * Takes a turn under Consul's limits. Whoever has taken one gives it back with `leave`, under the same limits.
   * @returns null when the turn is there at once, which is the usual case and must cost nothing; else a promise of it.
   * @throws {RateLimitedError} at once or from the promise, when the turn would come too late; then there is none to give back.
   */
  enter(limits: Limits): Promise<void> | null;
  leave(limits: Limits): void;
  /** Requests that arrived and did not depart. */
  readonly inFlight: number;
}

export function createLimiter(clock: Clock, policy: Pick<Policy, "maxPendingLeaves" | "maxQueueMs">): Limiter {
  let inFlight = 0;
  /** When the bucket, which holds one token, is full again. */
  let nextTokenAt = 0;
  let concurrent = 0;
  const waiting: (() => void)[] = [];

  const takeToken = async (perSecond: number) => {
    const now = clock.now().getTime();
    // The rate may have been raised since, or the clock set back: no debt is longer than what this rate can cause.
    nextTokenAt = Math.min(nextTokenAt, now + policy.maxQueueMs + 1000 / perSecond);
    const wait = Math.max(0, nextTokenAt - now);
    if (wait > policy.maxQueueMs) throw new RateLimitedError(wait);
    nextTokenAt = Math.max(now, nextTokenAt) + 1000 / perSecond;
    if (wait > 0) await clock.sleep(wait);
  };

  const takePlace = async (places: number) => {
    if (concurrent >= places) {
      const turn = new AbortController();
      const wake = () => turn.abort();
      waiting.push(wake);
      await clock.sleep(policy.maxQueueMs, turn.signal);
      if (!turn.signal.aborted) {
        waiting.splice(waiting.indexOf(wake), 1);
        throw new RateLimitedError(policy.maxQueueMs);
      }
      // The place was handed over by whoever left it, and is counted already.
      return;
    }
    concurrent++;
  };

  const leavePlace = () => {
    const next = waiting.shift();
    if (next === undefined) concurrent--;
    else next();
  };

  return {
    get inFlight() {
      return inFlight;
    },
    arrive() {
      if (inFlight >= policy.maxPendingLeaves) throw new RateLimitedError(1000);
      inFlight++;
    },
    depart() {
      inFlight--;
    },
    enter(limits) {
      // CSRMaxConcurrent counts only where CSRMaxPerSecond is off (consul-ca.md §2.1).
      if (limits.csrMaxPerSecond !== null) return takeToken(limits.csrMaxPerSecond);
      return limits.csrMaxConcurrent === null ? null : takePlace(limits.csrMaxConcurrent);
    },
    leave(limits) {
      if (limits.csrMaxPerSecond === null && limits.csrMaxConcurrent !== null) leavePlace();
    },
  };
}
