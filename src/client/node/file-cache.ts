/**
 * The cache in a folder of this user: one file for the roots and one for each identity, named by a hash
 * of their key.
 * @module
 */
import { constants } from "node:fs";
import { lstat, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { hex, sha256, utf8 } from "../../core/bytes.ts";
import { FormatError } from "../../core/errors.ts";
import type { Log } from "../../core/ports/log.ts";
import type { Cache } from "../cache.ts";

/** The largest entry that is read, in octets: the largest listing of roots, in JSON. */
const MAX_BYTES = 2 * 1024 * 1024;
/** Permissions of the group and of others. */
const OTHERS = 0o077;
/** The name of a file that is being written: that of the entry, and a UUID. */
const DRAFT = /^[0-9a-f]{64}\.json\.[0-9a-f-]{36}$/;

export class FileCache implements Cache {
  readonly #folder: string;
  readonly #log: Log;
  /** Writes of one file follow each other. */
  readonly #writes = new Map<string, Promise<void>>();

  private constructor(folder: string, log: Log) {
    this.#folder = folder;
    this.#log = log;
  }

  /**
   * Opens a folder, which is made with mode 0700 if it does not exist. Files that a process did not
   * write to their end, since it was killed, have private keys and are removed.
   * @throws {FormatError} if it is a link or no folder, of another user, or open to others
   */
  static async open(folder: string, log: Log): Promise<FileCache> {
    const refuse = (what: string) =>
      new FormatError(`The cache folder ${JSON.stringify(folder)} ${what}`);
    try {
      await mkdir(folder, { mode: 0o700, recursive: true });
      const found = await lstat(folder);
      if (found.isSymbolicLink())
        throw refuse("is a symbolic link, which is not followed; name the folder that it leads to");
      if (!found.isDirectory()) throw refuse("is not a folder");
      const user = currentUser();
      if (user !== null && found.uid !== user)
        throw refuse(`belongs to user ${found.uid}, and the agent runs as user ${user}`);
      if ((found.mode & OTHERS) !== 0)
        throw refuse(
          `is open to other users (mode ${(found.mode & 0o7777).toString(8)}); run chmod 700 on it`,
        );
      const drafts = (await readdir(folder)).filter((name) => DRAFT.test(name));
      for (const draft of drafts) await rm(join(folder, draft), { force: true });
    } catch (error) {
      if (error instanceof FormatError) throw error;
      throw refuse(`cannot be used: ${codeOf(error)}`);
    }
    return new FileCache(folder, log);
  }

  async read(key: string): Promise<string | null> {
    const path = this.#pathOf(key);
    try {
      const before = await lstat(path);
      const ignore = (reason: string) => {
        this.#log.warn("Ignoring a file of the cache", { file: path, reason });
        return null;
      };
      if (!before.isFile()) return ignore("it is not a regular file");
      const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
      try {
        const found = await file.stat();
        const user = currentUser();
        if (!found.isFile() || (user !== null && found.uid !== user))
          return ignore("it is not a regular file of this user");
        if ((found.mode & OTHERS) !== 0) return ignore("it is open to other users");
        if (found.size > MAX_BYTES) return ignore("it is too large");
        return await file.readFile("utf8");
      } finally {
        await file.close();
      }
    } catch (error) {
      if (codeOf(error) !== "ENOENT")
        this.#log.warn("Failed to read a file of the cache", { file: path, reason: codeOf(error) });
      return null;
    }
  }

  write(key: string, text: string): Promise<void> {
    const path = this.#pathOf(key);
    const write = (this.#writes.get(path) ?? Promise.resolve()).then(() =>
      this.#replace(path, text),
    );
    this.#writes.set(path, write);
    return write.finally(() => {
      if (this.#writes.get(path) === write) this.#writes.delete(path);
    });
  }

  async #replace(path: string, text: string): Promise<void> {
    const draft = `${path}.${crypto.randomUUID()}`;
    try {
      const file = await open(draft, "wx", 0o600);
      try {
        await file.writeFile(text);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(draft, path);
    } catch (error) {
      await rm(draft, { force: true }).catch(() => undefined);
      this.#log.warn(
        "Failed to write a file of the cache; a restart during an outage would not find the newest one",
        {
          file: path,
          reason: codeOf(error),
        },
      );
    }
  }

  #pathOf(key: string): string {
    return join(this.#folder, `${hex(sha256(utf8(key)))}.json`);
  }
}

/** The user that this process runs as; null if the system has none or does not permit to ask. */
function currentUser(): number | null {
  try {
    return process.geteuid?.() ?? null;
  } catch {
    return null;
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "unknown";
}
