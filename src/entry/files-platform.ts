/**
 * The files of this machine that a provider's configuration may name: tokens, secrets of logins,
 * certificates and keys. A caller with `operator:write` chooses the path and the server that a
 * token is sent to, so a path is read only if the operator of this machine listed its folder.
 * @module
 */
import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  realpathSync,
  statSync,
} from "node:fs";
import { dirname, join, resolve } from "node:path";
import type { NamedFile } from "../config/named-files.ts";
import { ConfigError } from "../core/errors.ts";
import { isFolder } from "./private-file-platform.ts";

/** The largest file that is read: the CA bundles of distributions have a quarter of it. */
const MAX_BYTES = 1024 * 1024;
/** The most names that are taken from a folder of certificates. */
const MAX_NAMES = 500;
/** What the kernel shows of processes, devices and itself. */
const NEVER = ["/proc", "/sys", "/dev"];

export interface ProviderFilesOptions {
  /** Folders whose files may be read, each at any depth. */
  readonly folders: readonly string[];
  /** Files that settings name: never read, whatever is listed. */
  readonly named: readonly NamedFile[];
  /** Nothing below it is ever read. */
  readonly dataDir: string;
}

type Identity = Pick<BigIntStats, "dev" | "ino">;

export class ProviderFiles {
  readonly #folders: readonly string[];
  readonly #named: readonly NamedFile[];
  readonly #dataDir: string;

  constructor({ folders, named, dataDir }: ProviderFilesOptions) {
    this.#folders = folders;
    this.#named = named;
    this.#dataDir = dataDir;
  }

  /**
   * Reads a file that a configuration names, without waiting for a writer.
   * @returns its text. @throws {ConfigError} if it must not be read, and what to do @throws {Error}
   * if it cannot be read
   */
  readFile(path: string): string {
    const real = this.#resolve(path);
    // O_NONBLOCK is not honoured by every runtime: a FIFO that is opened without it stops the
    // server.
    if (!lstatSync(real).isFile()) throw refused(path, "is not a regular file");
    const descriptor = openSync(
      real,
      constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW | constants.O_NOCTTY,
    );
    try {
      const opened = fstatSync(descriptor, { bigint: true });
      if (!opened.isFile()) throw refused(path, "is not a regular file");
      if (opened.size > BigInt(MAX_BYTES)) throw refused(path, `is larger than ${MAX_BYTES} bytes`);
      this.#requireOpened(path, descriptor, opened);
      // A bundle may have a comment in another encoding.
      return new TextDecoder().decode(readAll(path, descriptor));
    } finally {
      closeSync(descriptor);
    }
  }

  /**
   * The names of files in a folder that a configuration names.
   * @throws {ConfigError}
   * @throws {Error} as `readFile` does
   */
  listFolder(path: string): readonly string[] {
    const real = this.#resolve(path);
    if (!statSync(real).isDirectory()) throw refused(path, "is not a folder");
    const names = readdirSync(real).filter((name) => !isFolder(join(real, name)));
    if (names.length > MAX_NAMES) throw refused(path, `has more than ${MAX_NAMES} files`);
    return names;
  }

  /** Where a path leads, which must be in a listed folder and nowhere that is never read. */
  #resolve(path: string): string {
    const spelled = resolve(path);
    if (path.includes("\0")) throw refused(path.replaceAll("\0", "\\0"), "has a NUL in it");
    // Before it is looked whether it is there: links below /proc tell of the process.
    requireNotKernel(path, spelled);
    let real: string;
    try {
      real = realpathSync.native(spelled);
    } catch (error) {
      // Whether a file is there is not shown outside of the folders.
      if (!this.#isListed(spelled) && !this.#isSpelledBelow(spelled))
        throw outside(path, dirname(spelled));
      throw error;
    }
    this.#require(path, real);
    return real;
  }

