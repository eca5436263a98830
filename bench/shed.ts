/**
 * What is left of the service under twice the load that it can bear: leaves a second that are
 * signed, compared with the highest rate, and how soon the roots are answered concurrently. The
 * load is open: requests are due at even times, whatever the answers do.
 * @module
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startGenerator } from "./generator.ts";
import { CLUSTER, makeRequests, writeBodies } from "./requests.ts";
import { startServer } from "./server.ts";

const ROUNDS = 5;
const SECONDS = 4;
/** So many requests of an open load can be in flight; the others count from when they were due. */
const CONNECTIONS = 1024;
/** How often the roots are requested concurrently, on one connection. */
const ROOTS_EVERY_MS = 10;

const folder = mkdtempSync(join(tmpdir(), "meshca-bench-"));
const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
const quantile = (values: readonly number[], share: number): number =>
  values.toSorted((a, b) => a - b)[
    Math.min(values.length - 1, Math.floor(values.length * share))
  ] ?? 0;

/** Requests the roots until the signal aborts. @returns how long each took, in milliseconds */
async function askRoots(port: string, stop: { stopped: boolean }): Promise<number[]> {
  const took: number[] = [];
  while (!stop.stopped) {
    const started = performance.now();
    const answer = await fetch(`http://127.0.0.1:${port}/v1/connect/ca/roots`);
    await answer.arrayBuffer();
    if (answer.status !== 200) throw new TypeError(`The roots were answered ${answer.status}`);
    took.push(performance.now() - started);
    await Bun.sleep(ROOTS_EVERY_MS);
  }
  return took;
}

try {
  const server = await startServer(folder, { cluster_id: CLUSTER });
  const generator = startGenerator(server.port, writeBodies(folder, await makeRequests()));
  for (let i = 0; i < 2; i++) await generator.run({ connections: 64, seconds: SECONDS });
  const rounds: {
    best: number;
    accepted: number;
    shed: number;
    p50: number;
    p99: number;
    ratio: number;
  }[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const highest = await generator.run({ connections: 64, seconds: SECONDS });
    const best = highest.count / highest.seconds;
    const stop = { stopped: false };
    const roots = askRoots(server.port, stop);
    const over = await generator.run({
      connections: CONNECTIONS,
      seconds: SECONDS,
      rate: 2 * best,
    });
    stop.stopped = true;
    const took = await roots;
    const accepted = (over.count - over.errors) / over.seconds;
    rounds.push({
      best,
      accepted,
      shed: over.errors / over.seconds,
      p50: quantile(took, 0.5),
      p99: quantile(took, 0.99),
      ratio: accepted / best,
    });
  }
  const of = (column: keyof (typeof rounds)[number]) =>
    median(rounds.map((round) => round[column]));
  console.log(
    `\nTwice the highest rate, ${ROUNDS} rounds of ${SECONDS} s, medians; the load generator is on the same cores`,
  );
  console.table({
    "highest rate, leaves/s": Math.round(of("best")),
    "signed under twice that, leaves/s": Math.round(of("accepted")),
    "of the highest (target >= 85 %)": `${(100 * of("ratio")).toFixed(0)} %`,
    "shed with 429, a second": Math.round(of("shed")),
    "roots p50, ms": of("p50").toFixed(1),
    "roots p99, ms (target < 50)": of("p99").toFixed(1),
  });
  generator.close();
  await server.stop();
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit();
