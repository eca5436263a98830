/**
 * Which cross-signed certificates go with a leaf. Roots are the places of a map, cross-signed certificates the roads
 * between them: from the active root there must be a road to every root that somebody may still trust alone.
 * @module
 */
import type { Certificate } from "../x509/certificate.ts";
import { couldHaveIssued, sameAuthority } from "../x509/chain.ts";
import type { Policy } from "./policy.ts";
import type { RootEntry } from "./state.ts";

/** When a retired root is pruned: when no leaf that it signed can still be alive. */
export function pruneAt(root: RootEntry, policy: Policy): Date {
  const since = root.rotatedOutAt ?? root.since;
  return new Date(since.getTime() + policy.pruneFactor * root.leafTtlMaxMs);
}

/** The retired roots under each of which, taken alone, a leaf signed now must verify. */
export function rootsToReach(roots: readonly RootEntry[], now: Date): RootEntry[] {
  return roots.filter((root) => root.status === "retired" && !root.forcedOut && root.certificate.notAfter > now);
}

/**
 * The shortest road from a root to another.
 * @param pool cross-signed certificates of any root.
 * @param until every certificate of the road must be in force until then.
 * @returns the cross-signed certificates in path order, or null where no road leads there.
 */
export function roadTo(from: Certificate, to: Certificate, pool: readonly Certificate[], now: Date, until: Date): Certificate[] | null {
  const usable = pool.filter((certificate) => certificate.notBefore <= now && certificate.notAfter >= until && certificate.notAfter > now);
  let roads: Certificate[][] = usable.filter((certificate) => sameAuthority(certificate, from)).map((certificate) => [certificate]);
  const seen = new Set(roads.flat());
  while (roads.length > 0) {
    const arrived = roads.find((road) => couldHaveIssued(to, road.at(-1) as Certificate));
    if (arrived !== undefined) return arrived;
    roads = roads.flatMap((road) => {
      const next = usable.filter((certificate) => !seen.has(certificate) && couldHaveIssued(certificate, road.at(-1) as Certificate));
      for (const certificate of next) seen.add(certificate);
      return next.map((certificate) => [...road, certificate]);
    });
  }
  return null;
}

export interface Crossing {
  /** What goes with a leaf, in path order, without duplicates. */
  readonly chain: readonly Certificate[];
  /** Roots to which no road leads. */
  readonly unreached: readonly RootEntry[];
}

/**
 * Chooses the certificates that go with leaves of a root, out of all there are.
 * @param active the certificate of the root that signs.
 * @param targets as rootsToReach gives them.
 */
export function planCrossing(
  active: Certificate,
  targets: readonly RootEntry[],
  pool: readonly Certificate[],
  now: Date,
  policy: Policy,
): Crossing {
  const chain: Certificate[] = [];
  const unreached: RootEntry[] = [];
  for (const target of targets) {
    // The road must last as long as somebody needs it: until the target is pruned or expired, or no leaf can be signed.
    const until = new Date(Math.min(target.certificate.notAfter.getTime(), active.notAfter.getTime(), pruneAt(target, policy).getTime()));
    const road = roadTo(active, target.certificate, pool, now, until);
    if (road === null) unreached.push(target);
    else for (const certificate of road) if (!chain.some(({ id }) => id === certificate.id)) chain.push(certificate);
  }
  return { chain, unreached };
}

/** Every cross-signed certificate that a state knows, without duplicates. */
export function poolOf(roots: readonly RootEntry[]): Certificate[] {
  return [...new Map(roots.flatMap((root) => root.intermediates).map((certificate) => [certificate.id, certificate])).values()];
}

/** Those of a root's certificates that certify its own key. */
export function ownCrossings(root: RootEntry): Certificate[] {
  return root.intermediates.filter((certificate) => sameAuthority(certificate, root.certificate));
}
