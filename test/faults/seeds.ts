/**
 * Every choice of a scenario comes from a seed, which is printed: MESHCA_FAULT_SEED makes the same
 * choices again.
 * @module
 */
import { it } from "node:test";

/** With the other tests. */
const SHORT_ROUNDS = 3;
/** The full run sets more. */
const ROUNDS = Number(process.env.MESHCA_FAULT_ROUNDS ?? SHORT_ROUNDS);
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

/** So many rounds run at once: most of their time is spent waiting for leases to end. */
const LANES = 4;
/** Rounds that have not begun yet, in the order of their tests. */
const waiting: (() => Promise<void>)[] = [];
let busy = 0;

/**
 * Begins what there is room for. Only when a test runs have all of its file been named and its
 * servers started.
 */
function advance(): void {
  while (busy < LANES) {
    const round = waiting.shift();
    if (round === undefined) return;
    busy++;
    void round().finally(() => {
      busy--;
      advance();
    });
  }
}

/**
 * A test for each seed, with the seed in its name.
 * @param fixed a seed chooses little here: without the full run one round will do.
 */
export function itWithSeeds(
  name: string,
  work: (choices: Choices) => Promise<void>,
  { fixed = false } = {},
): void {
  const rounds = given !== undefined || (fixed && ROUNDS <= SHORT_ROUNDS) ? 1 : ROUNDS;
  for (let round = 0; round < rounds; round++) {
    const done = Promise.withResolvers<void>();
    // Its own test reports a failure.
    done.promise.catch(() => undefined);
    waiting.push(() => work(createChoices(first + round)).then(done.resolve, done.reject));
    it(`${name} (seed ${first + round})`, { timeout: PATIENCE_MS }, () => {
      advance();
      return done.promise;
    });
  }
}
