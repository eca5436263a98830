/**
 * The names by which this CA's servers are reached, which no leaf of a service may have.
 * @module
 */
import type { ServerNames } from "../core/x509/leaf.ts";
import { isMappedIpv4 } from "../core/x509/service-names.ts";
import { ipOctets, isUnspecifiedAddress } from "../net/ip.ts";
import type { Settings } from "./settings.ts";

/**
 * The names of MESHCA_TLS_NAMES, MESHCA_ADVERTISE, MESHCA_HOSTS and MESHCA_LISTEN, and of the live
 * replicas.
 * @param addresses of the live replicas, `HOST:PORT` each.
 */
export function reservedNames(
  { tls, advertised, hosts, listen }: Pick<Settings, "tls" | "advertised" | "hosts" | "listen">,
  addresses: readonly string[],
): ServerNames {
  const own = tls?.source.kind === "self" ? tls.source.names : null;
  const others = [
    listen.host,
    ...(advertised === null ? [] : [advertised.host]),
    ...(hosts ?? []),
    ...addresses.map((address) => address.replace(/:\d+$/, "")),
  ].map((host) =>
    host
      .replace(/^\[|\]$/g, "")
      .replace(/\.$/, "")
      .toLowerCase(),
  );
  const dnsNames = new Set(own?.dnsNames);
  const ipAddresses = [...(own?.ipAddresses ?? [])];
  for (const host of new Set(others)) {
    const octets = ipOctets(host);
    if (octets === null) dnsNames.add(host);
    else if (!isUnspecifiedAddress(host)) ipAddresses.push(octets);
  }
  // A client that connects to an IPv4 address mapped into IPv6 reaches the server by the IPv4 one.
  const plain = ipAddresses.map((octets) => (isMappedIpv4(octets) ? octets.slice(12) : octets));
  return { dnsNames: [...dnsNames], ipAddresses: plain };
}
