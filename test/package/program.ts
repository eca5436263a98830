/**
 * Runs an installed meshca in a folder of its own: the whole command line is given, and nothing of
 * this machine's environment but PATH and HOME.
 * @module
 */
import { spawn } from "node:child_process";
import { type Ended, linesOf } from "../fixtures/process.ts";

/** A program, its arguments before the command of meshca, and where it runs. */
export interface Program {
  readonly command: readonly [program: string, ...args: string[]];
  readonly cwd: string;
  /** What replaces PATH and HOME. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Whether it starts meshca as another process, so that its exit code is not meshca's. */
  readonly starter?: boolean;
}

export interface Process {
  readonly ended: Promise<Ended>;
  /** Resolves with the first line of the log that this holds for. @throws {Error} if it ends before */
  logged(holds: (line: Readonly<Record<string, unknown>>) => boolean): Promise<unknown>;
  /** Ends it and what it started in order. */
  stop(): Promise<Ended>;
}

export function start(
  { command, cwd, environment }: Program,
  args: readonly string[],
  settings: Readonly<Record<string, string>> = {},
): Process {
  const { PATH = "", HOME = "" } = process.env;
  const [program, ...before] = command;
  const child = spawn(program, [...before, ...args], {
    cwd,
    env: { ...(environment ?? { PATH, HOME }), ...settings },
    stdio: ["ignore", "pipe", "pipe"],
    // npx and bunx start meshca as a process of the same group.
    detached: true,
  });
  const signal = (name: NodeJS.Signals) => {
    try {
      process.kill(-(child.pid ?? 0), name);
    } catch {
      // All processes of the group have ended.
    }
  };
  const kill = () => signal("SIGKILL");
  process.once("exit", kill);
  let [stdout, stderr] = ["", ""];
  const listeners = new Set<() => void>();
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    stdout += chunk;
    for (const listener of listeners) listener();
  });
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    stderr += chunk;
  });
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => {
      process.removeListener("exit", kill);
      resolve({ code, stdout, stderr });
    });
  });
  return {
    ended,
    logged: (holds) =>
      Promise.race([
        new Promise((resolve) => {
          const look = () => {
            const line = linesOf(stdout).find(holds);
            if (line !== undefined) resolve(line);
          };
          listeners.add(look);
          look();
        }),
        ended.then(({ code }): never => {
          throw new Error(`${command.join(" ")} ended with ${code}: ${stderr}${stdout}`);
        }),
      ]),
    stop() {
      signal("SIGTERM");
      return ended;
    },
  };
}

/** Runs a command that ends by itself. */
export const run = (program: Program, ...args: string[]): Promise<Ended> =>
  start(program, args).ended;

/** Starts a server on a free port. @returns it and its URL */
export async function serve(
  program: Program,
  dataDir: string,
  ...args: string[]
): Promise<Process & { readonly url: string }> {
  const server = start(program, ["serve", ...args], {
    MESHCA_LISTEN: "127.0.0.1:0",
    MESHCA_DATA_DIR: dataDir,
  });
  const line = await server.logged(
    ({ message, workers }) =>
      message === "Ready" && (workers !== undefined || !args.includes("--workers")),
  );
  return { ...server, url: (line as { url: string }).url };
}
