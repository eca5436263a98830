/**
 * `meshca serve --workers N`: several processes behind one port, each an ordinary replica. This one serves nothing
 * itself: it starts the workers, starts one again that ended, and ends them all.
 * @module
 */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { claimStore } from "../../compose.ts";
import { ConfigError } from "../../core/errors.ts";
import { makeDataDir } from "../../entry/platform.ts";
import { runtimeOf } from "../../entry/runtime.ts";
import { describe, exitCode } from "../output.ts";
import { settingsOf, stopAsked } from "./serve.ts";

/** More than any machine has cores that one process would leave idle. */
export const MAX_WORKERS = 64;
/** How long a worker that ended is left alone before it is started again, in milliseconds. */
const RESTART_MS = 1000;

interface Ready {
  /** Where it listens, `host:port`. */
  readonly listen: string;
  readonly greeting: string;
}

/** @returns the exit code */
export async function workersCommand(count: number): Promise<number> {
  const children = new Set<ChildProcess>();
  const stopped = stopAsked();
  let stopping = false;
  let giveBack: () => void = () => undefined;

  /** Starts a worker. @returns once it listens, or the exit code of one that did not. */
  const start = (worker: number, listen: string): Promise<Ready | number> =>
    new Promise((resolve) => {
      const main = fileURLToPath(new URL("../main.ts", import.meta.url));
      const child = fork(main, ["serve", "--worker", String(worker)], { env: { ...process.env, MESHCA_LISTEN: listen } });
      children.add(child);
      let ready = false;
      child.once("message", (message) => {
        ready = true;
        resolve(message as Ready);
      });
      child.once("exit", (code) => {
        children.delete(child);
        if (!ready) resolve(code ?? 70);
        if (!stopping && ready) setTimeout(() => void (stopping || start(worker, listen)), RESTART_MS);
      });
    });

  try {
    // Deno starts processes with all permissions, and shares a port behind an unstable flag alone.
    if (runtimeOf(process.versions) === "deno")
      throw new ConfigError("Cannot start workers on Deno: serve without --workers, several replicas with Redis, or on Bun or Node");
    const settings = settingsOf(process.env);
    if (settings.store.kind === "memory")
      throw new ConfigError(
        "Cannot start workers: each would have a CA of its own in memory; set MESHCA_STORE to sqlite:PATH or redis://...",
      );
    makeDataDir(settings.dataDir);
    giveBack = await claimStore(settings);
    const { host, port } = settings.listen;
    // The first one finds a free port, where that is asked for.
    const first = await start(0, `${host.includes(":") ? `[${host}]` : host}:${port}`);
    if (typeof first === "number") return first;
    const others = await Promise.all(Array.from({ length: count - 1 }, (_, i) => start(i + 1, first.listen)));
    const failed = others.find((other) => typeof other === "number");
    if (typeof failed === "number") return failed;
    process.stdout.write(`${first.greeting}${count} workers\n`);
    await stopped;
    return 0;
  } catch (error) {
    process.stderr.write(`${describe(error)}\n`);
    return exitCode(error);
  } finally {
    stopping = true;
    const ended = [...children].map((child) => new Promise((resolve) => child.once("exit", resolve)));
    for (const child of children) child.kill("SIGTERM");
    await Promise.all(ended);
    giveBack();
  }
}
