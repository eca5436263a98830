/**
 * A listener on a Unix socket that no other user can connect to before it has its mode, that
 * replaces nothing but its own left-overs, and that removes nothing but itself.
 * @module
 */
import { randomBytes } from "node:crypto";
import { type BigIntStats, chmodSync, chownSync, linkSync, lstatSync, unlinkSync } from "node:fs";
import { connect, type Server } from "node:net";
import { basename, dirname, join } from "node:path";
import { errorCode, fileReason } from "../../config/file-errors.ts";
import { ConfigError } from "../../core/errors.ts";
import { InUseError } from "../in-use.ts";
import { currentAccount } from "../safe-path.ts";
import { MAX_PATH_BYTES } from "./endpoint.ts";
import { type FolderRights, prepareFolder } from "./folder.ts";

/** Nobody but the owner, and no execution: the mode of a socket file until it gets its own. */
const PRIVATE_UMASK = 0o177;
/** Milliseconds in which a socket that is in use accepts a connection. */
const PROBE_MS = 2000;

export interface UnixSocketOptions extends FolderRights {
  /** Absolute, at most 107 octets. */
  readonly path: string;
}

/** What a socket file is, as long as it exists. */
interface FileId {
  readonly dev: bigint;
  readonly ino: bigint;
}

export class UnixListener {
  readonly #server: Server;
  readonly #options: UnixSocketOptions;
  #file: FileId | null = null;

  /** @param server listens after `listen`; its owner closes it. */
  constructor(server: Server, options: UnixSocketOptions) {
    this.#server = server;
    this.#options = options;
  }

  /**
   * Binds the socket under a name of its own with mode 0600, gives it its group and mode, and then
   * its name. If it throws, the server does not listen.
   * @throws {ConfigError} if the path is in use, or its folder is not safe
   */
  async listen(): Promise<void> {
    const { path, mode, group } = this.#options;
    await prepareFolder(dirname(path), this.#options);
    const own = await this.#bind();
    try {
      // After the bind: two agents that find the same stale socket have different files by then.
      await removeStale(path);
      if (group !== null) chownSync(own, currentAccount().user ?? -1, group);
      chmodSync(own, mode);
      this.#file = fileAt(own);
      // Unlike a rename, it fails if another process was faster.
      linkSync(own, path);
    } catch (error) {
      this.#file = null;
      // It listens already, and nobody would find it without its name.
      this.#server.close();
      throw error instanceof ConfigError ? error : failure(path, error);
    } finally {
      removeFile(own);
    }
  }

  /** Removes the socket's name, if it still is this socket. Connections stay. */
  remove(): void {
    const { path } = this.#options;
    const found = fileAt(path);
    if (this.#file === null || found === null) return;
    if (found.ino === this.#file.ino && found.dev === this.#file.dev) removeFile(path);
    this.#file = null;
  }

  /** @returns the path that the socket is bound to. */
  async #bind(): Promise<string> {
    const { path } = this.#options;
    const own = temporaryName(path);
    const server = this.#server;
    const listening = new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.once("listening", () => {
        server.removeListener("error", reject);
        resolve();
      });
    });
    // Process-wide: bind(2) runs before listen() returns, and nothing else runs in between.
    const umask = process.umask(PRIVATE_UMASK);
    try {
      server.listen(own);
    } finally {
      process.umask(umask);
    }
    try {
      await listening;
    } catch (error) {
      throw failure(path, error);
    }
    return own;
  }
}

/**
 * A free name in the same folder, as long as a path may be. The runtimes remove the name that they
 * bound when they close, whatever has it by then, so that it must not be the name of the socket.
 */
function temporaryName(path: string): string {
  const long = `.meshca-${randomBytes(6).toString("hex")}`;
  const length = Buffer.byteLength(basename(path));
  // As long as the name itself, if a longer one did not fit.
  const fits = Buffer.byteLength(dirname(path)) + 1 + long.length <= MAX_PATH_BYTES;
  const name = fits ? long : randomBytes(length).toString("hex").slice(0, length);
  const own = join(dirname(path), name);
  return own === path || fileAt(own) !== null ? temporaryName(path) : own;
}

/** Removes the socket of an agent that ended without doing so. @throws {ConfigError} */
async function removeStale(path: string): Promise<void> {
  const subject = `Cannot serve the socket ${path}`;
  const found = statAt(path);
  if (found === null) return;
  if (!found.isSocket())
    throw new ConfigError(
      `${subject}: there is ${found.isSymbolicLink() ? "a link" : found.isDirectory() ? "a folder" : "a file that is not a socket"}; remove it, or choose another path`,
    );
  const { user } = currentAccount();
  if (user !== null && found.uid !== BigInt(user))
    throw new ConfigError(
      `${subject}: there is a socket of the user ${found.uid}, not of ${user}, who runs the agent; remove it, or choose another path`,
    );
  const code = await probe(path);
  if (code === "ENOENT") return;
  if (code !== "ECONNREFUSED")
    throw new InUseError(
      `${subject}: it is in use by another process (${code === null ? "it accepts connections" : code}); stop that one, or choose another path`,
    );
  // Only what was probed.
  const now = fileAt(path);
  if (now !== null && now.ino === found.ino && now.dev === found.dev) removeFile(path);
}

/** @returns null if a process accepts connections there, else the code of the error. */
function probe(path: string): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const end = (code: string | null) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(code);
    };
    const timer = setTimeout(end, PROBE_MS, "no answer");
    socket.once("connect", () => end(null));
    socket.on("error", (error) => end(errorCode(error) ?? "unknown"));
  });
}

function statAt(path: string): BigIntStats | null {
  return lstatSync(path, { bigint: true, throwIfNoEntry: false }) ?? null;
}

function fileAt(path: string): FileId | null {
  return statAt(path);
}

function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
  }
}

/** What the codes mean here; the other ones are those of files. */
const REASONS: Readonly<Record<string, string>> = {
  EEXIST: "another process created it at the same time; stop that one, or choose another path",
  EACCES: "the agent's user is not allowed to write to its folder",
  EPERM:
    "the agent's user is not allowed to give it this group, or the file system has no hard links",
};

function failure(path: string, error: unknown): ConfigError {
  const reason = REASONS[errorCode(error) ?? ""] ?? fileReason(error) ?? "it cannot be bound";
  return new ConfigError(`Cannot serve the socket ${path}: ${reason}`);
}
