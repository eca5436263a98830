/**
 * Reads a private key that an operator supplies: PKCS#8, SEC 1 or PKCS#1 in PEM. No message repeats
 * any of it.
 * @module
 */
import type { Bytes } from "../../src/core/bytes.ts";
import { FormatError } from "../../src/core/errors.ts";
import { noPemReason, readPem } from "../../src/core/pem.ts";
import type { CaKey } from "../../src/core/x509/authority.ts";
import {
  contextConstructed,
  DerError,
  DerReader,
  element,
  encode,
  octetString,
  oid,
  oidContent,
  sequence,
  TAG,
} from "../../src/core/x509/der.ts";
import { caHash, type EcBits, keyAlgorithm, readPublicKey } from "../../src/core/x509/keys.ts";
import { OID, type OidName, readOid } from "../../src/core/x509/oids.ts";

const CURVE_BITS: Readonly<Partial<Record<OidName, EcBits>>> = { p256: 256, p384: 384, p521: 521 };
const VERSION_0 = encode(element(TAG.integer, Uint8Array.of(0)));

/** A kind of key that an operator may supply; RSA with 3072 bits is never made here. */
type SuppliedKeySpec =
  | { readonly type: "ec"; readonly bits: EcBits }
  | { readonly type: "rsa"; readonly bits: 2048 | 3072 | 4096 };

/**
 * Reads a private key of a kind that a CA may have. Text around it is skipped (RFC 7468 §2), and so
 * is an EC PARAMETERS block, which `openssl ecparam -genkey` writes before it.
 * @returns the key, extractable, since it has yet to be sealed.
 * @throws {FormatError} in Consul's words if Consul has a text for the fault, never with the key
 */
export async function readPrivateKey(pem: string): Promise<CaKey> {
  const blocks = readPem(pem);
  const keys = blocks.filter(({ label }) => label !== "EC PARAMETERS");
  const [block, ...more] = keys;
  if (block === undefined)
    throw new FormatError(
      blocks.length === 0 ? noPemReason(pem) : "there is no private key, only EC PARAMETERS",
    );
  if (keys.some(({ hasHeaders, label }) => hasHeaders || label.includes("ENCRYPTED")))
    throw new FormatError(
      "private key is encrypted: decrypt it first, for example with openssl pkey",
    );
  if (more.length > 0)
    throw new FormatError(
      `private key must be exactly one PEM block, without certificates, not ${keys.map(({ label }) => label).join(" and ")}`,
    );
  try {
    const curve = curveOf(blocks.find(({ label }) => label === "EC PARAMETERS")?.bytes);
    const { pkcs8, spec } = toPkcs8(block.label, block.bytes, curve);
    const privateKey = await crypto.subtle.importKey(
      "pkcs8",
      pkcs8,
      keyAlgorithm(spec, caHash(spec)),
      true,
      ["sign"],
    );
    return { privateKey, info: readPublicKey(await publicHalf(privateKey, spec)) };
  } catch (error) {
    if (error instanceof FormatError && !(error instanceof DerError)) throw error;
    throw new FormatError("private key is not a valid format");
  }
}

/** The curve that an EC PARAMETERS block names (RFC 5480 §2.1.1). */
function curveOf(parameters: Bytes | undefined): EcBits | null {
  if (parameters === undefined) return null;
  return CURVE_BITS[readOid(new DerReader(parameters)) ?? "ecPublicKey"] ?? null;
}

async function publicHalf(privateKey: CryptoKey, spec: SuppliedKeySpec): Promise<Bytes> {
  const { kty, crv, x, y, n, e } = await crypto.subtle.exportKey("jwk", privateKey);
  const jwk = (spec.type === "ec" ? { kty, crv, x, y } : { kty, n, e }) as JsonWebKey;
  const key = await crypto.subtle.importKey("jwk", jwk, keyAlgorithm(spec, caHash(spec)), true, [
    "verify",
  ]);
  return new Uint8Array(await crypto.subtle.exportKey("spki", key));
}

function toPkcs8(
  label: string,
  der: Bytes,
  curveBefore: EcBits | null,
): { pkcs8: Bytes; spec: SuppliedKeySpec } {
  switch (label) {
    case "PRIVATE KEY":
      return { pkcs8: der, spec: readPkcs8(der) };
    case "EC PRIVATE KEY": {
      const bits = readSec1Curve(der, curveBefore);
      const curve = ({ 256: OID.p256, 384: OID.p384, 521: OID.p521 } as const)[bits];
      return {
        pkcs8: wrap(sequence(oid(oidContent(OID.ecPublicKey)), oid(oidContent(curve))), der),
        spec: { type: "ec", bits },
      };
    }
    case "RSA PRIVATE KEY":
      return {
        pkcs8: wrap(sequence(oid(oidContent(OID.rsaEncryption)), element(TAG.null)), der),
        spec: rsaSpec(der),
      };
    default:
      throw new FormatError(`unknown PEM block type for signing key: ${label}`);
  }
}

/** PrivateKeyInfo (RFC 5208 §5). */
function wrap(algorithm: ReturnType<typeof sequence>, der: Bytes): Bytes {
  return encode(sequence(VERSION_0, algorithm, octetString(der)));
}

function readPkcs8(der: Bytes): SuppliedKeySpec {
  const info = new DerReader(der).enter(TAG.sequence);
  info.small();
  const algorithm = info.enter(TAG.sequence);
  const name = readOid(algorithm);
  info.expect(TAG.octetString);
  if (name === "rsaEncryption") return rsaSpec(info.content());
  const bits =
    name === "ecPublicKey" && algorithm.peek() === TAG.oid
      ? CURVE_BITS[readOid(algorithm) ?? "ecPublicKey"]
      : undefined;
  if (bits === undefined) throw unsupported();
  return { type: "ec", bits };
}

/** ECPrivateKey (RFC 5915 §3), which must name its curve unless EC PARAMETERS before it did. */
function readSec1Curve(der: Bytes, curveBefore: EcBits | null): EcBits {
  const key = new DerReader(der).enter(TAG.sequence);
  key.small();
  key.expect(TAG.octetString);
  if (!key.optional(contextConstructed(0))) {
    if (curveBefore === null) throw new FormatError("EC private key does not name its curve");
    return curveBefore;
  }
  const parameters = key.inside();
  const bits =
    parameters.peek() === TAG.oid ? CURVE_BITS[readOid(parameters) ?? "ecPublicKey"] : undefined;
  if (bits === undefined) throw unsupported();
  return bits;
}

/** RSAPrivateKey (RFC 8017 appendix A.1.2): its second number is the modulus. */
function rsaSpec(der: Bytes): SuppliedKeySpec {
  const key = new DerReader(der).enter(TAG.sequence);
  key.small();
  const modulus = key.unsigned();
  const bits = modulus.length * 8 - Math.clz32(modulus[0] as number) + 24;
  if (bits !== 2048 && bits !== 3072 && bits !== 4096) throw unsupported();
  return { type: "rsa", bits };
}

function unsupported(): FormatError {
  return new FormatError(
    "private key must be EC on P-256, P-384 or P-521, or RSA of 2048, 3072 or 4096 bits",
  );
}
