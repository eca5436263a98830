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
  /**
   * Takes a turn. Whoever has taken one gives it back with `leave`, under the same limits.
   * @returns null when the turn is there at once, which is the usual case and must cost nothing; else a promise of it.
   * @throws {RateLimitedError} at once or from the promise, when the turn would come too late; then there is none to give back.
   */
  enter(limits: Limits): Promise<void> | null;
  leave(limits: Limits): void;
  /** Turns taken. */
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
    enter(limits) {
      if (inFlight >= policy.maxPendingLeaves) throw new RateLimitedError(1000);
      inFlight++;
      // CSRMaxConcurrent counts only where CSRMaxPerSecond is off (consul-ca.md §2.1).
      if (limits.csrMaxPerSecond !== null) return refundOnError(takeToken(limits.csrMaxPerSecond));
      if (limits.csrMaxConcurrent !== null) return refundOnError(takePlace(limits.csrMaxConcurrent));
      return null;
    },
    leave(limits) {
      inFlight--;
      if (limits.csrMaxPerSecond === null && limits.csrMaxConcurrent !== null) leavePlace();
    },
  };

  async function refundOnError(turn: Promise<void>): Promise<void> {
    try {
      await turn;
    } catch (error) {
      inFlight--;
      throw error;
    }
  }
}
