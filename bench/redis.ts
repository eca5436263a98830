/**
 * What sharing the state through Redis costs: compared with SQLite in one run, in turn, on the same
 * cores. Redis syncs every write to the disk.
 *
 * - leaves: CPU of the server process per leaf, in one process and with two workers; how
 *   connections spread over them
 * - changes: changes of the configuration one after the other, compared with what Redis and its
 *   disk allow
 * - watchers: from a change on one replica to the answers of the watchers of the others
 * @module
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeKek } from "../src/seal/kek.ts";
import { startRedis } from "../test/redis/server.ts";
import { median, quantile } from "./figures.ts";
import { type Loaded, loaded } from "./loaded.ts";
import { CLUSTER, makeRequests, writeBodies } from "./requests.ts";
import { type BenchServer, startServer } from "./server.ts";
import {
  type Changed,
  configure,
  indexOf,
  now,
  rotate,
  startWatchers,
  untilWaiting,
} from "./watching.ts";

const PAIRS = 9;
const SECONDS = 2;
const CONNECTIONS = 200;
const CHANGES = 100;
const WATCHERS = 10_000;
const ROTATIONS = 3;
/** The whole of it takes two thirds. */
const DEADLINE_MS = 240_000;

const folder = mkdtempSync(join(tmpdir(), "meshca-bench-"));
const redis = await startRedis({ config: ["appendonly yes", "appendfsync always"] });
const running = new Set<BenchServer>();
try {
  await Promise.race([measure(), tooLong()]);
} finally {
  await stop(...running);
  await redis.stop();
  rmSync(folder, { recursive: true, force: true });
}
process.exit();

async function tooLong(): Promise<never> {
  await Bun.sleep(DEADLINE_MS);
  throw new TypeError(`It takes longer than ${DEADLINE_MS / 1000} s`);
}

async function measure(): Promise<void> {
  const kek = makeKek();
  const start = async (store: "sqlite" | "redis", workers?: number) => {
    const environment =
      store === "redis" ? { MESHCA_STORE: `redis://127.0.0.1:${redis.port}`, MESHCA_KEK: kek } : {};
    const server = await startServer(
      mkdtempSync(join(folder, "ca-")),
      { cluster_id: CLUSTER },
      { environment, workers },
    );
    running.add(server);
    return server;
  };
  const [sqlite, shared, workers] = [
    await start("sqlite"),
    await start("redis"),
    await start("redis", 2),
  ];
  await measureLeaves(sqlite, shared, workers);
  await stop(workers);
  await measureChanges(sqlite, shared);
  await stop(sqlite);
  await measureWatchers(
    [shared, await start("redis"), await start("redis")].map(({ port }) => port),
  );
}

async function stop(...servers: readonly BenchServer[]): Promise<void> {
  for (const server of servers) running.delete(server);
  await Promise.all(servers.map((server) => server.stop()));
}

/** Scripts that Redis has run so far: every request of meshca is one. */
async function scriptsRun(): Promise<number> {
  return Number(/cmdstat_eval:calls=(\d+)/.exec(await redis.admin.info("commandstats"))?.[1] ?? 0);
}

async function measureLeaves(
  ...servers: readonly [BenchServer, BenchServer, BenchServer]
): Promise<void> {
  const bodies = writeBodies(folder, await makeRequests());
  const [sqlite, one, two] = servers.map((server) =>
    loaded(server, bodies, { connections: CONNECTIONS, seconds: SECONDS }),
  ) as [Loaded, Loaded, Loaded];
  for (const server of [sqlite, one, two]) await server.warmUp();
  const [started, scripts] = [now(), await scriptsRun()];
  let leaves = 0;
  for (let pair = 0; pair < PAIRS; pair++)
    // In turn forwards and backwards, so that none is always the first.
    for (const server of pair % 2 === 0 ? [sqlite, one, two] : [two, one, sqlite])
      leaves += await server.sign();
  const [ran, seconds] = [(await scriptsRun()) - scripts, (now() - started) / 1000];
  for (const server of [sqlite, one, two]) server.close();

  const row = ({ cpu, rates }: Loaded, than: Loaded | null, target: string) => ({
    "CPU s per 1,000 leaves": median(cpu).toFixed(4),
    "leaves/s": Math.round(median(rates)),
    ratio:
      than === null
        ? ""
        : median(cpu.map((value, i) => value / (than.cpu[i] ?? Number.NaN))).toFixed(3),
    target,
  });
  console.log(
    `\nLeaves, EC P-256, ${CONNECTIONS} connections, ${PAIRS} rounds of ${SECONDS} s, medians`,
  );
  console.table({
    SQLite: row(sqlite, null, ""),
    Redis: row(one, sqlite, "<= 1.05 of SQLite"),
    "Redis, two workers": row(two, one, "<= 1.10 of one"),
  });
  const least = (100 * Math.min(...two.least)).toFixed(1);
  console.log(
    `the worker with fewer connections never had less than ${least} % of them (target >= 25 %)`,
  );
  console.log(
    `Redis ran ${ran} scripts in ${seconds.toFixed(0)} s, while ${leaves} leaves were signed`,
  );
}

