/**
 * Limits requests of one client with an invalid token (a guess, or a deleted token in use): beyond
 * the limit they are answered 429. Requests with a valid token are not limited, since many clients
 * may share an address.
 * @module
 */
import { DeniedError, RateLimitedError } from "../core/errors.ts";
import type { Clock } from "../core/ports/clock.ts";
import { TokenBucket } from "../net/token-bucket.ts";
import { clientKey } from "./client.ts";
import type { HttpLimits } from "./limits.ts";

const MINUTE_S = 60;
/** Clients remembered at most, a few megabytes; the one remembered first is forgotten first. */
const MAX_CLIENTS = 10_000;

interface FailedAuthLimiterOptions {
  readonly limits: Pick<HttpLimits, "wrongTokensPerClient" | "limitLoopback">;
  readonly clock: Clock;
  /** Called for each invalid token. */
  readonly countWrongToken: () => void;
}

export class FailedAuthLimiter {
  readonly #options: FailedAuthLimiterOptions;
  readonly #clients = new Map<string, TokenBucket>();

  constructor(options: FailedAuthLimiterOptions) {
    this.#options = options;
  }

  /** Clients that are remembered. */
  get clients(): number {
    return this.#clients.size;
  }

  /**
   * Counts a refusal if its reason is an invalid token.
   * @returns the error to throw: the given one, or a `RateLimitedError` if the limit is exceeded.
   */
  refused(error: unknown, address: string | undefined): unknown {
    if (!(error instanceof DeniedError) || error.code !== "token_unknown") return error;
    const { limits, clock, countWrongToken } = this.#options;
    const limit = limits.wrongTokensPerClient;
    countWrongToken();
    const key = clientKey(address, limits.limitLoopback);
    if (key === null || limit === Number.POSITIVE_INFINITY) return error;
    const now = clock.now().getTime();
    let client = this.#clients.get(key);
    if (client === undefined) {
      const [oldest] = this.#clients.size >= MAX_CLIENTS ? this.#clients.keys() : [];
      if (oldest !== undefined) this.#clients.delete(oldest);
      client = new TokenBucket({ perSecond: limit / MINUTE_S, burst: limit }, now);
      this.#clients.set(key, client);
    }
    const wait = client.take(now);
    if (wait === 0) return error;
    const message = `Cannot serve request: its token is invalid, and this client sent more than ${limit} invalid tokens within a minute`;
    return new RateLimitedError(wait, "token_rate_limited", message, { cause: error });
  }
}
