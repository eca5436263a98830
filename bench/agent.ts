/**
 * What the agent costs: a thousand identities on one, their memory and their streams; then ten
 * thousand agents through one rotation. `bun bench/agent.ts identities` and `... mesh` run one part.
 * @module
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type AgentRun, startAgent } from "./agent-process.ts";
import { median, quantile } from "./figures.ts";
import { startGenerator } from "./generator.ts";
import { measureMesh } from "./mesh.ts";
import { createReader } from "./output.ts";
import { CLUSTER, makeRequests, writeBodies } from "./requests.ts";
import { startServer } from "./server.ts";
import { printFigures } from "./verdict.ts";
import { rotate } from "./watching.ts";

const [part = "all", number] = process.argv.slice(2);
const IDENTITIES = 1000;
const ROUNDS = 3;
/** As many as one agent has open at a time. */
const CONNECTIONS = 32;
const NODE = join(import.meta.dir, "../node_modules/.bin/node");
/** Without a bound Node lets its young generation grow before it collects. */
const SMALL = "--max-semi-space-size=2";
const RUNTIMES = { Bun: [process.execPath], [`Node 24 ${SMALL}`]: [NODE, SMALL] };

const folder = mkdtempSync(join(tmpdir(), "meshca-bench-"));
try {
  if (part !== "mesh")
    for (const [name, command] of Object.entries(RUNTIMES)) await measureIdentities(name, command);
  if (part !== "identities")
    await measureMesh(mkdtempSync(join(folder, "ca-")), Number(number ?? 10_000));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit();

async function measureIdentities(name: string, command: readonly string[]): Promise<void> {
  const here = mkdtempSync(join(folder, "ca-"));
  const server = await startServer(here, { cluster_id: CLUSTER });
  const generator = startGenerator(server.port, writeBodies(here, await makeRequests()));
  const plain = async () => {
    const { count, errors, seconds } = await generator.run({
      connections: CONNECTIONS,
      seconds: 1,
    });
    if (errors > 0) throw new TypeError(`${errors} requests failed`);
    return (1000 * seconds * IDENTITIES) / count;
  };
  for (let i = 0; i < 3; i++) await plain();
  const rounds: {
    signaturesMs: number;
    firstLeavesMs: number;
    ratio: number;
    cpu: AgentRun["cpu"];
  }[] = [];
  for (let round = 1; round <= ROUNDS; round++) {
    const signaturesMs = await plain();
    const agent = await startAgent(
      command,
      server.port,
      mkdtempSync(join(folder, "s-")),
      IDENTITIES,
    );
    const { firstLeavesMs, cpu } = agent;
    rounds.push({ signaturesMs, firstLeavesMs, cpu, ratio: firstLeavesMs / signaturesMs });
    if (round < ROUNDS) await agent.stop();
    else await measureStreams(agent, server.port);
  }
  generator.close();
  await server.stop();

  async function measureStreams(agent: AgentRun, port: string) {
    const held = agent.memory().now;
    const streams = startStreams(agent.folder);
    await streams.read(/ready\n/);
    const open = agent.memory().now;
    const { sentAt } = await rotate(port);
    const answeredAt = JSON.parse((await streams.read(/.*\n/))[0]) as number[];
    const of = (column: "signaturesMs" | "firstLeavesMs" | "ratio") =>
      median(rounds.map((round) => round[column]));
    const cpuOf = (which: "before" | "leaves") => median(rounds.map(({ cpu }) => cpu[which]));
    printFigures(`${IDENTITIES} identities on one agent, ${name}`, {
      "1,000 signatures": { value: of("signaturesMs"), most: null, unit: "ms" },
      "all first leaves": { value: of("firstLeavesMs"), most: null, unit: "ms" },
      "first leaves / signatures": { value: of("ratio"), most: 1.2, unit: "" },
      "agent's CPU until it listens": { value: cpuOf("before"), most: null, unit: "s" },
      "agent's CPU for the leaves": { value: cpuOf("leaves"), most: null, unit: "s" },
      "memory without streams": { value: held, most: 200, unit: "MB" },
      "memory with 1,000 streams": { value: open, most: 200, unit: "MB" },
      "memory, peak": { value: agent.memory().peak, most: 200, unit: "MB" },
      "new roots on a stream, p50 from PUT": {
        value: quantile(answeredAt, 0.5) - sentAt,
        most: null,
        unit: "ms",
      },
      "new roots on a stream, p99 from PUT": {
        value: quantile(answeredAt, 0.99) - sentAt,
        most: 1000,
        unit: "ms",
      },
    });
    await streams.stop();
    await agent.stop();
  }
}

/** Opens a stream on each socket, in a process of its own. */
function startStreams(sockets: string) {
  const child = Bun.spawn(
    [NODE, join(import.meta.dir, "streams.ts"), sockets, String(IDENTITIES)],
    { stdout: "pipe", stderr: "inherit" },
  );
  return {
    read: createReader(child.stdout),
    async stop() {
      child.kill();
      await child.exited;
    },
  };
}
