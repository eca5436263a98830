/**
 * Real Redis servers for tests: each on a free port of loopback with a folder of its own, removed
 * with the test.
 * @module
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import type { RedisUrl } from "../../src/config/store-url.ts";

/** Why the tests that need Redis cannot run here, or false. With CI=true nothing is skipped. */
export const noRedis: string | false = (() => {
  if (process.env.CI === "true") return false;
  try {
    execFileSync("redis-server", ["--version"]);
    execFileSync("redis-sentinel", ["--version"]);
    return false;
  } catch {
    return "redis-server and redis-sentinel are not installed (apt-get install redis-server redis-sentinel)";
  }
})();

export interface RedisServer {
  readonly port: number;
  readonly folder: string;
  readonly pid: number;
  /** A connection for the test itself. */
  readonly admin: Redis;
  kill(signal: "SIGKILL" | "SIGSTOP" | "SIGCONT" | "SIGTERM"): void;
  /** Starts it again on its folder and port, after it was killed. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** A free port. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === "object" && address !== null ? address.port : 0;
}

/** Starts a program that ends with this process, whatever the outcome of the test. */
export function startProgram(program: string, args: readonly string[]): ChildProcess {
  const child = spawn(program, args, { stdio: "ignore" });
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);
  child.once("exit", () => process.removeListener("exit", kill));
  return child;
}

export interface RedisServerOptions {
  /** Lines of redis.conf besides those that are always there. */
  readonly config?: readonly string[];
  readonly program?: "redis-server" | "redis-sentinel";
  readonly port?: number;
  /** TLS instead of plain TCP: the options of the test's own connection. */
  readonly tls?: { readonly ca: string; readonly cert: string; readonly key: string };
}

/** Starts a server and waits until it answers. */
export async function startRedis(options: RedisServerOptions = {}): Promise<RedisServer> {
  if (options.port !== undefined) return startOn(options.port, options);
  for (let tries = 1; ; tries++)
    try {
      return await startOn(await freePort(), options);
    } catch (error) {
      // Another process of the tests took the port, or the one of the cluster's bus.
      if (tries === 3) throw error;
    }
}

