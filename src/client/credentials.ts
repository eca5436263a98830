/**
 * How an agent authenticates to the servers: with the token of a file, or with a login by a JWT.
 * @module
 */
import type { Clock } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import type { CaApi } from "./ca-api.ts";
import { ClientError, clientReason } from "./errors.ts";

export interface Credentials {
  /**
   * A token for a request.
   * @throws {ClientError} `credentials_unavailable` if there is none now; `refused` if the login was
   * refused
   */
  token(signal?: AbortSignal): Promise<string>;
  /** A server did not know this token. @returns whether `token` may give another one now */
  forget(token: string): Promise<boolean>;
  /** Gives up what a login created. Never rejects. */
  close(): Promise<void>;
}

/** The longest token or JWT that is read, in characters. */
const MAX_LENGTH = 64 * 1024;
/** The characters of a header's value without blanks (RFC 9110 §5.5). */
const PRINTABLE = /^[\x21-\x7e]+$/;

/** Reads a secret and trims blanks. @throws {ClientError} `credentials_unavailable` */
async function readSecret(read: () => Promise<string>, what: string): Promise<string> {
  let text: string;
  try {
    text = (await read()).trim();
  } catch (cause) {
    const reason = cause instanceof ClientError ? `: ${cause.message}` : "";
    throw new ClientError("credentials_unavailable", `${what} cannot be read${reason}`, { cause });
  }
  if (text === "") throw new ClientError("credentials_unavailable", `${what} is empty`);
  if (text.length > MAX_LENGTH || !PRINTABLE.test(text))
    throw new ClientError(
      "credentials_unavailable",
      `${what} is not one line of printable characters`,
    );
  return text;
}

/** The token of a file, read for each request: whoever rotates it replaces the file. */
export class TokenCredentials implements Credentials {
  readonly #read: () => Promise<string>;

  /** @param read the text of the token file. */
  constructor(read: () => Promise<string>) {
    this.#read = read;
  }

  token(): Promise<string> {
    return readSecret(this.#read, "The token file");
  }

  /** Another token may have been written since the request began. */
  async forget(token: string): Promise<boolean> {
    try {
      return (await this.token()) !== token;
    } catch {
      return false;
    }
  }

  async close(): Promise<void> {}
}

interface LoginOptions {
  readonly api: Pick<CaApi, "login" | "logout">;
  /** The name of the auth method. */
  readonly authMethod: string;
  /** The text of the file with the JWT, which Kubernetes replaces before it expires. */
  readonly readJwt: () => Promise<string>;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * How long before its end a token is no longer used, in milliseconds, since a request takes a while;
 * at most a tenth of its life.
 */
const EXPIRY_MARGIN_MS = 30_000;
/** How long a failed login answers for all that need a token, in milliseconds. */
const FAILURE_MS = 1000;
/** How long the logout at the end may take, in milliseconds. */
const LOGOUT_MS = 2000;

/** One login for the whole agent. */
export class LoginCredentials implements Credentials {
  readonly #options: LoginOptions;
  #held: { readonly token: string; readonly until: number } | null = null;
  #failed: { readonly at: number; readonly error: unknown } | null = null;
  #running: Promise<string> | null = null;
  #closed = false;

  constructor(options: LoginOptions) {
    this.#options = options;
  }

  async token(): Promise<string> {
    if (this.#closed) throw new ClientError("credentials_unavailable", "The login is closed");
    const now = this.#options.clock.now().getTime();
    if (this.#held !== null && now < this.#held.until) return this.#held.token;
    const failed = this.#failed;
    if (failed !== null && failed.at <= now && now < failed.at + FAILURE_MS) throw failed.error;
    // Single-flight: a thousand identities share one login.
    this.#running ??= this.#login().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  async forget(token: string): Promise<boolean> {
    if (this.#held?.token === token) this.#held = null;
    return true;
  }

  async close(): Promise<void> {
    this.#closed = true;
    const held = this.#held;
    this.#held = null;
    if (held === null) return;
    try {
      await this.#options.api.logout(held.token, LOGOUT_MS);
    } catch (error) {
      this.#options.log.warn("Failed to log out; the token stays valid until it expires", {
        reason: clientReason(error),
      });
    }
  }

  async #login(): Promise<string> {
    const { api, authMethod, readJwt, clock, log } = this.#options;
    try {
      const jwt = await readSecret(readJwt, "The file of the JWT");
      const { token, expiresAt } = await api.login(authMethod, jwt);
      const now = clock.now().getTime();
      const end = expiresAt?.getTime() ?? Number.POSITIVE_INFINITY;
      const margin = Math.min(EXPIRY_MARGIN_MS, Math.max(0, end - now) / 10);
      this.#held = { token, until: end - margin };
      this.#failed = null;
      log.info("Logged in", { authMethod, until: expiresAt?.toISOString() ?? null });
      return token;
    } catch (error) {
      const failure = loginError(error, authMethod);
      this.#failed = { at: clock.now().getTime(), error: failure };
      throw failure;
    }
  }
}

/** A login that was refused stays refused; for any other failure there may be another way in. */
function loginError(error: unknown, authMethod: string): unknown {
  if (!(error instanceof ClientError) || error.code === "credentials_unavailable") return error;
  const refused = error.code === "refused" || error.code === "rejected";
  return new ClientError(
    refused ? "refused" : "credentials_unavailable",
    `Login with auth method ${JSON.stringify(authMethod)} failed: ${error.message}`,
    { cause: error, status: error.status, retryAfterMs: error.retryAfterMs },
  );
}
