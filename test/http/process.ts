/**
 * The real server as a process of its own, started through the command that an operator uses.
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createSearch } from "./planted.ts";

export const ROOT = fileURLToPath(new URL("../../", import.meta.url));

export interface Ended {
  /** Null where a signal ended it. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ServerProcess {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  readonly dataDir: string;
  readonly trustDomain: string;
  /** What it has written so far. */
  stdout(): string;
  stderr(): string;
  kill(signal: "SIGTERM" | "SIGINT" | "SIGKILL"): void;
  readonly ended: Promise<Ended>;
  /** Ends it, and removes the data folder where `startServer` made it. */
  stop(): Promise<Ended>;
}

interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  stdout(): string;
  stderr(): string;
  onOutput(listener: () => void): void;
}

/** A runtime with its flags, before the file that it runs. */
export type Command = readonly [program: string, ...flags: string[]];

const THIS_RUNTIME: Command = [process.execPath];

function run(
  environment: Readonly<Record<string, string>>,
  args: readonly string[],
  [program, ...flags]: Command,
  root: string,
): Running {
  const { PATH = "", HOME = "" } = process.env;
  const env = { PATH, HOME, ...environment };
  const child = spawn(program, [...flags, "src/cli/main.ts", "serve", ...args], { cwd: root, env });
  // A test that fails before it stops its server leaves none behind.
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);
  child.once("close", () => process.removeListener("exit", kill));
  let [stdout, stderr] = ["", ""];
  const listeners: (() => void)[] = [];
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    stdout += chunk;
    for (const listener of listeners) listener();
  });
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    stderr += chunk;
  });
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on("close", (code) => {
      const leaks = leaksOf(environment, stdout + stderr);
      if (leaks.length > 0) reject(new Error(`The server wrote ${leaks.join(" and ")}`));
      else resolve({ code, stdout, stderr });
    });
  });
  return {
    child,
    ended,
    stdout: () => stdout,
    stderr: () => stderr,
    onOutput: (listener) => listeners.push(listener),
  };
}

/**
 * Secrets that the environment of a server has, in what it wrote. Whichever test it is of, there
 * are none.
 */
export function leaksOf(environment: Readonly<Record<string, string>>, output: string): string[] {
  const search = createSearch();
  const plant = (name: string, secret: string | undefined) => {
    if (secret !== undefined && secret.length >= 12) search.plant(name, secret);
  };
  plant("the management token", environment.MESHCA_INITIAL_MANAGEMENT_TOKEN);
  for (const key of (environment.MESHCA_KEK ?? "").split(/[\s,]+/))
    plant("a key-encryption key", key.split(":")[1]);
  const password = /^redis[^/]*:\/\/[^/@]*:([^/@]*)@/.exec(environment.MESHCA_STORE ?? "")?.[1];
  plant("a password", password);
  search.collect("its output", output);
  return search.leaks();
}

/** The lines of a server's log that are whole. */
export function linesOf(stdout: string): Readonly<Record<string, unknown>>[] {
  return stdout
    .split("\n")
    .slice(0, -1)
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** A data folder of its own. */
export function makeDataDir(): string {
  return mkdtempSync(join(tmpdir(), "meshca-data-"));
}

/** Runs a server that is expected to end by itself. */
export function runServer(
  environment: Readonly<Record<string, string>>,
  args: readonly string[] = [],
  command: Command = THIS_RUNTIME,
  root: string = ROOT,
): Promise<Ended> {
  return run(environment, args, command, root).ended;
}

/**
 * Starts a server on a free port and waits until it listens.
 * @param environment MESHCA_* variables, which win over the free port and the fresh data folder
 * that are set here.
 * @param args of `meshca serve`. @param root the folder of the program: another version's, for
 * example.
 * @throws when it ends instead of listening.
 */
export async function startServer(
  environment: Readonly<Record<string, string>> = {},
  args: readonly string[] = [],
  command: Command = THIS_RUNTIME,
  root: string = ROOT,
): Promise<ServerProcess> {
  const owned = environment.MESHCA_DATA_DIR === undefined;
  const dataDir = environment.MESHCA_DATA_DIR ?? makeDataDir();
  const running = run(
    { MESHCA_LISTEN: "127.0.0.1:0", MESHCA_DATA_DIR: dataDir, ...environment },
    args,
    command,
    root,
  );
  const url = await Promise.race([
    new Promise<string>((resolve) => {
      running.onOutput(() => {
        const ready = linesOf(running.stdout()).find(
          (line) => line.message === "Ready" && (!args.includes("--workers") || "workers" in line),
        );
        // What an earlier version wrote when it was ready.
        const written =
          root === ROOT ? null : /meshca listens on (https?:\/\/\S+)/.exec(running.stdout());
        const url = ready?.url ?? written?.[1];
        if (typeof url === "string") resolve(url);
      });
    }),
    running.ended.then(({ code, stderr }): string => {
      throw new Error(`The server ended with ${code} instead of listening: ${stderr}`);
    }),
  ]);
  return {
    url,
    port: Number(new URL(url).port),
    pid: running.child.pid ?? 0,
    dataDir,
    get trustDomain() {
      const trustDomain = linesOf(running.stdout()).find(
        (line) => "trustDomain" in line,
      )?.trustDomain;
      return typeof trustDomain === "string" ? trustDomain : "";
    },
    stdout: running.stdout,
    stderr: running.stderr,
    kill: (signal) => running.child.kill(signal),
    ended: running.ended,
    async stop() {
      running.child.kill("SIGTERM");
      const ended = await running.ended;
      if (owned) rmSync(dataDir, { recursive: true, force: true });
      return ended;
    },
  };
}
