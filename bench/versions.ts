/**
 * What a leaf costs in this version and in another one, in CPU of the server process and in leaves
 * a second over HTTP; in one run, in turn, on the same cores: `bun bench/versions.ts FOLDER`, a
 * checkout of the other version with its packages installed.
 * @module
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { median } from "./figures.ts";
import { type Loaded, loaded } from "./loaded.ts";
import { cpuSeconds, memory } from "./proc.ts";
import { CLUSTER, makeRequests, writeBodies } from "./requests.ts";
import type { BenchServer } from "./server.ts";

const PAIRS = 9;
/**
 * Of each server: what a compiler and a collector make of a process differs from one to the next.
 */
const STARTS = 3;
const SECONDS = 2;
const CONNECTIONS = 64;
const KEYS = { "EC P-256": {}, "RSA-2048": { PrivateKeyType: "rsa", PrivateKeyBits: 2048 } };

const other = process.argv[2];
if (other === undefined) {
  console.error(
    "Usage: bun bench/versions.ts FOLDER: name a checkout of the version to compare with",
  );
  process.exit(64);
}
const folder = mkdtempSync(join(tmpdir(), "meshca-bench-"));
/** A server of another version may word its log in another way. */
type AnyVersion = Omit<BenchServer, "log">;
const running: AnyVersion[] = [];
try {
  const bodies = writeBodies(folder, await makeRequests());
  for (const [name, key] of Object.entries(KEYS)) await measure(name, key, other, bodies);
} finally {
  await stopAll();
  rmSync(folder, { recursive: true, force: true });
}
process.exit();

async function stopAll(): Promise<void> {
  await Promise.all(running.splice(0).map((server) => server.stop()));
}

async function measure(name: string, key: object, before: string, bodies: string): Promise<void> {
  const load = { connections: CONNECTIONS, seconds: SECONDS };
  const checkouts = [before, join(import.meta.dir, "..")];
  const figures = checkouts.map((): { cpu: number[]; rates: number[] } => ({ cpu: [], rates: [] }));
  for (let start = 0; start < STARTS; start++) {
    const servers: Loaded[] = [];
    for (const checkout of checkouts)
      servers.push(loaded(await launch(checkout, key), bodies, load));
    for (const server of servers) await server.warmUp();
    // In turn forwards and backwards, so that neither is always the first.
    for (let pair = 0; pair < PAIRS / STARTS; pair++)
      for (const server of pair % 2 === 0 ? servers : servers.toReversed()) await server.sign();
    servers.forEach((server, i) => {
      server.close();
      figures[i]?.cpu.push(...server.cpu);
      figures[i]?.rates.push(...server.rates);
    });
    await stopAll();
  }
  const [old, now] = figures as [(typeof figures)[number], (typeof figures)[number]];
  const ratios = (column: "cpu" | "rates") =>
    now[column].map((value, i) => value / (old[column][i] ?? Number.NaN));
  const row = ({ cpu, rates }: (typeof figures)[number]) => ({
    "CPU s per 1,000 leaves": median(cpu).toFixed(4),
    "leaves/s": Math.round(median(rates)),
  });
  console.log(
    `\n${name} CA, P-256 leaves, ${CONNECTIONS} connections, ${PAIRS} pairs of ${SECONDS} s on ${STARTS} starts of each server, medians`,
  );
  console.table({
    "the other version": { ...row(old), "CPU ratio": "", "rate ratio": "" },
    "this version": {
      ...row(now),
      "CPU ratio": median(ratios("cpu")).toFixed(3),
      "rate ratio": median(ratios("rates")).toFixed(3),
    },
  });
  console.log(
    `CPU ratios of the pairs: ${ratios("cpu")
      .map((value) => value.toFixed(3))
      .join(" ")}`,
  );
}

/**
 * Starts the server of a checkout on a free port. It is ready once `/readyz` says so, in every
 * version.
 */
async function launch(checkout: string, key: object): Promise<AnyVersion> {
  const data = mkdtempSync(join(folder, "ca-"));
  const file = join(data, "config.json");
  writeFileSync(
    file,
    JSON.stringify({
      connect: { ca_provider: "consul", ca_config: { ...key, cluster_id: CLUSTER } },
    }),
  );
  const port = await freePort();
  const started = performance.now();
  const child = Bun.spawn([process.execPath, join(checkout, "src/cli/main.ts"), "serve"], {
    cwd: checkout,
    env: {
      ...process.env,
      MESHCA_LISTEN: `127.0.0.1:${port}`,
      MESHCA_DATA_DIR: data,
      MESHCA_CONFIG: file,
      MESHCA_LOG_LEVEL: "warn",
    },
    stdout: "ignore",
    stderr: "inherit",
  });
  const server: AnyVersion = {
    port: String(port),
    pid: child.pid,
    readyMs: 0,
    memory: () => memory(child.pid),
    cpuSeconds: () => cpuSeconds(child.pid),
    connections: () => [CONNECTIONS],
    async stop() {
      child.kill();
      await child.exited;
    },
  };
  running.push(server);
  const isReady = () =>
    fetch(`http://127.0.0.1:${port}/readyz`).then(
      ({ ok }) => ok,
      () => false,
    );
  while (!(await isReady())) {
    if (child.exitCode !== null)
      throw new TypeError(`The server of ${checkout} ended with ${child.exitCode}`);
    await Bun.sleep(50);
  }
  return { ...server, readyMs: performance.now() - started };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer().once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() =>
        typeof address === "object" && address !== null
          ? resolve(address.port)
          : reject(new TypeError("No port")),
      );
    });
  });
}
