/**
 * Starts the load generator of load.ts and exchanges messages with it.
 * @module
 */
import { join } from "node:path";
import { createReader } from "./output.ts";

export interface LoadResult {
  readonly count: number;
  readonly errors: number;
  readonly seconds: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
}

export interface Generator {
  run(options: { connections: number; seconds: number; rate?: number }): Promise<LoadResult>;
  close(): void;
}

/**
 * @param bodies a file with a JSON array of the PEM requests to send in turn, each with a token
 * if it is `{pem, token}`.
 */
export function startGenerator(port: string, bodies: string): Generator {
  const child = Bun.spawn(
    [process.execPath, join(import.meta.dir, "load.ts"), port, "/v1/connect/ca/sign", bodies],
    {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    },
  );
  const read = createReader(child.stdout);
  return {
    async run(options) {
      child.stdin.write(`${JSON.stringify(options)}\n`);
      await child.stdin.flush();
      return JSON.parse((await read(/.*\n/))[0]) as LoadResult;
    },
    close: () => child.kill(),
  };
}
