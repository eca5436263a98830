/**
 * Public keys and signature algorithms: what is accepted, how each is written in DER, and what
 * WebCrypto calls it.
 * @module
 */
import { type Bytes, colonHex, equal, sha1, sha256 } from "../bytes.ts";
import { FormatError } from "../errors.ts";
import {
  bitString,
  type DerNode,
  DerReader,
  element,
  encode,
  lengthSize,
  oid,
  oidContent,
  sequence,
  TAG,
  writeLength,
} from "./der.ts";
import { OID, type OidName, readOid } from "./oids.ts";

/**
 * WebCrypto's algorithm of a key that is imported. The names that TypeScript's libraries of browsers
 * have for it are not known to a program on Node that uses the types of the package.
 */
export interface KeyImportAlgorithm {
  readonly name: string;
  /** Of an EC key. */
  readonly namedCurve?: string;
  /** Of an RSA key. */
  readonly hash?: string;
}

export type KeyType = "ec" | "rsa" | "ed25519";
export type EcBits = 256 | 384 | 521;

/** What kind of key a CA signs with. */
export type CaKeySpec =
  | { readonly type: "ec"; readonly bits: EcBits }
  | { readonly type: "rsa"; readonly bits: 2048 | 4096 };

/** A public key of an accepted kind. */
export interface PublicKeyInfo {
  readonly type: KeyType;
  /** Curve or modulus size; 256 for Ed25519. */
  readonly bits: number;
  /** The DER SubjectPublicKeyInfo. */
  readonly spki: Bytes;
}

export type HashName = "SHA-256" | "SHA-384" | "SHA-512";

/** WebCrypto's names for one way to sign, and its AlgorithmIdentifier in DER. */
export interface SignatureScheme {
  readonly type: KeyType;
  readonly hash: HashName | null;
  readonly params: { readonly name: string; readonly hash?: HashName };
  readonly identifier: Bytes;
}

const CURVES: Readonly<Record<string, { bits: EcBits; point: number }>> = {
  p256: { bits: 256, point: 65 },
  p384: { bits: 384, point: 97 },
  p521: { bits: 521, point: 133 },
};
const RSA_BITS: readonly number[] = [2048, 3072, 4096];
/** e = 65537, the only exponent accepted, as in the CA/Browser Forum's practice: small ones are weak, large ones slow to verify. */
const RSA_EXPONENT = Uint8Array.of(1, 0, 1);

function scheme(type: KeyType, hash: HashName | null, name: OidName): SignatureScheme {
  const webCrypto = type === "ec" ? "ECDSA" : type === "rsa" ? "RSASSA-PKCS1-v1_5" : "Ed25519";
  const parameters: DerNode[] = type === "rsa" ? [element(TAG.null)] : [];
  return {
    type,
    hash,
    params: type === "ec" && hash !== null ? { name: webCrypto, hash } : { name: webCrypto },
    identifier: encode(sequence(oid(oidContent(OID[name])), ...parameters)),
  };
}

/** Every signature algorithm accepted in requests and supplied certificates. */
export const SCHEMES: Readonly<Partial<Record<OidName, SignatureScheme>>> = {
  ecdsaSha256: scheme("ec", "SHA-256", "ecdsaSha256"),
  ecdsaSha384: scheme("ec", "SHA-384", "ecdsaSha384"),
  ecdsaSha512: scheme("ec", "SHA-512", "ecdsaSha512"),
  rsaSha256: scheme("rsa", "SHA-256", "rsaSha256"),
  rsaSha384: scheme("rsa", "SHA-384", "rsaSha384"),
  rsaSha512: scheme("rsa", "SHA-512", "rsaSha512"),
  ed25519: scheme("ed25519", null, "ed25519"),
};

const ALL_SCHEMES = Object.values(SCHEMES);

/**
 * Signature algorithms that are known by name and not accepted. RFC 3279 §2.2, RFC 4055 §3, RFC
 * 5758 §3, RFC 8410 §3.
 */
