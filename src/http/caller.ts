/**
 * Who calls, as far as the connection and the headers tell.
 * @module
 */
import { isLoopbackAddress } from "../core/addresses.ts";
import type { Caller } from "../core/audit.ts";
import type { AppOptions, RequestEnvironment } from "./app.ts";

/** What proxies add to what they pass on (RFC 7239 section 4, RFC 9110 section 7.6.3, and what is in use). */
const FORWARDED = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];

/**
 * Whether a request comes from this machine, as far as can be known: a proxy on this machine makes every caller look like
 * it. So nothing but loopback must be served, no proxy be configured, and no header say that the request was passed on.
 */
export function isLocal(
  { headers }: Pick<Request, "headers">,
  { remoteAddress }: RequestEnvironment,
  { loopbackOnly, behindProxy }: Pick<AppOptions, "loopbackOnly" | "behindProxy">,
): boolean {
  return loopbackOnly && !behindProxy && isLoopbackAddress(remoteAddress ?? "") && !FORWARDED.some((name) => headers.has(name));
}

/**
 * The caller for the audit log. Nothing is looked up that nobody asks for.
 * @param known the address if it was asked for already: a client that has hung up since has none any more.
 */
export function callerOf(
  environment: RequestEnvironment,
  requestId: string,
  known: string | undefined,
): Caller & { accessor: string | null; readonly requestId: string } {
  return {
    accessor: null,
    get address() {
      return known ?? environment.remoteAddress ?? null;
    },
    requestId,
  };
}
