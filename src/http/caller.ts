/**
 * Who calls, as far as the connection and the headers tell.
 * @module
 */

import type { Caller } from "../core/ports/audit.ts";
import { isLoopbackAddress } from "../net/ip.ts";
import type { AppOptions, RequestEnvironment } from "./app.ts";
import { hostRefusal } from "./host.ts";

/**
 * What proxies add to what they pass on (RFC 7239 section 4, RFC 9110 section 7.6.3, and what is in
 * use). `Connection: close` is all that nginx before 1.29.7 adds by default; tools on this machine
 * that send it can do with less.
 */
const FORWARDED =
  /^(?:forwarded|via|x-(?:forwarded|envoy|amzn|original)-.*|x-forwarded|forwarded-for|x-real-ip|.*-client-ip|.*-connecting-ip|cdn-loop|max-forwards)$/;

/**
 * Whether a request comes from this machine, as far as can be known: a proxy on this machine makes
 * every caller look like it. So nothing but loopback must be served, no proxy be configured, the
 * request be for a name of loopback, and no header say that it was passed on.
 */
export function isLocal(
  { headers }: Pick<Request, "headers">,
  { remoteAddress }: RequestEnvironment,
  { loopbackOnly, behindProxy }: Pick<AppOptions, "loopbackOnly" | "behindProxy">,
): boolean {
  if (!loopbackOnly || behindProxy || !isLoopbackAddress(remoteAddress ?? "")) return false;
  // A name of MESHCA_HOSTS is how callers elsewhere name a proxy.
  if (hostRefusal(headers.get("host"), { names: null, loopbackOnly }) !== null) return false;
  if (headers.get("connection")?.toLowerCase() === "close") return false;
  return ![...headers.keys()].some((name) => FORWARDED.test(name));
}

/**
 * The caller for the audit log. Nothing is looked up that nobody asks for.
 * @param known the address if it was asked for already: a client that has hung up since has none
 * any more.
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
