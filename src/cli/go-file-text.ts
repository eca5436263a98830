/**
 * Why a file cannot be read, as Consul's command line says it.
 * @module
 */
import { errorCode } from "../config/file-errors.ts";
import { ConfigError } from "../core/errors.ts";

/** The text of Go's os.ReadFile. */
export function goFileText(path: string, error: unknown): string {
  if (error instanceof ConfigError)
    return error.message === "it is a folder"
      ? `read ${path}: is a directory`
      : `open ${path}: ${error.message}`;
  const code = errorCode(error);
  const reasons: Readonly<Record<string, string>> = {
    ENOENT: "no such file or directory",
    ENOTDIR: "not a directory",
    EACCES: "permission denied",
    EPERM: "operation not permitted",
    ELOOP: "too many levels of symbolic links",
  };
  return `open ${path}: ${reasons[code ?? ""] ?? code ?? "unknown error"}`;
}
