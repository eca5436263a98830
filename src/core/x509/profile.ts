/**
 * What each kind of certificate looks like. Every field of a leaf is decided here; a request gives
 * a public key and asks for an identity, nothing else.
 * @module
 */
import { type Bytes, equal, hex } from "../bytes.ts";
import { RequestError } from "../errors.ts";
import { formatSpiffeId, type LeafId } from "../spiffe/kinds.ts";
import { KEY_USAGE } from "./certificate.ts";
import type { CertificateRequest } from "./csr.ts";
import type { KeyType } from "./keys.ts";

/** Leaves start a minute back, as Consul's do (consul-ca.md §3.1). */
export const LEAF_BACKDATE_MS = 60_000;
/**
 * CA certificates start an hour back, so that a verifier whose clock is behind trusts them from the
 * first moment.
 */
export const CA_BACKDATE_MS = 3_600_000;

/** CA certificates sign certificates and revocation lists, and nothing else (RFC 5280 §4.2.1.3). */
export const CA_KEY_USAGE = KEY_USAGE.keyCertSign | KEY_USAGE.cRLSign;

/** RFC 8813 §3: no keyEncipherment for an EC key. RFC 5246 §7.4.2 needs it for an RSA one. */
export function leafKeyUsage(type: KeyType): number {
  return type === "rsa"
    ? KEY_USAGE.digitalSignature | KEY_USAGE.keyEncipherment
    : KEY_USAGE.digitalSignature;
}

/** The subject names of a leaf. */
export interface LeafNames {
  /** The canonical SPIFFE ID. */
  readonly uri: string;
  readonly dnsNames: readonly string[];
  readonly ipAddresses: readonly Bytes[];
}

/**
 * The DNS and IP names by which the servers of this CA are reached, which only their own identity
 * may have.
 */
export type ServerNames = Omit<LeafNames, "uri">;
export const NO_SERVER_NAMES: ServerNames = { dnsNames: [], ipAddresses: [] };

const LOOPBACK = [
  Uint8Array.of(127, 0, 0, 1),
  Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1),
];

/**
 * The subject names for an identity: its SPIFFE ID, and of the DNS and IP names that the request
 * asks for those that the identity may have. Consul copies whatever is asked for (consul-ca.md
 * Q-13); its own agents ask for these.
 * @param server what the identity of a server may have beside Consul's own.
 * @throws {RequestError} `profile_violation` naming the first name that is not allowed.
 */
export function leafNames(
  id: LeafId,
  request: CertificateRequest,
  server: ServerNames = NO_SERVER_NAMES,
): LeafNames {
  const uri = formatSpiffeId(id);
  if (request.dnsNames.length === 0 && request.ipAddresses.length === 0)
    return { uri, dnsNames: [], ipAddresses: [] };
  const allowedDns =
    id.kind === "server" ? [...dnsNamesFor(id), ...server.dnsNames] : dnsNamesFor(id);
  const allowedIps =
    id.kind === "agent" ? LOOPBACK : id.kind === "server" ? server.ipAddresses : [];
  const dnsNames = [...new Set(request.dnsNames.map((name) => name.toLowerCase()))];
  for (const name of dnsNames)
    if (!allowedDns.includes(name))
      throw new RequestError(
        "profile_violation",
        `Cannot sign leaf for ${JSON.stringify(uri)}: it may not have the DNS name ${JSON.stringify(name)}`,
      );
  for (const address of request.ipAddresses)
    if (!allowedIps.some((allowed) => equal(allowed, address)))
      throw new RequestError(
        "profile_violation",
        `Cannot sign leaf for ${JSON.stringify(uri)}: it may not have the IP address ${ipText(address)}`,
      );
  return {
    uri,
    dnsNames,
    ipAddresses: allowedIps.filter((allowed) =>
      request.ipAddresses.some((address) => equal(allowed, address)),
    ),
  };
}

/** consul-ca.md §3.7: what Consul's own agents, servers and gateways put into their requests. */
function dnsNamesFor(id: LeafId): readonly string[] {
  switch (id.kind) {
    case "service":
      return [];
    case "agent":
      return ["localhost"];
    case "mesh-gateway":
    case "server":
      return [`server.${id.datacenter}.peering.${id.trustDomain}`.toLowerCase()];
  }
}

/** Dotted for IPv4, groups without abbreviation for IPv6. */
export function ipText(address: Bytes): string {
  return address.length === 4 ? address.join(".") : (hex(address).match(/.{4}/g) ?? []).join(":");
}
