/**
 * What an error says of an address that cannot be listened on.
 * @module
 */
import { hostPort } from "../config/addresses.ts";
import { CaError } from "../core/errors.ts";

/** By the codes of the system. */
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

/**
 * Takes the error of a listener.
 * @throws {Error} the same with the address in its text, and its code; what is not of the system as
 * it is
 */
export function listenFailed({
  host,
  port,
}: {
  readonly host: string;
  readonly port: number;
}): (error: unknown) => never {
  return (error) => {
    if (
      error instanceof CaError ||
      !(error instanceof Error) ||
      !("code" in error) ||
      typeof error.code !== "string"
    )
      throw error;
    const reason = REASONS[error.code] ?? error.code;
    throw Object.assign(
      new Error(`Cannot listen on ${hostPort(host, port)}: ${reason}`, { cause: error }),
      { code: error.code },
    );
  };
}
