/**
 * `meshca serve --workers N`: several processes behind one port, each an ordinary replica. This
 * process only starts, restarts and stops them.
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { claimStore } from "../../compose/backend.ts";
import { hostPort } from "../../config/addresses.ts";
import type { Settings } from "../../config/settings.ts";
import { ConfigError } from "../../core/errors.ts";
import { prepareData } from "../../entry/data-platform.ts";
import { createPlatform } from "../../entry/platform.ts";
import { runtimeOf } from "../../entry/runtime.ts";
import { VERSION } from "../../version.ts";
import { describe, EXIT, exitCode } from "../output.ts";
import { describeStore, settingsOf, stopAsked } from "./serve.ts";

/** The delay before a worker that ended is started again, in milliseconds. */
const RESTART_MS = 1000;

/** Of this file, and so of the others: `.ts` in a clone, `.js` in the npm package. */
const EXTENSION = import.meta.url.slice(import.meta.url.lastIndexOf("."));

/**
 * What precedes the command's words if this executable starts itself: nothing if it is the single
 * binary, whose files are below `/$bunfs` (Bun, "Single-file executable").
 */
const THIS_PROGRAM: readonly string[] = import.meta.url.includes("/$bunfs/")
  ? []
  : [...process.execArgv, fileURLToPath(new URL(`../main${EXTENSION}`, import.meta.url))];

interface Ready {
  /** The address that it listens on, `host:port`. */
  readonly listen: string;
  readonly url: string;
  readonly greeting: string;
}

/** Serves with workers. @returns the exit code */
export async function workersCommand(count: number): Promise<number> {
  const stopped = stopAsked();
  const workers = new Workers();
  process.on("SIGHUP", () => workers.reload());
  let release: () => void = () => undefined;
  try {
    requireNotDeno();
    const settings = settingsOf(process.env);
    requireSharedStore(settings);
    prepareData(settings);
    const { log } = createPlatform(settings);
    release = await claimStore(settings);
    const { host, port } = settings.listen;
    // The first worker finds a free port if the port is 0. A stop does not wait for workers that
    // start: they may be waiting for their store.
    const first = await Promise.race([
      workers.start(0, hostPort(host, port)),
      stopped.then(() => 0),
    ]);
    if (typeof first === "number") return first;
    const starting = Promise.all(
      Array.from({ length: count - 1 }, (_, i) => workers.start(i + 1, first.listen)),
    );
    const others = await Promise.race([starting, stopped.then(() => [])]);
    const failed = others.find((other) => typeof other === "number");
    if (typeof failed === "number") return failed;
    const store = describeStore(settings.store);
    log.info("Ready", { url: first.url, version: VERSION, store, workers: count });
    if (process.stdout.isTTY) process.stdout.write(`${first.greeting}${count} workers\n`);
    log.info("Stopping", { reason: await stopped, workers: count });
    return 0;
  } catch (error) {
    process.stderr.write(`${describe(error)}\n`);
    return exitCode(error);
  } finally {
    await workers.stop();
    release();
  }
}

/**
 * Deno starts processes with all permissions, and shares ports only with an unstable flag.
 * @throws {ConfigError}
 */
function requireNotDeno(): void {
  if (runtimeOf(process.versions) === "deno")
    throw new ConfigError(
      "Cannot start workers on Deno: serve without --workers, run several replicas with Redis, or use Bun or Node",
    );
}

/** @throws {ConfigError} */
function requireSharedStore({ store }: Settings): void {
  if (store.kind === "memory")
    throw new ConfigError(
      "Cannot start workers with MESHCA_STORE=memory: each worker would have its own CA; set MESHCA_STORE to sqlite:PATH or redis://...",
    );
}

class Workers {
  readonly #children = new Set<ChildProcess>();
  /** Those that listen. One that is still starting has no handler for SIGHUP, and needs none. */
  readonly #listening = new Set<ChildProcess>();
  #stopping = false;

  /** Starts a worker. Resolves when it listens, or with the exit code of one that failed. */
  start(worker: number, listen: string): Promise<Ready | number> {
    const { promise, resolve } = Promise.withResolvers<Ready | number>();
    const child = spawn(process.execPath, [...THIS_PROGRAM, "serve", "--worker", String(worker)], {
      env: { ...process.env, MESHCA_LISTEN: listen },
      stdio: ["inherit", "inherit", "inherit", "ipc"],
    });
    this.#children.add(child);
    child.once("message", (message) => {
      this.#listening.add(child);
      resolve(message as Ready);
    });
    child.once("exit", (code) => {
      this.#children.delete(child);
      const wasListening = this.#listening.delete(child);
      if (!wasListening) resolve(code ?? EXIT.software);
      else if (!this.#stopping)
        setTimeout(() => void (this.#stopping || this.start(worker, listen)), RESTART_MS);
    });
    return promise;
  }

  reload(): void {
    for (const child of this.#listening) child.kill("SIGHUP");
  }

  /** Ends all workers, and waits for them. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const ended = [...this.#children].map(
      (child) => new Promise((resolve) => child.once("exit", resolve)),
    );
    for (const child of this.#children) child.kill("SIGTERM");
    await Promise.all(ended);
  }
}
