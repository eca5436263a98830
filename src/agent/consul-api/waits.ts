/**
 * Requests that wait for a change of sources: until it happens, the wait time is over, the client
 * disconnects or the agent closes.
 * @module
 */
import type { Source } from "../../client/source.ts";
import { RateLimitedError } from "../../core/errors.ts";
import type { Clock } from "../../core/ports/clock.ts";

/** Consul's wait of a request that names none (agent/cache/cache.go). */
const DEFAULT_WAIT_MS = 600_000;
/** The longest delay of a timer (HTML §8.6, a signed number of 32 bits), some 24 days. */
const MAX_TIMER_MS = 2 ** 31 - 1;
/** Requests that wait at a time; each takes a connection. */
const MAX_WAITS = 4096;

export class Waits {
  readonly #clock: Clock;
  readonly #closing = new AbortController();
  #count = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Waits until a condition holds.
   * @param holds asked now, and after each change of a source.
   * @param waitMs null: Consul's default. There is neither jitter nor another bound, as in Consul.
   * @param gone aborts when the client disconnects.
   * @param askEveryMs for a condition that can change without the sources.
   * @returns whether it holds.
   * @throws {RateLimitedError} `watchers_exceeded`
   */
  async until(
    sources: readonly Pick<Source<unknown>, "subscribe">[],
    holds: () => boolean,
    waitMs: number | null,
    gone: AbortSignal,
    askEveryMs: number | null = null,
  ): Promise<boolean> {
    if (holds()) return true;
    const closing = this.#closing.signal;
    if (gone.aborted || closing.aborted) return false;
    if (this.#count >= MAX_WAITS)
      throw new RateLimitedError(
        1000,
        "watchers_exceeded",
        `Cannot wait for a change: ${MAX_WAITS} requests to the agent are waiting already`,
      );
    this.#count++;
    const ended = new AbortController();
    const end = () => ended.abort();
    const look = () => {
      if (holds()) end();
    };
    const unsubscribes = sources.map((source) => source.subscribe(look));
    gone.addEventListener("abort", end);
    closing.addEventListener("abort", end);
    try {
      let left = Math.min(waitMs ?? DEFAULT_WAIT_MS, MAX_TIMER_MS);
      while (left > 0 && !ended.signal.aborted && !holds()) {
        const ms = Math.min(left, askEveryMs ?? left);
        await this.#clock.sleep(ms, ended.signal);
        left -= ms;
      }
    } finally {
      this.#count--;
      for (const unsubscribe of unsubscribes) unsubscribe();
      gone.removeEventListener("abort", end);
      closing.removeEventListener("abort", end);
    }
    return holds();
  }

  /** Ends all waits; from then on no request waits. */
  close(): void {
    this.#closing.abort();
  }
}
