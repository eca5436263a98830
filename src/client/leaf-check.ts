/**
 * Checks a leaf before it is published: its key, identity, names, validity and path.
 * @module
 */
import { type Bytes, colonHex, equal } from "../core/bytes.ts";
import { FormatError } from "../core/errors.ts";
import { readPem } from "../core/pem.ts";
import { parseSpiffeId, type SpiffeId } from "../core/spiffe/id.ts";
import { type Certificate, inForce, readCertificate } from "../core/x509/certificate.ts";
import { ClientError } from "./errors.ts";
import { findTrustPath } from "./spiffe/path.ts";
import { svidId, timeFault } from "./spiffe/verify-peer.ts";
import type { X509Svid } from "./svid.ts";

/** What a leaf is kept for. */
export interface LeafIdentity {
  /** The service's name, or null: the one that the token has. */
  readonly service: string | null;
  /** DNS names that the leaf must have. */
  readonly dnsNames: readonly string[];
  /** IP names that the leaf must have: four or sixteen octets each. */
  readonly ipAddresses: readonly Bytes[];
  /** The life to ask for, in milliseconds, or null for the server's LeafCertTTL. */
  readonly ttlMs: number | null;
  /** The datacenter of the SPIFFE ID, or null: that of the server. */
  readonly datacenter: string | null;
}

/** What a leaf must be. */
export interface ExpectedLeaf {
  readonly identity: LeafIdentity;
  /** The SPIFFE ID of the leaf before, or null if there was none. */
  readonly spiffeId: string | null;
  /** DER of the SubjectPublicKeyInfo of the key that was made for it. */
  readonly spki: Bytes;
}

/**
 * Reads and checks a leaf with its chain; whether it verifies under a root is not checked.
 * @param pem the leaf first.
 * @throws {ClientError} `unusable`, `not_in_force`
 */
export function readLeaf(
  pem: string,
  expected: ExpectedLeaf,
  trustDomain: string,
  now: Date,
): { readonly spiffeId: string; readonly chain: readonly Certificate[] } {
  const chain = readChain(pem);
  const [leaf] = chain;
  if (leaf === undefined) throw unusable("it has no certificate");
  if (!equal(leaf.key.spki, expected.spki)) throw unusable("it is for another key");
  const spiffeId = svidId(leaf, trustDomain);
  requireIdentity(spiffeId, expected);
  requireNames(leaf, expected.identity);
  if (!inForce(leaf, now))
    throw new ClientError("not_in_force", `The leaf is not used: it ${timeFault(leaf, now)}`);
  return { spiffeId, chain };
}

/** The SVID of a leaf that was checked. @param index of the server's state. */
export function svidOf(
  { spiffeId, chain }: ReturnType<typeof readLeaf>,
  privateKey: Bytes,
  index: number,
): X509Svid {
  const leaf = chain[0] as Certificate;
  return {
    spiffeId,
    chain: chain.map(({ der }) => der),
    privateKey,
    serialNumber: colonHex(leaf.serial),
    notBefore: leaf.notBefore,
    notAfter: leaf.notAfter,
    index,
  };
}

/** Whether a leaf verifies with a root as the only trust anchor. */
export async function verifiesUnder(
  [leaf, ...intermediates]: readonly Certificate[],
  root: Certificate,
  now: Date,
): Promise<boolean> {
  return leaf !== undefined && (await findTrustPath(leaf, intermediates, [root], now)) !== null;
}

/** Parses the chain of an SVID. @throws {FormatError} */
export function chainOf({ chain }: Pick<X509Svid, "chain">): readonly Certificate[] {
  return chain.map((der) => readCertificate(der));
}

function readChain(pem: string): readonly Certificate[] {
  try {
    const blocks = readPem(pem);
    if (blocks.some(({ label }) => label !== "CERTIFICATE"))
      throw new FormatError("its chain has a PEM block that is not a certificate");
    return blocks.map(({ bytes }) => readCertificate(bytes));
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw unusable(`it cannot be read: ${error.message}`);
  }
}

function requireIdentity(spiffeId: string, { identity, spiffeId: before }: ExpectedLeaf): void {
  const { service, datacenter } = identity;
  const id: SpiffeId = parseSpiffeId(spiffeId);
  const isExpected =
    id.kind === "service" &&
    (service === null || id.service === service) &&
    (datacenter === null || id.datacenter === datacenter);
  if (!isExpected) throw unusable(`it is for the identity ${JSON.stringify(spiffeId)}`);
  // A token without a fixed service may get another identity: the workload must not become another.
  if (before !== null && before !== spiffeId)
    throw unusable(
      `it is for the identity ${JSON.stringify(spiffeId)}, and the leaf before was for ${JSON.stringify(before)}; restart the agent to accept it`,
    );
}

function requireNames(leaf: Certificate, { dnsNames, ipAddresses }: LeafIdentity): void {
  const lower = (list: readonly string[]) => list.map((name) => name.toLowerCase());
  if (!haveSameMembers(lower(dnsNames), lower(leaf.dnsNames)))
    throw unusable("its DNS names are not the requested ones");
  const ips = (list: readonly Bytes[]) => list.map((address) => colonHex(address));
  if (!haveSameMembers(ips(ipAddresses), ips(leaf.ipAddresses)))
    throw unusable("its IP addresses are not the requested ones");
}

function haveSameMembers(a: readonly string[], b: readonly string[]): boolean {
  return a.every((each) => b.includes(each)) && b.every((each) => a.includes(each));
}

function unusable(what: string): ClientError {
  return new ClientError("unusable", `The leaf is not used: ${what}`);
}
