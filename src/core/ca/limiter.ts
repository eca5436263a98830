/**
 * How many leaves may be signed: Consul's two limits (consul-ca.md §4.9), and always a bound on
 * what is in flight, so that a flood is answered at once instead of piling up.
 * @module
 */

import { RateLimitedError } from "../errors.ts";
import type { Clock } from "../ports/clock.ts";
import type { CommonConfig } from "../ports/provider.ts";
import type { Policy } from "./policy.ts";
import { createMemory, type LimiterMemory } from "./replica-memory.ts";

export type Limits = Pick<CommonConfig, "csrMaxPerSecond" | "csrMaxConcurrent">;

/**
 * A renewal is for who had a leaf until now: it goes before a first issue, and part of the room is
 * kept for it.
 */
export type Priority = "issue" | "renewal";

export interface Limiter {
  /**
   * Looks whether there is room, so that a request is shed before its body is read.
   * @throws {RateLimitedError}
   */
  requireRoom(priority: Priority): void;
  /**
   * Counts a request in, whatever will become of it.
   * @throws {RateLimitedError} when too many are in flight.
   */
  arrive(priority: Priority): void;
  /** Counts a request out again. */
  depart(): void;
  /**
   * Takes a place among those that are worked on, renewals first. Whoever has it gives it back with
   * `pause`.
   * @returns null when there is one at once; else a promise of it.
   */
  work(priority: Priority): Promise<void> | null;
  pause(): void;
  /**
   * Takes a turn under Consul's limits. Whoever has taken one gives it back with `leave`, under the
   * same limits.
   * @returns null when the turn is there at once, which is the usual case and must cost nothing;
   * else a promise of it.
   * @throws {RateLimitedError} at once or from the promise, when the turn would come too late; then
   * there is none to give back.
   */
  enter(limits: Limits, priority: Priority): Promise<void> | null;
  leave(limits: Limits): void;
  /** Requests that arrived and did not depart. */
  readonly inFlight: number;
}

export function createLimiter(
  clock: Clock,
  policy: Pick<Policy, "maxPendingLeaves" | "maxWorkingLeaves" | "maxQueueMs" | "renewalShare">,
  memory: LimiterMemory = createMemory().limiter,
): Limiter {
  let inFlight = 0;
  let concurrent = 0;
  let working = 0;
  const idle: Readonly<Record<Priority, (() => void)[]>> = { renewal: [], issue: [] };
  /** Those who wait for a place, the first of which is next; renewals before the others. */
  const waiting: Readonly<Record<Priority, (() => void)[]>> = { renewal: [], issue: [] };
  const room: Readonly<Record<Priority, number>> = {
    renewal: policy.maxPendingLeaves,
    issue: Math.max(1, Math.floor(policy.maxPendingLeaves * (1 - policy.renewalShare))),
  };
  /**
   * Consul's time is that of a first issue; a renewal may wait a little longer, where nobody else
   * may.
   */
  const queueMs: Readonly<Record<Priority, number>> = {
    renewal: policy.maxQueueMs / (1 - policy.renewalShare),
    issue: policy.maxQueueMs,
  };

  const takeToken = async (perSecond: number, priority: Priority) => {
    const now = clock.now().getTime();
    // The rate may have been raised since, or the clock set back: no debt is longer than what this
    // rate can cause.
    memory.nextTokenAt = Math.min(memory.nextTokenAt, now + queueMs.renewal + 1000 / perSecond);
    const wait = Math.max(0, memory.nextTokenAt - now);
    if (wait > queueMs[priority]) throw new RateLimitedError(wait);
    memory.nextTokenAt = Math.max(now, memory.nextTokenAt) + 1000 / perSecond;
    if (wait > 0) await clock.sleep(wait);
  };

  const takePlace = async (places: number, priority: Priority) => {
    if (concurrent >= places) {
      const turn = new AbortController();
      const wake = () => turn.abort();
      const queue = waiting[priority];
      queue.push(wake);
      await clock.sleep(policy.maxQueueMs, turn.signal);
      if (!turn.signal.aborted) {
        queue.splice(queue.indexOf(wake), 1);
        throw new RateLimitedError(policy.maxQueueMs);
      }
      // The place was handed over by whoever left it, and is counted already.
      return;
    }
    concurrent++;
  };

  const leavePlace = () => {
    const next = waiting.renewal.shift() ?? waiting.issue.shift();
    if (next === undefined) concurrent--;
    else next();
  };

  const requireRoom = (priority: Priority) => {
    if (inFlight >= room[priority]) throw new RateLimitedError(1000);
  };

  return {
    get inFlight() {
      return inFlight;
    },
    requireRoom,
    arrive(priority) {
      requireRoom(priority);
      inFlight++;
    },
    depart() {
      inFlight--;
    },
    work(priority) {
      if (working < policy.maxWorkingLeaves) {
        working++;
        return null;
      }
      return new Promise((resolve) => idle[priority].push(resolve));
    },
    pause() {
      // The place is handed over, and stays counted.
      const next = idle.renewal.shift() ?? idle.issue.shift();
      if (next === undefined) working--;
      else next();
    },
    enter(limits, priority) {
      // CSRMaxConcurrent counts only where CSRMaxPerSecond is off (consul-ca.md §2.1).
      if (limits.csrMaxPerSecond !== null) return takeToken(limits.csrMaxPerSecond, priority);
      return limits.csrMaxConcurrent === null ? null : takePlace(limits.csrMaxConcurrent, priority);
    },
    leave(limits) {
      if (limits.csrMaxPerSecond === null && limits.csrMaxConcurrent !== null) leavePlace();
    },
  };
}
