/**
 * Whether a certificate is a valid leaf of this CA: its holder may renew it, and it counts as a client
 * certificate.
 * @module
 */
import { equal } from "../bytes.ts";
import { DeniedError } from "../errors.ts";
import type { CaState, LeafIssuer } from "../state.ts";
import { type Certificate, inForce } from "../x509/certificate.ts";
import { couldHaveIssued, isSignedBy, sameAuthority } from "../x509/chain.ts";
import { withoutEnded } from "./leaf-issuers.ts";

/**
 * Checks that a leaf was signed by a recorded issuer of this cluster, under a root that is published
 * and not abandoned; under one whose key was lost also, unless that key signed the leaf. Only the record decides; certificates that the leaf's holder sends along, such
 * as cross-signed ones or intermediates of other CAs, are not used. Issuers are found by name and key
 * identifier, so that at most one signature per key is verified.
 * @param now by this replica's clock.
 * @returns its SPIFFE ID.
 * @throws {DeniedError} `permission_denied`
 */
export async function requireOwnLeaf(
  leaf: Certificate,
  state: Pick<CaState, "roots">,
  now: Date,
): Promise<string> {
  if (leaf.isCa || leaf.uris.length !== 1) throw denied("the certificate is not a leaf");
  if (leaf.notAfter <= now) throw denied("the leaf has expired");
  if (leaf.notBefore > now) throw denied("the leaf is not valid yet");
  for (const { certificate } of issuersFor(leaf, state, now))
    if (await isSignedBy(leaf, certificate)) return leaf.uris[0] as string;
  throw denied(
    "the leaf is not of this CA: no issuer of a published root signed it, or its root was abandoned",
  );
}

/** Whether `requireOwnLeaf` accepts a certificate. */
export async function isOwnLeaf(
  leaf: Certificate,
  state: Pick<CaState, "roots">,
  now: Date,
): Promise<boolean> {
  try {
    await requireOwnLeaf(leaf, state, now);
    return true;
  } catch (error) {
    if (error instanceof DeniedError) return false;
    throw error;
  }
}

/** The recorded issuers with the name and key identifier of a leaf's issuer, while it can be valid. */
function issuersFor(leaf: Certificate, { roots }: Pick<CaState, "roots">, now: Date): LeafIssuer[] {
  const { authorityKeyId } = leaf;
  // RFC 5280 §4.2.1.1 requires it, and every leaf of this CA has it.
  if (authorityKeyId === null) return [];
  // A leaf that expires later than all that the issuer signed here was made by another holder of its
  // key.
  const latestExpiry = ({ certificate, leavesUntil }: LeafIssuer) =>
    Math.min(certificate.notAfter.getTime(), leavesUntil?.getTime() ?? Infinity);
  return roots
    .filter((root) => (!root.abandoned || root.lost === true) && inForce(root.certificate, now))
    .flatMap((root) =>
      withoutEnded(root.leafIssuers, now).filter(
        // Who has the key of a lost root now is unknown.
        ({ certificate }) => !root.abandoned || !sameAuthority(certificate, root.certificate),
      ),
    )
    .filter((issuer) => {
      const { certificate } = issuer;
      if (!inForce(certificate, now) || leaf.notAfter.getTime() > latestExpiry(issuer))
        return false;
      return (
        couldHaveIssued(certificate, leaf) &&
        certificate.subjectKeyId !== null &&
        equal(certificate.subjectKeyId, authorityKeyId)
      );
    })
    .filter(
      (issuer, i, all) =>
        all.findIndex(({ certificate }) =>
          equal(certificate.key.spki, issuer.certificate.key.spki),
        ) === i,
    );
}

/** @param why a clause that names its subject. */
export function denied(why: string): DeniedError {
  return new DeniedError("permission_denied", `Permission denied: cannot renew: ${why}`);
}
