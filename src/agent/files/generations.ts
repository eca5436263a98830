/**
 * The generations of a credential folder, as Kubernetes' AtomicWriter lays them out
 * (pkg/volume/util/atomic_writer.go): a generation is a folder of its own, `..data` is a link to the
 * current one, and the visible names are links through `..data`. One rename(2) of `..data` replaces
 * every file.
 * @module
 */
import { constants, type Stats } from "node:fs";
import {
  type FileHandle,
  lstat,
  mkdir,
  open,
  readdir,
  readlink,
  rename,
  rm,
  symlink,
} from "node:fs/promises";
import { join } from "node:path";
import { errorCode } from "../../config/file-errors.ts";
import { hex } from "../../core/bytes.ts";
import { ConfigError } from "../../core/errors.ts";
import type { Clock } from "../../core/ports/clock.ts";
import { setFolderMode } from "../safe-path.ts";
import type { CredentialFile } from "./content.ts";
import { LOCK_DRAFT } from "./folder-lock.ts";
import type { Ownership } from "./ownership.ts";

const DATA = "..data";
/** The link that is renamed to `..data`; a crash may leave it behind. */
const NEXT = "..data_next";
/** A generation: when it was written, in UTC, and 64 random bits. */
const GENERATION = /^\.\.\d{8}T\d{6}Z-[0-9a-f]{16}$/;
/** In a generation whose hook succeeded. */
const DELIVERED = "..delivered";
/** Everything but the files with keys, which have a mode of their own. */
const ENTER = 0o755;
const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

export class Generations {
  readonly #folder: string;
  readonly #ownership: Ownership;
  readonly #user: number | null;
  readonly #clock: Clock;

  /**
   * @param folder without links; nobody but root and the agent's user can change it.
   * @param user the agent's user, whose leftovers are removed; null: not compared.
   */
  constructor(folder: string, ownership: Ownership, user: number | null, clock: Clock) {
    this.#folder = folder;
    this.#ownership = ownership;
    this.#user = user;
    this.#clock = clock;
  }

  /** The name of the current generation; null if there is none. @throws {ConfigError} */
  async current(): Promise<string | null> {
    const target = await this.#linkAt(DATA);
    if (target === undefined) return null;
    if (target !== null && GENERATION.test(target)) return target;
    throw this.#foreign(DATA);
  }

  /**
   * Requires that each visible name is free, or a link of an earlier generation.
   * @throws {ConfigError} that names a file that this agent did not make
   */
  async requireFree(files: readonly CredentialFile[]): Promise<void> {
    for (const { name } of files) {
      const target = await this.#linkAt(name);
      if (target !== undefined && target !== join(DATA, name)) throw this.#foreign(name);
    }
  }

