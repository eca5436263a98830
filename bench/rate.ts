/**
 * How often something can be done.
 * @module
 */

const IN_FLIGHT = 16;
export const SECONDS = 2;

/** Runs `work` with 16 at once for two seconds. @returns how often a second */
export async function rate(work: (i: number) => Promise<unknown>): Promise<number> {
  const end = performance.now() + SECONDS * 1000;
  let count = 0;
  const started = performance.now();
  const worker = async () => {
    while (performance.now() < end) await work(count++);
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
  return count / ((performance.now() - started) / 1000);
}

export const pick = <T>(list: readonly T[], i: number): T => list[i % list.length] as T;
