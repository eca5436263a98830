/**
 * Fields of certificates as text for a person.
 * @module
 */

import { timeFault } from "../../client/spiffe/verify-peer.ts";
import { type Bytes, equal, hex } from "../../core/bytes.ts";
import { readOrNull } from "../../core/errors.ts";
import { type Certificate, inForce } from "../../core/x509/certificate.ts";
import { nameText } from "../../core/x509/names.ts";
import { shortIp } from "../../net/ip.ts";

/** A Name in quotes; control characters are escaped. */
export function subjectText(name: Bytes): string {
  const text = readOrNull(() => nameText(name));
  return text === "" ? "without a name" : JSON.stringify(text ?? "a name that cannot be read");
}

/** All names of a leaf, as `--dns-name` and the SPIFFE ID are written. */
export function namesOf({
  uris,
  dnsNames,
  ipAddresses,
}: Pick<Certificate, "uris" | "dnsNames" | "ipAddresses">): string[] {
  return [...uris, ...dnsNames, ...ipAddresses.map(shortIp)];
}

/** What a certificate is in a mesh. */
export function kindOf(certificate: Certificate): string {
  if (!certificate.isCa) return certificate.uris.length > 0 ? "leaf" : "leaf without SPIFFE ID";
  return equal(certificate.issuer, certificate.subject) ? "root" : "intermediate or cross-signed";
}

export const serialText = (serial: Bytes): string => (hex(serial).match(/../g) ?? []).join(":");

/** Why a certificate is not in force now, as a predicate; null if it is. */
export function lifeFault(certificate: Certificate, now: Date): string | null {
  return inForce(certificate, now) ? null : timeFault(certificate, now);
}
