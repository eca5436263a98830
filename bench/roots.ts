/**
 * How soon 10,000 watchers on one process see a rotation, and what they cost; then memory over many leaves, and the time
 * to start on an existing store.
 * @module
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startGenerator } from "./generator.ts";
import { makeRequests } from "./requests.ts";
import { startServer } from "./server.ts";

const WATCHERS = Number(process.argv[2] ?? 10_000);
const ROTATIONS = 3;
const CLUSTER = "11111111-2222-3333-4444-555555555555";

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
  console.log(`start to ready on an existing store: ${again.toSorted((a, b) => a - b)[2]?.toFixed(0)} ms, median of 5 (target < 300 ms)`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit();

type Server = Awaited<ReturnType<typeof startServer>>;

async function measureWatchers(server: Server): Promise<void> {
  const url = `http://127.0.0.1:${server.port}/v1/connect/ca`;
  const before = server.memory().now;
  const rows: Record<string, object> = {};
  for (let rotation = 1; rotation <= ROTATIONS; rotation++) {
    const index = (await fetch(`${url}/roots`)).headers.get("x-consul-index") ?? "";
    const child = Bun.spawn([process.execPath, join(import.meta.dir, "watchers.ts"), server.port, String(WATCHERS), index], {
      stdout: "pipe",
      stderr: "inherit",
    });
    const reader = child.stdout.getReader();
    let text = "";
    const read = async (until: string) => {
      while (!text.includes(until)) text += new TextDecoder().decode((await reader.read()).value);
    };
    await read("ready\n");
    while (!(await (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text()).includes(`meshca_watchers ${WATCHERS}\n`))
      await Bun.sleep(50);
    const waiting = server.memory().now;
    const sentAt = performance.timeOrigin + performance.now();
    const answer = await fetch(`${url}/rotate`, { method: "PUT" });
    await answer.arrayBuffer();
    const changedAt = performance.timeOrigin + performance.now();
    await read("}\n");
    const { errors, answeredAt } = JSON.parse(text.slice(text.indexOf("{"))) as { errors: number; answeredAt: number[] };
    // Some see the change before the one who asked for it has the answer.
    const since = (from: number, share: number) =>
      Math.round(answeredAt.map((at) => at - from).toSorted((a, b) => a - b)[Math.floor(WATCHERS * share)] ?? 0);
    child.kill();
    await child.exited;
    await Bun.sleep(3000);
    rows[`rotation ${rotation}`] = {
      answered: answeredAt.length - errors,
      "p50 ms": since(changedAt, 0.5),
      "p99 ms": since(changedAt, 0.99),
      "p99 ms from PUT": since(sentAt, 0.99),
      "waiting MB": Math.round(waiting),
      "peak MB": Math.round(server.memory().peak),
      "after MB": Math.round(server.memory().now),
    };
  }
  console.log(`\n${WATCHERS} watchers, ${ROTATIONS} rotations; ${before.toFixed(0)} MB before (targets: p99 < 800 ms, peak < 300 MB)`);
  console.table(rows);
}

async function measureLeaves(server: Server): Promise<void> {
  const bodies = join(folder, "bodies.json");
  writeFileSync(bodies, JSON.stringify((await makeRequests(64, `${CLUSTER}.consul`)).map(({ pem }) => pem)));
  const generator = startGenerator(server.port, bodies);
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
