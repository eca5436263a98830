/**
 * The files that a configuration of Vault names, and why one cannot be used.
 * @module
 */
import { ConfigError } from "../../src/core/errors.ts";
import { filesOfMethod } from "./auth/method.ts";
import type { VaultConnection } from "./config.ts";

/**
 * Reads files of the machine.
 * @throws {ConfigError} if one must not be read
 * @throws {Error} if it cannot be read
 */
export interface FileReader {
  readFile(path: string): string;
  listFolder(path: string): readonly string[];
}

/** Why a file cannot be used. @param field the parameter of the configuration that names it. */
export function fileFault(field: string, path: string, error: unknown): string {
  return error instanceof ConfigError
    ? `${field}: ${error.message}`
    : `${field}: cannot read ${JSON.stringify(path)}; check that it exists and is readable`;
}

/**
 * Reads every file that a configuration names.
 * @returns a line for each file that cannot be used
 */
export function fileFaults({ login, tls }: VaultConnection, reader: FileReader): string[] {
  const readFile = (path: string) => void reader.readFile(path);
  const readFolder = (path: string) => {
    for (const name of reader.listFolder(path)) reader.readFile(`${path}/${name}`);
  };
  const files: [field: string, path: string][] = [
    ["TokenFile", login.kind === "file" ? login.path : ""],
    ...(login.kind === "method" ? filesOfMethod(login.method) : []),
    ["CAFile", tls.caFile],
    ["CertFile", tls.certFile],
    ["KeyFile", tls.keyFile],
    ["CAPath", tls.caPath],
  ];
  return files.flatMap(([field, path]) => {
    if (path === "") return [];
    try {
      (field === "CAPath" ? readFolder : readFile)(path);
      return [];
    } catch (error) {
      return [fileFault(field, path, error)];
    }
  });
}
