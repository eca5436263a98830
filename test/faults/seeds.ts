/**
 * Every choice of a scenario comes from a seed, which is printed: MESHCA_FAULT_SEED makes the same choices again.
 * @module
 */
import { it } from "node:test";

/** Three rounds of each scenario with the other tests; the full run sets more. */
const ROUNDS = Number(process.env.MESHCA_FAULT_ROUNDS ?? 3);
/** What a round may take on a busy machine, in milliseconds. */
const PATIENCE_MS = 120_000;

export interface Choices {
  readonly seed: number;
  /** A whole number from 0 to below `limit`. */
  below(limit: number): number;
  pick<T>(items: readonly T[]): T;
}

export function createChoices(seed: number): Choices {
  let state = seed >>> 0;
  const fraction = () => {
    // mulberry32 (Tommy Ettinger), whose low bits are as good as its high ones.
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (limit: number) => Math.floor(fraction() * limit);
  return { seed, below, pick: <T>(items: readonly T[]) => items[below(items.length)] as T };
}

const given = process.env.MESHCA_FAULT_SEED;
const first = given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given);

/** So many rounds of a scenario run at once: most of their time is spent waiting for leases to end. */
const TOGETHER = 3;

/** A test for each seed, with the seed in its name. */
export function itWithSeeds(name: string, work: (choices: Choices) => Promise<void>): void {
  const rounds = given === undefined ? ROUNDS : 1;
  const running = new Map<number, Promise<void>>();
  const begin = (round: number) => {
    const begun = running.get(round) ?? work(createChoices(first + round));
    running.set(round, begun);
    // Its own test reports the failure.
    begun.catch(() => undefined);
    return begun;
  };
  for (let round = 0; round < rounds; round++)
    it(`${name} (seed ${first + round})`, { timeout: PATIENCE_MS }, async () => {
      const group = round - (round % TOGETHER);
      for (let other = group; other < Math.min(group + TOGETHER, rounds); other++) begin(other);
      await begin(round);
    });
}
