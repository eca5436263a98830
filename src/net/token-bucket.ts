/**
 * A token bucket: a rate with bursts, for example of one client.
 * @module
 */

export interface Rate {
  readonly perSecond: number;
  /** Tokens of a full bucket. */
  readonly burst: number;
}

export class TokenBucket {
  readonly #rate: Rate;
  #tokens: number;
  #at: number;

  /** Makes a full bucket. @param now in milliseconds, as of all methods. */
  constructor(rate: Rate, now: number) {
    this.#rate = rate;
    this.#tokens = rate.burst;
    this.#at = now;
  }

  /** Takes a token. @returns 0, or the milliseconds until the next one if the bucket is empty. */
  take(now: number): number {
    const { perSecond, burst } = this.#rate;
    // A clock that was set back refills nothing.
    const refill = (Math.max(0, now - this.#at) / 1000) * perSecond;
    this.#tokens = Math.min(burst, this.#tokens + refill);
    this.#at = now;
    if (this.#tokens < 1) return ((1 - this.#tokens) / perSecond) * 1000;
    this.#tokens--;
    return 0;
  }

  /** Whether nothing is lost if the bucket is replaced by a full one. */
  isIdle(now: number): boolean {
    return now - this.#at >= 1000 || this.#tokens >= this.#rate.burst - 1;
  }
}