  /** @throws {ConfigError} if a resolved path must not be read */
  #require(path: string, real: string): void {
    // First what no list of folders allows, so that nobody is advised to list it.
    requireNotKernel(path, real);
    if (this.#isBelowData(real))
      throw refused(path, "is below the data folder, of which nothing is read");
    if (!this.#isListed(real)) throw outside(path, this.#folderToList(resolve(path), real));
  }

  /** By identity, whatever the name is: mounted elsewhere, or spelled in another case. */
  #isBelowData(real: string): boolean {
    const data = identityOf(this.#dataDir);
    if (data === null) return false;
    for (let folder = real; ; folder = dirname(folder)) {
      const identity = identityOf(folder);
      if (identity !== null && isSame(identity, data)) return true;
      if (folder === dirname(folder)) return false;
    }
  }

  /**
   * Checks the file that was opened, since what a path leads to may have changed after it was
   * resolved.
   * @throws {ConfigError}
   */
  #requireOpened(path: string, descriptor: number, opened: BigIntStats): void {
    for (const { setting, path: other } of this.#named)
      if (isSameFile(opened, other)) throw refused(path, `is the file that ${setting} names`);
    for (const name of filesBelow(this.#dataDir))
      if (isSameFile(opened, name)) throw refused(path, "is a file of the data folder");
    // A file system of the kernel that is mounted elsewhere has the same device. A /dev without one
    // of its own has that of the root.
    const top = identityOf("/");
    for (const folder of NEVER) {
      const kernel = identityOf(folder);
      if (kernel !== null && kernel.dev === opened.dev && kernel.dev !== top?.dev)
        throw refused(path, `is a file of ${folder}`);
    }
    this.#require(path, pathOf(descriptor) ?? this.#resolveAgain(path, opened));
  }

  /**
   * Without a system that tells the path of a descriptor: the path must lead to the opened file,
   * again.
   */
  #resolveAgain(path: string, opened: Identity): string {
    const real = this.#resolve(path);
    const now = lstatSync(real, { bigint: true });
    if (!isSame(now, opened)) throw new Error(`${path} changed while it was read`);
    return real;
  }

  /**
   * The folder as it was named, if the file is below it once both are resolved: what a link leads
   * to may have another name every day.
   */
  #folderToList(spelled: string, real: string): string {
    const folder = realOf(dirname(spelled));
    return folder !== null && isBelow(real, folder) && !this.#isSpelledBelow(spelled)
      ? dirname(spelled)
      : dirname(real);
  }

  /** Whether a path has the name of a listed folder before it, wherever it leads. */
  #isSpelledBelow(spelled: string): boolean {
    return this.#folders.some((folder) => isBelow(spelled, resolve(folder)));
  }

  /** Whether a resolved path is a listed folder or below one. */
  #isListed(path: string): boolean {
    return this.#folders.some((folder) => {
      const real = realOf(folder);
      // A link to the root would list every file.
      return real !== null && real !== "/" && isBelow(path, real);
    });
  }
}

function refused(path: string, why: string): ConfigError {
  return new ConfigError(`${JSON.stringify(path)} ${why}: name another file`);
}

function outside(path: string, folder: string): ConfigError {
  return new ConfigError(
    `${JSON.stringify(path)} is in no folder that MESHCA_SECRET_DIRS lists: add ${JSON.stringify(folder)} to MESHCA_SECRET_DIRS, or move the file`,
  );
}

/** @throws {ConfigError} */
function requireNotKernel(path: string, real: string): void {
  const folder = NEVER.find(
    (never) => isBelow(real, never) || isBelow(real, realOf(never) ?? never),
  );
  if (folder !== undefined) throw refused(path, `is below ${folder}, of which nothing is read`);
}

function isBelow(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder.endsWith("/") ? folder : `${folder}/`);
}

/** A path with its links followed, or null if it is not there. */
function realOf(path: string): string | null {
  try {
    return realpathSync.native(path);
  } catch {
    return null;
  }
}

function identityOf(path: string): Identity | null {
  try {
    return statSync(path, { bigint: true });
  } catch {
    return null;
  }
}

function isSame(a: Identity, b: Identity): boolean {
  return a.dev === b.dev && a.ino === b.ino;
}

function isSameFile(opened: Identity, path: string): boolean {
  const other = identityOf(path);
  return other !== null && isSame(opened, other);
}

/** Files of a folder, at any depth. None if it cannot be read. */
function filesBelow(folder: string): string[] {
  try {
    return readdirSync(folder, { recursive: true, encoding: "utf8" }).map((name) =>
      join(folder, name),
    );
  } catch {
    return [];
  }
}

/** The path of an opened file where the system tells it, else null. */
function pathOf(descriptor: number): string | null {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`);
  } catch {
    return null;
  }
}

/** @throws {ConfigError} if the file grew past the bound since */
function readAll(path: string, descriptor: number): Uint8Array {
  const bytes = new Uint8Array(MAX_BYTES + 1);
  let length = 0;
  for (;;) {
    const read = readSync(descriptor, bytes, length, bytes.length - length, null);
    if (read === 0) return bytes.subarray(0, length);
    length += read;
    if (length > MAX_BYTES) throw refused(path, `is larger than ${MAX_BYTES} bytes`);
  }
}
