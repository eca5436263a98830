/**
 * How long and how large the chain and the roots answer are, so that a change that would break a TLS stack is refused first.
 * @module
 */
import { type Certificate, pemOf } from "../x509/certificate.ts";
import type { Policy } from "./policy.ts";
import { activeRoot, type CaState, type RootEntry } from "./state.ts";

/** The largest leaf in PEM: RSA-4096 key and signature, and a URI of 1,024 octets; 3,220 characters, with some room. */
const LEAF_BYTES = 3584;

/** What a root's row takes in JSON beside its certificates: measured at 640 characters with 20-digit numbers. */
const ROW_BYTES = 720;

/**
 * Certificates of a leaf with what goes with it; the root is not counted.
 * @param below certificates that may stand between the issuer and a leaf: one while an intermediate is alive that was signed
 * for another datacenter. @default 0
 */
export function chainLength(intermediates: readonly Certificate[], below = 0): number {
  return 1 + below + intermediates.length;
}

/** Whether a leaf's chain keeps its bounds. */
export function chainFits(intermediates: readonly Certificate[], policy: Policy): boolean {
  return chainLength(intermediates) <= policy.maxChainLength && chainBytes(intermediates) <= policy.maxChainBytes;
}

/** What of a state is larger than TLS clients take, for an operator; null if nothing is. */
export function excessOf(state: CaState, policy: Policy): string | null {
  const { intermediates } = activeRoot(state);
  const above = (what: string, found: number, bound: number, unit: string) =>
    found > bound ? `${what} would have ${found} ${unit}, and at most ${bound} are allowed` : null;
  return (
    above("the chain of a leaf", chainLength(intermediates), policy.maxChainLength, "certificates") ??
    above("the chain of a leaf", chainBytes(intermediates), policy.maxChainBytes, "octets") ??
    above("the roots listing", rootsBytes(state.roots), policy.maxRootsBytes, "octets")
  );
}

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
