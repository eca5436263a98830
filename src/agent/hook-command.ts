/**
 * A command that tells a service that its files changed, for example a reload. It runs as the agent's
 * user, without a shell, and with an environment that has nothing of the agent's own.
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { accessSync, constants, statSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { errorCode, fileReason } from "../config/file-errors.ts";
import { ConfigError } from "../core/errors.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { Delivered, Hook, HookOutcome } from "./hook.ts";
import { OutputTail } from "./hook-output.ts";

/** The PATH of the command and of the search for it: that of sudo's secure_path in Debian. */
const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/** How long a command may run, in milliseconds. */
const DEFAULT_LIMIT_MS = 30_000;
/** How long it has to end after SIGTERM before SIGKILL, in milliseconds. */
const GRACE_MS = 5000;
/** How long its output is read after its end: a process that it left behind may have it open. */
const OUTPUT_MS = 200;

interface HookCommandOptions {
  /** The program and its arguments. */
  readonly words: readonly string[];
  /** @default 30 s */
  readonly limitMs?: number | null;
  readonly clock: Clock;
}

/** How a process ended: its exit code or its signal, or why it did not start. */
type End =
  | { readonly code: number | null; readonly signal: string | null }
  | { readonly error: unknown };

export class HookCommand implements Hook {
  readonly name: string;
  readonly #words: readonly string[];
  readonly #limitMs: number;
  readonly #clock: Clock;

  /** @throws {ConfigError} if there is no program, or its path is relative */
  constructor({ words, limitMs = null, clock }: HookCommandOptions) {
    const [program = ""] = words;
    if (program === "") throw new ConfigError("Hook command has no program");
    if (words.some((word) => word.includes("\0")))
      throw new ConfigError("Hook command has a word with a NUL");
    if (program.includes("/") && !isAbsolute(program))
      throw new ConfigError(
        `Hook command ${JSON.stringify(program)} is a relative path: use an absolute path, or the name of a program in ${PATH}`,
      );
    // Arguments may be secrets.
    this.name = `command ${program}`;
    this.#words = words;
    this.#limitMs = limitMs ?? DEFAULT_LIMIT_MS;
    this.#clock = clock;
  }

  async run(delivered: Delivered, closing: AbortSignal): Promise<HookOutcome> {
    const failed = (reason: string, output = ""): HookOutcome => ({
      kind: "failed",
      reason,
      output,
    });
    const [program = "", ...args] = this.#words;
    const found = findProgram(program);
    if ("fault" in found) return failed(found.fault);
    let child: ChildProcess;
    try {
      child = spawn(found.path, args, {
        cwd: "/",
        env: environmentOf(delivered),
        stdio: ["ignore", "pipe", "pipe"],
        // A process group of its own, so that all of it can be ended.
        detached: true,
      });
    } catch (error) {
      return failed(startFault(found.path, error));
    }
    const output = new OutputTail();
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (chunk: Buffer) => output.add(chunk));
      stream?.on("error", () => undefined);
    }
    const ended = endOf(child);
    const killed = await this.#bound(child, ended, closing);
    const end = await ended;
    if ("error" in end) return failed(startFault(found.path, end.error));
    await this.#drain(child);
    if (killed !== null) return failed(killed, output.text());
    if (end.code === 0) return { kind: "ok" };
    const how = end.signal === null ? `exit code ${end.code}` : `signal ${end.signal}`;
    return failed(`it ended with ${how}`, output.text());
  }

  /** Ends the process if it is late or the agent closes. @returns why it was ended, or null */
  async #bound(
    child: ChildProcess,
    ended: Promise<End>,
    closing: AbortSignal,
  ): Promise<string | null> {
    const over = new AbortController();
    const stop = () => over.abort();
    closing.addEventListener("abort", stop, { once: true });
    let isOver = false;
    void ended.then(() => {
      isOver = true;
      stop();
    });
    if (!closing.aborted) await this.#clock.sleep(this.#limitMs, over.signal);
    closing.removeEventListener("abort", stop);
    if (isOver) return null;
    killGroup(child, "SIGTERM");
    const grace = new AbortController();
    void ended.then(() => grace.abort());
    await this.#clock.sleep(GRACE_MS, grace.signal);
    killGroup(child, "SIGKILL");
    return closing.aborted
      ? "it was ended, because the agent stops"
      : `it did not end within ${this.#limitMs / 1000} s and was killed`;
  }

  /** Reads the rest of the output. */
  async #drain(child: ChildProcess): Promise<void> {
    const closed = new AbortController();
    child.once("close", () => closed.abort());
    const isOpen = [child.stdout, child.stderr].some((stream) => stream?.readableEnded === false);
    if (isOpen) await this.#clock.sleep(OUTPUT_MS, closed.signal);
    child.stdout?.destroy();
    child.stderr?.destroy();
  }
}

/**
 * Nothing of the agent's own environment: it may have tokens. The server ignores names with
 * MESHCA_HOOK_, so that the command may be one of meshca's own.
 */
function environmentOf({ folder, spiffeId, service, files }: Delivered): Record<string, string> {
  return {
    PATH,
    SPIFFE_CREDENTIAL_FOLDER: folder,
    MESHCA_HOOK_SPIFFE_ID: spiffeId,
    MESHCA_HOOK_SERVICE: service,
    MESHCA_HOOK_CERT_FILE: files.chain,
    MESHCA_HOOK_KEY_FILE: files.key,
    MESHCA_HOOK_CA_FILE: files.roots,
    MESHCA_HOOK_PEM_FILE: files.combined,
  };
}

/** The path of a program, or why there is none: a runtime's own search differs from others. */
function findProgram(program: string): { path: string } | { fault: string } {
  if (isAbsolute(program)) {
    const fault = programFault(program);
    return fault === null ? { path: program } : { fault: `${JSON.stringify(program)}: ${fault}` };
  }
  const paths = PATH.split(":").map((folder) => join(folder, program));
  const path = paths.find((candidate) => programFault(candidate) === null);
  return path === undefined
    ? { fault: `there is no program ${JSON.stringify(program)} in ${PATH}` }
    : { path };
}

function programFault(path: string): string | null {
  try {
    if (!statSync(path).isFile()) return "it is not a file";
    accessSync(path, constants.X_OK);
    return null;
  } catch (error) {
    if (errorCode(error) === "EACCES") return "this user is not permitted to execute it";
    return fileReason(error) ?? "unknown";
  }
}

function startFault(path: string, error: unknown): string {
  const code = errorCode(error);
  const reason = code === "ENOEXEC" ? "it is not a program" : (fileReason(error) ?? "unknown");
  return `${JSON.stringify(path)} cannot be started: ${reason}`;
}

/** Resolves when the process has ended, or could not be started. */
function endOf(child: ChildProcess): Promise<End> {
  return new Promise((resolve) => {
    child.once("error", (error) => resolve({ error }));
    child.once("exit", (code, signal) => resolve({ code, signal }));
  });
}

/** Sends a signal to the process and to those that it started. */
function killGroup({ pid }: ChildProcess, signal: "SIGTERM" | "SIGKILL"): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // All of them have ended.
  }
}
