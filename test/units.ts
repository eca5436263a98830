/**
 * Runs the tests that need no server process on another runtime, by its own test runner: the same
 * files as on Bun.
 *   bun test/units.ts node|deno
 * @module
 */
import { readdirSync } from "node:fs";

/**
 * Tests that spawn servers run on Bun only: what they spawn is held to the contract on each
 * runtime by test/runtimes.
 */
const FOLDERS = [
  "core",
  "acl",
  "client",
  "consul",
  "config",
  "net",
  "providers",
  "seal",
  "store",
  "telemetry",
];

/** Files of other folders. */
const FILES = [
  "agent/caller-rights.test.ts",
  "agent/consul-authorize.test.ts",
  "agent/consul-leaf.test.ts",
  "agent/listener.test.ts",
  "agent/hostile-clients.test.ts",
  "agent/local-request.test.ts",
  "agent/many-streams.test.ts",
  "agent/reflection.test.ts",
  "agent/sds.test.ts",
  "agent/sds-rest.test.ts",
  "agent/unix-socket.test.ts",
  "agent/workload-api.test.ts",
];

/** What does not run there, and why. */
const EXCEPTIONS: readonly (readonly [
  runtime: "all" | "node" | "deno",
  file: string,
  why: string,
])[] = [
  [
    "all",
    "core/x509/leaf-differential.test.ts",
    "two minutes of @peculiar/x509, which is the same JavaScript on each runtime",
  ],
  [
    "all",
    "acl/timing.test.ts",
    "compares times, which the files that run concurrently there disturb",
  ],
  ["all", "client/live.test.ts", "spawns servers"],
  ["all", "config/own-address.test.ts", "spawns servers"],
  ["all", "config/serve.test.ts", "spawns servers"],
  ["all", "config/workers.test.ts", "spawns servers"],
  ["all", "acl/replicas.test.ts", "spawns servers"],
  [
    "all",
    "providers/consul/root-vectors.test.ts",
    "a minute of verifiers that are other processes",
  ],
  ["all", "core/ca/faults.test.ts", "half a minute of plain JavaScript over a fake clock"],
  ["all", "core/ca/life.test.ts", "half a minute of plain JavaScript over a fake clock"],
];

const FLAGS = {
  node: [
    "node_modules/.bin/node",
    "--test",
    "--test-timeout=60000",
    "--test-concurrency=2",
    "--test-reporter=tap",
  ],
  deno: [
    "node_modules/deno/deno",
    "test",
    "--no-lock",
    "--no-check",
    "--allow-all",
    "--quiet",
    "--parallel",
  ],
} as const;

const [, , runtime = ""] = process.argv;
if (runtime !== "node" && runtime !== "deno") {
  console.error("Usage: bun test/units.ts node|deno");
  process.exit(64);
}
const all = [
  ...FILES,
  ...FOLDERS.flatMap((folder) =>
    readdirSync(`test/${folder}`, { recursive: true, encoding: "utf8" }).map(
      (name) => `${folder}/${name}`,
    ),
  ),
].filter((file) => file.endsWith(".test.ts"));
const excepted = EXCEPTIONS.filter(([on]) => on === "all" || on === runtime).map(
  ([, file]) => file,
);
const stale = excepted.filter((file) => !all.includes(file));
if (stale.length > 0) {
  console.error(`There is no such test any more: ${stale.join(", ")}`);
  process.exit(1);
}
const files = all.filter((file) => !excepted.includes(file)).map((file) => `test/${file}`);
const child = Bun.spawnSync([...FLAGS[runtime], ...files], { stdout: "pipe", stderr: "inherit" });
const text = child.stdout.toString();
// Deno's runner counts what node:test calls a suite as a test, and what it calls a test as a step.
const counts = runtime === "node" ? /^# pass (\d+)$/m : /\((\d+) steps\)/;
const passed = Number(counts.exec(text)?.[1] ?? 0);
if (child.exitCode !== 0 || passed === 0) console.log(text);
console.log(`${runtime}: ${files.length} files, ${passed} passed`);
process.exit(child.exitCode === 0 && passed > 0 ? 0 : 1);
