/**
 * Creates the data folder, and checks that no other user can write into it.
 * @module
 */
import {
  accessSync,
  chmodSync,
  constants,
  lstatSync,
  mkdirSync,
  readdirSync,
  type Stats,
} from "node:fs";
import { dirname, resolve } from "node:path";
import { errorCode, fileReason } from "../config/file-errors.ts";
import type { Settings } from "../config/settings.ts";
import {
  currentUser,
  isFolder,
  lstatOf,
  makePrivate,
  OTHERS_WRITE,
  octal,
  requireOwner,
  unusable,
} from "./private-file-platform.ts";

/** Permissions that others must not have. As in PostgreSQL, the group may enter and read the folder. */
const OTHERS_OF_FOLDER = 0o027;
/**
 * The files of meshca. The mode of a folder of an earlier version is corrected if it has only such
 * files.
 */
const OURS =
  /^(?:kek|acl-bootstrap-|seen-|looks-|last-backup\.json|meshca\.db|tls-emergency\.pem|tls-fingerprint|lost\+found$)/;

/**
 * Prepares the data folder and the files of an embedded store, before anything is read or written.
 * @throws {ConfigError} if another user can write into one, or it is a link, or cannot be created
 */
export function prepareData({ store, dataDir }: Pick<Settings, "store" | "dataDir">): void {
  // Deno permits this only with all of --allow-sys. Every file is created with an explicit mode, too.
  if (!("deno" in process.versions)) process.umask(0o077);
  if (store.kind !== "memory") makeDataDir(dataDir);
  if (store.kind === "sqlite")
    for (const end of ["", "-wal", "-shm"]) makePrivate(`${store.path}${end}`, end === "");
}

/**
 * Creates the folder for keys and state, which only this user can enter, or checks an existing one.
 * @param user the owner that is required, or null: not checked.
 * @throws {ConfigError} with the folder, and what to do
 */
export function makeDataDir(path: string, user: number | null = currentUser()): void {
  // Without a slash at its end, with which the system would follow a link.
  const folder = resolve(path);
  try {
    makeFolders(folder);
  } catch (error) {
    throw unusable(path, `cannot be made: ${reasonNotMade(folder, error)}`, { cause: error });
  }
  const found = lstatSync(folder);
  if (found.isSymbolicLink())
    throw unusable(path, "is a symbolic link: name the folder that it leads to");
  if (!found.isDirectory()) throw unusable(path, "is not a folder");
  requireOwner(path, found, user);
  if ((found.mode & OTHERS_OF_FOLDER) !== 0) restrict(path, found);
  try {
    accessSync(path, constants.W_OK | constants.X_OK);
  } catch (error) {
    const reason = fileReason(error) ?? "unknown";
    throw unusable(path, `cannot be written into: ${reason}`, { cause: error });
  }
}

/**
 * Creates a folder with its parents. The recursion of Node's mkdir does not end if the system answers
 * ENOENT for each, as below /proc.
 */
function makeFolders(path: string): void {
  const code = makeFolder(path);
  const parent = dirname(path);
  if (code !== "ENOENT" || parent === path) return;
  makeFolders(parent);
  const again = makeFolder(path);
  if (again !== null) throw Object.assign(new Error(`Cannot make ${path}`), { code: again });
}

/** @returns null if the path exists now @throws {Error} if it cannot be created */
function makeFolder(path: string): "ENOENT" | null {
  try {
    mkdirSync(path, 0o700);
    return null;
  } catch (error) {
    const code = errorCode(error);
    if (code === "EEXIST") return null;
    if (code === "ENOENT") return code;
    throw error;
  }
}

/** The nearest existing parent if it is not a folder, else the reason of the system. */
function reasonNotMade(path: string, error: unknown): string {
  let parent = dirname(path);
  while (lstatOf(parent) === null && parent !== dirname(parent)) parent = dirname(parent);
  const quoted = JSON.stringify(parent);
  if (!isFolder(parent)) return `${quoted} is not a folder`;
  if (errorCode(error) === "ENOENT") return `no folder can be made in ${quoted}`;
  return fileReason(error) ?? "unknown";
}

/** @throws {ConfigError} if others can write into the folder, or it has files of others */
function restrict(path: string, { mode }: Stats): void {
  const isWritable = (mode & OTHERS_WRITE) !== 0;
  if (isWritable || !readdirSync(path).every((name) => OURS.test(name)))
    throw unusable(
      path,
      `can be ${isWritable ? "written" : "entered"} by other users (mode ${octal(mode)}): run chmod 700 on it, or name a new folder below it`,
    );
  chmodSync(path, 0o700);
}
