/**
 * The client of a request, as far as its connection and headers identify it: the Host that it
 * names, whether it is on this machine, the key that rate limits count it by, the audit log's
 * caller.
 * @module
 */
import type { Caller } from "../core/ports/audit.ts";
import { ipv6Network, isLoopbackAddress } from "../net/ip.ts";
import type { RequestEnvironment } from "./route.ts";

export interface ServedHosts {
  /** Names and addresses that a Host header may have, without ports. Null: any. */
  readonly hosts: readonly string[] | null;
  /** Whether the server listens on loopback only; then loopback names are allowed too. */
  readonly loopbackOnly: boolean;
}

/**
 * Why a Host header is refused, or null: a web page that rebinds its name to an address of this
 * server (DNS rebinding) still sends its own name.
 * @param host null if the header is missing, which only HTTP/1.0 allows and no browser does.
 */
export function hostRefusal(
  host: string | null,
  { hosts, loopbackOnly }: ServedHosts,
): string | null {
  if (host === null || (hosts === null && !loopbackOnly)) return null;
  const name = host.toLowerCase().replace(/:\d*$/, "").replace(/\.$/, "");
  const isLoopbackName =
    name === "localhost" ||
    name.endsWith(".localhost") ||
    name === "[::1]" ||
    isLoopbackAddress(name);
  if (loopbackOnly && isLoopbackName) return null;
  if (hosts === null)
    return "Host is not a loopback name: use 127.0.0.1 or localhost, or add the name to MESHCA_HOSTS";
  return hosts.includes(name) ? null : "Host is not a served name: add it to MESHCA_HOSTS";
}

/**
 * Headers that proxies add to a forwarded request (RFC 7239 section 4, RFC 9110 section 7.6.3, and
 * vendors' own).
 */
const FORWARDED =
  /^(?:forwarded|via|x-(?:forwarded|envoy|amzn|original)-.*|x-forwarded|forwarded-for|x-real-ip|.*-client-ip|.*-connecting-ip|cdn-loop|max-forwards|x-meshca-forwarded)$/;

/**
 * Whether a request comes from this machine, as far as can be known. Behind a local proxy every
 * client has a loopback address, so the server must listen on loopback only, without a configured
 * proxy, the Host must be a loopback name, and no header may show that the request was forwarded.
 */
export function isLocal(
  { headers }: Pick<Request, "headers">,
  { remoteAddress }: RequestEnvironment,
  { loopbackOnly, behindProxy }: { readonly loopbackOnly: boolean; readonly behindProxy: boolean },
): boolean {
  if (!loopbackOnly || behindProxy || !isLoopbackAddress(remoteAddress ?? "")) return false;
  // Clients elsewhere reach a proxy by a name of MESHCA_HOSTS.
  if (hostRefusal(headers.get("host"), { hosts: null, loopbackOnly }) !== null) return false;
  return !endsConnection(headers) && !isForwarded(headers);
}

/**
 * Whether a request ends its connection, the only mark of nginx before 1.29.7 by default. A local tool
 * that sends this header is taken for a proxy.
 */
export function endsConnection(headers: Headers): boolean {
  return headers.get("connection")?.toLowerCase() === "close";
}

/** Whether a header shows that a proxy forwarded the request. */
export function isForwarded(headers: Headers): boolean {
  return proxyHeaders(headers).length > 0;
}

/** The names of the headers that proxies add, in lower case. */
export function proxyHeaders(headers: Headers): string[] {
  return [...headers.keys()].filter((name) => FORWARDED.test(name));
}

/**
 * The key that rate limits count a client by: its address, of an IPv6 one the first 64 bits.
 * @returns null if no limit of a single client applies.
 */
export function clientKey(address: string | undefined, limitLoopback: boolean): string | null {
  if (address === undefined) return null;
  const plain =
    address.startsWith("::ffff:") && address.includes(".")
      ? address.slice("::ffff:".length)
      : address;
  if (!limitLoopback && (plain === "::1" || plain.startsWith("127."))) return null;
  if (!plain.includes(":")) return plain;
  // The zone of a link-local address (RFC 4007 section 11) is not part of it.
  const [zoneless = ""] = plain.split("%", 1);
  return ipv6Network(zoneless) ?? plain;
}

/**
 * The caller for the audit log. The address is looked up only if it is read.
 * @param known the address, if it was looked up before: a client that has disconnected has none.
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