/** How often a second something is done, one after the other. */
async function rate(act: (i: number) => Promise<unknown>): Promise<number> {
  const started = now();
  let count = 0;
  while (now() - started < SECONDS * 1000) await act(count++);
  return count / ((now() - started) / 1000);
}

async function measureChanges(sqlite: BenchServer, shared: BenchServer): Promise<void> {
  const rounds: { alone: number; redis: number; sqlite: number }[] = [];
  let [scripts, made] = [0, 0];
  for (let round = 0; round < 3; round++) {
    const alone = await rate((i) => redis.admin.set("bench", String(i)));
    const before = await scriptsRun();
    const ofRedis = await rate(() => {
      made++;
      return configure(shared.port);
    });
    scripts += (await scriptsRun()) - before;
    rounds.push({ alone, redis: ofRedis, sqlite: await rate(() => configure(sqlite.port)) });
  }
  const of = (column: keyof (typeof rounds)[number]) =>
    Math.round(median(rounds.map((round) => round[column])));
  console.log(
    `\nChanges of the configuration, one after the other, 3 rounds of ${SECONDS} s, medians`,
  );
  console.table({
    "Redis alone, SET": { "per second": of("alone") },
    "changes, Redis": {
      "per second": of("redis"),
      "scripts per change": (scripts / made).toFixed(1),
    },
    "changes, SQLite": { "per second": of("sqlite") },
  });
}

/** @param ports of replicas; changes are made on the first one, and the others' watchers count. */
async function measureWatchers(ports: readonly string[]): Promise<void> {
  const [first = "", ...others] = ports;
  const idle: Answered[] = [];
  for (let i = 0; i < CHANGES; i++) idle.push(await watchIdle(first, others));
  const rows: Record<string, object> = {
    [`idle, ${CHANGES} changes`]: latencies(idle, "p99 < 100"),
  };
  for (let rotation = 1; rotation <= ROTATIONS; rotation++) {
    const watching = await startWatchers(ports, WATCHERS);
    const changed = await rotate(first);
    const { errors, answeredAt } = await watching.answered();
    if (errors > 0) throw new TypeError(`${errors} watchers were refused`);
    await watching.stop();
    rows[`${WATCHERS} watchers, rotation ${rotation}`] = latencies(
      [{ ...changed, answeredAt: answeredAt.slice(1).flat() }],
      "p99 < 1000",
    );
  }
  console.log(
    `\nFrom a change on one replica to the watchers of ${others.length} others, in milliseconds; the commit is between PUT and its answer`,
  );
  console.table(rows);
}

interface Answered extends Changed {
  readonly answeredAt: readonly number[];
}

/** A change that two watchers on each replica wait for. */
async function watchIdle(first: string, others: readonly string[]): Promise<Answered> {
  const index = await indexOf(first);
  const watch = async (port: string) => {
    await (
      await fetch(`http://127.0.0.1:${port}/v1/connect/ca/roots?index=${index}&wait=10s`)
    ).arrayBuffer();
    return now();
  };
  const watchers = [...others, ...others].map(watch);
  await untilWaiting(others, watchers.length);
  return { ...(await configure(first)), answeredAt: await Promise.all(watchers) };
}

function latencies(changes: readonly Answered[], target: string): object {
  const since = (from: "sentAt" | "changedAt") =>
    changes.flatMap((change) => change.answeredAt.map((at) => at - change[from]));
  const figure = (from: "sentAt" | "changedAt", share: number) =>
    Number(quantile(since(from), share).toFixed(1));
  return {
    answers: since("sentAt").length,
    "p50 from PUT": figure("sentAt", 0.5),
    "p99 from PUT": figure("sentAt", 0.99),
    "p99 from its answer": figure("changedAt", 0.99),
    target,
  };
}
