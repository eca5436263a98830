/**
 * The data folder and the files in it: for this user only, and never by way of a link that somebody
 * else may have put there.
 * @module
 */
import {
  accessSync,
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  type Stats,
  statSync,
  writeFileSync,
} from "node:fs";
import { rename, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import type { Platform } from "../compose/platform.ts";
import { fileReason } from "../config/file-errors.ts";
import type { Settings } from "../config/settings.ts";
import { ConfigError, StoreError } from "../core/errors.ts";

const SETTING = "MESHCA_DATA_DIR";
const STORE = "MESHCA_STORE";

/**
 * Permissions of others. A folder that its group may enter and read is fine, as for PostgreSQL's
 * data folder.
 */
const OTHERS = 0o077;
const OTHERS_OF_FOLDER = 0o027;
const OTHERS_WRITE = 0o022;
/**
 * What meshca makes in its folder. A folder of earlier versions with nothing else in it may have
 * its mode corrected.
 */
const OURS = /^(?:kek|acl-bootstrap-|seen-|looks-|meshca\.db|tls-emergency\.pem|lost\+found$)/;

/** The user that this process runs as, or null if the system has none or does not tell. */
function currentUser(): number | null {
  try {
    return process.geteuid?.() ?? null;
  } catch {
    // Deno without --allow-sys.
    return null;
  }
}

/**
 * Makes the data folder and the file of an embedded store ready, before anything is read from or
 * written into them.
 * @throws {ConfigError} if another user may write into one, or it is a link, or it cannot be made
 */
export function prepareData({ store, dataDir }: Pick<Settings, "store" | "dataDir">): void {
  // Deno allows it with all of --allow-sys only. Every file is made with a mode of its own all the
  // same.
  if (!("deno" in process.versions)) process.umask(0o077);
  if (store.kind !== "memory") makeDataDir(dataDir);
  if (store.kind === "sqlite")
    for (const end of ["", "-wal", "-shm"]) makePrivate(`${store.path}${end}`, end === "");
}

/**
 * Makes the folder that holds keys and state, for nobody else to enter, or checks the one that is
 * there.
 * @param user the one that it must belong to, or null: not checked.
 * @throws {ConfigError} naming the folder, and what to do
 */
export function makeDataDir(path: string, user: number | null = currentUser()): void {
  // Without a slash at its end, behind which the system follows a link.
  const folder = resolve(path);
  try {
    makeFolders(folder);
  } catch (error) {
    throw unusable(path, `cannot be made: ${whyNotMade(folder, error)}`, error);
  }
  const found = lstatSync(folder);
  if (found.isSymbolicLink())
    throw unusable(path, "is a symbolic link: name the folder that it leads to");
  if (!found.isDirectory()) throw unusable(path, "is not a folder");
  requireOwner(path, found, user);
  if ((found.mode & OTHERS_OF_FOLDER) !== 0) tighten(path, found);
  try {
    accessSync(path, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw unusable(path, `cannot be written into: ${fileReason(error) ?? "unknown"}`, error);
  }
}

/** What root owns is as safe as what this user does. */
function isOwn({ uid }: Stats, user: number | null): boolean {
  return user === null || uid === user || uid === 0;
}

/**
 * Makes a folder with those above it. Node's own recursion never ends where the system answers
 * ENOENT, as below /proc.
 */
function makeFolders(path: string): void {
  const code = makeFolder(path);
  const above = dirname(path);
  if (code !== "ENOENT" || above === path) return;
  makeFolders(above);
  const again = makeFolder(path);
  if (again !== null) throw Object.assign(new Error(`Cannot make ${path}`), { code: again });
}

/**
 * @returns null if the folder was made or something is there, else `ENOENT`
 * @throws {Error} if it cannot be made
 */
function makeFolder(path: string): "ENOENT" | null {
  try {
    mkdirSync(path, 0o700);
    return null;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : null;
    if (code === "EEXIST") return null;
    if (code === "ENOENT") return code;
    throw error;
  }
}

/** What is not a folder among those above the one that is to be made, else what the system says. */
function whyNotMade(path: string, error: unknown): string {
  let above = dirname(path);
  while (lstatOf(above) === null && above !== dirname(above)) above = dirname(above);
  if (!isFolder(above)) return `${JSON.stringify(above)} is not a folder`;
  if (error instanceof Error && "code" in error && error.code === "ENOENT")
    return `no folder can be made in ${JSON.stringify(above)}`;
  return fileReason(error) ?? "unknown";
}

function requireOwner(path: string, found: Stats, user: number | null): void {
  const { uid } = found;
  if (!isOwn(found, user))
    throw unusable(
      path,
      `belongs to user ${uid}, and meshca runs as user ${user}: run chown ${user} on it, or name a folder below it that is still to be made`,
    );
}

/**
 * @throws {ConfigError} unless the folder is readable only, and has nothing but files of meshca in
 * it
 */
function tighten(path: string, { mode }: Stats): void {
  const isOurs = () => readdirSync(path).every((name) => OURS.test(name));
  if ((mode & OTHERS_WRITE) !== 0 || !isOurs())
    throw unusable(
      path,
      `can be ${(mode & OTHERS_WRITE) !== 0 ? "written" : "entered"} by other users (mode ${octal(mode)}): run chmod 700 on it, or name a folder below it that is still to be made`,
    );
  chmodSync(path, 0o700);
}

/**
 * Makes a file for this user only, if it is not there; one that is there gets that mode.
 * @param create false: a file that is not there stays away.
 * @throws {ConfigError} if it is a link, not a regular file, of another user, or cannot be made
 */
function makePrivate(path: string, create: boolean): void {
  let descriptor: number;
  try {
    const flags =
      constants.O_RDWR |
      constants.O_NOFOLLOW |
      constants.O_NONBLOCK |
      (create ? constants.O_CREAT : 0);
    requirePlain(path, STORE);
    descriptor = openSync(path, flags, 0o600);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    const code = error instanceof Error && "code" in error ? error.code : null;
    // That the folder is missing, SQLite says in its own words.
    if (!create || code === "ENOENT") return;
    throw new ConfigError(
      `Cannot open the database ${JSON.stringify(path)}: ${fileReason(error) ?? "unknown"}`,
      [],
      { cause: error },
    );
  }
  try {
    const found = fstatSync(descriptor);
    if (!found.isFile())
      throw new ConfigError(`${STORE}: ${JSON.stringify(path)} is not a regular file`);
    const user = currentUser();
    if (!isOwn(found, user))
      throw new ConfigError(
        `The database ${JSON.stringify(path)} belongs to user ${found.uid}, and meshca runs as user ${user}: run chown ${user} on it`,
      );
    if ((found.mode & OTHERS) !== 0) fchmodSync(descriptor, 0o600);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * The text of a file in the data folder.
 * @param refused permissions that others must not have on it.
 * @returns null if it is not there
 * @throws {ConfigError} if it is a link, not a regular file, of another user, or open to others
 */
export function readPrivate(
  path: string,
  refused = OTHERS,
  user: number | null = currentUser(),
): string | null {
  requirePlain(path, SETTING);
  let descriptor: number;
  try {
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw unusable(path, `cannot be read: ${fileReason(error) ?? "unknown"}`, error);
  }
  try {
    const found = fstatSync(descriptor);
    if (!found.isFile()) throw unusable(path, "is not a regular file");
    requireOwner(path, found, user);
    if ((found.mode & refused) !== 0)
      throw unusable(
        path,
        `is open to other users (mode ${octal(found.mode)}): run chmod 600 on it, and replace what is in it if they may have read it`,
      );
    return readFileSync(descriptor, "utf8");
  } finally {
    closeSync(descriptor);
  }
}

/**
 * The text of a file that only this user may read, made with `make` if it is not there.
 * @throws {ConfigError}
 */
export function readSecretFile(path: string, make: () => string): string {
  const before = readPrivate(path);
  if (before !== null) return before;
  // Written whole next to its place and then linked there, so that a crash leaves no half key and
  // no race two.
  const draft = `${path}.${crypto.randomUUID()}`;
  try {
    writeFileSync(draft, `${make()}\n`, { mode: 0o600, flag: "wx", flush: true });
    linkSync(draft, path);
  } catch (error) {
    if (!(error instanceof Error && "code" in error)) throw error;
    if (error.code !== "EEXIST")
      throw unusable(path, `cannot be made: ${fileReason(error) ?? "unknown"}`, error);
  } finally {
    rmSync(draft, { force: true });
  }
  return readPrivate(path) ?? "";
}

/** Text that is kept in the data folder over a restart. */
export function persistentFile(
  folder: string,
  name: string,
): ReturnType<Platform["persistentFile"]> {
  if (lstatOf(folder)?.isDirectory() !== true) return null;
  const path = join(folder, name);
  return {
    name: path,
    // An operator may put one there, with the mode that is usual.
    read: () => readPrivate(path, OTHERS_WRITE),
    // Without waiting: a caller that waits for a change is answered while this goes to the disk.
    async write(text) {
      const draft = `${path}.${crypto.randomUUID()}`;
      try {
        await writeFile(draft, text, { mode: 0o600, flag: "wx", flush: true });
        await rename(draft, path);
      } catch (error) {
        rmSync(draft, { force: true });
        throw new StoreError(
          "store_unavailable",
          `Cannot write ${JSON.stringify(path)}: ${fileReason(error) ?? "unknown"}`,
          {
            cause: error,
          },
        );
      }
    },
  };
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

function lstatOf(path: string): Stats | null {
  try {
    return lstatSync(path);
  } catch {
    return null;
  }
}

/**
 * O_NOFOLLOW and O_NONBLOCK are not honoured by every runtime: a FIFO would be waited for.
 * @throws {ConfigError}
 */
function requirePlain(path: string, setting: string): void {
  const found = lstatOf(path);
  if (found?.isSymbolicLink() === true) throw notFollowed(path, setting);
  if (found !== null && !found.isFile())
    throw new ConfigError(`${setting}: ${JSON.stringify(path)} is not a regular file`);
}

function notFollowed(path: string, setting: string): ConfigError {
  return new ConfigError(
    `${setting}: ${JSON.stringify(path)} is a symbolic link, which is not followed: name the file that it leads to, or put it there`,
  );
}

function unusable(path: string, why: string, cause?: unknown): ConfigError {
  return new ConfigError(
    `${SETTING}: ${JSON.stringify(path)} ${why}`,
    [],
    cause === undefined ? {} : { cause },
  );
}

function octal(mode: number): string {
  return (mode & 0o7777).toString(8).padStart(4, "0");
}
