/**
 * Verifies a leaf against a single root, as a TLS peer with only that root does. It is stricter than
 * TLS libraries, so a chain that it accepts is accepted by all of them.
 * @module
 */
import { equal } from "../bytes.ts";
import { type Certificate, inForce, KEY_USAGE } from "./certificate.ts";
import { verifySignature } from "./keys.ts";

/**
 * Whether name, key identifier, CA flag and key usage of `issuer` fit those of a certificate that it
 * issued; the signature is not verified.
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
 * Finds the path from a leaf to a root as OpenSSL and BoringSSL do: the trusted root if it fits, else
 * the first certificate that fits, without backtracking. Verifiers that backtrack find a path too.
 * @param intermediates the certificates sent with the leaf, in order.
 * @param at the instant at which every certificate of the path must be in force.
 * @returns the path, leaf first, root last, or null if there is none.
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
    // No authority twice, by any of its certificates.
    const issuer = trusted
      ? root
      : usable.find(
          (candidate) =>
            couldHaveIssued(candidate, last) &&
            !path.some((passed) => sameAuthority(passed, candidate)),
        );
    // RFC 5280 §4.2.1.9: pathLenConstraint counts the intermediates below; here self-issued ones count
    // too.
    if (issuer === undefined || (issuer.pathLength !== null && issuer.pathLength < path.length - 1))
      return null;
    if (!(await isSignedBy(last, issuer))) return null;
    path.push(issuer);
    if (trusted) return path;
  }
}
