/**
 * A server process to measure, and the system's figures of it.
 * @module
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createReader } from "./output.ts";
import { childrenOf, connectionsOf, cpuSeconds, memory } from "./proc.ts";

export interface BenchServer {
  readonly port: string;
  readonly pid: number;
  /** Milliseconds from its start to the moment it listened. */
  readonly readyMs: number;
  /** Resident memory in MB: now, and at its highest so far. */
  memory(): { now: number; peak: number };
  /** Seconds of CPU so far, with its workers. */
  cpuSeconds(): number;
  /** How many connections each process has that serves. */
  connections(): number[];
  /** Waits for a match in the log after the last one. */
  log(pattern: RegExp): Promise<RegExpExecArray>;
  stop(): Promise<void>;
}

export interface ServerOptions {
  /** Settings besides the address, the data folder and the configuration file. */
  readonly environment?: Readonly<Record<string, string>>;
  /** @default the built-in one */
  readonly provider?: string;
  /** Processes behind the port. @default one, which serves itself */
  readonly workers?: number | undefined;
  /** The runtime with its flags. @default the present one */
  readonly runtime?: readonly string[];
}

/** Starts a server with a data folder and a CA configuration. */
export async function startServer(
  folder: string,
  caConfig: object,
  {
    environment = {},
    provider = "consul",
    workers,
    runtime = [process.execPath],
  }: ServerOptions = {},
): Promise<BenchServer> {
  const file = join(folder, "config.json");
  writeFileSync(file, JSON.stringify({ connect: { ca_provider: provider, ca_config: caConfig } }));
  const started = performance.now();
  const command = ["serve", ...(workers === undefined ? [] : ["--workers", String(workers)])];
  const child = Bun.spawn([...runtime, join(import.meta.dir, "../src/cli/main.ts"), ...command], {
    env: {
      ...process.env,
      MESHCA_LISTEN: "127.0.0.1:0",
      MESHCA_DATA_DIR: folder,
      MESHCA_CONFIG: file,
      // The port stands in the log.
      MESHCA_LOG_LEVEL: "info",
      ...environment,
    },
    stdout: "pipe",
    stderr: "inherit",
  });
  // A measurement that fails leaves no server behind.
  const kill = () => child.kill();
  process.once("exit", kill);
  const log = createReader(child.stdout);
  const [, port = ""] = await log(
    workers === undefined
      ? /"message":"Ready"[^\n]*"url":"[^"]*:(\d+)"[^\n]*\n/
      : /"message":"Ready"[^\n]*"url":"[^"]*:(\d+)"[^\n]*"workers"[^\n]*\n/,
  );
  const readyMs = performance.now() - started;
  const pids = workers === undefined ? [child.pid] : childrenOf(child.pid);
  return {
    port,
    pid: child.pid,
    readyMs,
    memory: () => memory(child.pid),
    cpuSeconds: () =>
      [...new Set([child.pid, ...pids])].reduce((sum, pid) => sum + cpuSeconds(pid), 0),
    connections: () => pids.map((pid) => connectionsOf(pid, Number(port))),
    log,
    async stop() {
      process.removeListener("exit", kill);
      child.kill();
      await child.exited;
    },
  };
}
