/**
 * The lock of a credential folder: two agents that write into one folder would replace each other's
 * identity. It is a Unix socket in the folder on which the agent answers. The system closes it however
 * the agent ends, and it is seen from every container that has the folder, which a process id is not.
 * @module
 */
import { closeSync, constants, openSync } from "node:fs";
import { chmod, link, lstat, rm } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { errorCode } from "../../config/file-errors.ts";
import { hex } from "../../core/bytes.ts";
import { ConfigError } from "../../core/errors.ts";
import { InUseError } from "../in-use.ts";

/** Its name in the folder; the name of a draft has 64 random bits more. */
const LOCK = "..lock";
export const LOCK_DRAFT = /^\.\.lock-[0-9a-f]{16}$/;
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
    if (path === this.#path && (await this.isHeld())) return true;
    await this.release();
    for (let attempt = 0; attempt < 3; attempt++) {
      const code = await this.#take(folder, path);
      if (code === null) return true;
      if (UNSUPPORTED.has(code)) return false;
      if (code !== "EEXIST") throw Object.assign(new Error(`Cannot make ${path}`), { code });
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
    if (await this.isHeld()) await rm(this.#path, { force: true });
    this.#identity = null;
    await new Promise<void>((resolve) => server.close(() => resolve()));
  }

  /** @returns null if this process holds the lock now, else the code of the error */
  async #take(folder: string, path: string): Promise<string | null> {
    const server = createServer((socket) => {
      socket.on("error", () => undefined);
      socket.destroy();
    });
    // Under a name of its own first: runtimes delete a server's path when they close it, which may be
    // the lock of another process by then. A link of that name fails if there is one.
    const draft = `${LOCK}-${hex(crypto.getRandomValues(new Uint8Array(8)))}`;
    const code = await within(folder, draft, (address) => listening(server, address));
    if (code !== null) return code;
    try {
      await chmod(join(folder, draft), 0o600);
      await link(join(folder, draft), path);
    } catch (error) {
      await new Promise<void>((resolve) => server.close(() => resolve()));
      return errorCode(error) ?? "unknown";
    } finally {
      await rm(join(folder, draft), { force: true });
    }
    // The lock ends with the process, and does not keep it alive.
    server.unref();
    this.#server = server;
    this.#path = path;
    this.#identity = await identityOf(path);
    return null;
  }
}

/** Errors of file systems without sockets, and of paths that are too long for one. */
const UNSUPPORTED = new Set(["EPERM", "ENOTSUP", "EOPNOTSUPP", "EINVAL", "ENAMETOOLONG", "ENXIO"]);

function inUse(folder: string): InUseError {
  return new InUseError(
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
  const code = await within(folder, LOCK, answer);
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
 * Runs `work` with the address of a socket in a folder. On Linux a path that is too long for a socket is
 * shortened by a descriptor of the folder (proc_pid_fd(5)).
 */
async function within(
  folder: string,
  name: string,
  work: (address: string) => Promise<string | null>,
): Promise<string | null> {
  const path = join(folder, name);
  if (Buffer.byteLength(path) <= MAX_PATH) return await work(path);
  if (process.platform !== "linux") return "ENAMETOOLONG";
  const descriptor = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    return await work(`/proc/self/fd/${descriptor}/${name}`);
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
