/**
 * Randomness that a seed repeats.
 * @module
 */
import type { Random } from "../src/core/ports/clock.ts";
import { systemRandom } from "../src/entry/system.ts";

/** Fractions by mulberry32, a generator of 32 bits of state; octets from the system. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return {
    bytes: systemRandom.bytes,
    fraction: () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    },
  };
}