  /** Whether a generation has exactly these files, with their owners and modes. */
  async has(generation: string, files: readonly CredentialFile[]): Promise<boolean> {
    for (const file of files) if (!(await this.#isEqual(generation, file))) return false;
    const names = await readdir(join(this.#folder, generation)).catch(() => []);
    return names.filter((name) => name !== DELIVERED).length === files.length;
  }

  /**
   * Writes a generation and makes it the current one. If it fails, the one before stays current.
   * @returns its name @throws {Error} with a `code`
   */
  async write(files: readonly CredentialFile[]): Promise<string> {
    const generation = this.#newName();
    const path = join(this.#folder, generation);
    try {
      await mkdir(path, 0o700);
      await setFolderMode(path, 0o700);
      for (const file of files) await this.#writeFile(join(path, file.name), file);
      await setFolderMode(path, ENTER);
      await syncFolder(path);
      await rm(join(this.#folder, NEXT), { force: true });
      await symlink(generation, join(this.#folder, NEXT));
      await rename(join(this.#folder, NEXT), join(this.#folder, DATA));
    } catch (error) {
      await rm(path, { recursive: true, force: true }).catch(() => undefined);
      throw error;
    }
    await syncFolder(this.#folder);
    return generation;
  }

  /** Makes the visible names of these files, and removes those of earlier files. @throws {Error} */
  async link(files: readonly CredentialFile[]): Promise<void> {
    const names = new Set(files.map(({ name }) => name));
    for (const name of names)
      if ((await this.#linkAt(name)) === undefined)
        await symlink(join(DATA, name), join(this.#folder, name));
    for (const name of await readdir(this.#folder))
      if (!names.has(name) && (await this.#linkAt(name)) === join(DATA, name))
        await rm(join(this.#folder, name), { force: true });
  }

  /**
   * Removes what earlier generations and crashes left behind: only what has a name of ours and belongs
   * to the agent's user.
   * @param keep generations that stay. @throws {Error} with a `code`
   */
  async removeOthers(keep: readonly (string | null)[]): Promise<void> {
    for (const name of await readdir(this.#folder)) {
      const isLeftover = name === NEXT || GENERATION.test(name) || LOCK_DRAFT.test(name);
      if (!isLeftover || keep.includes(name)) continue;
      const path = join(this.#folder, name);
      const stats = await lstatOrNull(path);
      if (stats !== null && (this.#user === null || stats.uid === this.#user))
        await rm(path, { recursive: GENERATION.test(name), force: true });
    }
  }

  /** Whether the hook of a generation succeeded, in an earlier process too. */
  async isDelivered(generation: string): Promise<boolean> {
    return (await lstatOrNull(join(this.#folder, generation, DELIVERED)))?.isFile() === true;
  }

  /** Records that the hook of a generation succeeded. @throws {Error} with a `code` */
  async markDelivered(generation: string): Promise<void> {
    const file = await open(join(this.#folder, generation, DELIVERED), NEW_FILE, 0o600);
    await file.close();
  }

  async #writeFile(path: string, { text, isSecret }: CredentialFile): Promise<void> {
    const { secretMode, publicMode, user, group } = this.#ownership;
    const file = await open(path, NEW_FILE, 0o600);
    try {
      await file.writeFile(text, "utf8");
      if (user !== null || group !== null) {
        const { uid, gid } = await file.stat();
        await file.chown(user ?? uid, group ?? gid);
      }
      await file.chmod(isSecret ? secretMode : publicMode);
      await file.sync();
    } finally {
      await file.close();
    }
  }

  async #isEqual(generation: string, { name, text, isSecret }: CredentialFile): Promise<boolean> {
    const { secretMode, publicMode, user, group } = this.#ownership;
    let file: FileHandle | null = null;
    try {
      file = await open(
        join(this.#folder, generation, name),
        constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
      );
      const { mode, uid, gid, size } = await file.stat();
      return (
        (mode & 0o7777) === (isSecret ? secretMode : publicMode) &&
        uid === (user ?? this.#user ?? uid) &&
        gid === (group ?? gid) &&
        size === Buffer.byteLength(text) &&
        (await file.readFile("utf8")) === text
      );
    } catch {
      return false;
    } finally {
      await file?.close();
    }
  }

  #newName(): string {
    const time = this.#clock
      .now()
      .toISOString()
      .replace(/[-:]|\.\d+/g, "");
    return `..${time}-${hex(crypto.getRandomValues(new Uint8Array(8)))}`;
  }

  /** The target of a link of ours; undefined if there is no such file, null if it is not a link. */
  async #linkAt(name: string): Promise<string | null | undefined> {
    const path = join(this.#folder, name);
    const stats = await lstatOrNull(path);
    if (stats === null) return undefined;
    return stats.isSymbolicLink() ? await readlink(path) : null;
  }

  #foreign(name: string): ConfigError {
    return new ConfigError(
      `Credential folder ${JSON.stringify(this.#folder)} has a file ${JSON.stringify(name)} that meshca did not make: move it away, or use another folder`,
    );
  }
}

/** Null if there is no such file. @throws {Error} with another code */
async function lstatOrNull(path: string): Promise<Stats | null> {
  try {
    return await lstat(path);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    throw error;
  }
}

/** Makes the names in a folder durable. File systems that cannot are not an error (fsync(2)). */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await folder.sync();
  } catch (error) {
    if (errorCode(error) !== "EINVAL") throw error;
  } finally {
    await folder.close();
  }
}
