/**
 * The limits of the HTTP API with these settings.
 * @module
 */
import type { Settings } from "../config/settings.ts";
import { DEFAULT_HTTP_LIMITS, type HttpLimits } from "../http/limits.ts";

const PER_CLIENT = [
  "connectionsPerClient",
  "requestsPerClient",
  "wrongTokensPerClient",
  "watchersPerClient",
] as const;

/** The limits of the API: the configured ones over the defaults. */
export function httpLimits({ limits, plainHttp }: Settings): HttpLimits {
  const { tokensPerLogin: _, maxPendingLeaves: __, idleMs: ___, ...configured } = limits;
  // All requests through a proxy have the proxy's address.
  const perClient =
    plainHttp === null
      ? {}
      : Object.fromEntries(PER_CLIENT.map((name) => [name, Number.POSITIVE_INFINITY]));
  return {
    ...DEFAULT_HTTP_LIMITS,
    ...perClient,
    ...(configured satisfies { readonly [Name in keyof typeof configured]: HttpLimits[Name] }),
    limitLoopback: PER_CLIENT.some((name) => limits[name] !== undefined),
  };
}
