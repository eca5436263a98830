/**
 * The error of an address that cannot be listened on, in words.
 * @module
 */
import { hostPort } from "../config/addresses.ts";
import { errorCode } from "../config/file-errors.ts";
import type { Settings } from "../config/settings.ts";
import { CaError } from "../core/errors.ts";

/** The reasons by error code. */
const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: "the address is in use; set MESHCA_LISTEN to another, or port 0 for a free one",
  EADDRNOTAVAIL:
    "this machine has no such address; set MESHCA_LISTEN to another, or to 0.0.0.0 or [::] for all addresses",
  EACCES: "permission denied; ports below 1024 are for root, or for CAP_NET_BIND_SERVICE",
  EPERM: "permission denied",
  ENOTFOUND: "the host has no address; set MESHCA_LISTEN to another",
  // Bun's code for the same.
  ENOENT: "the host has no address; set MESHCA_LISTEN to another",
  EAI_AGAIN: "the host has no address that could be found now",
};

/** The server cannot listen on its address. */
export class ListenError extends Error {
  readonly code: string;

  constructor({ host, port }: Settings["listen"], code: string, cause: unknown) {
    super(`Cannot listen on ${hostPort(host, port)}: ${REASONS[code] ?? code}`, { cause });
    this.name = "ListenError";
    this.code = code;
  }
}

/** Rethrows the error of a listener: as a ListenError if it is of the system. */
export function listenFailed(listen: Settings["listen"], error: unknown): never {
  const code = error instanceof CaError ? null : errorCode(error);
  throw code === null ? error : new ListenError(listen, code, error);
}
