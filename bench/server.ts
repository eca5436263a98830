/**
 * A server process to measure, and what the system says of its memory.
 * @module
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface BenchServer {
  readonly port: string;
  readonly pid: number;
  /** Milliseconds from its start to the moment it listened. */
  readonly readyMs: number;
  /** Resident memory in MB: now, and at its highest so far. */
  memory(): { now: number; peak: number };
  stop(): Promise<void>;
}

/** Starts a server with a data folder and a CA configuration. */
export async function startServer(folder: string, caConfig: object): Promise<BenchServer> {
  const file = join(folder, "config.json");
  writeFileSync(file, JSON.stringify({ connect: { ca_config: caConfig } }));
  const started = performance.now();
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "../src/cli/main.ts"), "serve"], {
    env: { ...process.env, MESHCA_LISTEN: "127.0.0.1:0", MESHCA_DATA_DIR: folder, MESHCA_CONFIG: file, MESHCA_LOG_LEVEL: "error" },
    stdout: "pipe",
    stderr: "inherit",
  });
  const reader = child.stdout.getReader();
  let text = "";
  while (!/listens on \S+:(\d+)\n/.test(text)) {
    const { value, done } = await reader.read();
    if (done) throw new TypeError("The server did not start");
    text += new TextDecoder().decode(value);
  }
  const readyMs = performance.now() - started;
  const megabytes = (field: string): number => {
    const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
    return Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(status)?.[1]) / 1024;
  };
  return {
    port: /listens on \S+:(\d+)\n/.exec(text)?.[1] ?? "",
    pid: child.pid,
    readyMs,
    memory: () => ({ now: megabytes("VmRSS"), peak: megabytes("VmHWM") }),
    async stop() {
      child.kill();
      await child.exited;
    },
  };
}
