/**
 * A mesh of agents through one rotation: how even the load is that it causes, and how soon each agent
 * has the new roots and its new leaf.
 * @module
 */
import { join } from "node:path";
import { quantile } from "./figures.ts";
import { createReader } from "./output.ts";
import { CLUSTER } from "./requests.ts";
import { startServer } from "./server.ts";
import { type Figure, printFigures } from "./verdict.ts";
import { rotate, untilWaiting } from "./watching.ts";

/** What the agents of one process report. Times in milliseconds since 1970. */
export interface MeshReport {
  /** When the new roots arrived at each agent, and when it had its new leaf. */
  readonly rootsAt: number[];
  readonly leafAt: number[];
  /** The window that came with the roots, in milliseconds. */
  readonly windows: number[];
  /** The most that a leaf came after its agent's window, in milliseconds. */
  readonly late: number;
  /** How many leaves came to their end, and how many requests failed. */
  readonly expired: number;
  readonly failed: number;
}

/** Leaves are issued again at a quarter of it: 10,000 in 100 s. */
const CSR_MAX_PER_SECOND = 400;
/** The window is a sixth of it at most. */
const LEAF_TTL = "1h";
/** Over how long the agents start, in milliseconds. */
const SPREAD_MS = 50_000;
/** Agents of one process. */
const EACH = 2500;
const PEAK_MS = 5000;

/** Runs agents on a server in `folder` through one rotation, and prints the figures. */
export async function measureMesh(folder: string, count: number): Promise<void> {
  const config = {
    cluster_id: CLUSTER,
    csr_max_per_second: CSR_MAX_PER_SECOND,
    leaf_cert_ttl: LEAF_TTL,
  };
  // Idle connections of ten thousand agents would take as many files as their queries.
  const environment = { MESHCA_LIMITS_IDLE_TIME: "5s" };
  const server = await startServer(folder, config, { environment });
  const groups = Array.from({ length: Math.ceil(count / EACH) }, (_, i) =>
    startAgents(server.port, i * EACH, Math.min(EACH, count - i * EACH)),
  );
  await Promise.all(groups.map(({ read }) => read(/ready\n/)));
  await untilWaiting([server.port], count);
  const { sentAt, changedAt } = await rotate(server.port);
  const reports = await Promise.all(
    groups.map(async ({ read }) => JSON.parse((await read(/.*\n/))[0]) as MeshReport),
  );
  const figures = figuresOf(reports, sentAt, changedAt);
  const { peak } = server.memory();
  printFigures(`${count} agents, one rotation`, {
    ...figures,
    "server's memory, peak": { value: peak, most: null, unit: "MB" },
    "server's CPU": { value: server.cpuSeconds(), most: null, unit: "s" },
  });
  for (const { stop } of groups) await stop();
  await server.stop();
}

function figuresOf(
  reports: readonly MeshReport[],
  sentAt: number,
  changedAt: number,
): Record<string, Figure> {
  const leafAt = reports.flatMap((report) => report.leafAt).toSorted((a, b) => a - b);
  const rootsAt = reports.flatMap((report) => report.rootsAt);
  const window = Math.max(...reports.flatMap(({ windows }) => windows));
  const sum = (field: "expired" | "failed") =>
    reports.reduce((total, report) => total + report[field], 0);
  const mean = leafAt.length / window;
  return {
    "window (X-Meshca-Renew-Window)": { value: window / 1000, most: null, unit: "s" },
    "mean rate of new leaves": { value: mean * 1000, most: null, unit: "/s" },
    "peak over 5 s / mean": { value: peak(leafAt) / PEAK_MS / mean, most: 1.3, unit: "" },
    "new roots, p50 from PUT": { value: quantile(rootsAt, 0.5) - sentAt, most: null, unit: "ms" },
    "new roots, p99 from PUT": { value: quantile(rootsAt, 0.99) - sentAt, most: 1000, unit: "ms" },
    "new roots, p99 from answer": {
      value: quantile(rootsAt, 0.99) - changedAt,
      most: null,
      unit: "ms",
    },
    "new leaf after the agent's window": {
      value: Math.max(...reports.map(({ late }) => late)),
      most: 1000,
      unit: "ms",
    },
    "leaves past their end": { value: sum("expired"), most: 0, unit: "" },
    "failed requests": { value: sum("failed"), most: null, unit: "" },
  };
}

/** The most events within PEAK_MS. @param at ascending */
export function peak(at: readonly number[]): number {
  let [most, from] = [0, 0];
  for (const [i, time] of at.entries()) {
    while ((at[from] as number) <= time - PEAK_MS) from++;
    most = Math.max(most, i - from + 1);
  }
  return most;
}

function startAgents(port: string, from: number, count: number) {
  const child = Bun.spawn(
    [
      process.execPath,
      join(import.meta.dir, "mesh-agents.ts"),
      `http://127.0.0.1:${port}`,
      ...[from, count, SPREAD_MS].map(String),
    ],
    { stdout: "pipe", stderr: "inherit" },
  );
  const kill = () => child.kill();
  process.once("exit", kill);
  return {
    read: createReader(child.stdout),
    async stop() {
      process.removeListener("exit", kill);
      child.kill();
      await child.exited;
    },
  };
}
