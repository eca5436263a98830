/**
 * Writes generations into one credential folder: checks and locks the folder before each write, and
 * removes what is not needed any more after it.
 * @module
 */
import { chown, lstat, statfs } from "node:fs/promises";
import { fileReason } from "../../config/file-errors.ts";
import { InvariantError } from "../../core/errors.ts";
import type { Clock } from "../../core/ports/clock.ts";
import type { Log } from "../../core/ports/log.ts";
import { createFolder, currentAccount, FolderCheck } from "../safe-path.ts";
import type { CredentialFile } from "./content.ts";
import { FolderLock } from "./folder-lock.ts";
import { Generations } from "./generations.ts";
import { type Ownership, type OwnershipOptions, resolveOwnership } from "./ownership.ts";

/** f_type of file systems in memory: tmpfs and ramfs (statfs(2)). */
const IN_MEMORY: readonly number[] = [0x01021994, 0x858458f6];

export interface FolderWriterOptions extends OwnershipOptions {
  /** Absolute. */
  readonly path: string;
  /**
   * Trusts every user who can write into the folder or replace it: for a volume that only the
   * containers of one pod have. @default false
   */
  readonly isShared?: boolean;
  readonly log: Log;
  readonly clock: Clock;
}

interface WriteOutcome {
  readonly generation: string;
  /** False if the files were in place already. */
  readonly isNew: boolean;
}

export class FolderWriter {
  readonly #options: FolderWriterOptions;
  readonly #account = currentAccount();
  readonly #ownership: Ownership;
  readonly #lock = new FolderLock();
  readonly #logged = new Set<string>();
  #generations: Generations | null = null;
  /** The generation before the current one, which processes may still be reading. */
  #previous: string | null = null;

  /** @throws {ConfigError} if the owner or the mode cannot be used */
  constructor(options: FolderWriterOptions) {
    this.#options = options;
    this.#ownership = resolveOwnership(this.name, options, this.#account);
  }

  /** Names the folder in texts. */
  get name(): string {
    return `Credential folder ${JSON.stringify(this.#options.path)}`;
  }

  /**
   * Checks the folder, creates it if it does not exist, and locks it.
   * @throws {ConfigError} if it cannot be used as it is @throws {Error} with a `code`
   */
  async open(): Promise<void> {
    const { path: configured, isShared = false, clock } = this.#options;
    const { group, folderMode } = this.#ownership;
    const rules = { what: "Credential folder", account: this.#account, isShared };
    const { path, stats } = await new FolderCheck(configured, rules).run();
    if (stats === null) {
      await createFolder(path, folderMode);
      if (group !== null) await chown(path, (await lstat(path)).uid, group);
    }
    if (!(await this.#lock.acquire(path)))
      this.#warnOnce(
        "The credential folder cannot be locked, since its file system has no sockets; make sure that only one agent uses it",
      );
    if (!(await isInMemory(path)))
      this.#warnOnce(
        "The credential folder is not on a file system in memory, and a disk may retain deleted private keys; prefer tmpfs, for example a folder in /run",
      );
    this.#generations = new Generations(path, this.#ownership, this.#account.user, clock);
  }

  /**
   * Puts files in place, after `open`. Files that are in place already stay as they are.
   * @throws {ConfigError} if a file has one of the names that this agent did not make
   * @throws {Error} with a `code`: the generation before stays in place
   */
  async write(files: readonly CredentialFile[]): Promise<WriteOutcome> {
    const generations = this.#opened;
    await generations.requireFree(files);
    const before = await generations.current();
    const isCurrent = before !== null && (await generations.has(before, files));
    const generation = isCurrent ? before : await generations.write(files);
    // Until the next call, which is a minute later if nothing changes.
    this.#previous = isCurrent ? null : before;
    await generations.link(files);
    await this.#removeOld([generation, this.#previous]);
    return { generation, isNew: !isCurrent };
  }

  /** Whether the hook succeeded for a generation, in an earlier process too. */
  isDelivered(generation: string): Promise<boolean> {
    return this.#opened.isDelivered(generation);
  }

  /** Records that the hook succeeded for a generation. */
  async markDelivered(generation: string): Promise<void> {
    try {
      await this.#opened.markDelivered(generation);
    } catch (error) {
      // A newer generation has replaced it, or the hook runs once more after a restart.
      this.#options.log.debug("Failed to record that the hook of a credential folder succeeded", {
        folder: this.#options.path,
        reason: fileReason(error),
      });
    }
  }

  /** Removes the generation before the current one, and unlocks the folder. The files stay. */
  async close(): Promise<void> {
    if (this.#previous !== null) await this.#removeOld([await this.#opened.current()]);
    await this.#lock.release();
  }

  get #opened(): Generations {
    if (this.#generations === null) throw new InvariantError("The credential folder is not open");
    return this.#generations;
  }

  async #removeOld(keep: readonly (string | null)[]): Promise<void> {
    try {
      await this.#opened.removeOthers(keep);
    } catch (error) {
      this.#warnOnce(
        "Failed to remove earlier private keys from a credential folder; will retry",
        fileReason(error),
      );
    }
  }

  #warnOnce(message: string, reason: string | null = null): void {
    const key = `${message} ${reason}`;
    if (this.#logged.has(key)) return;
    this.#logged.add(key);
    const { log, path: folder } = this.#options;
    log.warn(message, { folder, ...(reason === null ? {} : { reason }) });
  }
}

/** True also if the system does not tell: only Linux has these numbers. */
async function isInMemory(path: string): Promise<boolean> {
  if (process.platform !== "linux") return true;
  try {
    return IN_MEMORY.includes((await statfs(path)).type);
  } catch {
    return true;
  }
}
