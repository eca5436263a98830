/**
 * Files that commands read and write. What exists is never overwritten.
 * @module
 */
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import { errorCode, fileReason } from "../config/file-errors.ts";
import { readRegularFile } from "../entry/regular-file.ts";
import { readCertificates, readKeyPair } from "../tls/key-pair.ts";
import { cannotRead, type Files } from "./connection/address.ts";
import { EXIT, Failure } from "./output.ts";
import type { Terminal } from "./terminal.ts";

export const FILES: Files = {
  readText: readRegularFile,
  readCertificates(path) {
    const text = readText("The CA file", path);
    const found = readCertificates(text);
    if (typeof found !== "string") throw unusable("The CA file", path, found.message);
    return text;
  },
  readKeyPair(certPath, keyPath) {
    const what = "The client certificate";
    const found = readKeyPair(readText(what, certPath), readKeyFile(keyPath));
    if (!("of" in found)) return found;
    throw found.of === "cert"
      ? unusable(what, certPath, found.message)
      : unusable("The key file", keyPath, found.message);
  },
  list: (path) => readdirSync(path),
};

/**
 * The text of a file, or of the standard input for `-`.
 * @param what for errors: `The certificate request` @throws {Failure}
 */
export async function readInput(path: string, what: string, terminal: Terminal): Promise<string> {
  return path === "-" ? terminal.readInput() : readText(what, path);
}

/** @throws {Failure} */
function readText(what: string, path: string): string {
  try {
    return readRegularFile(path);
  } catch (error) {
    throw cannotRead(what, path, error);
  }
}

/** @param reason a predicate of the file: `contains no certificate` */
const unusable = (what: string, path: string, reason: string): Failure =>
  new Failure(EXIT.data, `${what} ${JSON.stringify(path)} ${reason}`);

/**
 * Checks before a server is asked that files can be written.
 * @throws {Failure} if one of them exists, or its folder cannot be written to
 */
export function requireNew(paths: readonly string[]): void {
  for (const [i, path] of paths.entries()) {
    if (existsSync(path)) throw exists(path);
    if (paths.indexOf(path) !== i)
      throw new Failure(EXIT.usage, `The file ${JSON.stringify(path)} is named twice`);
    const folder = dirname(path);
    try {
      accessSync(folder, constants.W_OK);
    } catch (error) {
      throw notWritten(path, folder, error);
    }
  }
}

function notWritten(path: string, folder: string, error: unknown): Failure {
  const reason =
    errorCode(error) === "ENOENT"
      ? `there is no folder ${JSON.stringify(folder)}`
      : (fileReason(error) ?? "unknown");
  return new Failure(
    EXIT.cannotCreate,
    `The file ${JSON.stringify(path)} cannot be written: ${reason}`,
    error,
  );
}

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
      throw errorCode(error) === "EEXIST" ? exists(path) : notWritten(path, dirname(path), error);
    }
}

const exists = (path: string): Failure =>
  new Failure(
    EXIT.cannotCreate,
    `The file ${JSON.stringify(path)} exists and is not overwritten; remove it or name another`,
  );

/**
 * Reads a file with a private key. @param unreadable the failure if it cannot be read
 * @throws {Failure} if it cannot be read, or if users other than its owner may read it
 */
export function readKeyFile(
  path: string,
  unreadable = (error: unknown) => cannotRead("The key file", path, error),
): string {
  let text: string;
  try {
    text = readRegularFile(path);
  } catch (error) {
    throw unreadable(error);
  }
  if (process.platform === "win32" || (statSync(path).mode & 0o077) === 0) return text;
  throw new Failure(
    EXIT.permission,
    `${path} has a private key and can be read by other users; run chmod 600 ${quoted(path)}`,
  );
}

/** A path as one word of a shell. */
export function quoted(path: string): string {
  return /^[\w./+-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
