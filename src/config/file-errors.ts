/**
 * The reasons why a file cannot be read or written, in words.
 * @module
 */

import { CaError, ConfigError } from "../core/errors.ts";

/** The reasons that an operator can remedy, by error code. */
const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file",
  ENOTDIR: "there is no such file",
  EACCES: "permission denied",
  EPERM: "permission denied",
  EISDIR: "it is a folder",
  ELOOP: "its symbolic links form a loop",
  EEXIST: "another file has this name",
  EROFS: "the file system is read-only",
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota of this user is exceeded",
  EFBIG: "the file would exceed the size limit of this process",
};

/** The code of an error of the system, or null. */
export function errorCode(error: unknown): string | null {
  const hasCode =
    error instanceof Error &&
    !(error instanceof CaError) &&
    "code" in error &&
    typeof error.code === "string";
  return hasCode ? (error.code as string) : null;
}

/**
 * The reason of a file system error: words, else its code; of a file that meshca refuses to read
 * (entry/regular-file.ts) that reason; null if it is another error.
 */
export function fileReason(error: unknown): string | null {
  if (error instanceof ConfigError) return error.message;
  const code = errorCode(error);
  return code === null ? null : (REASONS[code] ?? code);
}

/** The path, and why it cannot be read. */
export function cannotRead(path: string, error: unknown): string {
  const reason = fileReason(error);
  return `cannot read ${JSON.stringify(path)}${reason === null ? "" : `: ${reason}`}`;
}
