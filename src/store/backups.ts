/**
 * The last backup in its stored form, `{at, index, rootId}` in JSON, and the stores of one machine for
 * it.
 * @module
 */
import * as v from "valibot";
import type { BackupLog, LastBackup } from "../core/ports/backups.ts";
import type { PersistentFile } from "../core/ports/persistent-file.ts";

const StoredText = v.pipe(
  v.string(),
  v.parseJson(),
  v.object({
    // Milliseconds since 1970.
    at: v.pipe(v.number(), v.finite()),
    index: v.number(),
    rootId: v.pipe(v.string(), v.maxLength(128)),
  }),
  v.transform(({ at, ...others }): LastBackup => ({ at: new Date(at), ...others })),
);

/** The backup in a text; null if it is empty or malformed. */
export function readBackupText(text: string): LastBackup | null {
  const read = v.safeParse(StoredText, text);
  return read.success ? read.output : null;
}

export function backupText({ at, index, rootId }: LastBackup): string {
  return JSON.stringify({ at: at.getTime(), index, rootId });
}

/** Ends with the process. */
export class MemoryBackups implements BackupLog {
  #last: LastBackup | null = null;

  async record(backup: LastBackup): Promise<void> {
    if (this.#last === null || this.#last.at <= backup.at) this.#last = backup;
  }

  async last(): Promise<LastBackup | null> {
    return this.#last;
  }
}

/** A file of the data folder. */
export class FileBackups implements BackupLog {
  readonly #file: PersistentFile;

  constructor(file: PersistentFile) {
    this.#file = file;
  }

  async record(backup: LastBackup): Promise<void> {
    const before = await this.last();
    if (before === null || before.at <= backup.at) await this.#file.write(backupText(backup));
  }

  async last(): Promise<LastBackup | null> {
    return readBackupText(this.#file.read() ?? "");
  }
}
