/**
 * Requests for tests: made by openssl, or put together octet by octet if openssl would not make
 * them.
 * @module
 */
import { readFileSync } from "node:fs";
import { type Bytes, fromBase64, utf8 } from "../../../src/core/bytes.ts";
import { readPem, writePem } from "../../../src/core/pem.ts";
import {
  bitString,
  contextConstructed,
  contextPrimitive,
  type DerNode,
  element,
  encode,
  octetString,
  oid,
  oidContent,
  sequence,
  TAG,
} from "../../../src/core/x509/der.ts";
import {
  encodeSignature,
  SCHEMES,
  type SignatureScheme,
  sign,
} from "../../../src/core/x509/keys.ts";
import { OID, type OidName } from "../../../src/core/x509/oids.ts";

export const URI = "spiffe://11111111-2222-3333-4444-555555555555.consul/ns/default/dc/dc1/svc/web";

/**
 * SubjectPublicKeyInfos that openssl made, by key type and size: `EC 256`, `RSA 4096`, `Ed25519`.
 */
export const PUBLIC_KEYS: ReadonlyMap<string, Bytes> = new Map(
  Object.entries(
    JSON.parse(
      readFileSync(new URL("../../vectors/public-keys.openssl.json", import.meta.url), "utf8"),
    ) as Record<string, string>,
  ).map(([name, base64]) => [name, fromBase64(base64) as Bytes]),
);

/** One of PUBLIC_KEYS. */
export function publicKey(name: string): Bytes {
  const spki = PUBLIC_KEYS.get(name);
  if (spki === undefined) throw new RangeError(`No public key ${name}`);
  return spki;
}

/** openssl's arguments for a new key of each accepted type. */
export const NEW_KEYS: ReadonlyMap<string, readonly string[]> = new Map([
  ["EC 256", ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]],
  ["EC 384", ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"]],
  ["EC 521", ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"]],
  ["RSA 2048", ["-newkey", "rsa:2048"]],
  ["RSA 3072", ["-newkey", "rsa:3072"]],
  ["RSA 4096", ["-newkey", "rsa:4096"]],
  ["Ed25519", ["-newkey", "ed25519"]],
]);

/** The DER in a PEM text of one block. */
export function derOf(pem: string): Bytes {
  const [block] = readPem(pem);
  if (block === undefined) throw new RangeError("No PEM block");
  return block.bytes;
}

export function csrPem(der: Uint8Array): string {
  return writePem("CERTIFICATE REQUEST", der);
}

export const named = (name: OidName): DerNode => oid(oidContent(OID[name]));

/** An RSA SubjectPublicKeyInfo with an arbitrary modulus of that many bits. */
export function rsaSpki(bits: number, exponent: readonly number[] = [1, 0, 1]): Bytes {
  const modulus = new Uint8Array(Math.ceil(bits / 8)).fill(0xa5);
  modulus[0] = 1 << ((bits - 1) % 8);
  const key = sequence(unsignedInteger(modulus), unsignedInteger(Uint8Array.from(exponent)));
  return encode(
    sequence(sequence(named("rsaEncryption"), element(TAG.null)), bitString(encode(key))),
  );
}

/** An EC SubjectPublicKeyInfo with these octets as its point. */
export function ecSpki(curve: DerNode, point: Uint8Array): Bytes {
  return encode(sequence(sequence(named("ecPublicKey"), curve), bitString(point)));
}

export const uriName = (uri: string): DerNode => element(contextPrimitive(6), utf8(uri));

export function extension(name: OidName, value: DerNode, ...flag: readonly DerNode[]): DerNode {
  return sequence(named(name), ...flag, octetString(encode(value)));
}

/** An extensionRequest attribute. */
export function extensionRequest(...extensions: readonly DerNode[]): DerNode {
  return sequence(named("extensionRequest"), element(TAG.set, sequence(...extensions)));
}

/** An attribute that asks for these GeneralNames. */
export function askFor(...names: readonly DerNode[]): DerNode {
  return extensionRequest(extension("subjectAltName", sequence(...names)));
}

export interface CraftedRequest {
  readonly version?: DerNode;
  readonly subject?: DerNode;
  readonly spki?: Uint8Array;
  readonly attributes?: readonly DerNode[];
  readonly scheme?: OidName;
  readonly identifier?: Uint8Array;
  readonly signature?: DerNode;
}

/**
 * A request with a signature that does not verify: a reader must refuse it, or not check the
 * signature.
 */
export function craftCsr(parts: CraftedRequest = {}): Bytes {
  const identifier =
    parts.identifier ?? SCHEMES[parts.scheme ?? "ecdsaSha256"]?.identifier ?? new Uint8Array();
  const info = sequence(
    parts.version ?? unsignedInteger(new Uint8Array(1)),
    parts.subject ?? sequence(),
    parts.spki ?? publicKey("EC 256"),
    element(contextConstructed(0), ...(parts.attributes ?? [askFor(uriName(URI))])),
  );
  return encode(sequence(info, identifier, parts.signature ?? bitString(new Uint8Array(64))));
}

export interface SignedRequest {
  readonly key?: "EC" | "RSA";
  /** Parameters of the signature algorithm; null for none. @default the correct ones */
  readonly parameters?: DerNode | null;
  readonly version?: DerNode;
  readonly subject?: DerNode;
  readonly attributes?: readonly DerNode[];
}

/**
 * A request that was signed with its key, put together as some tool does it and openssl does not.
 */
export async function signedCsr(parts: SignedRequest = {}): Promise<Bytes> {
  const isRsa = parts.key === "RSA";
  const algorithm = isRsa
    ? {
        name: "RSASSA-PKCS1-v1_5",
        hash: "SHA-256",
        modulusLength: 2048,
        publicExponent: Uint8Array.of(1, 0, 1),
      }
    : { name: "ECDSA", namedCurve: "P-256" };
  const pair = (await crypto.subtle.generateKey(algorithm as EcKeyGenParams, true, [
    "sign",
    "verify",
  ])) as CryptoKeyPair;
  const scheme = SCHEMES[isRsa ? "rsaSha256" : "ecdsaSha256"] as SignatureScheme;
  const info = encode(
    sequence(
      parts.version ?? unsignedInteger(new Uint8Array(1)),
      parts.subject ?? sequence(),
      new Uint8Array(await crypto.subtle.exportKey("spki", pair.publicKey)),
      element(contextConstructed(0), ...(parts.attributes ?? [askFor(uriName(URI))])),
    ),
  );
  const signature = encodeSignature(scheme, await sign(pair.privateKey, scheme, info));
  const { parameters } = parts;
  const algorithmName = named(isRsa ? "rsaSha256" : "ecdsaSha256");
  const identifier =
    parameters === undefined
      ? scheme.identifier
      : parameters === null
        ? sequence(algorithmName)
        : sequence(algorithmName, parameters);
  return encode(sequence(info, identifier, bitString(signature)));
}

/** An INTEGER from big-endian magnitude octets, leading zeros allowed. */
export function unsignedInteger(magnitude: Uint8Array): DerNode {
  let start = 0;
  while (start < magnitude.length - 1 && magnitude[start] === 0) start++;
  const digits = magnitude.subarray(start);
  return (digits[0] ?? 0) >= 0x80
    ? element(TAG.integer, new Uint8Array(1), digits)
    : element(TAG.integer, digits);
}
