/**
 * Counts what is signed, and limits rate and concurrency of signing: Consul's two limits
 * (CSRMaxPerSecond and CSRMaxConcurrent of agent/structs/connect_ca.go), and always a bound on the
 * requests in flight, so that a flood is refused at once instead of queued.
 * @module
 */

import { RateLimitedError } from "../errors.ts";
import type { Clock } from "../ports/clock.ts";
import type { CommonConfig } from "../ports/provider.ts";
import {
  createLimiterMemory,
  type LimiterMemory,
  type SignedHistory,
  type SignedMemory,
} from "./replica-memory.ts";
import type { Policy } from "./timing-and-limits.ts";

export type Limits = Pick<CommonConfig, "csrMaxPerSecond" | "csrMaxConcurrent">;

/** Renewals go before first issues, and a share of the capacity is reserved for them. */
export type Priority = "issue" | "renewal";

type Wake = () => void;
type ByPriority<T> = Readonly<Record<Priority, T>>;

export class Limiter {
  readonly #clock: Clock;
  readonly #memory: LimiterMemory;
  readonly #maxQueueMs: number;
  readonly #maxWorking: number;
  /** How many requests may be in flight when another one arrives. */
  readonly #maxInFlight: ByPriority<number>;
  /** For how many milliseconds CSRMaxPerSecond may delay a request. */
  readonly #maxDelayMs: ByPriority<number>;
  /** Requests that wait for a place to be processed. */
  readonly #waitingToWork: ByPriority<Wake[]> = { renewal: [], issue: [] };
  /** Requests that wait for CSRMaxConcurrent. */
  readonly #waitingToSign: ByPriority<Wake[]> = { renewal: [], issue: [] };
  #inFlight = 0;
  #working = 0;
  #signing = 0;

  constructor(
    clock: Clock,
    policy: Pick<Policy, "maxPendingLeaves" | "maxWorkingLeaves" | "maxQueueMs" | "renewalShare">,
    memory = createLimiterMemory(),
  ) {
    const { maxPendingLeaves, maxWorkingLeaves, maxQueueMs, renewalShare } = policy;
    this.#clock = clock;
    this.#memory = memory;
    this.#maxQueueMs = maxQueueMs;
    this.#maxWorking = maxWorkingLeaves;
    this.#maxInFlight = {
      renewal: maxPendingLeaves,
      issue: Math.max(1, Math.floor(maxPendingLeaves * (1 - renewalShare))),
    };
    // Consul's limit is that of a first issue.
    this.#maxDelayMs = { renewal: maxQueueMs / (1 - renewalShare), issue: maxQueueMs };
  }

  /** Requests that arrived and did not depart. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /**
   * Checks that another request would be accepted, so that one is refused before its body is read.
   * @throws {RateLimitedError}
   */
  requireRoom(priority: Priority): void {
    if (this.#inFlight >= this.#maxInFlight[priority]) throw new RateLimitedError(1000);
  }

  /**
   * Counts a request as in flight until `depart`.
   * @throws {RateLimitedError} if too many are in flight.
   */
  arrive(priority: Priority): void {
    this.requireRoom(priority);
    this.#inFlight++;
  }

  depart(): void {
    this.#inFlight--;
  }

  /**
   * Takes one of the places to be processed, renewals first, until `pause`.
   * @returns null if a place is free; else a promise of one.
   */
  work(priority: Priority): Promise<void> | null {
    if (this.#working < this.#maxWorking) {
      this.#working++;
      return null;
    }
    return new Promise((resolve) => this.#waitingToWork[priority].push(resolve));
  }

  pause(): void {
    // The place is handed over, and stays counted.
    const next = this.#waitingToWork.renewal.shift() ?? this.#waitingToWork.issue.shift();
    if (next === undefined) this.#working--;
    else next();
  }

  /**
   * Takes a turn under Consul's limits, to be given back with `leave` under the same limits.
   * @returns null if no wait is needed, which is the usual case and must cost nothing; else a
   * promise of the turn.
   * @throws {RateLimitedError} at once or from the promise, if the turn would come too late; then
   * there is none to give back.
   */
  enter(limits: Limits, priority: Priority): Promise<void> | null {
    // Consul ignores CSRMaxConcurrent if CSRMaxPerSecond is set (agent/consul/leader_connect_ca.go).
    if (limits.csrMaxPerSecond !== null) return this.#takeToken(limits.csrMaxPerSecond, priority);
    if (limits.csrMaxConcurrent !== null) return this.#takePlace(limits.csrMaxConcurrent, priority);
    return null;
  }

  leave(limits: Limits): void {
    if (limits.csrMaxPerSecond !== null || limits.csrMaxConcurrent === null) return;
    const next = this.#waitingToSign.renewal.shift() ?? this.#waitingToSign.issue.shift();
    if (next === undefined) this.#signing--;
    else next();
  }

  /** How many leaves were signed when. */
  get history(): SignedMemory {
    return this.#memory.signed;
  }

  /** Counts a leaf that was signed. */
  signed(): void {
    const { signed } = this.#memory;
    const now = elapsedMs(this.#clock);
    for (const history of signed.histories) {
      if (now < history.since || now >= history.since + history.bucketMs) advance(history, now);
      history.counts[history.at] = (history.counts[history.at] as number) + 1;
    }
    const [{ counts, at }] = signed.histories as readonly [SignedHistory];
    signed.most = Math.max(signed.most, counts[at] as number);
  }

  async #takeToken(perSecond: number, priority: Priority): Promise<void> {
    const now = this.#clock.now().getTime();
    // The rate may have been raised since, or the clock set back: the wait is at most what this rate
    // can cause.
    const latest = now + this.#maxDelayMs.renewal + 1000 / perSecond;
    const nextTokenAt = Math.min(this.#memory.nextTokenAt, latest);
    this.#memory.nextTokenAt = nextTokenAt;
    const wait = Math.max(0, nextTokenAt - now);
    if (wait > this.#maxDelayMs[priority]) throw new RateLimitedError(wait);
    this.#memory.nextTokenAt = Math.max(now, nextTokenAt) + 1000 / perSecond;
    if (wait > 0) await this.#clock.sleep(wait);
  }

  async #takePlace(places: number, priority: Priority): Promise<void> {
    if (this.#signing < places) {
      this.#signing++;
      return;
    }
    const turn = new AbortController();
    const wake = () => turn.abort();
    const queue = this.#waitingToSign[priority];
    queue.push(wake);
    await this.#clock.sleep(this.#maxQueueMs, turn.signal);
    // A place that was handed over is counted already.
    if (turn.signal.aborted) return;
    queue.splice(queue.indexOf(wake), 1);
    throw new RateLimitedError(this.#maxQueueMs);
  }
}

/** The time by which leaves are counted, in milliseconds: monotonic if the runtime has such a clock. */
export function elapsedMs(clock: Clock): number {
  return clock.monotonicMs?.() ?? clock.now().getTime();
}

/**
 * Makes the bucket of an instant the present one, and empties those between. If the clock was set
 * back, the present one stays, and counts from then on as if it had begun then.
 */
export function advance(history: SignedHistory, now: number): void {
  const { bucketMs, counts, since } = history;
  const begin = Math.floor(now / bucketMs) * bucketMs;
  const passed = Math.min((begin - since) / bucketMs, counts.length);
  for (let bucket = 0; bucket < passed; bucket++) {
    history.at = (history.at + 1) % counts.length;
    counts[history.at] = 0;
  }
  history.since = begin;
}
