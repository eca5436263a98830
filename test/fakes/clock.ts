/**
 * Time and randomness for tests: a clock that the test moves, and the real one.
 * @module
 */
import type { Clock, Random } from "../../src/core/ports/clock.ts";

export interface FakeClock extends Clock {
  /** Advances by `ms` milliseconds and ends every sleep that is due by then. */
  advance(ms: number): void;
  /**
   * Sets the wall clock `ms` milliseconds ahead, or back if negative; the monotonic clock and
   * sleeps do not notice.
   */
  jump(ms: number): void;
  monotonicMs(): number;
  /** How many sleep. */
  readonly sleepers: number;
}

export function createFakeClock(start = new Date("2026-06-01T12:00:00Z")): FakeClock {
  let now = start.getTime();
  let jumped = 0;
  const sleepers = new Set<{ until: number; wake: () => void }>();
  return {
    now: () => new Date(now + jumped),
    monotonicMs: () => now - start.getTime(),
    jump(ms) {
      jumped += ms;
    },
    get sleepers() {
      return sleepers.size;
    },
    sleep(ms, signal) {
      return new Promise((resolve) => {
        const sleeper = {
          until: now + ms,
          wake: () => {
            sleepers.delete(sleeper);
            signal?.removeEventListener("abort", sleeper.wake);
            resolve();
          },
        };
        if (signal?.aborted === true || ms <= 0) return resolve();
        sleepers.add(sleeper);
        signal?.addEventListener("abort", sleeper.wake);
      });
    },
    advance(ms) {
      now += ms;
      for (const sleeper of [...sleepers]) if (sleeper.until <= now) sleeper.wake();
    },
  };
}

/** Advances in steps of half a second until a promise settles. */
export async function passing<T>(clock: FakeClock, work: Promise<T>): Promise<T> {
  let over = false;
  const end = () => {
    over = true;
  };
  work.then(end, end);
  while (!over) {
    await new Promise((resolve) => setImmediate(resolve));
    if (clock.sleepers > 0) clock.advance(500);
  }
  return work;
}

export const systemRandom: Random = {
  bytes: (length) => crypto.getRandomValues(new Uint8Array(length)),
  fraction: () => Math.random(),
};

/**
 * The same numbers for the same seed: a 32-bit linear congruential generator (Numerical Recipes'
 * constants).
 */
export function createSeededRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  };
  return { bytes: (length) => Uint8Array.from({ length }, next), fraction: () => next() / 256 };
}
