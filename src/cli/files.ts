/**
 * Files that commands read and write. What exists is never overwritten.
 * @module
 */
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { errorCode, fileReason } from "../config/file-errors.ts";
import { readRegularFile } from "../entry/regular-file.ts";
import { cannotRead, type Files } from "./connection/address.ts";
import { EXIT, Failure } from "./output.ts";
import type { Terminal } from "./terminal.ts";

export const FILES: Files = {
  readText: readRegularFile,
  list: (path) => readdirSync(path),
};

/**
 * The text of a file, or of the standard input for `-`.
 * @param what for errors: `The certificate request` @throws {Failure}
 */
export async function readInput(path: string, what: string, terminal: Terminal): Promise<string> {
  if (path === "-") return terminal.readInput();
  try {
    return readRegularFile(path);
  } catch (error) {
    throw cannotRead(what, path, error);
  }
}

/** @throws {Failure} if one of the files exists */
export function requireNew(paths: readonly string[]): void {
  for (const path of paths) if (existsSync(path)) throw exists(path);
}

/**
 * Writes a file that does not exist yet. @param mode 0o600 for a key, 0o644 for a certificate
 * @throws {Failure}
 */
export function writeNew(path: string, text: string, mode: number): void {
  try {
    writeFileSync(path, text, { mode, flag: "wx" });
  } catch (error) {
    if (errorCode(error) === "EEXIST") throw exists(path);
    throw new Failure(
      EXIT.cannotCreate,
      `The file ${JSON.stringify(path)} cannot be written: ${fileReason(error) ?? "unknown"}`,
      error,
    );
  }
}

const exists = (path: string): Failure =>
  new Failure(
    EXIT.cannotCreate,
    `The file ${JSON.stringify(path)} exists and is not overwritten; remove it or name another`,
  );
