/**
 * The clock and the randomness of every runtime.
 * @module
 */
import type { Clock, Random } from "../core/ports/clock.ts";

/** Without a monotonic clock: on Workers none goes on between requests. */
export const systemClock: Clock = {
  now: () => new Date(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted === true) return resolve();
      const done = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal?.addEventListener("abort", done);
    }),
};

/** The clock of a process. */
export const processClock: Required<Clock> = {
  ...systemClock,
  monotonicMs: () => performance.now(),
};

export const systemRandom: Random = {
  bytes: (length) => crypto.getRandomValues(new Uint8Array(length)),
  fraction: () => Math.random(),
};
