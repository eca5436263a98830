/**
 * Change notices with a poll as a fallback, since Redis may lose a notice.
 * @module
 */
import type { Clock, Random } from "../../core/ports/clock.ts";
import type { Waiter } from "../waiter.ts";

export class ChangePoll {
  readonly #notices: Pick<Waiter, "wait">;
  readonly #clock: Clock;
  readonly #random: Random;

  constructor(notices: Pick<Waiter, "wait">, clock: Clock, random: Random) {
    this.#notices = notices;
    this.#clock = clock;
    this.#random = random;
  }

  /** Resolves at the next notice, or when the signal fires. */
  next(signal: AbortSignal): Promise<void> {
    return this.#notices.wait(signal);
  }

  /**
   * Runs work with a signal that fires with `signal`, and at the latest after `ms` milliseconds and
   * up to a quarter more as jitter.
   */
  async within<T>(
    ms: number,
    signal: AbortSignal,
    work: (end: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const poll = new AbortController();
    const jittered = ms * (1 + this.#random.fraction() / 4);
    void this.#clock.sleep(jittered, poll.signal).then(() => poll.abort());
    try {
      return await work(AbortSignal.any([signal, poll.signal]));
    } finally {
      poll.abort();
    }
  }
}
