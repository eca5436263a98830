/**
 * Whether a certificate is a leaf of ours that is still good, which lets its holder renew it.
 * @module
 */
import { DeniedError } from "../errors.ts";
import type { Certificate } from "../x509/certificate.ts";
import { findPath } from "../x509/chain.ts";
import type { CaState } from "./state.ts";

/**
 * Checks that a leaf was signed under a root that is published and was not left by force.
 * @param chain what its holder sent along, in order.
 * @returns its SPIFFE ID.
 * @throws {DeniedError} `permission_denied`
 */
export async function requireOwnLeaf(leaf: Certificate, chain: readonly Certificate[], state: CaState, now: Date): Promise<string> {
  if (leaf.isCa || leaf.uris.length !== 1) throw denied("the certificate is no leaf");
  if (leaf.notAfter <= now) throw denied("the leaf has expired");
  // Its issuer may be known under a cross-signed certificate that its holder does not have any more.
  const known = [...chain, ...state.roots.flatMap((root) => root.intermediates)];
  for (const root of state.roots)
    if (!root.forcedOut && (await findPath(leaf, known, root.certificate, now)) !== null) return leaf.uris[0] as string;
  throw denied("the leaf is not of this CA, or of a root that was left");
}

/** What a proof that does not hold is told. */
export function denied(why: string): DeniedError {
  return new DeniedError("permission_denied", `Permission denied: cannot renew: ${why}`);
}
