/**
 * Verifies a leaf against one root taken alone, the way a TLS peer that has fetched nothing else would.
 * Stricter than a peer, not laxer: it proves that what we are about to sign will be accepted.
 * @module
 */
import { equal } from "../bytes.ts";
import { type Certificate, inForce, KEY_USAGE } from "./certificate.ts";
import { verifySignature } from "./keys.ts";

/** Whether `issuer`'s names, key identifier, CA flag and usage let it have issued `subject`; the signature is not looked at. */
export function couldHaveIssued(issuer: Certificate, subject: Certificate): boolean {
  if (!equal(issuer.subject, subject.issuer)) return false;
  if (!issuer.isCa || (issuer.keyUsage !== null && (issuer.keyUsage & KEY_USAGE.keyCertSign) === 0)) return false;
  return subject.authorityKeyId === null || issuer.subjectKeyId === null || equal(subject.authorityKeyId, issuer.subjectKeyId);
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
 * Finds a path from a leaf to a root.
 * @param intermediates what the leaf's holder sends along.
 * @param at the instant at which every certificate of the path must be in force.
 * @returns the path, leaf first, root last, or null where there is none.
 */
export async function findPath(
  leaf: Certificate,
  intermediates: readonly Certificate[],
  root: Certificate,
  at: Date,
): Promise<readonly Certificate[] | null> {
  if (!inForce(leaf, at) || !inForce(root, at)) return null;
  const usable = intermediates.filter((certificate) => inForce(certificate, at));
  const walk = async (path: readonly Certificate[]): Promise<readonly Certificate[] | null> => {
    const last = path.at(-1) as Certificate;
    // RFC 5280 §4.2.1.9: pathLenConstraint counts the intermediates below; self-issued ones are not left out here.
    const below = path.length - 1;
    const fits = (issuer: Certificate) => couldHaveIssued(issuer, last) && (issuer.pathLength === null || issuer.pathLength >= below);
    if (fits(root) && (await isSignedBy(last, root))) return [...path, root];
    for (const issuer of usable) {
      // No authority twice, through whichever of its certificates.
      if (path.some((passed) => sameAuthority(passed, issuer)) || !fits(issuer) || !(await isSignedBy(last, issuer))) continue;
      const found = await walk([...path, issuer]);
      if (found !== null) return found;
    }
    return null;
  };
  return walk([leaf]);
}
