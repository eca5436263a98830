/**
 * What each kind of certificate looks like. Every field of a leaf is decided here; a request gives
 * a public key and asks for an identity, nothing else.
 * @module
 */
import { type Bytes, equal, hex } from "../bytes.ts";
import { RequestError } from "../errors.ts";
import type { Random } from "../ports/clock.ts";
import { formatSpiffeId, type LeafId } from "../spiffe/id.ts";
import { type Certificate, KEY_USAGE } from "./certificate.ts";
import type { CertificateRequest } from "./csr.ts";
import { wholeSecond } from "./der.ts";
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

/**
 * The validity of a leaf: from a minute before `now`, for `ttlMs`, within those of its issuer and of
 * the active root. Cross-signed certificates do not count.
 */
export function leafValidity(
  issuer: Certificate,
  root: Certificate,
  ttlMs: number,
  now: Date,
): { notBefore: Date; notAfter: Date } {
  const start = Math.max(
    now.getTime() - LEAF_BACKDATE_MS,
    issuer.notBefore.getTime(),
    root.notBefore.getTime(),
  );
  const end = Math.min(
    now.getTime() - LEAF_BACKDATE_MS + ttlMs,
    issuer.notAfter.getTime(),
    root.notAfter.getTime(),
  );
  return { notBefore: wholeSecond(new Date(start)), notAfter: wholeSecond(new Date(end)) };
}

/** Octets of a serial number: 128 bits, below the 20 octets that RFC 5280 §4.1.2.2 allows. */
export const SERIAL_LENGTH = 16;

/**
 * Makes random serial numbers of 16 octets, as positive DER INTEGER content. The top two bits are
 * 01, so that the number is positive, minimal and always of one length; 126 bits are random, where
 * the CA/Browser Forum asks for 64. Randomness is taken in blocks, since a call for 16 octets costs
 * as much as one for 4096.
 */
export function createSerials(random: Random): () => Bytes {
  let pool = new Uint8Array(0) as Bytes;
  let offset = 0;
  return () => {
    if (offset + SERIAL_LENGTH > pool.length) {
      pool = random.bytes(256 * SERIAL_LENGTH);
      offset = 0;
    }
    const serial = pool.slice(offset, offset + SERIAL_LENGTH);
    offset += SERIAL_LENGTH;
    serial[0] = ((serial[0] as number) & 0x3f) | 0x40;
    return serial;
  };
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
