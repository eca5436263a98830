/**
 * How fast each runtime signs, beside what its own crypto allows: in turn, in one process of it, on the same cores.
 * @module
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { median } from "./figures.ts";
import { startGenerator } from "./generator.ts";
import { createReader } from "./output.ts";
import { SECONDS } from "./rate.ts";
import { makeRequests, writeBodies } from "./requests.ts";

const RUNTIMES = {
  Bun: [process.execPath],
  Node: ["node_modules/.bin/node"],
  Deno: ["node_modules/deno/deno", "run", "--no-lock", "--no-prompt", "--unstable-no-legacy-abort", "--allow-net", "--allow-env"],
} as const;
const CONNECTIONS = 64;
const ROUNDS = 5;
/** Rounds that do not count, while compilers learn. */
const WARM_UP = 2;

interface Round {
  readonly raw: number;
  readonly node: number;
  readonly process: number;
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
    const { count, errors, seconds } = await generator.run({ connections: CONNECTIONS, seconds: SECONDS });
    if (errors > 0) throw new TypeError(`${errors} requests failed`);
    if (round >= WARM_UP) rounds.push({ raw, node, process: ours, http: count / seconds });
  }
  generator.close();
  child.stdin.end();
  await child.exited;
  process.removeListener("exit", kill);
  return rounds;
}

const folder = mkdtempSync(join(tmpdir(), "meshca-bench-"));
try {
  const bodies = writeBodies(folder, await makeRequests());
  const table: Record<string, object> = {};
  for (const [name, command] of Object.entries(RUNTIMES)) {
    const rounds = await measure(command, bodies);
    const of = (column: keyof Round) => Math.round(median(rounds.map((round) => round[column])));
    const share = (column: keyof Round) => `${(100 * median(rounds.map((round) => round[column] / round.raw))).toFixed(0)} %`;
    table[name] = {
      "raw WebCrypto/s": of("raw"),
      "raw node:crypto/s": of("node"),
      "in process/s": of("process"),
      "of WebCrypto": share("process"),
      "over HTTP/s": of("http"),
      "of WebCrypto ": share("http"),
    };
  }
  console.log(`\nP-256 CA and leaves, ${ROUNDS} rounds of ${SECONDS} s, medians; the target is 75 % of the runtime's own WebCrypto`);
  console.table(table);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit();
