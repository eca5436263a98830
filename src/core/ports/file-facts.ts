/**
 * What a server sees of its own files and folders, for an operator.
 * @module
 */

/** A file or folder that a setting names. */
export interface FileFacts {
  readonly path: string;
  /** The setting that names it. */
  readonly setting: string;
  readonly kind: "folder" | "secret" | "database";
  /** Permission bits; null if it cannot be looked at. */
  readonly mode: number | null;
  /** Of its file system, in octets; null of a secret, or if unknown. */
  readonly freeBytes: number | null;
}
