/**
 * Which cross-signed certificates are sent with a leaf. They form one cross-chain: the active root
 * certified by a first retired root, that one by a second, and so on through every root that a
 * client may still have as its only root. Each name is in it once, since OpenSSL and BoringSSL take
 * the first issuer that fits and do not backtrack.
 * @module
 */

import { colonHex } from "../bytes.ts";
import type { CaState, RootEntry } from "../state.ts";
import type { Certificate } from "../x509/certificate.ts";
import { couldHaveIssued, sameAuthority } from "../x509/chain.ts";
import { wholeSecond } from "../x509/der.ts";
import { pruneAt } from "./root-removal.ts";
import type { Policy } from "./timing-and-limits.ts";

/**
 * The path from the issuer of leaves up to the root, without the root; empty if the root itself
 * signs leaves. It is the first part of the root's intermediates.
 */
export function issuerChainOf({
  certificate,
  intermediates,
  signingKeyId,
}: Pick<RootEntry, "certificate" | "intermediates" | "signingKeyId">): readonly Certificate[] {
  const { subjectKeyId } = certificate;
  if (
    intermediates.length === 0 ||
    (subjectKeyId !== null && colonHex(subjectKeyId) === signingKeyId)
  )
    return [];
  return intermediates.slice(
    0,
    intermediates.findIndex((issuer) => couldHaveIssued(certificate, issuer)) + 1,
  );
}

/** The cross-signed certificates of the active root, in path order: the rest of its intermediates. */
export function crossChainOf(root: RootEntry): readonly Certificate[] {
  return root.intermediates.slice(issuerChainOf(root).length);
}

/** The retired roots under each of which, as the only root of a client, a leaf signed now must verify. */
export function rootsToReach(roots: readonly RootEntry[], now: Date): RootEntry[] {
  return roots.filter(
    (root) => root.status === "retired" && !root.abandoned && root.certificate.notAfter > now,
  );
}

/** Until when a client may have a root as its only root: until it is pruned or expires. */
function neededUntil(root: RootEntry, policy: Policy): number {
  return Math.min(root.certificate.notAfter.getTime(), pruneAt(root, policy).getTime());
}

/**
 * When a cross-signed certificate expires that a root issues: one largest leaf life after that root
 * is pruned, since leaves signed before are sent with it for so long. If the root should have been
 * pruned by now, the life counts from now.
 */
export function crossSignedUntil(by: RootEntry, policy: Policy, now: Date): Date {
  return new Date(Math.max(pruneAt(by, policy).getTime(), now.getTime()) + by.leafTtlMaxMs);
}

/**
 * The earliest expiry of a cross-signed certificate that can be used: when the root that issued it
 * is not needed any more, and at least half a largest leaf life from now while that root is
 * published, however late it is pruned.
 */
function requiredUntil(by: RootEntry, policy: Policy, now: Date): number {
  return Math.max(
    neededUntil(by, policy),
    Math.min(by.certificate.notAfter.getTime(), now.getTime() + by.leafTtlMaxMs / 2),
  );
}

/**
 * Roots in the order of a cross-chain: those needed longest first. Then every certificate lasts as
 * long as any root after it is needed, and roots are pruned from the end.
 * @param old the previous cross-chain, which decides between roots that are needed equally long.
 */
export function neededLongestFirst(
  targets: readonly RootEntry[],
  old: readonly Certificate[],
  policy: Policy,
): RootEntry[] {
  // The root that was active until now issued nothing in its own cross-chain: -1, the first.
  const place = (root: RootEntry) =>
    old.findIndex((certificate) => couldHaveIssued(root.certificate, certificate));
  return targets.toSorted(
    (a, b) => neededUntil(b, policy) - neededUntil(a, policy) || place(a) - place(b),
  );
}

/**
 * An existing certificate for one step of a cross-chain.
 * @param end the last root of the chain so far, to be certified.
 * @param by the next root.
 * @param active the root that signs leaves: no step needs to outlast it.
 * @returns undefined if there is none that lives long enough.
 */
