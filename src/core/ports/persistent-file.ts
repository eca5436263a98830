/**
 * A file in the data folder whose text survives a restart.
 * @module
 */

export interface PersistentFile {
  /** The file's path, for an operator. */
  readonly name: string;
  /** The text; null if the file was never written. @throws {Error} */
  read(): string | null;
  /** Replaces the text atomically. @throws {Error} */
  write(text: string): Promise<void>;
}
