/**
 * Whether a certificate is a leaf of ours that is still good: it lets its holder renew it, and
 * counts as a client certificate of this CA.
 * @module
 */
import { equal } from "../bytes.ts";
import { DeniedError } from "../errors.ts";
import type { CaState, LeafIssuer } from "../state.ts";
import { type Certificate, inForce } from "../x509/certificate.ts";
import { couldHaveIssued, isSignedBy } from "../x509/chain.ts";
import { withoutEnded } from "./leaf-issuers.ts";

/**
 * Checks that a leaf was signed by an issuer that this cluster itself signed leaves with, under a
 * root that is published and not abandoned. The CA's own record of these issuers decides, and no
 * certificate that the leaf's holder sends along: neither a cross-signed certificate nor an
 * intermediate of somebody else leads to a root. Issuers are found by name and key identifier
 * first, so that one signature is verified, and none for a leaf that names no issuer of ours.
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

/** Whether a certificate is a leaf of ours, as `requireOwnLeaf` decides. */
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

/**
 * The recorded issuers whose name and key identifier a leaf has, while a leaf of them can be alive.
 */
function issuersFor(leaf: Certificate, { roots }: Pick<CaState, "roots">, now: Date): LeafIssuer[] {
  const { authorityKeyId } = leaf;
  // RFC 5280 §4.2.1.1 requires it, and every leaf that we sign has it.
  if (authorityKeyId === null) return [];
  // A leaf that ends later than any that the issuer signed for us was made by somebody else who has
  // its key now.
  const ends = ({ certificate, leavesUntil }: LeafIssuer) =>
    Math.min(certificate.notAfter.getTime(), leavesUntil?.getTime() ?? Infinity);
  return roots
    .filter((root) => !root.abandoned && inForce(root.certificate, now))
    .flatMap((root) => withoutEnded(root.leafIssuers, now))
    .filter((issuer) => {
      const { certificate } = issuer;
      if (!inForce(certificate, now) || leaf.notAfter.getTime() > ends(issuer)) return false;
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

/** What a proof that does not hold is told. */
export function denied(why: string): DeniedError {
  return new DeniedError("permission_denied", `Permission denied: cannot renew: ${why}`);
}
