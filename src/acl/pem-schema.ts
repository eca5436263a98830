/**
 * Schemas of fields in PEM: certificates, and public keys.
 * @module
 */
import * as v from "valibot";
import type { Bytes } from "../core/bytes.ts";
import { readOrNull } from "../core/errors.ts";
import { isOnePem, readPem } from "../core/pem.ts";
import { DerReader, TAG } from "../core/x509/der.ts";

/** An auth method shows its keys to everyone who reads it: a private key must not become one. */
export const publicKey = v.pipe(
  v.string(),
  v.check(isPublicPem, "must be a public key or a certificate in PEM, and nothing else"),
);

export const certificates = v.optional(
  v.pipe(v.string(), v.check(isCertificates, "must be certificates in PEM, and nothing else")),
  "",
);

function isCertificates(text: string): boolean {
  if (text === "") return true;
  const blocks = readOrNull(() => {
    const read = readPem(text);
    for (const { bytes } of read) requireCertificateForm(bytes);
    return read;
  });
  return !!blocks?.length && blocks.every(({ label }) => label === "CERTIFICATE");
}

/** Checks the outer form (RFC 5280 §4.1): TBSCertificate, algorithm, signature. @throws {FormatError} */
function requireCertificateForm(der: Bytes): void {
  const certificate = new DerReader(der).enterLast(TAG.sequence);
  certificate.expect(TAG.sequence);
  certificate.expect(TAG.sequence);
  certificate.bitString();
  certificate.finish();
}

function isPublicPem(text: string): boolean {
  const blocks = isOnePem(text) ? readOrNull(() => readPem(text)) : null;
  return blocks?.every(({ label }) => label === "PUBLIC KEY" || label === "CERTIFICATE") ?? false;
}
