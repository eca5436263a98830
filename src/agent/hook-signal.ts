/**
 * A signal to the process that a pid file names. Between the check and the signal the process may end
 * and its number may be given to another one, which no check of a pid file can exclude.
 * @module
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, readFileSync } from "node:fs";
import { errorCode, fileReason } from "../config/file-errors.ts";
import type { Delivered, Hook, HookOutcome } from "./hook.ts";
import { type Account, currentAccount, octal } from "./safe-path.ts";

type SignalName = "HUP" | "USR1" | "USR2";

/** More than any pid with a line end. */
const MAX_OCTETS = 32;
/** Permissions of group and others to write. */
const OTHERS_WRITE = 0o022;

/** A pid, or why there is none. */
type Found = { readonly pid: number } | { readonly absent: string } | { readonly refused: string };

export class HookSignal implements Hook {
  readonly name: string;
  readonly #pidFile: string;
  readonly #signal: SignalName;
  readonly #account: Account;

  /** @param account for tests. */
  constructor(pidFile: string, signal: SignalName, account: Account = currentAccount()) {
    this.name = `signal ${signal}`;
    this.#pidFile = pidFile;
    this.#signal = signal;
    this.#account = account;
  }

  async run(_delivered: Delivered, _closing: AbortSignal): Promise<HookOutcome> {
    const file = `pid file ${JSON.stringify(this.#pidFile)}`;
    let found: Found;
    try {
      found = this.#find();
    } catch (error) {
      return failed(`the process of ${file} cannot be examined: ${fileReason(error) ?? "unknown"}`);
    }
    if ("absent" in found) return { kind: "not_running", reason: `${file} ${found.absent}` };
    if ("refused" in found) return failed(`${file} ${found.refused}`);
    const { pid } = found;
    try {
      process.kill(pid, `SIG${this.#signal}`);
      return { kind: "ok" };
    } catch (error) {
      if (errorCode(error) === "ESRCH")
        return { kind: "not_running", reason: `${file} names process ${pid}, which has ended` };
      return failed(`process ${pid} cannot be sent a signal: ${fileReason(error) ?? "unknown"}`);
    }
  }

  #find(): Found {
    const text = this.#read();
    if (typeof text !== "string") return text;
    if (!/^[1-9]\d{0,9}\n?$/.test(text))
      return { refused: "must have one decimal number and nothing else" };
    const pid = Number(text);
    if (pid === 1 || pid === process.pid)
      return { refused: `names process ${pid}, which is ${pid === 1 ? "init" : "the agent"}` };
    return this.#processFault(pid) ?? { pid };
  }

  /** The text of the file, if only root and the agent's user can change it. */
  #read(): string | Found {
    let descriptor: number;
    try {
      // Not every runtime honours O_NONBLOCK, and opening a FIFO would block.
      if (lstatSync(this.#pidFile).isSymbolicLink()) return { refused: "is a symbolic link" };
      if (!lstatSync(this.#pidFile).isFile()) return { refused: "is not a regular file" };
      const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
      descriptor = openSync(this.#pidFile, flags);
    } catch (error) {
      const code = errorCode(error);
      if (code === "ENOENT" || code === "ENOTDIR") return { absent: "does not exist" };
      if (code === "ELOOP") return { refused: "is a symbolic link" };
      return { refused: `cannot be read: ${fileReason(error) ?? "unknown"}` };
    }
    try {
      const stats = fstatSync(descriptor);
      const { user } = this.#account;
      if (!stats.isFile()) return { refused: "is not a regular file" };
      if (stats.nlink !== 1) return { refused: "has another name (a hard link)" };
      if (user !== null && stats.uid !== user && stats.uid !== 0)
        return {
          refused: `belongs to user ${stats.uid}, who is neither root nor the agent's user`,
        };
      if ((stats.mode & OTHERS_WRITE) !== 0)
        return { refused: `can be written by other users (mode ${octal(stats.mode)})` };
      // A service that starts creates the file before it writes into it.
      if (stats.size === 0) return { absent: "is empty" };
      if (stats.size > MAX_OCTETS)
        return { refused: "must have one decimal number and nothing else" };
      return readFileSync(descriptor, "latin1");
    } finally {
      closeSync(descriptor);
    }
  }

  /** Why a process is not sent a signal; null if it is of the agent's user, or the agent is root. */
  #processFault(pid: number): Found | null {
    const ended = { absent: `names process ${pid}, which has ended` };
    const status = process.platform === "linux" ? readStatus(pid) : "unreadable";
    if (status === "ended") return ended;
    if (status !== "unreadable") return this.#statusFault(pid, status.text);
    try {
      process.kill(pid, 0);
      return null;
    } catch (error) {
      if (errorCode(error) === "ESRCH") return ended;
      return { refused: `names process ${pid}, which belongs to another user` };
    }
  }

  /** The same by the text of /proc/PID/status, which shows threads and set-user-ID programs too. */
  #statusFault(pid: number, status: string): Found | null {
    const field = (name: string) =>
      new RegExp(`^${name}:\\t(.*)$`, "m").exec(status)?.[1]?.split("\t") ?? [];
    if (field("State")[0]?.startsWith("Z") === true)
      return { absent: `names process ${pid}, which has ended` };
    if (field("Tgid")[0] !== String(pid))
      return { refused: `names ${pid}, which is a thread and not a process` };
    // Real, effective, saved and file system user (proc_pid_status(5)).
    const users = field("Uid").map(Number);
    const { user } = this.#account;
    const isOfOther = user !== null && user !== 0 && users.some((id) => id !== user);
    return isOfOther
      ? { refused: `names process ${pid} of user ${users[0]}, and the agent runs as user ${user}` }
      : null;
  }
}

function failed(reason: string): HookOutcome {
  return { kind: "failed", reason, output: "" };
}

/**
 * /proc/PID/status. Deno permits to read it with --allow-all only.
 * @throws {Error} if it cannot be read for another reason
 */
function readStatus(pid: number): { readonly text: string } | "ended" | "unreadable" {
  try {
    return { text: readFileSync(`/proc/${pid}/status`, "utf8") };
  } catch (error) {
    if (["ENOENT", "ESRCH"].includes(errorCode(error) ?? "")) return "ended";
    if (error instanceof Error && error.name === "NotCapable") return "unreadable";
    throw error;
  }
}
