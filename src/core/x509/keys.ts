/**
 * Public keys and signature algorithms: what is accepted, how each is written in DER, and what WebCrypto calls it.
 * @module
 */
import { type Bytes, equal } from "../bytes.ts";
import { FormatError } from "../errors.ts";
import { type DerNode, DerReader, element, encode, oid, oidContent, sequence, TAG, unsignedInteger } from "./der.ts";
import { OID, type OidName, oidName } from "./oids.ts";

export type KeyType = "ec" | "rsa" | "ed25519";
export type EcBits = 256 | 384 | 521;
export type RsaBits = 2048 | 3072 | 4096;

/** What kind of key a CA signs with. */
export type CaKeySpec = { readonly type: "ec"; readonly bits: EcBits } | { readonly type: "rsa"; readonly bits: 2048 | 4096 };

/** A public key that was found to be of an accepted kind. */
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
/** e = 65537, the one exponent accepted: any other is either weak or slow to verify (x509-and-threats.md §2). */
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

/** The scheme of an AlgorithmIdentifier, which must match to the byte. @throws {FormatError} for any other. */
export function schemeOf(identifier: Bytes): SignatureScheme {
  const found = Object.values(SCHEMES).find((known) => equal(known.identifier, identifier));
  if (found === undefined)
    throw new FormatError("signature algorithm is not one of ECDSA or RSA PKCS#1 with SHA-256, SHA-384 or SHA-512, or Ed25519");
  return found;
}

/**
 * Reads a SubjectPublicKeyInfo and checks that its key is of an accepted kind: EC P-256, P-384, P-521 with an
 * uncompressed point, RSA 2048, 3072, 4096 with e = 65537, or Ed25519. Whether the point lies on its curve is checked
 * when the key is imported.
 * @throws {FormatError} saying what the key is and what is accepted.
 */
export function readPublicKey(spki: Bytes): PublicKeyInfo {
  const outer = new DerReader(spki);
  const info = outer.enter(TAG.sequence);
  outer.finish();
  const algorithm = info.enter(TAG.sequence);
  const name = oidName(algorithm.oid());
  if (name === "ecPublicKey") {
    if (algorithm.peek() !== TAG.oid) throw new FormatError("EC key must name its curve");
    const curve = CURVES[oidName(algorithm.oid()) ?? ""];
    algorithm.finish();
    const point = info.bitString();
    info.finish();
    if (curve === undefined) throw new FormatError("EC key must be on P-256, P-384 or P-521");
    if (point.length !== curve.point || point[0] !== 4) throw new FormatError("EC key must be an uncompressed point");
    return { type: "ec", bits: curve.bits, spki };
  }
  if (name === "rsaEncryption") {
    algorithm.expect(TAG.null);
    if (algorithm.contentEnd !== algorithm.contentStart) throw new FormatError("DER NULL is not empty");
    algorithm.finish();
    const outerKey = new DerReader(info.bitString());
    info.finish();
    const key = outerKey.enter(TAG.sequence);
    outerKey.finish();
    const modulus = key.unsigned();
    const exponent = key.unsigned();
    key.finish();
    const bits = modulus.length * 8 - Math.clz32(modulus[0] as number) + 24;
    if (!RSA_BITS.includes(bits)) throw new FormatError(`RSA key must have 2048, 3072 or 4096 bits, this one has ${bits}`);
    if (!equal(exponent, RSA_EXPONENT)) throw new FormatError("RSA key must have the public exponent 65537");
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

/** What WebCrypto needs to import or make a key that signs or verifies with this scheme's hash. */
export function keyAlgorithm(
  key: { type: KeyType; bits: number },
  hash: HashName | null,
): EcKeyImportParams | RsaHashedImportParams | Algorithm {
  if (key.type === "ec") return { name: "ECDSA", namedCurve: `P-${key.bits}` };
  if (key.type === "rsa") return { name: "RSASSA-PKCS1-v1_5", hash: hash ?? "SHA-256" };
  return { name: "Ed25519" };
}

/** The hash whose strength fits a CA key: SHA-256, but SHA-384 and SHA-512 for P-384 and P-521 (RFC 5480 §4). */
export function caHash(key: { type: KeyType; bits: number }): HashName {
  return key.type === "ec" && key.bits === 521 ? "SHA-512" : key.type === "ec" && key.bits === 384 ? "SHA-384" : "SHA-256";
}

/** The scheme by which a CA key signs with `hash`. */
export function caScheme(key: { type: KeyType }, hash: HashName): SignatureScheme {
  const found = Object.values(SCHEMES).find((candidate) => candidate.type === key.type && candidate.hash === hash);
  if (found === undefined) throw new RangeError(`No signature scheme for a ${key.type} key with ${hash}`);
  return found;
}

/** Octets of each half of an ECDSA signature in WebCrypto's form (IEEE P1363). */
export function ecdsaHalf(bits: number): number {
  return Math.ceil(bits / 8);
}

/**
 * Turns an ECDSA signature from DER (RFC 3279 §2.2.3) into WebCrypto's form, r and s of fixed length.
 * @throws {FormatError} when it is not DER, or r or s do not fit the curve.
 */
export function ecdsaFromDer(signature: Bytes, bits: number): Bytes {
  const half = ecdsaHalf(bits);
  const outer = new DerReader(signature);
  const values = outer.enter(TAG.sequence);
  outer.finish();
  const r = values.unsigned();
  const s = values.unsigned();
  values.finish();
  if (r.length > half || s.length > half) throw new FormatError("ECDSA signature does not fit its curve");
  const out = new Uint8Array(2 * half);
  out.set(r, half - r.length);
  out.set(s, 2 * half - s.length);
  return out;
}

/** Turns an ECDSA signature from WebCrypto's form into DER. */
export function ecdsaToDer(signature: Bytes): Bytes {
  const half = signature.length / 2;
  return encode(sequence(unsignedInteger(signature.subarray(0, half)), unsignedInteger(signature.subarray(half))));
}

/**
 * Verifies a signature with a key that was read before.
 * @returns false for a wrong signature and for a key that is no point of its curve.
 * @throws {FormatError} when an ECDSA signature is not DER or the scheme is not one of the key's type.
 */
export async function verifySignature(key: PublicKeyInfo, method: SignatureScheme, signature: Bytes, data: Bytes): Promise<boolean> {
  if (method.type !== key.type) throw new FormatError(`signature algorithm does not fit the ${key.type} key`);
  const raw = key.type === "ec" ? ecdsaFromDer(signature, key.bits) : signature;
  let imported: CryptoKey;
  try {
    imported = await crypto.subtle.importKey("spki", key.spki, keyAlgorithm(key, method.hash), false, ["verify"]);
  } catch {
    return false;
  }
  return crypto.subtle.verify(method.params, imported, raw, data);
}

/** Signs and returns the signature as certificates carry it. `key` must fit `method`. */
export async function sign(key: CryptoKey, method: SignatureScheme, data: Bytes): Promise<Bytes> {
  const signature = new Uint8Array(await crypto.subtle.sign(method.params, key, data));
  return method.type === "ec" ? ecdsaToDer(signature) : signature;
}
