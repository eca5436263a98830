/**
 * How many tokens that are none a client may present: guesses, or what was deleted and is still in
 * use. Beyond that they are answered 429. Whoever has a token is served all the same, since many
 * clients may share an address.
 * @module
 */

import { DeniedError, RateLimitedError } from "../core/errors.ts";
import type { Clock } from "../core/ports/clock.ts";
import { type Bucket, clientKey, type HttpLimits, take } from "./limits.ts";

const MINUTE_S = 60;
/**
 * Clients remembered at most: a few megabytes. The one whose first wrong token is longest ago is
 * forgotten then.
 */
const MAX_CLIENTS = 10_000;

export interface WrongTokens {
  /**
   * Counts a refusal, where it is one of a token that is none.
   * @returns the error that is to be thrown: the same, or that there were too many.
   */
  refused(error: unknown, address: string | undefined): unknown;
  /** Clients remembered. */
  readonly clients: number;
}

export interface WrongTokensOptions {
  readonly limits: Pick<HttpLimits, "wrongTokensPerClient" | "limitLoopback">;
  readonly clock: Clock;
  /** Told of each one. */
  readonly countWrongToken: () => void;
}

export function createWrongTokens({
  limits,
  clock,
  countWrongToken,
}: WrongTokensOptions): WrongTokens {
  const { wrongTokensPerClient: most, limitLoopback } = limits;
  const clients = new Map<string, Bucket>();
  return {
    get clients() {
      return clients.size;
    },
    refused(error, address) {
      if (!(error instanceof DeniedError) || error.code !== "token_unknown") return error;
      countWrongToken();
      const key = clientKey(address, limitLoopback);
      if (key === null || most === Number.POSITIVE_INFINITY) return error;
      const now = clock.now().getTime();
      let client = clients.get(key);
      if (client === undefined) {
        const [oldest] = clients.size >= MAX_CLIENTS ? clients.keys() : [];
        if (oldest !== undefined) clients.delete(oldest);
        client = { tokens: most, at: now };
        clients.set(key, client);
      }
      const wait = take(client, now, most / MINUTE_S, most);
      if (wait === 0) return error;
      const message = `Cannot serve request: its token is unknown, as were more than ${most} of this client within a minute`;
      return new RateLimitedError(wait, "token_rate_limited", message, { cause: error });
    },
  };
}
