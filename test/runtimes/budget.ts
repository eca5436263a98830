/**
 * The size limit of the Worker's bundle, and the size of each of its parts.
 *
 *     bun test/runtimes/budget.ts    # records its size now
 *
 * @module
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import * as v from "valibot";
import { type Bundle, buildWorker } from "./workerd.ts";

/**
 * The limit of the smallest plan is several times this; what is uploaded is also what every isolate
 * has to load.
 */
export const MAX_GZIP_BYTES = 400 * 1024;
/** How far the bundle may grow beyond its record without a review. */
export const MAX_GROWTH = 1.1;

const RECORD = new URL("../vectors/worker-bundle.json", import.meta.url);
const Weights = v.record(v.string(), v.number());
const Metafile = v.object({
  outputs: v.record(
    v.string(),
    v.object({ inputs: v.record(v.string(), v.object({ bytesInOutput: v.number() })) }),
  ),
});

export type Weights = v.InferOutput<typeof Weights>;

/** Octets in the bundle by package, or by folder of ours. */
export function weightsOf({ folder }: Bundle): Weights {
  const { outputs } = v.parse(
    Metafile,
    JSON.parse(readFileSync(join(folder, "meta.json"), "utf8")),
  );
  const weights: Record<string, number> = {};
  for (const { inputs } of Object.values(outputs))
    for (const [file, { bytesInOutput }] of Object.entries(inputs)) {
      const name =
        /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1] ??
        /(?:src|providers)\/[^/]+/.exec(file)?.[0] ??
        file;
      weights[name] = (weights[name] ?? 0) + bytesInOutput;
    }
  return weights;
}

export const gzipBytes = ({ folder }: Bundle): number =>
  gzipSync(readFileSync(join(folder, "worker.js"))).length;
export const recordedWeights = (): Weights =>
  v.parse(Weights, JSON.parse(readFileSync(RECORD, "utf8")));
export const total = (weights: Weights): number =>
  Object.values(weights).reduce((sum, bytes) => sum + bytes, 0);

/** What is heavier than before, the heaviest growth first. */
export function growth(before: Weights, now: Weights): string[] {
  return Object.entries(now)
    .map(([name, bytes]): [string, number] => [name, bytes - (before[name] ?? 0)])
    .filter(([, more]) => more > 0)
    .toSorted(([, a], [, b]) => b - a)
    .map(
      ([name, more]) => `${name} by ${more} octets${before[name] === undefined ? " (new)" : ""}`,
    );
}

if (import.meta.main) {
  const bundle = buildWorker();
  const weights = Object.entries(weightsOf(bundle)).toSorted(([, a], [, b]) => b - a);
  writeFileSync(RECORD, `${JSON.stringify(Object.fromEntries(weights), null, 2)}\n`);
  console.log(`${gzipBytes(bundle)} octets with gzip`);
  bundle.remove();
}
