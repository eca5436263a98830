/**
 * Paths that only root and the agent's own user can change, checked as OpenSSH's StrictModes does
 * (safe_path in OpenSSH's misc.c): the folder and every folder above it. Another user who may rename
 * one of them could put a folder or a link of their own in its place.
 * @module
 */
import { constants, type Stats } from "node:fs";
import { lstat, mkdir, open, readlink } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { errorCode, fileReason } from "../config/file-errors.ts";
import { ConfigError } from "../core/errors.ts";
import { hasOtherMembers } from "./group-members.ts";

/** Permission of a group and of others to write, set-group-ID and sticky bit (inode(7)). */
const [GROUP_WRITES, OTHERS_WRITE, SET_GROUP_ID, STICKY] = [0o020, 0o002, 0o2000, 0o1000];
/** Links that Linux follows in one path (path_resolution(7)). */
const MAX_LINKS = 40;

/** The user and the group that a process runs as; null if the runtime does not permit to ask. */
export interface Account {
  readonly user: number | null;
  readonly group: number | null;
}

/** The effective user and group of this process. */
export function currentAccount(): Account {
  try {
    return { user: process.geteuid?.() ?? null, group: process.getegid?.() ?? null };
  } catch {
    // Deno without --allow-sys.
    return { user: null, group: null };
  }
}

interface PathRules {
  /** Names the folder in texts, with a capital: `Credential folder`. */
  readonly what: string;
  readonly account: Account;
  /**
   * Trusts every user who can write into the folder or replace it, as in a volume that only the
   * containers of one pod have. Links are refused all the same.
   */
  readonly isShared: boolean;
}

interface CheckedFolder {
  /** The path without links. */
  readonly path: string;
  /** Null if the folder does not exist; those of its parents that exist are checked. */
  readonly stats: Stats | null;
}

/** Checks the path of one folder. */
export class FolderCheck {
  readonly #path: string;
  readonly #rules: PathRules;

  constructor(path: string, rules: PathRules) {
    this.#path = path;
    this.#rules = rules;
  }

  /**
   * Follows the path from the root of the file system, and checks every folder and link on it.
   * @throws {ConfigError} if the folder is a link or another kind of file, or another user could
   * replace it
   */
  async run(): Promise<CheckedFolder> {
    if (this.#path.includes("\0")) throw this.#refuse("has a NUL in its path");
    const pending = resolve(this.#path).split("/").filter(Boolean);
    if (pending.length === 0) throw this.#refuse("is the root of the file system");
    let [current, links] = ["/", 0];
    let stats = await this.#lstat(current);
    if (stats !== null) this.#requireTrusted(current, stats, false);
    for (let name = pending.shift(); name !== undefined; name = pending.shift()) {
      if (name === "" || name === ".") continue;
      const next = name === ".." ? dirname(current) : join(current, name);
      const isLast = pending.length === 0;
      stats = await this.#lstat(next);
      if (stats === null) return { path: join(next, ...pending), stats };
      if (stats.isSymbolicLink()) {
        if (isLast) throw this.#refuse("is a symbolic link: name the folder that it leads to");
        links += 1;
        if (links > MAX_LINKS) throw this.#refuse("has a loop of symbolic links in its path");
        this.#requireOwner(next, stats);
        const target = await readlink(next);
        if (target.startsWith("/")) current = "/";
        pending.unshift(...target.split("/"));
      } else {
        if (!stats.isDirectory()) throw this.#refuse(`is not a folder${this.#at(next)}`);
        this.#requireTrusted(next, stats, isLast);
        current = next;
      }
    }
    return { path: current, stats };
  }

  #requireTrusted(path: string, stats: Stats, isLast: boolean): void {
    this.#requireOwner(path, stats);
    if (this.#rules.isShared) return;
    const { mode, gid } = stats;
    const { group, user } = this.#rules.account;
    const isForeign = gid !== 0 && group !== null && (gid !== group || hasOtherMembers(gid, user));
    const writers =
      (mode & OTHERS_WRITE) !== 0
        ? "other users"
        : (mode & GROUP_WRITES) !== 0 && isForeign
          ? `group ${gid}`
          : null;
    // With the sticky bit only the owner of a file can rename it: /tmp is safe above, not as itself.
    if (writers === null || (!isLast && (mode & STICKY) !== 0)) return;
    throw this.#refuse(
      `can be replaced by ${writers}${this.#at(path)} with mode ${octal(mode)}: run chmod go-w on it, or use another folder`,
    );
  }

  #requireOwner(path: string, { uid }: Stats): void {
    const { account, isShared } = this.#rules;
    if (isShared || account.user === null || uid === 0 || uid === account.user) return;
    throw this.#refuse(
      `belongs to user ${uid}${this.#at(path)}, and meshca runs as user ${account.user}: use a folder of that user or of root`,
    );
  }

  /** Names the part of the path that a text is about, if it is not the folder itself. */
  #at(path: string): string {
    return path === resolve(this.#path) ? "" : ` at ${JSON.stringify(path)}`;
  }

  #refuse(reason: string, cause?: unknown): ConfigError {
    return new ConfigError(
      `${this.#rules.what} ${JSON.stringify(this.#path)} ${reason}`,
      [],
      cause === undefined ? {} : { cause },
    );
  }

  /** Null if there is no such file. @throws {ConfigError} if the system does not tell */
  async #lstat(path: string): Promise<Stats | null> {
    try {
      return await lstat(path);
    } catch (error) {
      if (errorCode(error) === "ENOENT") return null;
      const reason = fileReason(error) ?? "unknown";
      throw this.#refuse(`cannot be examined${this.#at(path)}: ${reason}`, error);
    }
  }
}

/**
 * Creates a folder and those of its parents that do not exist, which get mode 0755.
 * @param path as `FolderCheck` returned it
 * @param mode of the folder
 * @throws {Error} with a `code`
 */
export async function createFolder(path: string, mode: number): Promise<void> {
  try {
    await mkdir(path, 0o700);
  } catch (error) {
    const parent = dirname(path);
    if (errorCode(error) !== "ENOENT" || parent === path) throw error;
    await createFolder(parent, 0o755);
    await mkdir(path, 0o700);
  }
  await setFolderMode(path, mode);
}

/**
 * Sets the mode of a folder whatever the umask is, and keeps its set-group-ID bit.
 * @throws {Error} with a `code`; ELOOP or ENOTDIR if it is a link
 */
export async function setFolderMode(path: string, mode: number): Promise<void> {
  const folder = await open(
    path,
    constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW,
  );
  try {
    await folder.chmod(mode | ((await folder.stat()).mode & SET_GROUP_ID));
  } finally {
    await folder.close();
  }
}

/** The last four digits of a mode, in octal. */
export function octal(mode: number): string {
  return (mode & 0o7777).toString(8).padStart(4, "0");
}