async function startOn(port: number, options: RedisServerOptions): Promise<RedisServer> {
  const { config = [], program = "redis-server", tls } = options;
  const folder = mkdtempSync(join(tmpdir(), "meshca-redis-"));
  const file = join(folder, "redis.conf");
  const listen = tls === undefined ? [`port ${port}`] : ["port 0", `tls-port ${port}`];
  writeFileSync(
    file,
    [
      ...listen,
      "bind 127.0.0.1",
      `dir ${folder}`,
      'save ""',
      "loglevel warning",
      ...config,
      "",
    ].join("\n"),
  );
  const password = config.find((line) => line.startsWith("requirepass "))?.split(" ")[1];
  const admin = new Redis({
    host: "127.0.0.1",
    port,
    lazyConnect: true,
    retryStrategy: () => 50,
    enableReadyCheck: false,
    ...(password === undefined ? {} : { password }),
    ...(tls === undefined ? {} : { tls }),
  });
  admin.on("error", () => undefined);
  let child = startProgram(program, [file]);
  const answers = async () => {
    for (let tries = 0; tries < 2400; tries++) {
      if (child.exitCode !== null) throw new Error(`${program} ended with ${child.exitCode}`);
      try {
        if (admin.status === "wait" || admin.status === "end") await admin.connect();
        await admin.ping();
        return;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 25));
      }
    }
    throw new Error(`${program} does not answer`);
  };
  try {
    await answers();
  } catch (error) {
    admin.disconnect();
    child.kill("SIGKILL");
    throw error;
  }
  const ended = () =>
    child.exitCode !== null || child.signalCode !== null
      ? Promise.resolve()
      : new Promise((resolve) => child.once("exit", resolve));
  return {
    port,
    folder,
    get pid() {
      return child.pid ?? 0;
    },
    admin,
    kill: (signal) => child.kill(signal),
    async restart() {
      await ended();
      child = startProgram(program, [file]);
      await answers();
    },
    async stop() {
      admin.disconnect();
      child.kill("SIGKILL");
      await ended();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A Redis URL read, for one server on a port of loopback. */
export function redisUrl(port: number, overrides: Partial<RedisUrl> = {}): RedisUrl {
  return {
    kind: "redis",
    mode: "single",
    nodes: [{ host: "127.0.0.1", port }],
    master: null,
    username: null,
    password: null,
    sentinelUsername: null,
    sentinelPassword: null,
    db: 0,
    tls: null,
    prefix: "meshca",
    datacenterPrefix: null,
    connectTimeoutMs: 2000,
    commandTimeoutMs: 2000,
    waitReplicas: 0,
    ...overrides,
  };
}

export interface RedisGroup {
  readonly servers: readonly RedisServer[];
  readonly url: RedisUrl;
  /** The server that has the state. */
  master(): Promise<RedisServer>;
  stop(): Promise<void>;
}

/**
 * A master, a replica of it, and three sentinels that agree soon that a master is gone.
 * @param times how long a master must be silent, and for how long sentinels do not reconfigure a
 * replica that has lost it.
 */
export async function startSentinels(
  config: readonly string[] = [],
  times: { readonly downAfterMs?: number; readonly failoverTimeoutMs?: number } = {},
): Promise<RedisGroup & { readonly sentinels: readonly RedisServer[] }> {
  const { downAfterMs = 1000, failoverTimeoutMs = 5000 } = times;
  const master = await startRedis({ config: ["repl-diskless-sync-delay 0", ...config] });
  const replica = await startRedis({
    config: [`replicaof 127.0.0.1 ${master.port}`, "repl-diskless-sync-delay 0", ...config],
  });
  const watch = [
    `sentinel monitor mesh 127.0.0.1 ${master.port} 2`,
    `sentinel down-after-milliseconds mesh ${downAfterMs}`,
    `sentinel failover-timeout mesh ${failoverTimeoutMs}`,
  ];
  const sentinels = await Promise.all(
    [1, 2, 3].map(() => startRedis({ program: "redis-sentinel", config: watch })),
  );
  const servers = [master, replica];
  await until(async () => {
    const views = await Promise.all(
      sentinels.map(async ({ admin }) => {
        const [replicas, others] = [
          await admin.call("SENTINEL", "REPLICAS", "mesh"),
          await admin.call("SENTINEL", "SENTINELS", "mesh"),
        ];
        return [replicas, others].map((list) => (Array.isArray(list) ? list.length : 0));
      }),
    );
    return (
      views.every(([replicas, others]) => replicas === 1 && others === 2) &&
      /master_link_status:up/.test(await replica.admin.info("replication"))
    );
  });
  const find = async (port: number) => servers.find((server) => server.port === port) ?? master;
  return {
    servers,
    sentinels,
    url: redisUrl(0, {
      mode: "sentinel",
      master: "mesh",
      nodes: sentinels.map(({ port }) => ({ host: "127.0.0.1", port })),
    }),
    async master() {
      const address = await sentinels[0]?.admin.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mesh");
      return find(Number(Array.isArray(address) ? address[1] : 0));
    },
    stop: async () =>
      void (await Promise.all([...sentinels, ...servers].map((server) => server.stop()))),
  };
}

/** Three masters, each with a replica. */
export async function startCluster(): Promise<RedisGroup> {
  const config = [
    "cluster-enabled yes",
    "cluster-node-timeout 1000",
    "repl-diskless-sync-delay 0",
    "cluster-require-full-coverage no",
  ];
  const servers = await Promise.all(Array.from({ length: 6 }, () => startRedis({ config })));
  const addresses = servers.map(({ port }) => `127.0.0.1:${port}`);
  execFileSync(
    "redis-cli",
    ["--cluster", "create", ...addresses, "--cluster-replicas", "1", "--cluster-yes"],
    { stdio: "ignore" },
  );
  await until(async () => {
    const infos = await Promise.all(
      servers.map(async ({ admin }) =>
        [await admin.cluster("INFO"), await admin.info("replication")].join("\n"),
      ),
    );
    return infos.every(
      (info) => /cluster_state:ok/.test(info) && !/master_link_status:down/.test(info),
    );
  });
  return {
    servers,
    url: redisUrl(0, {
      mode: "cluster",
      nodes: servers.map(({ port }) => ({ host: "127.0.0.1", port })),
    }),
    async master() {
      const slot = await servers[0]?.admin.cluster("KEYSLOT", "{meshca}:state");
      for (const server of servers) {
        const nodes = String(await server.admin.cluster("NODES").catch(() => ""));
        const mine = nodes.split("\n").find((line) => line.includes("myself"));
        const ranges = mine?.split(" ").slice(8) ?? [];
        const has = ranges.some((range) => {
          const [from = "", to = from] = range.split("-");
          return Number(from) <= Number(slot) && Number(slot) <= Number(to);
        });
        if (mine?.includes("master") === true && has) return server;
      }
      throw new Error("No master has the slot");
    },
    stop: async () => void (await Promise.all(servers.map((server) => server.stop()))),
  };
}

/**
 * From now on a copy gets nothing of what its master writes. What waits in a socket would still
 * reach one that is stopped.
 */
export async function loseMaster(copy: RedisServer): Promise<void> {
  await copy.admin.call("REPLICAOF", "127.0.0.1", String(await freePort()));
}

/** Resolves once something holds. @throws when it does not within a minute. */
export async function until(holds: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`It never became true: ${holds}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
