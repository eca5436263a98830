/**
 * The identifiers by which one public key is known.
 * @module
 */
import { type Bytes, colonHex } from "../bytes.ts";
import { keyIdOf } from "./certificate.ts";
import { DerReader, TAG } from "./der.ts";
import { sha1, sha256 } from "./digest.ts";

/** 160 bits (RFC 7093 §2). */
const CUT_OCTETS = 20;

/**
 * Every key identifier that a certificate of a key may carry, in colon hex: SHA-256 of the whole
 * SubjectPublicKeyInfo (Consul's, and this CA's), SHA-1 of the key's bits (RFC 5280 §4.2.1.2 method
 * 1; Vault's), SHA-256 of the bits cut to 160 (RFC 7093 §2 method 1; Go since 1.25), and what tools
 * make of the two SHA-256 otherwise (RFC 7093 §2 method 4).
 * @param spki DER of a SubjectPublicKeyInfo that was read before. @throws {FormatError} if it is
 * none
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
