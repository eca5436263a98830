/**
 * Entries of the cache: the roots, and a leaf with its key. They are read as strictly as a server's
 * answers.
 * @module
 */
import * as v from "valibot";
import { type Bytes, base64, concat, equal, fromBase64 } from "../core/bytes.ts";
import { FormatError } from "../core/errors.ts";
import { certificatePem } from "../core/pem.ts";
import { readCertificate } from "../core/x509/certificate.ts";
import { type ExpectedLeaf, type LeafIdentity, readLeaf, svidOf } from "./leaf-check.ts";
import { bundleOf, readRootsListing } from "./roots-listing.ts";
import type { TrustBundle, X509Svid } from "./svid.ts";

export const ROOTS_KEY = "roots";

const VERSION = 1;
const Index = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const Octets = v.pipe(
  v.string(),
  v.transform((text) => fromBase64(text)),
  v.custom<Bytes>((bytes) => bytes !== null),
);
const Roots = v.object({ version: v.literal(VERSION), index: Index, json: v.string() });
const Leaf = v.object({
  version: v.literal(VERSION),
  key: v.string(),
  index: Index,
  chain: v.pipe(v.array(Octets), v.minLength(1), v.maxLength(32)),
  privateKey: Octets,
  renewAfter: v.nullable(v.pipe(v.string(), v.isoTimestamp())),
});

/** A leaf as it is cached. */
export interface CachedLeaf {
  readonly svid: X509Svid;
  /** The server's hint, or null. */
  readonly renewAfter: Date | null;
}

export function writeCachedRoots({ json, index }: TrustBundle): string {
  return JSON.stringify({ version: VERSION, index, json });
}

/** @throws {FormatError} */
export function readCachedRoots(text: string): TrustBundle {
  const { index, json } = parse(Roots, text);
  return bundleOf(readRootsListing(json), json, index);
}

/** The name of the entry of an identity. */
export function leafKey({ service, datacenter, dnsNames, ipAddresses }: LeafIdentity): string {
  const names = dnsNames.map((name) => name.toLowerCase()).toSorted();
  const ips = ipAddresses.map((address) => base64(address)).toSorted();
  return `leaf ${JSON.stringify([service, datacenter, names, ips])}`;
}

export function writeCachedLeaf(key: string, { svid, renewAfter }: CachedLeaf): string {
  const { index, chain, privateKey } = svid;
  return JSON.stringify({
    version: VERSION,
    key,
    index,
    chain: chain.map((der) => base64(der)),
    privateKey: base64(privateKey),
    renewAfter: renewAfter?.toISOString() ?? null,
  });
}

/**
 * Reads the leaf of an identity and checks all but whether it verifies under a root.
 * @throws {FormatError} @throws {ClientError} `unusable`
 */
export async function readCachedLeaf(
  text: string,
  identity: LeafIdentity,
  trustDomain: string,
  now: Date,
): Promise<CachedLeaf> {
  const { key, index, chain, privateKey, renewAfter } = parse(Leaf, text);
  if (key !== leafKey(identity)) throw new FormatError("it is of another identity");
  const leaf = readCertificate(chain[0] as Bytes);
  await requireKey(privateKey, leaf.key.spki);
  const expected: ExpectedLeaf = { identity, spiffeId: null, spki: leaf.key.spki };
  const pem = chain.map((der) => certificatePem(der)).join("");
  return {
    svid: svidOf(readLeaf(pem, expected, trustDomain, now), privateKey, index),
    renewAfter: renewAfter === null ? null : new Date(renewAfter),
  };
}

/** @throws {FormatError} if the private key is not that of the public one */
async function requireKey(privateKey: Bytes, spki: Bytes): Promise<void> {
  let point: Bytes;
  try {
    const algorithm = { name: "ECDSA", namedCurve: "P-256" };
    const key = await crypto.subtle.importKey("pkcs8", privateKey, algorithm, true, ["sign"]);
    const { x = "", y = "" } = await crypto.subtle.exportKey("jwk", key);
    const octets = (text: string) =>
      fromBase64(`${text.replaceAll("-", "+").replaceAll("_", "/")}=`) ?? new Uint8Array();
    point = concat(octets(x), octets(y));
  } catch {
    throw new FormatError("its private key cannot be read");
  }
  if (point.length !== 64 || !equal(point, spki.subarray(spki.length - 64)))
    throw new FormatError("its private key is not that of its leaf");
}

function parse<T>(schema: v.GenericSchema<unknown, T>, text: string): T {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new FormatError("it is not JSON");
  }
  const parsed = v.safeParse(schema, json);
  if (parsed.success) return parsed.output;
  throw new FormatError(`its field ${v.getDotPath(parsed.issues[0]) ?? "list"} is invalid`);
}