export function findCrossSigned(
  pool: readonly Certificate[],
  end: Certificate,
  by: RootEntry,
  active: Certificate,
  { now, policy }: { readonly now: Date; readonly policy: Policy },
): Certificate | undefined {
  // Certificates expire at a whole second.
  const required = Math.min(
    requiredUntil(by, policy, now),
    active.notAfter.getTime(),
    end.notAfter.getTime(),
  );
  const until = wholeSecond(new Date(required)).getTime();
  // The one that expires first: anyone who steals the key of the certified root is trusted through it
  // until then.
  return pool
    .filter(
      (certificate) =>
        sameAuthority(certificate, end) &&
        couldHaveIssued(by.certificate, certificate) &&
        certificate.notBefore <= now &&
        certificate.notAfter > now &&
        certificate.notAfter.getTime() >= until,
    )
    .toSorted((a, b) => a.notAfter.getTime() - b.notAfter.getTime())[0];
}

/** The certificates of a cross-chain from one root, its start, to the next one, its target. */
interface Segment {
  readonly target: RootEntry;
  readonly start: Certificate;
  readonly certificates: readonly Certificate[];
}

/** The active root's cross-chain, by the roots that it leads to. */
export function segmentsOf(active: RootEntry, targets: readonly RootEntry[]): Segment[] {
  const segments: Segment[] = [];
  let start = active.certificate;
  let certificates: Certificate[] = [];
  for (const certificate of crossChainOf(active)) {
    certificates.push(certificate);
    const target = targets.find((root) => couldHaveIssued(root.certificate, certificate));
    if (target === undefined) continue;
    segments.push({ target, start, certificates });
    [start, certificates] = [target.certificate, []];
  }
  return segments;
}

/**
 * Whether a cross-signed certificate of the active root has to be made: it is missing, or the root
 * that issued it is needed for longer than it lives, and that root still has its key.
 * @param now roots that have expired by then need none.
 */
export function needsCrossSigning(
  { roots, provider }: CaState,
  policy: Policy,
  now: Date,
): boolean {
  const active = roots.find(({ status }) => status === "active");
  // Nothing verifies under an expired root, whatever certifies it.
  if (active === undefined || active.certificate.notAfter <= now) return false;
  const targets = rootsToReach(roots, now);
  const segments = segmentsOf(active, targets);
  const able = ({ id }: RootEntry) => provider.retired[id] !== undefined;
  const isReached = ({ id, certificate }: RootEntry) =>
    segments.some(({ target }) => target.id === id) ||
    [active, ...targets].some(
      (other) => other.id !== id && sameAuthority(other.certificate, certificate),
    );
  if (targets.some((target) => able(target) && !isReached(target))) return true;
  return segments.some(({ target, start, certificates: [first, ...above] }) => {
    // A cross-signed certificate expires no later than the certificates on both sides of it.
    const end = Math.min(
      neededUntil(target, policy),
      ...[start, ...above].map(({ notAfter }) => notAfter.getTime()),
    );
    return first !== undefined && first.notAfter < wholeSecond(new Date(end)) && able(target);
  });
}

/**
 * The part of a cross-chain that is still useful: up to the last root that is still needed, and up to
 * the first expired certificate.
 */
export function stillUsefulPrefix(
  chain: readonly Certificate[],
  targets: readonly RootEntry[],
  now: Date,
): readonly Certificate[] {
  const expired = chain.findIndex((certificate) => certificate.notAfter <= now);
  const whole = expired < 0 ? chain : chain.slice(0, expired);
  const last = whole.findLastIndex((certificate) =>
    targets.some((target) => couldHaveIssued(target.certificate, certificate)),
  );
  return whole.slice(0, last + 1);
}

/** Every certificate of a state that may be used in a new cross-chain, without duplicates. */
export function candidatePool(roots: readonly RootEntry[]): Certificate[] {
  return [
    ...new Map(
      roots
        .flatMap((root) => root.intermediates)
        .map((certificate) => [certificate.id, certificate]),
    ).values(),
  ];
}

/** The certificates that certify a root's own name and key. */
export function crossSignedOf(root: RootEntry): Certificate[] {
  return root.intermediates.filter((certificate) => sameAuthority(certificate, root.certificate));
}
