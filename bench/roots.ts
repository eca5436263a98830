/**
 * How soon 10,000 watchers on one process see a rotation, and what they cost; then memory over many
 * leaves, and the time to start on an existing store.
 * @module
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { median, quantile } from "./figures.ts";
import { startGenerator } from "./generator.ts";
import { CLUSTER, makeRequests, writeBodies } from "./requests.ts";
import { startServer } from "./server.ts";
import { rotate, startWatchers } from "./watching.ts";

const WATCHERS = Number(process.argv[2] ?? 10_000);
const ROTATIONS = 3;

const folder = mkdtempSync(join(tmpdir(), "meshca-bench-"));
try {
  const first = await startServer(folder, { cluster_id: CLUSTER });
  await measureWatchers(first);
  await first.stop();
  const again = [];
  for (let i = 0; i < 5; i++) {
    const server = await startServer(folder, { cluster_id: CLUSTER });
    again.push(server.readyMs);
    if (i === 4) await measureLeaves(server);
    await server.stop();
  }
  console.log(
    `start to ready on an existing store: ${median(again).toFixed(0)} ms, median of 5 (target < 300 ms)`,
  );
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit();

type Server = Awaited<ReturnType<typeof startServer>>;

async function measureWatchers(server: Server): Promise<void> {
  const before = server.memory().now;
  const rows: Record<string, object> = {};
  for (let rotation = 1; rotation <= ROTATIONS; rotation++) {
    const watching = await startWatchers([server.port], WATCHERS);
    const waiting = server.memory().now;
    const { sentAt, changedAt } = await rotate(server.port);
    const { errors, answeredAt } = await watching.answered();
    const all = answeredAt.flat();
    const since = (from: number, share: number) => Math.round(quantile(all, share) - from);
    await watching.stop();
    await Bun.sleep(3000);
    rows[`rotation ${rotation}`] = {
      answered: all.length - errors,
      "p50 ms": since(changedAt, 0.5),
      "p99 ms": since(changedAt, 0.99),
      "p99 ms from PUT": since(sentAt, 0.99),
      "waiting MB": Math.round(waiting),
      "peak MB": Math.round(server.memory().peak),
      "after MB": Math.round(server.memory().now),
    };
  }
  console.log(
    `\n${WATCHERS} watchers, ${ROTATIONS} rotations; ${before.toFixed(0)} MB before (targets: p99 < 800 ms, peak < 300 MB)`,
  );
  console.table(rows);
}

async function measureLeaves(server: Server): Promise<void> {
  const generator = startGenerator(server.port, writeBodies(folder, await makeRequests()));
  let leaves = 0;
  const until = async (count: number) => {
    while (leaves < count) leaves += (await generator.run({ connections: 16, seconds: 1 })).count;
    await Bun.sleep(1000);
    return server.memory().now;
  };
  const early = await until(20_000);
  const late = await until(200_000);
  console.log(
    `memory after 20,000 leaves ${early.toFixed(0)} MB, after ${leaves} leaves ${late.toFixed(0)} MB: ${(late - early).toFixed(0)} MB more (target < 20 MB)`,
  );
  generator.close();
}
