/**
 * Verifies a leaf against one root taken alone, the way a TLS peer that has fetched nothing else
 * would. Stricter than a peer, not laxer: it proves that what we are about to sign will be
 * accepted.
 * @module
 */
import { equal } from "../bytes.ts";
import { type Certificate, inForce, KEY_USAGE } from "./certificate.ts";
import { verifySignature } from "./keys.ts";

/**
 * Whether `issuer`'s names, key identifier, CA flag and usage let it have issued `subject`; the
 * signature is not looked at.
 */
export function couldHaveIssued(issuer: Certificate, subject: Certificate): boolean {
  if (!equal(issuer.subject, subject.issuer)) return false;
  if (!issuer.isCa || (issuer.keyUsage !== null && (issuer.keyUsage & KEY_USAGE.keyCertSign) === 0))
    return false;
  return (
    subject.authorityKeyId === null ||
    issuer.subjectKeyId === null ||
    equal(subject.authorityKeyId, issuer.subjectKeyId)
  );
}

/** Whether `issuer`'s key made `subject`'s signature. */
export function isSignedBy(subject: Certificate, issuer: Certificate): Promise<boolean> {
  return verifySignature(issuer.key, subject.scheme, subject.signature, subject.signed);
}

/** Whether two certificates are of the same authority: the same name and the same key. */
export function sameAuthority(a: Certificate, b: Certificate): boolean {
  return equal(a.subject, b.subject) && equal(a.key.spki, b.key.spki);
}

/**
 * Walks from a leaf to a root as OpenSSL and BoringSSL do: the trusted root where it fits, else the
 * first certificate in order that fits, and never back to try another. Where this finds a path,
 * verifiers that do come back find one too.
 * @param intermediates what the leaf's holder sends along, in order.
 * @param at the instant at which every certificate of the path must be in force.
 * @returns the path, leaf first, root last, or null where the walk ends elsewhere.
 */
export async function findPath(
  leaf: Certificate,
  intermediates: readonly Certificate[],
  root: Certificate,
  at: Date,
): Promise<readonly Certificate[] | null> {
  if (!inForce(leaf, at) || !inForce(root, at)) return null;
  const usable = intermediates.filter((certificate) => inForce(certificate, at));
  const path = [leaf];
  for (;;) {
    const last = path.at(-1) as Certificate;
    const trusted = couldHaveIssued(root, last);
    // No authority twice, through whichever of its certificates.
    const issuer = trusted
      ? root
      : usable.find(
          (candidate) =>
            couldHaveIssued(candidate, last) &&
            !path.some((passed) => sameAuthority(passed, candidate)),
        );
    // RFC 5280 §4.2.1.9: pathLenConstraint counts the intermediates below; self-issued ones are not
    // left out here.
    if (issuer === undefined || (issuer.pathLength !== null && issuer.pathLength < path.length - 1))
      return null;
    if (!(await isSignedBy(last, issuer))) return null;
    path.push(issuer);
    if (trusted) return path;
  }
}
