/**
 * Files that only the user of this process can read. A symbolic link in their place, which another
 * user may have put there, is never followed.
 * @module
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  linkSync,
  lstatSync,
  openSync,
  readFileSync,
  rmSync,
  type Stats,
  statSync,
  writeFileSync,
} from "node:fs";
import { chmod, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errorCode, fileReason } from "../config/file-errors.ts";
import { ConfigError, StoreError } from "../core/errors.ts";
import type { PersistentFile } from "../core/ports/persistent-file.ts";

type Setting = "MESHCA_DATA_DIR" | "MESHCA_STORE";

/** Permissions of other users, and those to write. */
const OTHERS = 0o077;
export const OTHERS_WRITE = 0o022;

/** The user that this process runs as; null if the system has none or does not permit to ask. */
export function currentUser(): number | null {
  try {
    return process.geteuid?.() ?? null;
  } catch {
    // Deno without --allow-sys.
    return null;
  }
}

/**
 * Root may own a path as well, since it can read and write every file anyway.
 * @param user the owner that is required, or null: not checked.
 * @throws {ConfigError}
 */
export function requireOwner(
  path: string,
  { uid }: Stats,
  user: number | null,
  setting: Setting = "MESHCA_DATA_DIR",
): void {
  if (user !== null && uid !== user && uid !== 0)
    throw unusable(
      path,
      `belongs to user ${uid}, and meshca runs as user ${user}: run chown ${user} on it, or set ${setting} to a path of that user`,
      { setting },
    );
}

export function unusable(
  path: string,
  reason: string,
  { setting = "MESHCA_DATA_DIR", cause }: { setting?: Setting; cause?: unknown } = {},
): ConfigError {
  return new ConfigError(`${setting}: ${JSON.stringify(path)} ${reason}`, [], { cause });
}

/** The mode in octal. */
export function octal(mode: number): string {
  return (mode & 0o7777).toString(8).padStart(4, "0");
}

export function lstatOf(path: string): Stats | null {
  try {
    return lstatSync(path);
  } catch {
    return null;
  }
}

export function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

/**
 * Opens a regular file that belongs to the user.
 * @throws {ConfigError} if it is a link, another kind of file, or of another user
 * @throws {Error} with a `code` if it cannot be opened
 */
function openOwn(path: string, flags: number, setting: Setting, user: number | null): number {
  // Not every runtime honours O_NOFOLLOW and O_NONBLOCK: opening a FIFO would block.
  const before = lstatOf(path);
  if (before?.isSymbolicLink() === true)
    throw unusable(
      path,
      "is a symbolic link, which is not followed: name the file that it leads to, or put it there",
      { setting },
    );
  const notRegular = () => unusable(path, "is not a regular file", { setting });
  if (before !== null && !before.isFile()) throw notRegular();
  const descriptor = openSync(path, flags | constants.O_NOFOLLOW | constants.O_NONBLOCK, 0o600);
  try {
    const found = fstatSync(descriptor);
    if (!found.isFile()) throw notRegular();
    requireOwner(path, found, user, setting);
    return descriptor;
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
}

/**
 * Restricts the file of a database to this user.
 * @param create whether it is created if it does not exist.
 * @throws {ConfigError} if it is a link, not a regular file, of another user, or cannot be created
 */
export function makePrivate(path: string, create: boolean): void {
  const setting = "MESHCA_STORE";
  let descriptor: number;
  try {
    const flags = constants.O_RDWR | (create ? constants.O_CREAT : 0);
    descriptor = openOwn(path, flags, setting, currentUser());
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    // SQLite reports a missing folder itself.
    if (!create || errorCode(error) === "ENOENT") return;
    const reason = fileReason(error) ?? "unknown";
    throw unusable(path, `cannot be opened: ${reason}`, { setting, cause: error });
  }
  try {
    if ((fstatSync(descriptor).mode & OTHERS) !== 0) fchmodSync(descriptor, 0o600);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * The text of a file in the data folder.
 * @param refused permissions that other users must not have.
 * @returns null if it does not exist
 * @throws {ConfigError} if it is a link, not a regular file, of another user, or open to others
 */
export function readPrivate(
  path: string,
  refused = OTHERS,
  user: number | null = currentUser(),
): string | null {
  let descriptor: number;
  try {
    descriptor = openOwn(path, constants.O_RDONLY, "MESHCA_DATA_DIR", user);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    if (errorCode(error) === "ENOENT") return null;
    throw unusable(path, `cannot be read: ${fileReason(error) ?? "unknown"}`, { cause: error });
  }
  try {
    const { mode } = fstatSync(descriptor);
    if ((mode & refused) !== 0)
      throw unusable(
        path,
        `is open to other users (mode ${octal(mode)}): run chmod 600 on it, and replace its contents if they may have read them`,
      );
    return readFileSync(descriptor, "utf8");
  } finally {
    closeSync(descriptor);
  }
}

/**
 * The text of a file that only this user may read; `make` returns the text of a new one.
 * @throws {ConfigError}
 */
export function readSecretFile(path: string, make: () => string): string {
  const before = readPrivate(path);
  if (before !== null) return before;
  // Linking a complete draft is atomic: no crash leaves half a key, and no race creates two.
  const draft = `${path}.${crypto.randomUUID()}`;
  try {
    writeFileSync(draft, `${make()}\n`, { mode: 0o600, flag: "wx", flush: true });
    linkSync(draft, path);
  } catch (error) {
    const code = errorCode(error);
    if (code === null) throw error;
    if (code !== "EEXIST")
      throw unusable(path, `cannot be made: ${fileReason(error)}`, { cause: error });
  } finally {
    rmSync(draft, { force: true });
  }
  return readPrivate(path) ?? "";
}

/** A file of the data folder, of mode 0600, or 0644 if public; null if there is no such folder. */
export function persistentFile(
  folder: string,
  name: string,
  access: "private" | "public" = "private",
): PersistentFile | null {
  if (lstatOf(folder)?.isDirectory() !== true) return null;
  const path = join(folder, name);
  return {
    name: path,
    // An operator may create it with the usual mode, which lets others read it.
    read: () => readPrivate(path, OTHERS_WRITE),
    // Asynchronous: requests are answered while this is flushed to the disk.
    async write(text) {
      const draft = `${path}.${crypto.randomUUID()}`;
      try {
        await writeFile(draft, text, { mode: 0o600, flag: "wx", flush: true });
        // The umask of the process leaves other users nothing.
        if (access === "public") await chmod(draft, 0o644);
        await rename(draft, path);
      } catch (error) {
        rmSync(draft, { force: true });
        const reason = fileReason(error) ?? "unknown";
        const message = `Cannot write ${JSON.stringify(path)}: ${reason}`;
        throw new StoreError("store_unavailable", message, { cause: error });
      }
    },
  };
}
