/**
 * Files that a command reads and writes: existing ones are never overwritten, and keys are private.
 * @module
 */
import { closeSync, fstatSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { errorCode, fileReason } from "../config/file-errors.ts";
import { EXIT, Failure } from "./output.ts";

/** A file that does not exist yet. */
export interface NewFile {
  readonly path: string;
  readonly text: string;
  /** Permissions before the umask; 0600 for a key. */
  readonly mode: number;
}

/** Writes files that must not exist. If one cannot be written, none stays. @throws {Failure} */
export function writeNewFiles(files: readonly NewFile[]): void {
  const written: string[] = [];
  for (const { path, text, mode } of files)
    try {
      const file = openSync(path, "wx", mode);
      written.push(path);
      try {
        writeFileSync(file, text);
      } finally {
        closeSync(file);
      }
    } catch (error) {
      for (const one of written) rmSync(one, { force: true });
      throw errorCode(error) === "EEXIST"
        ? alreadyExists(path)
        : new Failure(
            EXIT.cannotCreate,
            `${path} cannot be written: ${fileReason(error) ?? "unknown error"}`,
            error,
          );
    }
}

/** Consul's text. */
export const alreadyExists = (path: string): Failure =>
  new Failure(EXIT.cannotCreate, `${path} already exists.`);

/**
 * Reads a file with a private key.
 * @throws {Failure} if it cannot be read, or if users other than its owner may read it
 */
export function readKeyFile(path: string): string {
  let file: number | null = null;
  try {
    file = openSync(path, "r");
    if (process.platform !== "win32" && (fstatSync(file).mode & 0o077) !== 0)
      throw new Failure(
        EXIT.permission,
        `${path} has a private key and can be read by other users; run chmod 600 ${quoted(path)}`,
      );
    return readFileSync(file, "utf8");
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure(
      EXIT.noInput,
      `${path} cannot be read: ${fileReason(error) ?? "unknown error"}`,
      error,
    );
  } finally {
    if (file !== null) closeSync(file);
  }
}

/** A path as one word of a shell. */
export function quoted(path: string): string {
  return /^[\w./+-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
