/**
 * Certificates and private keys as the runtime reads them: those that no CA of a mesh takes have to be
 * explained too, and a key has to be compared with its certificate.
 * @module
 */
import { createPublicKey, X509Certificate } from "node:crypto";
import type { Bytes } from "../../core/bytes.ts";

/**
 * The fields of a certificate that this program's own reader refuses, by their names as inspect shows
 * them; none if the runtime cannot read it either. @param der its octets
 */
export function foreignFields(der: Uint8Array): Readonly<Record<string, string>> {
  try {
    const { subject, issuer, subjectAltName, validFrom, validTo } = new X509Certificate(der);
    return {
      subject: oneLine(subject),
      names: subjectAltName ?? "none",
      issuer: oneLine(issuer),
      "valid from": new Date(validFrom).toISOString(),
      "valid until": new Date(validTo).toISOString(),
    };
  } catch {
    return {};
  }
}

/** A name of the runtime has a line for each attribute, and is null without one. */
const oneLine = (name: string | undefined): string =>
  name === undefined || name === ""
    ? "without a name"
    : JSON.stringify(name.replaceAll("\n", ", "));

/** The SPKI of the public key of a private key in PEM; null if it is encrypted or of no known form. */
export function publicKeyOf(pem: string): Bytes | null {
  try {
    return new Uint8Array(createPublicKey(pem).export({ type: "spki", format: "der" }));
  } catch {
    return null;
  }
}