const REFUSED: readonly (readonly [dotted: string, name: string])[] = [
  ["1.2.840.113549.1.1.2", "RSA with MD2"],
  ["1.2.840.113549.1.1.4", "RSA with MD5"],
  ["1.2.840.113549.1.1.5", "RSA with SHA-1"],
  ["1.3.14.3.2.29", "RSA with SHA-1"],
  ["1.2.840.113549.1.1.14", "RSA with SHA-224"],
  ["1.2.840.113549.1.1.10", "RSA-PSS"],
  ["1.2.840.10045.4.1", "ECDSA with SHA-1"],
  ["1.2.840.10045.4.3.1", "ECDSA with SHA-224"],
  ["1.2.840.10040.4.3", "DSA with SHA-1"],
  ["2.16.840.1.101.3.4.3.2", "DSA with SHA-256"],
  ["1.3.101.113", "Ed448"],
];

/**
 * Reads an AlgorithmIdentifier of a signature. Parameters of ECDSA may be NULL, as the JDK up to 15
 * writes them, and those of RSA may be absent, as PKI.js writes them (RFC 4055 §5: both must be
 * accepted). Ed25519 has none (RFC 8410 §3).
 * @returns the scheme, with `identifier` as it was read.
 * @throws {FormatError} for an algorithm that is not accepted, with its name.
 */
export function readScheme(reader: DerReader): SignatureScheme {
  reader.expect(TAG.sequence);
  for (const known of ALL_SCHEMES) if (reader.elementIs(known.identifier)) return known;
  const identifier = reader.element();
  const fields = reader.inside();
  const name = readOid(fields);
  const known = name === undefined ? undefined : SCHEMES[name];
  if (known !== undefined) {
    const isSpelled =
      fields.done ||
      (known.type !== "ed25519" &&
        fields.optional(TAG.null) &&
        fields.contentStart === fields.contentEnd);
    if (!isSpelled || !fields.done)
      throw new FormatError("signature algorithm has parameters that it is not allowed to have");
    return { ...known, identifier };
  }
  const refused = REFUSED.find(([dotted]) => fields.contentIs(oidContent(dotted)));
  throw new FormatError(
    `signature algorithm ${refused === undefined ? "" : `${refused[1]} `}is not one of ECDSA or RSA PKCS#1 with SHA-256, SHA-384 or SHA-512, or Ed25519`,
  );
}

/** The octets before the coordinates of an EC key, by curve, with the 04 of an uncompressed point. */
const EC_HEADS = Object.entries(CURVES).map(([name, { bits, point }]) => {
  const algorithm = sequence(
    oid(oidContent(OID.ecPublicKey)),
    oid(oidContent(OID[name as "p256" | "p384" | "p521"])),
  );
  const whole = encode(sequence(algorithm, bitString(Uint8Array.of(4), new Uint8Array(point - 1))));
  return { bits, length: whole.length, head: whole.slice(0, whole.length - point + 1) };
});

/**
 * Reads a SubjectPublicKeyInfo and checks that its key is of an accepted kind: EC P-256, P-384,
 * P-521 with an uncompressed point, RSA 2048, 3072, 4096 with e = 65537, or Ed25519. Whether the
 * point lies on its curve is checked when the key is imported.
 * @throws {FormatError} with the kinds that are accepted.
 */
export function readPublicKey(spki: Bytes): PublicKeyInfo {
  for (const { bits, length, head } of EC_HEADS)
    if (spki.length === length && startsWith(spki, head)) return { type: "ec", bits, spki };
  const info = new DerReader(spki).enterLast(TAG.sequence);
  const algorithm = info.enter(TAG.sequence);
  const name = readOid(algorithm);
  if (name === "ecPublicKey") {
    if (algorithm.peek() !== TAG.oid) throw new FormatError("EC key must name its curve");
    const curve = CURVES[readOid(algorithm) ?? ""];
    throw new FormatError(
      curve === undefined
        ? "EC key must be on P-256, P-384 or P-521"
        : "EC key must be an uncompressed point",
    );
  }
  if (name === "rsaEncryption") {
    // RFC 3279 §2.3.1; Go could not read a leaf with this key.
    if (
      !algorithm.optional(TAG.null) ||
      algorithm.contentEnd !== algorithm.contentStart ||
      !algorithm.done
    )
      throw new FormatError(
        "RSA key lacks the NULL parameters of its algorithm, without which Go clients cannot read it",
      );
    const encoded = info.bitString();
    info.finish();
    const key = new DerReader(encoded).enterLast(TAG.sequence);
    const modulus = key.unsigned();
    const exponent = key.unsigned();
    key.finish();
    const bits = modulus.length * 8 - Math.clz32(modulus[0] as number) + 24;
    if (!RSA_BITS.includes(bits))
      throw new FormatError(`RSA key must have 2048, 3072 or 4096 bits, this one has ${bits}`);
    if (!equal(exponent, RSA_EXPONENT))
      throw new FormatError("RSA key must have the public exponent 65537");
    return { type: "rsa", bits, spki };
  }
  if (name === "ed25519") {
    algorithm.finish();
    const key = info.bitString();
    info.finish();
    if (key.length !== 32) throw new FormatError("Ed25519 key must have 32 octets");
    return { type: "ed25519", bits: 256, spki };
  }
  throw new FormatError("key must be EC (P-256, P-384, P-521), RSA (2048, 3072, 4096) or Ed25519");
}

