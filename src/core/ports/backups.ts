/**
 * The backups port: when a backup of the CA was handed out last, for an operator who wants to know
 * how old it is. It is no secret and needs no MAC: nothing is decided by it.
 *
 * - `record` keeps the latest one; an earlier one than the recorded one changes nothing.
 * - `last` returns it; null if there is none or it cannot be read.
 * @module
 */

export interface LastBackup {
  /** When it was handed out, by the clock of the replica that did. */
  readonly at: Date;
  /** Index of the state in it. */
  readonly index: number;
  /** Its active root. */
  readonly rootId: string;
}

export interface BackupLog {
  /** @throws {StoreError} */
  record(backup: LastBackup): Promise<void>;
  /** @throws {StoreError} */
  last(): Promise<LastBackup | null>;
}
