/**
 * Envoy's own requests by REST, which look like forwarded ones: its HTTP client adds the address of
 * its machine to them as X-Forwarded-For (Http::AsyncStreamImpl).
 * @module
 */
import { networkInterfaces } from "node:os";
import { hex } from "../../core/bytes.ts";
import { ipOctets } from "../../net/ip.ts";

/**
 * What Envoy 1.40 adds to a request of its own. A request that it forwards has X-Forwarded-Proto too
 * (Envoy's documentation, HTTP header manipulation).
 */
const ADDED = new Set(["x-forwarded-for", "x-envoy-internal", "x-envoy-expected-rq-timeout-ms"]);

/**
 * Whether the headers of a proxy on a request are those of Envoy's own.
 * @param names of the headers of a proxy.
 * @param overSocket whether the connection is over a Unix socket: Envoy may have another network
 * namespace then, so that its address is not one of this machine.
 */
export function isEnvoysOwn(
  names: readonly string[],
  headers: Headers,
  overSocket: boolean,
): boolean {
  if (names.some((name) => !ADDED.has(name))) return false;
  const address = headers.get("x-forwarded-for");
  if (address === null) return true;
  const octets = ipOctets(address);
  return octets !== null && (overSocket || ownAddresses().has(hex(octets)));
}

/** The addresses of this machine, in hexadecimal. */
function ownAddresses(): ReadonlySet<string> {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  return new Set(all.flatMap(({ address }) => ipOctets(address) ?? []).map(hex));
}
