/**
 * Which cross-signed certificates go with a leaf. They form one line: the active root certified by
 * a first retired root, that one by a second, and so on through every root that somebody may still
 * trust alone. Each name stands in it once, since OpenSSL and BoringSSL take the first issuer that
 * fits and never come back to try another.
 * @module
 */
import { colonHex } from "../bytes.ts";
import type { CaState, RootEntry } from "../state.ts";
import type { Certificate } from "../x509/certificate.ts";
import { couldHaveIssued, sameAuthority } from "../x509/chain.ts";
import { wholeSecond } from "../x509/der.ts";
import type { Policy } from "./policy.ts";

/**
 * The path from what signs leaves under a root up to below it: what stands first among its
 * certificates, unless it signs them itself.
 */
export function issuersOf({
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
export function confirmMs(
  { leafTtlMaxMs }: Pick<RootEntry, "leafTtlMaxMs">,
  policy: Policy,
): number {
  return policy.confirmShare * leafTtlMaxMs;
}

/**
 * When a retired root will be gone, if its leader looks at the clock as usual: pruneAt, and what
 * looks have to confirm.
 */
export function goneAt(root: RootEntry, policy: Policy): Date {
  return new Date(pruneAt(root, policy).getTime() + 1 + confirmMs(root, policy));
}

/** The longest of these spans: that of whatever belongs to no one root, in milliseconds. */
export function longestConfirmMs(roots: readonly RootEntry[], policy: Policy): number {
  return Math.max(0, ...roots.map((root) => confirmMs(root, policy)));
}

/** The retired roots under each of which, taken alone, a leaf signed now must verify. */
export function rootsToReach(roots: readonly RootEntry[], now: Date): RootEntry[] {
  return roots.filter(
    (root) => root.status === "retired" && !root.forcedOut && root.certificate.notAfter > now,
  );
}

/** Until when somebody may trust a root alone: until it is pruned or ends. */
function neededUntil(root: RootEntry, policy: Policy): number {
  return Math.min(root.certificate.notAfter.getTime(), pruneAt(root, policy).getTime());
}

/**
 * Until when a cross-signed certificate lives that a root issues: until that root is pruned, plus
 * one largest leaf life, in which what was signed before still carries it. A root that should have
 * been pruned by now counts from now.
 */
export function crossedUntil(by: RootEntry, policy: Policy, now: Date): Date {
  return new Date(Math.max(pruneAt(by, policy).getTime(), now.getTime()) + by.leafTtlMaxMs);
}

/**
 * How long a cross-signed certificate must live at least to be used: until the root that issued it
 * is not needed any more, and half a largest leaf life from now for as long as that root is
 * published, however late it is pruned.
 */
function requiredUntil(by: RootEntry, policy: Policy, now: Date): number {
  return Math.max(
    neededUntil(by, policy),
    Math.min(by.certificate.notAfter.getTime(), now.getTime() + by.leafTtlMaxMs / 2),
  );
}

/**
 * The order of the line: what is needed longest comes first. Then every certificate of the line
 * lasts as long as any root behind it is needed, and what is pruned first falls off the end.
 * @param old the line that was in use, whose order is kept where two are needed equally long.
 */
export function inOrderOfNeed(
  targets: readonly RootEntry[],
  old: readonly Certificate[],
  policy: Policy,
): RootEntry[] {
  // The root that signed until now issued nothing in its own line: -1, the first.
  const place = (root: RootEntry) =>
    old.findIndex((certificate) => couldHaveIssued(root.certificate, certificate));
  return targets.toSorted(
    (a, b) => neededUntil(b, policy) - neededUntil(a, policy) || place(a) - place(b),
  );
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
  // To the whole second, as a certificate ends.
  const required = Math.min(
    requiredUntil(by, policy, now),
    active.notAfter.getTime(),
    tip.notAfter.getTime(),
  );
  const until = wholeSecond(new Date(required)).getTime();
  // Of several that do, the one that ends first: anyone who steals the certified root's key is
  // trusted through it until then.
  return pool
    .filter(
      (certificate) =>
        sameAuthority(certificate, tip) &&
        couldHaveIssued(by.certificate, certificate) &&
        certificate.notBefore <= now &&
        certificate.notAfter > now &&
        certificate.notAfter.getTime() >= until,
    )
    .toSorted((a, b) => a.notAfter.getTime() - b.notAfter.getTime())[0];
}

/** One root that the line leads to, and the certificates that lead there from the one before. */
export interface Reached {
  readonly target: RootEntry;
  readonly tip: Certificate;
  readonly segment: readonly Certificate[];
}

/** The parts of the active root's line. */
export function reachedBy(active: RootEntry, targets: readonly RootEntry[]): Reached[] {
  const reached: Reached[] = [];
  let tip = active.certificate;
  let segment: Certificate[] = [];
  for (const certificate of lineOf(active)) {
    segment.push(certificate);
    const target = targets.find((root) => couldHaveIssued(root.certificate, certificate));
    if (target === undefined) continue;
    reached.push({ target, tip, segment });
    [tip, segment] = [target.certificate, []];
  }
  return reached;
}

/**
 * Whether a cross-signed certificate of the active root's line has to be made again: it is missing,
 * or the root that issued it is needed for longer than it lives. A root whose key is gone issues
 * nothing any more.
 * @param now roots that have ended by then need none.
 */
export function crossesAgain({ roots, provider }: CaState, policy: Policy, now: Date): boolean {
  const active = roots.find(({ status }) => status === "active");
  // Under a root that has ended nothing verifies, whatever it is certified by.
  if (active === undefined || active.certificate.notAfter <= now) return false;
  const targets = rootsToReach(roots, now);
  const reached = reachedBy(active, targets);
  const able = ({ id }: RootEntry) => provider.retired[id] !== undefined;
  const isReached = ({ id, certificate }: RootEntry) =>
    reached.some(({ target }) => target.id === id) ||
    [active, ...targets].some(
      (other) => other.id !== id && sameAuthority(other.certificate, certificate),
    );
  if (targets.some((target) => able(target) && !isReached(target))) return true;
  return reached.some(({ target, tip, segment: [crossed, ...above] }) => {
    // It cannot outlive what stands on either side of it.
    const end = Math.min(
      neededUntil(target, policy),
      ...[tip, ...above].map(({ notAfter }) => notAfter.getTime()),
    );
    return crossed !== undefined && crossed.notAfter < wholeSecond(new Date(end)) && able(target);
  });
}

/**
 * The part of a line that is still of use: up to the last root that is still needed, and not past
 * one that has ended.
 */
export function usefulPart(
  line: readonly Certificate[],
  targets: readonly RootEntry[],
  now: Date,
): readonly Certificate[] {
  const ended = line.findIndex((certificate) => certificate.notAfter <= now);
  const whole = ended < 0 ? line : line.slice(0, ended);
  const last = whole.findLastIndex((certificate) =>
    targets.some((target) => couldHaveIssued(target.certificate, certificate)),
  );
  return whole.slice(0, last + 1);
}

/** Every cross-signed certificate that a state knows, without duplicates. */
export function poolOf(roots: readonly RootEntry[]): Certificate[] {
  return [
    ...new Map(
      roots
        .flatMap((root) => root.intermediates)
        .map((certificate) => [certificate.id, certificate]),
    ).values(),
  ];
}

/** Those of a root's certificates that certify its own key. */
export function ownCrossings(root: RootEntry): Certificate[] {
  return root.intermediates.filter((certificate) => sameAuthority(certificate, root.certificate));
}
