/**
 * Why a call of a CA server has no result.
 * @module
 */

/**
 * `unreachable`: no server answered, or only with 5xx or something that is not a CA's answer.
 * `untrusted`: the server's certificate is not the one of a CA server.
 * `limited`: a server asked to come back later (429).
 * `refused`: a server refused the caller (401, 403).
 * `rejected`: a server answered that the request can never succeed as it is (400 and the like).
 * `credentials_unavailable`: the token, or the JWT to log in with, cannot be read now, or the login
 * got no answer.
 * `unusable`: an answer of a server must not be used, for example a leaf of another identity.
 * `not_in_force`: a leaf is not valid at the time that this machine's clock shows.
 */
type ClientErrorCode =
  | "unreachable"
  | "untrusted"
  | "limited"
  | "refused"
  | "rejected"
  | "credentials_unavailable"
  | "unusable"
  | "not_in_force";

interface ClientErrorOptions {
  readonly cause?: unknown;
  /** The HTTP status, if a server answered. */
  readonly status?: number | undefined;
  /** The server's own text, short and in one line, if it sent one. */
  readonly text?: string | undefined;
  /** In how many milliseconds a retry may succeed. */
  readonly retryAfterMs?: number | undefined;
}

/** An expected failure. Its message has no secret, names its subject and fits a log. */
export class ClientError extends Error {
  readonly code: ClientErrorCode;
  readonly status: number | undefined;
  readonly text: string | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(code: ClientErrorCode, message: string, options: ClientErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "ClientError";
    this.code = code;
    this.status = options.status;
    this.text = options.text;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** The reason of a failure for a log; an error that is not expected may quote secrets. */
export function clientReason(error: unknown): string {
  if (error instanceof ClientError) return error.message;
  return error instanceof Error ? `Unexpected ${error.name}` : "Unexpected failure";
}
