/**
 * Why a leaf verifies under no root: the certificate of its path at which the search ended, and what is
 * wrong there.
 * @module
 */

import { refusedExtension } from "../../client/spiffe/path.ts";
import { timeFault } from "../../client/spiffe/verify-peer.ts";
import { equal } from "../../core/bytes.ts";
import { extensionFault } from "../../core/x509/ca-extensions.ts";
import {
  type Certificate,
  type CertificateExtension,
  inForce,
  KEY_USAGE,
} from "../../core/x509/certificate.ts";
import { isSignedBy, sameAuthority } from "../../core/x509/chain.ts";
import { pathConstraintFaults } from "../../core/x509/constraint-faults.ts";
import { extensionText } from "../../core/x509/oids.ts";
import { subjectText } from "./texts.ts";

/** Where a search ended. */
export interface Obstacle {
  /** Consul's ID of the certificate. */
  readonly id: string;
  /** `leaf`, or its place above the leaf, from 1. */
  readonly place: number;
  /** A sentence. */
  readonly reason: string;
}

/**
 * Explains a search without a result. Follows the signatures upwards, whatever is wrong with validity
 * and constraints, and names the first certificate at which something is.
 */
export async function explain(
  leaf: Certificate,
  intermediates: readonly Certificate[],
  roots: readonly Certificate[],
  now: Date,
): Promise<Obstacle> {
  const path = [leaf];
  const obstacle = (certificate: Certificate, reason: string): Obstacle => ({
    id: certificate.id,
    place: path.indexOf(certificate),
    reason,
  });
  for (;;) {
    const last = path.at(-1) as Certificate;
    const name = path.length === 1 ? "The leaf" : `The CA certificate ${subjectText(last.subject)}`;
    if (!inForce(last, now)) return obstacle(last, `${name} ${timeFault(last, now)}`);
    const refused = refusedExtension(last);
    if (refused !== null) return obstacle(last, `${name} ${refusalOf(refused)}`);
    const candidates = [...roots, ...intermediates].filter(
      (one) =>
        equal(one.subject, last.issuer) && !path.some((passed) => sameAuthority(passed, one)),
    );
    if (candidates.length === 0)
      return obstacle(
        last,
        `${name} was issued by ${subjectText(last.issuer)}, which is neither a trusted root nor in the chain`,
      );
    let issuer: Certificate | null = null;
    for (const one of candidates) if (await isSignedBy(last, one)) issuer ??= one;
    if (issuer === null)
      return obstacle(
        last,
        `${name} names the issuer ${subjectText(last.issuer)}, and was not signed by the key of ${candidates.length === 1 ? "that certificate" : "any of those certificates"}`,
      );
    const fault = issuerFault(issuer, path);
    path.push(issuer);
    if (fault !== null)
      return obstacle(issuer, `The CA certificate ${subjectText(issuer.subject)} ${fault}`);
    if (!roots.includes(issuer)) continue;
    if (!inForce(issuer, now))
      return obstacle(issuer, `The root ${subjectText(issuer.subject)} ${timeFault(issuer, now)}`);
    const refusedOfRoot = refusedExtension(issuer);
    if (refusedOfRoot !== null)
      return obstacle(
        issuer,
        `The root ${subjectText(issuer.subject)} ${refusalOf(refusedOfRoot)}`,
      );
    const [forbidden] = pathConstraintFaults(path, { dnsNames: [], ipAddresses: [] });
    return obstacle(
      issuer,
      forbidden === undefined
        ? `The path to the root ${subjectText(issuer.subject)} is longer than verifiers follow`
        : `The ${forbidden}`,
    );
  }
}

/** Why an extension is refused, as the predicate of a sentence about its certificate. */
function refusalOf(extension: CertificateExtension): string {
  const { oid, critical } = extension;
  const fault = extensionFault(extension);
  if (fault !== null) return `has the malformed extension ${extensionText(oid)}, which ${fault}`;
  return `has the${critical ? " critical" : ""} extension ${extensionText(oid)}, which verifiers cannot process`;
}

/** Why a certificate must not issue what it signed, as the predicate of a sentence, or null. */
function issuerFault(issuer: Certificate, path: readonly Certificate[]): string | null {
  const below = path.at(-1) as Certificate;
  if (!issuer.isCa) return "signed a certificate and is not one of a CA (basic constraints)";
  if (issuer.keyUsage !== null && (issuer.keyUsage & KEY_USAGE.keyCertSign) === 0)
    return "has no key usage that allows signing certificates";
  if (
    below.authorityKeyId !== null &&
    issuer.subjectKeyId !== null &&
    !equal(below.authorityKeyId, issuer.subjectKeyId)
  )
    return "has another key identifier than the certificate below names";
  const between = path.length - 1;
  return issuer.pathLength !== null && issuer.pathLength < between
    ? `allows ${issuer.pathLength} CA certificates below it, and there are ${between}`
    : null;
}
