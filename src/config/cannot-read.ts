/**
 * What an error says of a file that cannot be read or written.
 * @module
 */

/** The reasons that an operator can do something about, by the code of the system. */
const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file",
  ENOTDIR: "there is no such file",
  EACCES: "permission denied",
  EPERM: "permission denied",
  EISDIR: "it is a folder",
  ELOOP: "its links lead in a circle",
  EEXIST: "something else is there",
  EROFS: "the file system is read-only",
  ENOSPC: "the disk is full",
  EDQUOT: "the quota of this user on the disk is used up",
  EFBIG: "the file would be larger than this process may make it",
};

/** The reason of an error of the file system, in words; its code if it has no other, or null. */
export function fileReason(error: unknown): string | null {
  if (!(error instanceof Error) || !("code" in error) || typeof error.code !== "string")
    return null;
  return REASONS[error.code] ?? error.code;
}

/** The path, and why it cannot be read. */
export function cannotRead(path: string, error: unknown): string {
  const reason = fileReason(error);
  return `cannot read ${JSON.stringify(path)}${reason === null ? "" : `: ${reason}`}`;
}
