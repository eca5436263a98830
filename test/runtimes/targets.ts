/**
 * What the conformance suite runs against: each runtime as a real process, started as its README
 * says.
 * @module
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { type Command, makeDataDir, startServer } from "../fixtures/process.ts";
import { buildWorker, startWorker } from "./workerd.ts";

const BIN = join(import.meta.dirname, "../../node_modules/.bin");

export type StoreName = "redis" | "sqlite";

export interface Target {
  readonly name: string;
  /** Where it can keep its state. */
  readonly stores: readonly StoreName[];
  /**
   * @param settings MESHCA_* variables; a target without a file system is given none that names a
   * file.
   */
  start(settings: Readonly<Record<string, string>>): Promise<Running>;
}

export interface Running {
  readonly url: string;
  /** Ends it in order. A second call does nothing. */
  stop(): Promise<void>;
}

/**
 * How each server runtime is started, with no more rights over files and the network than it needs.
 */
export const COMMANDS = {
  bun: (): Command => [join(BIN, "bun")],
  node: (): Command => [join(BIN, "node")],
  deno: (dataDir: string): Command => [
    // What lies in .bin may be a script that starts Deno and keeps signals to itself.
    join(BIN, "../deno/deno"),
    "run",
    "--no-lock",
    "--no-prompt",
    "--unstable-no-legacy-abort",
    "--allow-net=127.0.0.1",
    "--allow-env",
    `--allow-read=${dataDir}`,
    "--allow-sys=uid,networkInterfaces",
    `--allow-write=${dataDir}`,
  ],
} as const;

function processTarget(name: keyof typeof COMMANDS): Target {
  return {
    name,
    stores: ["redis", "sqlite"],
    async start(settings) {
      const { MESHCA_DATA_DIR } = settings;
      const dataDir = MESHCA_DATA_DIR ?? makeDataDir();
      const server = await startServer(
        { ...settings, MESHCA_DATA_DIR: dataDir },
        [],
        COMMANDS[name](dataDir),
      );
      return {
        url: server.url,
        async stop() {
          await server.stop();
          if (MESHCA_DATA_DIR === undefined) rmSync(dataDir, { recursive: true, force: true });
        },
      };
    },
  };
}

/** The built bundle in workerd. Settings are its bindings. */
const workersTarget: Target = {
  name: "workers",
  stores: ["redis"],
  async start(settings) {
    const bundle = buildWorker();
    const worker = await startWorker({ bundle, isolates: [settings] });
    bundle.remove();
    return { url: worker.urls[0] ?? "", stop: worker.stop };
  },
};

export const TARGETS: readonly Target[] = [
  processTarget("bun"),
  processTarget("node"),
  processTarget("deno"),
  workersTarget,
];

/** What a runtime does otherwise than Bun, and why. Each row is asserted. */
export const EXCEPTIONS = [
  {
    target: "node",
    what: "a Keep-Alive header",
    why: "Node tells how long a connection may be silent",
  },
  {
    target: "deno",
    what: "a Keep-Alive header",
    why: "meshca serves by node:http there, since Deno.serve bounds no silent connection",
  },
  {
    target: "deno",
    what: "header names in lower case",
    why: "node:http writes the names of a fetch Response as its Headers list them",
  },
  {
    target: "node",
    what: "header names in lower case",
    why: "Node writes the names of a fetch Response as its Headers list them",
  },
  {
    target: "deno",
    what: "no workers",
    why: "Deno starts processes with all permissions, and shares a port behind an unstable flag only",
  },
  {
    target: "workers",
    what: "no HTTP/1.0 without a Host",
    why: "Cloudflare speaks HTTP/1.0 with clients, and names the host itself",
  },
  {
    target: "workers",
    what: "no metrics",
    why: "an isolate sees only a part of the requests, and has ended before it is scraped",
  },
] as const;

/** Whether `target` has this exception. */
export function excepted(target: string, what: (typeof EXCEPTIONS)[number]["what"]): boolean {
  return EXCEPTIONS.some((exception) => exception.target === target && exception.what === what);
}
