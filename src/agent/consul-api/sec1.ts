/**
 * A private key in the form of Consul's leaves: `EC PRIVATE KEY` (SEC 1, RFC 5915).
 * @module
 */
import type { Bytes } from "../../core/bytes.ts";
import { FormatError } from "../../core/errors.ts";
import { writePem } from "../../core/pem.ts";
import {
  contextConstructed,
  DerReader,
  element,
  encode,
  octetString,
  oid,
  oidContent,
  sequence,
  TAG,
} from "../../core/x509/der.ts";
import { OID, readOid } from "../../core/x509/oids.ts";

const VERSION_1 = element(TAG.integer, Uint8Array.of(1));

/**
 * Converts an EC key. A PrivateKeyInfo names the curve outside of the ECPrivateKey (RFC 5208 §5),
 * which names it itself where it stands by itself, as Go writes it.
 * @param pkcs8 DER of a PrivateKeyInfo.
 * @returns PEM: `EC PRIVATE KEY` of an EC key, `PRIVATE KEY` (as Go's) of any other kind.
 * @throws {FormatError}
 */
export function consulKeyPem(pkcs8: Bytes): string {
  const info = new DerReader(pkcs8).enter(TAG.sequence);
  info.small();
  const algorithm = info.enter(TAG.sequence);
  if (readOid(algorithm) !== "ecPublicKey") return writePem("PRIVATE KEY", pkcs8);
  const curve = readOid(algorithm);
  if (curve !== "p256" && curve !== "p384" && curve !== "p521")
    throw new FormatError("EC private key is on an unknown curve");
  info.expect(TAG.octetString);
  const key = new DerReader(info.content()).enter(TAG.sequence);
  key.small();
  key.expect(TAG.octetString);
  const scalar = key.content();
  key.optional(contextConstructed(0));
  const publicKey = key.optional(contextConstructed(1)) ? [key.element()] : [];
  const sec1 = sequence(
    VERSION_1,
    octetString(scalar),
    element(contextConstructed(0), oid(oidContent(OID[curve]))),
    ...publicKey,
  );
  return writePem("EC PRIVATE KEY", encode(sec1));
}
