/**
 * Reads files that are read periodically while the server runs, so that none can block it.
 * @module
 */
import { closeSync, constants, fstatSync, openSync, readFileSync, statSync } from "node:fs";
import { ConfigError } from "../core/errors.ts";

/** The largest file, in octets: more than any chain of certificates. */
const MAX_BYTES = 1024 * 1024;

/**
 * The text of a regular file; links are followed. Reading a FIFO would block, and a device has no end.
 * @throws {ConfigError} if it is another kind of file, or too large
 * @throws {Error} with a `code` if it cannot be read
 */
export function readRegularFile(path: string): string {
  const refuse = (reason: string) => new ConfigError(reason);
  // Not every runtime honours O_NONBLOCK: checked before the file is opened, and again after.
  if (statSync(path).isDirectory()) throw refuse("it is a folder");
  if (!statSync(path).isFile()) throw refuse("it is not a regular file");
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  try {
    const opened = fstatSync(descriptor);
    if (!opened.isFile()) throw refuse("it is not a regular file");
    if (opened.size > MAX_BYTES) throw refuse(`it is larger than ${MAX_BYTES} octets`);
    return readFileSync(descriptor, "utf8");
  } finally {
    closeSync(descriptor);
  }
}