const EC_ALGORITHMS: Readonly<Record<EcBits, KeyImportAlgorithm>> = {
  256: { name: "ECDSA", namedCurve: "P-256" },
  384: { name: "ECDSA", namedCurve: "P-384" },
  521: { name: "ECDSA", namedCurve: "P-521" },
};

/** WebCrypto's algorithm to import or generate a key that signs or verifies with a hash. */
export function keyAlgorithm(
  key: { type: KeyType; bits: number },
  hash: HashName | null,
): KeyImportAlgorithm {
  if (key.type === "ec") return EC_ALGORITHMS[key.bits as EcBits];
  if (key.type === "rsa") return { name: "RSASSA-PKCS1-v1_5", hash: hash ?? "SHA-256" };
  return { name: "Ed25519" };
}

function startsWith(bytes: Bytes, head: Bytes): boolean {
  for (let i = 0; i < head.length; i++) if (bytes[i] !== head[i]) return false;
  return true;
}

/**
 * The hash whose strength fits a CA key: SHA-256, but SHA-384 and SHA-512 for P-384 and P-521 (RFC
 * 5480 §4).
 */
export function caHash(key: { type: KeyType; bits: number }): HashName {
  return key.type === "ec" && key.bits === 521
    ? "SHA-512"
    : key.type === "ec" && key.bits === 384
      ? "SHA-384"
      : "SHA-256";
}

/** The scheme by which a CA key signs with `hash`. */
export function caScheme(key: { type: KeyType }, hash: HashName): SignatureScheme {
  const found = ALL_SCHEMES.find(
    (candidate) => candidate.type === key.type && candidate.hash === hash,
  );
  if (found === undefined)
    throw new RangeError(`No signature scheme for a ${key.type} key with ${hash}`);
  return found;
}

/** Octets of each half of an ECDSA signature in WebCrypto's form (IEEE P1363). */
function ecdsaHalf(bits: number): number {
  return Math.ceil(bits / 8);
}

/**
 * Turns an ECDSA signature from DER (RFC 3279 §2.2.3) into WebCrypto's form, r and s of fixed
 * length.
 * @throws {FormatError} when it is not DER, or r or s do not fit the curve.
 */
function ecdsaFromDer(signature: Bytes, bits: number): Bytes {
  const half = ecdsaHalf(bits);
  const values = new DerReader(signature).enterLast(TAG.sequence);
  const out = new Uint8Array(2 * half);
  for (const end of [half, 2 * half]) {
    values.expectUnsigned();
    const length = values.contentEnd - values.contentStart;
    if (length > half) throw new FormatError("ECDSA signature does not fit its curve");
    for (let i = 0; i < length; i++)
      out[end - length + i] = signature[values.contentStart + i] as number;
  }
  values.finish();
  return out;
}

/** Octets of an ECDSA signature in DER, from WebCrypto's form. */
export function ecdsaLength(signature: Bytes): number {
  const content = ecdsaContentLength(signature);
  return 1 + lengthSize(content) + content;
}

function ecdsaContentLength(signature: Bytes): number {
  const half = signature.length / 2;
  return (
    4 +
    integerLength(signature, firstDigit(signature, 0, half), half) +
    integerLength(signature, firstDigit(signature, half, 2 * half), 2 * half)
  );
}

/** Writes an ECDSA signature from WebCrypto's form as DER at `offset`. */
export function writeEcdsa(out: Uint8Array, offset: number, signature: Bytes): void {
  const half = signature.length / 2;
  out[offset] = TAG.sequence;
  const at = writeLength(out, offset + 1, ecdsaContentLength(signature));
  writeInteger(out, writeInteger(out, at, signature, 0, half), signature, half, 2 * half);
}

