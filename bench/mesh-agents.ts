/**
 * Many agents in one process, each with connections, roots and a leaf of its own (src/client). Prints
 * `ready` when each has a leaf, then, when each has one under another active root, what happened, as
 * JSON.
 * @module
 */
import { Alarms } from "../src/client/alarms.ts";
import { CaApi } from "../src/client/ca-api.ts";
import { LeafSource } from "../src/client/leaf-source.ts";
import { NodeTransport } from "../src/client/node/transport.ts";
import { RootsSource } from "../src/client/roots-source.ts";
import { ServerPool } from "../src/client/server-pool.ts";
import { ServerTrust } from "../src/client/server-trust.ts";
import type { Transport } from "../src/client/transport.ts";
import type { Clock, Random } from "../src/core/ports/clock.ts";
import type { Log } from "../src/core/ports/log.ts";
import { systemClock } from "../src/entry/system.ts";
import type { MeshReport } from "./mesh.ts";
import { seededRandom } from "./seeded.ts";

const [url = "", from = "0", count = "0", spreadMs = "0"] = process.argv.slice(2);
const clock: Clock = systemClock;
const quiet = (): void => undefined;
const log: Log = { debug: quiet, info: quiet, warn: quiet, error: quiet };
const alarms = new Alarms(clock);
const now = () => performance.timeOrigin + performance.now();

const report = {
  rootsAt: [] as number[],
  leafAt: [] as number[],
  windows: [] as number[],
  late: 0,
  expired: 0,
  failed: 0,
} satisfies MeshReport;

/**
 * Over how long the agents of all processes work on new roots, in milliseconds: they share the cores
 * of one machine here, on which ten thousand verifications take seconds.
 */
const WORK_MS = 8000;

/** Notes when a response with other roots arrived, and hands it on within WORK_MS. */
function spreading(transport: Transport, random: Random): Transport {
  let before: string | null = null;
  return {
    async send(request) {
      const response = await transport.send(request);
      if (request.url.pathname !== "/v1/connect/ca/roots" || response.status !== 200)
        return response;
      if (before !== null && before !== response.body) {
        report.rootsAt.push(now());
        await clock.sleep(WORK_MS * random.fraction());
      }
      before = response.body;
      return response;
    },
    close: () => transport.close(),
  };
}

/** One agent through one rotation. @returns `first`: its first leaf; `second`: the new one. */
function agent(seed: number): { first: Promise<void>; second: Promise<void> } {
  const random = seededRandom(seed);
  const trust = new ServerTrust({ readCaFile: null, pin: null, datacenter: null });
  const transport = spreading(new NodeTransport(), seededRandom(~seed));
  const pool = new ServerPool({ servers: [url], trust, transport, clock, random, log });
  const api = new CaApi(pool);
  const roots = new RootsSource({ pool, api, cache: null, clock, random, log });
  const identity = {
    service: `mesh-${seed}`,
    dnsNames: [],
    ipAddresses: [],
    ttlMs: null,
    datacenter: null,
  };
  const shared = { api, pool, roots, alarms, clock, random, log };
  const leaf = new LeafSource({ ...shared, identity, credentials: null, cache: null });
  const first = Promise.withResolvers<void>();
  const second = Promise.withResolvers<void>();
  let firstRoot: string | null = null;
  let hasNewRoots = false;
  let deadline = 0;
  roots.subscribe(() => {
    const active = roots.current?.activeRootId ?? null;
    firstRoot ??= active;
    if (active === firstRoot || hasNewRoots) return;
    hasNewRoots = true;
    deadline = now() + roots.renewWindowMs;
    report.windows.push(roots.renewWindowMs);
  });
  leaf.subscribe(() => {
    if (leaf.current === null) report.expired++;
    else if (!hasNewRoots) first.resolve();
    else {
      report.leafAt.push(now());
      report.late = Math.max(report.late, now() - deadline);
      report.failed += leaf.counts.failed;
      second.resolve();
    }
  });
  void clock.sleep(Number(spreadMs) * random.fraction()).then(() => {
    void roots.start();
    void leaf.start();
  });
  return { first: first.promise, second: second.promise };
}

const agents = Array.from({ length: Number(count) }, (_, i) => agent(Number(from) + i));
await Promise.all(agents.map(({ first }) => first));
console.log("ready");
await Promise.all(agents.map(({ second }) => second));
console.log(JSON.stringify(report));
