/**
 * Which cross-signed certificates go with a leaf. They form one line: the active root certified by a first retired root,
 * that one by a second, and so on through every root that somebody may still trust alone. Each name stands in it once,
 * since OpenSSL and BoringSSL take the first issuer that fits and never come back to try another.
 * @module
 */
import { colonHex } from "../bytes.ts";
import type { Certificate } from "../x509/certificate.ts";
import { couldHaveIssued, sameAuthority } from "../x509/chain.ts";
import type { Policy } from "./policy.ts";
import type { RootEntry } from "./state.ts";

/** The path from what signs leaves under a root up to below it: what stands first among its certificates, unless it signs them itself. */
export function issuersOf({
  certificate,
  intermediates,
  signingKeyId,
}: Pick<RootEntry, "certificate" | "intermediates" | "signingKeyId">): readonly Certificate[] {
  const { subjectKeyId } = certificate;
  if (intermediates.length === 0 || (subjectKeyId !== null && colonHex(subjectKeyId) === signingKeyId)) return [];
  return intermediates.slice(0, intermediates.findIndex((issuer) => couldHaveIssued(certificate, issuer)) + 1);
}

/** The line of cross-signed certificates of the active root. */
export function lineOf(root: RootEntry): readonly Certificate[] {
  return root.intermediates.slice(issuersOf(root).length);
}

/** When a retired root is pruned: when no leaf that it signed can still be alive. */
export function pruneAt(root: RootEntry, policy: Policy): Date {
  const since = root.rotatedOutAt ?? root.since;
  return new Date(since.getTime() + policy.pruneFactor * root.leafTtlMaxMs);
}

/** For how long looks must have found that a root may be pruned, in milliseconds. */
export function confirmMs({ leafTtlMaxMs }: Pick<RootEntry, "leafTtlMaxMs">, policy: Policy): number {
  return policy.confirmShare * leafTtlMaxMs;
}

/** When a retired root will be gone, if its leader looks at the clock as usual: pruneAt, and what looks have to confirm. */
export function goneAt(root: RootEntry, policy: Policy): Date {
  return new Date(pruneAt(root, policy).getTime() + 1 + confirmMs(root, policy));
}

/** The longest of these spans: that of whatever belongs to no one root, in milliseconds. */
export function longestConfirmMs(roots: readonly RootEntry[], policy: Policy): number {
  return Math.max(0, ...roots.map((root) => confirmMs(root, policy)));
}

/** The retired roots under each of which, taken alone, a leaf signed now must verify. */
export function rootsToReach(roots: readonly RootEntry[], now: Date): RootEntry[] {
  return roots.filter((root) => root.status === "retired" && !root.forcedOut && root.certificate.notAfter > now);
}

/** Until when somebody may trust a root alone: until it is pruned or ends. */
function neededUntil(root: RootEntry, policy: Policy): number {
  return Math.min(root.certificate.notAfter.getTime(), pruneAt(root, policy).getTime());
}

/**
 * The order of the line: what is needed longest comes first. Then every certificate of the line lasts as long as any root
 * behind it is needed, and what is pruned first falls off the end.
 * @param old the line that was in use, whose order is kept where two are needed equally long.
 */
export function inOrderOfNeed(targets: readonly RootEntry[], old: readonly Certificate[], policy: Policy): RootEntry[] {
  // The root that signed until now issued nothing in its own line: -1, the first.
  const place = (root: RootEntry) => old.findIndex((certificate) => couldHaveIssued(root.certificate, certificate));
  return targets.toSorted((a, b) => neededUntil(b, policy) - neededUntil(a, policy) || place(a) - place(b));
}

/**
 * A certificate that there is already for one step of the line.
 * @param tip the root at the end of the line so far, to be certified.
 * @param by the next root.
 * @param active the root that signs leaves: no step needs to outlast it.
 */
export function findCrossing(
  tip: Certificate,
  by: RootEntry,
  pool: readonly Certificate[],
  active: Certificate,
  now: Date,
  policy: Policy,
): Certificate | undefined {
  const until = Math.min(neededUntil(by, policy), active.notAfter.getTime());
  return pool.find(
    (certificate) =>
      sameAuthority(certificate, tip) &&
      couldHaveIssued(by.certificate, certificate) &&
      certificate.notBefore <= now &&
      certificate.notAfter > now &&
      certificate.notAfter.getTime() >= until,
  );
}

/** The part of a line that is still of use: up to the last root that is still needed, and not past one that has ended. */
export function usefulPart(line: readonly Certificate[], targets: readonly RootEntry[], now: Date): readonly Certificate[] {
  const ended = line.findIndex((certificate) => certificate.notAfter <= now);
  const whole = ended < 0 ? line : line.slice(0, ended);
  const last = whole.findLastIndex((certificate) => targets.some((target) => couldHaveIssued(target.certificate, certificate)));
  return whole.slice(0, last + 1);
}

/** Every cross-signed certificate that a state knows, without duplicates. */
export function poolOf(roots: readonly RootEntry[]): Certificate[] {
  return [...new Map(roots.flatMap((root) => root.intermediates).map((certificate) => [certificate.id, certificate])).values()];
}

/** Those of a root's certificates that certify its own key. */
export function ownCrossings(root: RootEntry): Certificate[] {
  return root.intermediates.filter((certificate) => sameAuthority(certificate, root.certificate));
}