/** The offset of the first octet of a number between `start` and `end` that is not a leading zero. */
function firstDigit(bytes: Bytes, start: number, end: number): number {
  let at = start;
  while (at < end - 1 && bytes[at] === 0) at++;
  return at;
}

/**
 * Octets of the INTEGER, the sign octet of a number with its top bit set included; at most 67, so
 * that its length takes one.
 */
function integerLength(bytes: Bytes, start: number, end: number): number {
  return end - start + ((bytes[start] as number) >= 0x80 ? 1 : 0);
}

/** Writes the number between `start` and `end`. @returns the offset behind it. */
function writeInteger(
  out: Uint8Array,
  offset: number,
  bytes: Bytes,
  start: number,
  end: number,
): number {
  const first = firstDigit(bytes, start, end);
  const length = integerLength(bytes, first, end);
  out[offset] = TAG.integer;
  out[offset + 1] = length;
  out[offset + 2] = 0;
  const next = offset + 2 + length;
  for (let from = end - 1, to = next - 1; from >= first; from--, to--)
    out[to] = bytes[from] as number;
  return next;
}

/**
 * Verifies a signature with a key that was read before.
 * @returns false for a signature that is wrong, malformed or of another type of key, and for a key
 * that is not a point of its curve.
 */
export async function verifySignature(
  key: PublicKeyInfo,
  method: SignatureScheme,
  signature: Bytes,
  data: Bytes,
): Promise<boolean> {
  if (method.type !== key.type) return false;
  try {
    const raw = key.type === "ec" ? ecdsaFromDer(signature, key.bits) : signature;
    const imported = await importPublicKey(key, method.hash);
    return await crypto.subtle.verify(method.params, imported, raw, data);
  } catch {
    return false;
  }
}

/** An EC key is imported as its point, which is cheaper than as a SubjectPublicKeyInfo. */
function importPublicKey(key: PublicKeyInfo, hash: HashName | null): Promise<CryptoKey> {
  const algorithm = keyAlgorithm(key, hash);
  if (key.type !== "ec") return crypto.subtle.importKey("spki", key.spki, algorithm, false, VERIFY);
  const point = key.spki.slice(key.spki.length - 2 * ecdsaHalf(key.bits) - 1);
  return crypto.subtle.importKey("raw", point, algorithm, false, VERIFY);
}

const VERIFY: KeyUsage[] = ["verify"];

/** Signs. @returns the signature in WebCrypto's form. `key` must fit `method`. */
export async function sign(key: CryptoKey, method: SignatureScheme, data: Bytes): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.sign(method.params, key, data));
}

/** A signature as certificates and requests carry it, from WebCrypto's form. */
export function encodeSignature(method: SignatureScheme, signature: Bytes): Bytes {
  if (method.type !== "ec") return signature;
  const out = new Uint8Array(ecdsaLength(signature));
  writeEcdsa(out, 0, signature);
  return out;
}

/**
 * The key identifier that Consul derives from a public key: SHA-256 of the DER
 * SubjectPublicKeyInfo, whole.
 */
export function keyIdOf(spki: Bytes): Bytes {
  return sha256(spki);
}

/** 160 bits (RFC 7093 §2). */
const CUT_OCTETS = 20;

/**
 * Every key identifier that a certificate of a key may carry, in colon hex: SHA-256 of the whole
 * SubjectPublicKeyInfo (Consul's, and this CA's), SHA-1 of the key's bits (RFC 5280 §4.2.1.2 method
 * 1; Vault's), SHA-256 of the bits cut to 160 (RFC 7093 §2 method 1; Go since 1.25), and the other
 * cuts of the two SHA-256 that tools use (RFC 7093 §2 method 4).
 * @param spki DER of a SubjectPublicKeyInfo. @throws {FormatError} if it is malformed
 */
export function keyIdsOf(spki: Bytes): readonly string[] {
  const reader = new DerReader(spki).enter(TAG.sequence);
  reader.expect(TAG.sequence);
  const bits = reader.bitString();
  const [ofKey, ofBits] = [keyIdOf(spki), sha256(bits)];
  return [
    ofKey,
    sha1(bits),
    ofBits.subarray(0, CUT_OCTETS),
    ofBits,
    ofKey.subarray(0, CUT_OCTETS),
  ].map(colonHex);
}
