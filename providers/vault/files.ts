/**
 * The files that a configuration of Vault names, and why one of them cannot be used.
 * @module
 */
import { ConfigError } from "../../src/core/errors.ts";
import { filesOfMethod } from "./auth/method.ts";
import type { VaultConnection } from "./config.ts";

/** The most that certificates of a folder may have together, in UTF-16 units. */
export const MAX_FOLDER_LENGTH = 8 * 1024 * 1024;

/**
 * What reads files.
 * @throws {ConfigError} if one must not be read
 * @throws {Error} if it cannot be read
 */
export interface FileReader {
  readFile(path: string): string;
  listFolder(path: string): readonly string[];
}

interface Named {
  readonly field: string;
  readonly path: string;
  readonly isFolder: boolean;
}

function filesOf({ login, tls }: VaultConnection): Named[] {
  const files: [field: string, path: string][] = [
    ["TokenFile", login.kind === "file" ? login.path : ""],
    ...(login.kind === "method" ? filesOfMethod(login.method) : []),
    ["CAFile", tls.caFile],
    ["CertFile", tls.certFile],
    ["KeyFile", tls.keyFile],
  ];
  const named = files.map(([field, path]): Named => ({ field, path, isFolder: false }));
  return [...named, { field: "CAPath", path: tls.caPath, isFolder: true }].filter(
    ({ path }) => path !== "",
  );
}

/** What is wrong with a file: what its reader says of it, or that it cannot be read. */
export function fileFault(field: string, path: string, error: unknown): string {
  return error instanceof ConfigError
    ? `${field}: ${error.message}`
    : `${field}: cannot read ${JSON.stringify(path)}`;
}

/**
 * Reads every file that a configuration names.
 * @returns what is wrong, a line for each file that cannot be used
 */
export function fileFaults(connection: VaultConnection, reader: FileReader): string[] {
  return filesOf(connection).flatMap(({ field, path, isFolder }) => {
    try {
      if (isFolder) for (const name of reader.listFolder(path)) reader.readFile(`${path}/${name}`);
      else reader.readFile(path);
      return [];
    } catch (error) {
      return [fileFault(field, path, error)];
    }
  });
}
