/**
 * How fast each runtime signs, compared with what its own crypto allows: in turn, in one process of
 * it, on the same cores.
 *
 * The servers have their state in memory and no access control. The Worker is the deployed one in
 * workerd, with Redis and access control, without which it does not serve; it has no way to sign
 * but over HTTP.
 * @module
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeKek } from "../src/seal/kek.ts";
import { startRedis } from "../test/redis/server.ts";
import { buildWorker, startWorker } from "../test/runtimes/workerd.ts";
import { median } from "./figures.ts";
import { startGenerator } from "./generator.ts";
import { createReader } from "./output.ts";
import { SECONDS } from "./rate.ts";
import { makeRequests, writeBodies } from "./requests.ts";

const RUNTIMES = {
  Bun: [process.execPath],
  Node: ["node_modules/.bin/node"],
  Deno: [
    "node_modules/deno/deno",
    "run",
    "--no-lock",
    "--no-prompt",
    "--unstable-no-legacy-abort",
    "--allow-net",
    "--allow-env",
  ],
} as const;
const CONNECTIONS = 64;
const ROUNDS = 5;
/** How often the Worker does a leaf's share of WebCrypto for each time it is asked. */
const BATCH = 500;
/** Rounds that do not count, while compilers learn. */
const WARM_UP = 2;

interface Round {
  readonly raw: number;
  /** Null if there is no such way. */
  readonly node: number | null;
  readonly process: number | null;
  readonly http: number;
}

/** Measures one runtime. */
async function measure(command: readonly string[], bodies: string): Promise<Round[]> {
  const child = Bun.spawn([...command, join(import.meta.dir, "runtimes-child.ts")], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  const kill = () => child.kill();
  process.once("exit", kill);
  const read = createReader(child.stdout);
  const [, port = ""] = await read(/port (\d+)\n/);
  const rateOf = async (what: string) => {
    child.stdin.write(`${what}\n`);
    child.stdin.flush();
    const [, rate] = await read(/rate ([\d.]+)\n/);
    return Number(rate);
  };
  const generator = startGenerator(port, bodies);
  const rounds: Round[] = [];
  for (let round = 0; round < WARM_UP + ROUNDS; round++) {
    const [raw, node, ours] = [await rateOf("raw"), await rateOf("node"), await rateOf("process")];
    const { count, errors, seconds } = await generator.run({
      connections: CONNECTIONS,
      seconds: SECONDS,
    });
    if (errors > 0) throw new TypeError(`${errors} requests failed`);
    if (round >= WARM_UP) rounds.push({ raw, node, process: ours, http: count / seconds });
  }
  generator.close();
  child.stdin.end();
  await child.exited;
  process.removeListener("exit", kill);
  return rounds;
}

/** The same of the Worker in workerd. */
async function measureWorker(folder: string): Promise<Round[]> {
  const token = "0123456789abcdef0123456789abcdef";
  const bundles = [buildWorker("bench/runtimes-worker.ts"), buildWorker()] as const;
  const redis = await startRedis({ config: ["appendonly yes"] });
  const bindings = {
    MESHCA_STORE: `redis://127.0.0.1:${redis.port}`,
    MESHCA_KEK: makeKek(),
    MESHCA_INITIAL_MANAGEMENT_TOKEN: token,
  };
  const bare = await startWorker({ bundle: bundles[0], isolates: [{}] });
  const worker = await startWorker({ bundle: bundles[1], isolates: [bindings] });
  const [url = ""] = worker.urls;
  const { TrustDomain } = (await (await fetch(`${url}/v1/connect/ca/roots`)).json()) as {
    TrustDomain: string;
  };
  const file = join(folder, "with-token.json");
  writeFileSync(
    file,
    JSON.stringify((await makeRequests(TrustDomain)).map(({ pem }) => ({ pem, token }))),
  );
  const generator = startGenerator(new URL(url).port, file);
  const raw = async () => {
    const started = performance.now();
    let count = 0;
    for (; performance.now() - started < SECONDS * 1000; count += BATCH)
      await fetch(bare.urls[0] ?? "", { method: "POST", body: String(BATCH) });
    return count / ((performance.now() - started) / 1000);
  };
  try {
    const rounds: Round[] = [];
    for (let round = 0; round < WARM_UP + ROUNDS; round++) {
      const limit = await raw();
      const { count, errors, seconds } = await generator.run({
        connections: CONNECTIONS,
        seconds: SECONDS,
      });
      if (errors > 0) throw new TypeError(`${errors} requests failed`);
      if (round >= WARM_UP)
        rounds.push({ raw: limit, node: null, process: null, http: count / seconds });
    }
    return rounds;
  } finally {
    generator.close();
    await Promise.all([bare.stop(), worker.stop()]);
    await redis.stop();
    for (const bundle of bundles) bundle.remove();
  }
}

const folder = mkdtempSync(join(tmpdir(), "meshca-bench-"));
try {
  const bodies = writeBodies(folder, await makeRequests());
  const table: Record<string, object> = {};
  const measured = [
    ...Object.entries(RUNTIMES).map(
      ([name, command]) => [name, () => measure(command, bodies)] as const,
    ),
    ["Workers", () => measureWorker(folder)] as const,
  ];
  for (const [name, work] of measured) {
    const rounds = await work();
    const medianOf = (value: (round: Round) => number | null) => {
      const values = rounds.map(value).filter((number) => number !== null);
      return values.length === 0 ? null : median(values);
    };
    const of = (column: keyof Round) =>
      Math.round(medianOf((round) => round[column]) ?? Number.NaN) || "-";
    const share = (column: keyof Round) => {
      const part = medianOf((round) => (round[column] === null ? null : round[column] / round.raw));
      return part === null ? "-" : `${(100 * part).toFixed(0)} %`;
    };
    table[name] = {
      "raw WebCrypto/s": of("raw"),
      "raw node:crypto/s": of("node"),
      "in process/s": of("process"),
      "of WebCrypto": share("process"),
      "over HTTP/s": of("http"),
      "of WebCrypto ": share("http"),
    };
  }
  console.log(
    `\nP-256 CA and leaves, ${ROUNDS} rounds of ${SECONDS} s, medians; the target is 75 % of the runtime's own WebCrypto`,
  );
  console.table(table);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit();
