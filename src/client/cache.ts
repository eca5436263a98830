/**
 * The cache port: what an agent keeps over a restart. Entries have private keys in them.
 * @module
 */

export interface Cache {
  /** The text of an entry, or null if there is none that can be read. Never rejects. */
  read(key: string): Promise<string | null>;
  /** Replaces an entry at once, or not at all. Never rejects: a fault is logged. */
  write(key: string, text: string): Promise<void>;
}
