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

/** How one file is run, before its name. Each has a process of its own, as on Bun's own runner. */
const COMMANDS = {
  node: ["node_modules/.bin/node", "--test", "--test-timeout=300000", "--test-reporter=tap"],
  deno: [
    "node_modules/deno/deno",
    ...["test", "--no-lock", "--no-check", "--allow-all", "--quiet"],
  ],
} as const;
const CONCURRENT = 2;
/**
 * For a file, in milliseconds. Deno has no limit of its own for a test: without this one a test that
 * waits for ever would hold the whole run, and nothing would name it.
 */
const FILE_MS = 300_000;

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

// Deno's runner counts what node:test calls a suite as a test, and what it calls a test as a step.
const COUNTS = runtime === "node" ? /^# pass (\d+)$/m : /\((\d+) steps?\)/;

/** Runs a file. @returns how many tests passed, or 0 if one failed, which is printed */
async function run(file: string): Promise<number> {
  const child = Bun.spawn([...COMMANDS[runtime as keyof typeof COMMANDS], file], {
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, NO_COLOR: "1" },
  });
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    child.kill("SIGKILL");
  }, FILE_MS);
  const [stdout, stderr, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  clearTimeout(timer);
  const passed = Number(COUNTS.exec(stdout)?.[1] ?? 0);
  if (code === 0 && passed > 0) return passed;
  const why = isLate
    ? `did not end within ${FILE_MS / 1000} s`
    : code === 0
      ? "has no test that passed"
      : `ended with ${code}`;
  console.log(`${stdout}${stderr}\n${file} ${why} on ${runtime}`);
  return 0;
}

let passed = 0;
const failed: string[] = [];
const rest = files.values();
await Promise.all(
  Array.from({ length: CONCURRENT }, async () => {
    // Both take from the same files.
    for (const file of rest) {
      const count = await run(file);
      passed += count;
      if (count === 0) failed.push(file);
    }
  }),
);
if (failed.length > 0) console.log(`Failed on ${runtime}: ${failed.join(", ")}`);
console.log(`${runtime}: ${files.length} files, ${passed} passed`);
process.exit(failed.length === 0 ? 0 : 1);
