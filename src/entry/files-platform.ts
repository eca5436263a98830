/**
 * The files that a provider's configuration may name: tokens, login secrets, certificates and keys. A
 * caller with `operator:write` chooses both the path and the server that a token is sent to, so that
 * only files in folders that the operator of this machine listed are read.
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

/** The largest file that is read, in octets: four times the CA bundle of a distribution. */
const MAX_BYTES = 1024 * 1024;
/** The most files of a folder of certificates. */
const MAX_NAMES = 500;
/** File systems of the kernel: processes, devices and settings. */
const NEVER = ["/proc", "/sys", "/dev"];

interface ProviderFilesOptions {
  /** Folders whose files may be read, at any depth. */
  readonly folders: readonly string[];
  /** Files that settings name: never read, even in a listed folder. */
  readonly named: readonly NamedFile[];
  /** Never read, even in a listed folder. */
  readonly dataDir: string;
}

type Identity = Pick<BigIntStats, "dev" | "ino">;

export class ProviderFiles {
  readonly #folders: readonly string[];
  #named: readonly NamedFile[];
  readonly #dataDir: string;

  constructor({ folders, named, dataDir }: ProviderFilesOptions) {
    this.#folders = folders;
    this.#named = named;
    this.#dataDir = dataDir;
  }

  /** @param files that settings name since a reload; those that they named before are refused, too. */
  addNamed(files: readonly NamedFile[]): void {
    const isNew = ({ path }: NamedFile) => !this.#named.some((known) => known.path === path);
    this.#named = [...this.#named, ...files.filter(isNew)];
  }

  /**
   * The text of a file that a configuration names.
   * @throws {ConfigError} if it must not be read, with what to do @throws {Error} if it cannot be read
   */
  readFile(path: string): string {
    const real = this.#resolve(path);
    // Not every runtime honours O_NONBLOCK: opening a FIFO without it would block the server.
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
      // A bundle may have comments in another encoding.
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

  /** The path without links, if it may be read. */
  #resolve(path: string): string {
    const spelled = resolve(path);
    if (path.includes("\0")) throw refused(path.replaceAll("\0", "\\0"), "has a NUL in it");
    // Before any look-up: links below /proc disclose facts about the process.
    requireNotKernel(path, spelled);
    let real: string;
    try {
      real = realpathSync.native(spelled);
    } catch (error) {
      // The existence of files outside of the folders is not disclosed.
      if (!this.#isListed(spelled) && !this.#isSpelledBelow(spelled))
        throw outside(path, dirname(spelled));
      throw error;
    }
    this.#require(path, real);
    return real;
  }

  /** @throws {ConfigError} if a resolved path must not be read */
  #require(path: string, real: string): void {
    // First the folders that are never read, so that the text does not advise to list them.
    requireNotKernel(path, real);
    if (this.#isBelowData(real))
      throw refused(path, "is below the data folder, which is never read");
    if (!this.#isListed(real)) throw outside(path, this.#folderToList(resolve(path), real));
  }

  /** By identity: it may be mounted elsewhere, or its name may differ in case. */
  #isBelowData(real: string): boolean {
    const data = identityOf(this.#dataDir);
    if (data === null) return false;
    for (let folder = real; ; folder = dirname(folder)) {
      const identity = identityOf(folder);
      if (identity !== null && isSame(identity, data)) return true;
      if (folder === dirname(folder)) return false;
    }
  }

  /** Checks the opened file again, since links may have changed after the path was resolved. @throws {ConfigError} */
  #requireOpened(path: string, descriptor: number, opened: BigIntStats): void {
    for (const { setting, path: other } of this.#named)
      if (isSameFile(opened, other)) throw refused(path, `is the file that ${setting} names`);
    for (const name of filesBelow(this.#dataDir))
      if (isSameFile(opened, name)) throw refused(path, "is a file of the data folder");
    // A file system of the kernel has the same device wherever it is mounted. A /dev that is not
    // mounted has the device of the root.
    const top = identityOf("/");
    for (const folder of NEVER) {
      const kernel = identityOf(folder);
      if (kernel !== null && kernel.dev === opened.dev && kernel.dev !== top?.dev)
        throw refused(path, `is a file of ${folder}`);
    }
    this.#require(path, pathOf(descriptor) ?? this.#resolveAgain(path, opened));
  }

  /** Without /proc: resolves the path again, and requires that it leads to the opened file. */
  #resolveAgain(path: string, opened: Identity): string {
    const real = this.#resolve(path);
    const now = lstatSync(real, { bigint: true });
    if (!isSame(now, opened)) throw new Error(`${path} changed while it was read`);
    return real;
  }

  /** The folder to list: as it was named if possible, since the target of a link may change often. */
  #folderToList(spelled: string, real: string): string {
    const folder = realOf(dirname(spelled));
    return folder !== null && isBelow(real, folder) && !this.#isSpelledBelow(spelled)
      ? dirname(spelled)
      : dirname(real);
  }

  /** Whether the path begins with a listed folder, before links are resolved. */
  #isSpelledBelow(spelled: string): boolean {
    return this.#folders.some((folder) => isBelow(spelled, resolve(folder)));
  }

  /** Whether a resolved path is a listed folder or below one. */
  #isListed(path: string): boolean {
    return this.#folders.some((folder) => {
      const real = realOf(folder);
      // A link to the root would permit every file.
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
  if (folder !== undefined) throw refused(path, `is below ${folder}, which is never read`);
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

/** The files of a folder at any depth; none if it cannot be read. */
function filesBelow(folder: string): string[] {
  try {
    return readdirSync(folder, { recursive: true, encoding: "utf8" }).map((name) =>
      join(folder, name),
    );
  } catch {
    return [];
  }
}

/** The path of an opened file; null without /proc. */
function pathOf(descriptor: number): string | null {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`);
  } catch {
    return null;
  }
}

/** @throws {ConfigError} if the file has grown beyond the bound */
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
