/**
 * The lock of a credential folder: two agents that write into one folder would replace each other's
 * identity. It is a Unix socket in the folder on which the agent answers. The system closes it however
 * the agent ends, and it is seen from every container that has the folder, which a process id is not.
 * @module
 */
import { closeSync, constants, openSync } from "node:fs";
import { chmod, lstat, rm } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { errorCode } from "../../config/file-errors.ts";
import { ConfigError } from "../../core/errors.ts";

/** Its name in the folder. */
export const LOCK = "..lock";
/** The octets of a socket's path without its NUL (sun_path of unix(7)). */
const MAX_PATH = 107;
/** How long a process that does not accept has to answer, in milliseconds. */
const ANSWER_MS = 1000;

export class FolderLock {
  #server: Server | null = null;
  /** Device and inode of the socket. */
  #identity: string | null = null;
  #path = "";

  /**
   * Takes the lock; does nothing if this lock is held already.
   * @param folder without links
   * @returns false if the file system has no sockets: the folder is not locked then
   * @throws {ConfigError} if another process holds it
   * @throws {Error} with a `code`: the folder cannot be written into
   */
  async acquire(folder: string): Promise<boolean> {
    const path = join(folder, LOCK);
    if (this.#server !== null && path === this.#path && (await this.isHeld())) return true;
    await this.release();
    for (let attempt = 0; attempt < 3; attempt++) {
      const outcome = await this.#listen(folder, path);
      if (outcome === "held") return true;
      if (outcome !== "EADDRINUSE") {
        if (UNSUPPORTED.has(outcome)) return false;
        throw Object.assign(new Error(`Cannot make ${path}`), { code: outcome });
      }
      await removeStale(folder, path);
    }
    throw inUse(folder);
  }

  /** Whether the socket in the folder is still the one of this lock. */
  async isHeld(): Promise<boolean> {
    return this.#identity !== null && (await identityOf(this.#path)) === this.#identity;
  }

  /** Lets another process take it. */
  async release(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    if (server === null) return;
    // Not every runtime removes the file; another process's socket in its place stays.
    if (await this.isHeld()) await rm(this.#path, { force: true });
    this.#identity = null;
    await new Promise<void>((resolve) => server.close(() => resolve()));
  }

  /** "held", or the code of the error. */
  async #listen(folder: string, path: string): Promise<string> {
    const server = createServer((socket) => {
      socket.on("error", () => undefined);
      socket.destroy();
    });
    const code = await within(folder, path, (address) => listening(server, address));
    if (code !== null) return code;
    // The lock ends with the process; it is no reason to go on.
    server.unref();
    await chmod(path, 0o600);
    this.#server = server;
    this.#path = path;
    this.#identity = await identityOf(path);
    return "held";
  }
}

/** Errors of file systems without sockets, and of paths that are too long for one. */
const UNSUPPORTED = new Set(["EPERM", "ENOTSUP", "EOPNOTSUPP", "EINVAL", "ENAMETOOLONG", "ENXIO"]);

function inUse(folder: string): ConfigError {
  return new ConfigError(
    `Credential folder ${JSON.stringify(folder)} is in use by another meshca agent: stop it, or give each agent a folder of its own`,
  );
}

/** Resolves with null once the server listens, else with the code of the error. */
function listening(server: Server, path: string): Promise<string | null> {
  return new Promise((resolve) => {
    server.once("error", (error) => resolve(errorCode(error) ?? "unknown"));
    server.listen(path, () => resolve(null));
  });
}

/**
 * Removes the socket of a process that ended.
 * @throws {ConfigError} if a process answers, or the file is not a socket
 */
async function removeStale(folder: string, path: string): Promise<void> {
  const before = await identityOf(path);
  if (before === null) return;
  if (!(await lstat(path)).isSocket())
    throw new ConfigError(
      `Credential folder ${JSON.stringify(folder)} has a file ${LOCK} that is not a socket: remove it`,
    );
  const code = await within(folder, path, answer);
  if (code === "ENOENT") return;
  if (code !== "ECONNREFUSED") throw inUse(folder);
  // Another agent may have replaced it since.
  if ((await identityOf(path)) === before) await rm(path, { force: true });
}

/** Resolves with null if a process accepts a connection, else with the code of the error. */
function answer(path: string): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const end = (code: string | null) => {
      socket.destroy();
      resolve(code);
    };
    socket.setTimeout(ANSWER_MS, () => end("ETIMEDOUT"));
    socket.once("connect", () => end(null));
    socket.once("error", (error) => end(errorCode(error) ?? "unknown"));
  });
}

/**
 * Runs `work` with an address of the socket that is short enough: on Linux a longer path is named
 * by a descriptor of its folder (proc(5), /proc/PID/fd).
 */
async function within(
  folder: string,
  path: string,
  work: (address: string) => Promise<string | null>,
): Promise<string | null> {
  if (Buffer.byteLength(path) <= MAX_PATH) return await work(path);
  if (process.platform !== "linux") return "ENAMETOOLONG";
  const descriptor = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    return await work(`/proc/self/fd/${descriptor}/${LOCK}`);
  } finally {
    closeSync(descriptor);
  }
}

/** Device and inode of a file; null if it does not exist. */
async function identityOf(path: string): Promise<string | null> {
  try {
    const { dev, ino } = await lstat(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return null;
  }
}
