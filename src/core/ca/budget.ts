/**
 * How large the chain and the roots answer are, so that a change that would break a TLS stack is refused first.
 * @module
 */
import { type Certificate, pemOf } from "../x509/certificate.ts";
import type { RootEntry } from "./state.ts";

/** The largest leaf in PEM: RSA-4096 key and signature, and a URI of 1,024 octets; 3,220 characters, with some room. */
const LEAF_BYTES = 3584;

/** What a root's row takes in JSON beside its certificates: measured at 640 characters with 20-digit numbers. */
const ROW_BYTES = 720;

/** Octets of a leaf with what goes with it, in PEM. */
export function chainBytes(intermediates: readonly Certificate[]): number {
  return LEAF_BYTES + intermediates.reduce((sum, certificate) => sum + pemOf(certificate).length, 0);
}

/** Octets of the JSON roots answer, from above: each line end of PEM is two characters there, and indentation counts. */
export function rootsBytes(roots: readonly RootEntry[]): number {
  const jsonBytes = (pem: string) => pem.length + pem.split("\n").length + 24;
  return roots.reduce(
    (sum, root) =>
      sum +
      ROW_BYTES +
      jsonBytes(pemOf(root.certificate)) +
      root.intermediates.reduce((inner, certificate) => inner + jsonBytes(pemOf(certificate)), 0),
    256,
  );
}
