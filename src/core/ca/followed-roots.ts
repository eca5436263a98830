/**
 * The roots of a secondary datacenter: those that the primary one publishes, with an issuer of this
 * datacenter under the active one. A root that the primary removed stays until no leaf of this
 * datacenter needs it; one that it dropped goes at once. Pure functions.
 * @module
 */
import { colonHex } from "../bytes.ts";
import type { DeletionTime } from "../deletion-time.ts";
import type { PrimaryDatacenter, PrimaryListing, PrimaryRoot } from "../ports/primary.ts";
import type { CaState, DroppedRoot, FollowedPrimary, ProviderState, RootEntry } from "../state.ts";
import type { Certificate } from "../x509/certificate.ts";
import { couldHaveIssued, sameAuthority } from "../x509/chain.ts";
import { crossChainOf, issuerChainOf } from "./cross-chain.ts";
import { recordDrops, withoutRoots } from "./dropped-roots.ts";
import { isGarbage } from "./garbage.ts";
import { presentIssuer, replacedIssuers } from "./leaf-issuers.ts";
import { isDead } from "./root-removal.ts";
import type { Policy } from "./timing-and-limits.ts";
import {
  abandonedBy,
  after,
  areSame,
  checked,
  type Issuing,
  liveIssuers,
  type NewConfig,
  retire,
  stamp,
} from "./transitions.ts";

/** What a secondary datacenter follows, as it is known now. */
export interface Followed {
  readonly primary: PrimaryDatacenter;
  readonly listing: PrimaryListing;
}

/** The active root of a listing. @throws {TypeError} if it names none, which its reader refuses */
export function activeOf({ roots, activeRootId }: PrimaryListing): PrimaryRoot {
  const active = roots.find(({ certificate }) => certificate.id === activeRootId);
  if (active === undefined) throw new TypeError("The listing names no active root");
  return active;
}

/**
 * The cross-signed certificates of a root, in path order: certificates of the key and name of a root
 * that is published. The other ones are the primary's own issuers.
 */
export function crossSignedIn(root: PrimaryRoot, { roots }: PrimaryListing): Certificate[] {
  return root.intermediates.filter((certificate) =>
    roots.some((each) => sameAuthority(each.certificate, certificate)),
  );
}

interface Following {
  readonly clusterId: string;
  /** The issuer from now on; null: the present one stays. */
  readonly issuing: Issuing | null;
  readonly leafTtlMs: number;
  /** The store's clock. */
  readonly now: Date;
  /**
   * The active root, certified by the one that this datacenter had as the primary one.
   * @default the one that the state has, as long as that root is published here
   */
  readonly bridge?: readonly Certificate[];
}

/** The rows of a state that follows a listing; they are not stamped. */
export function followedRoots(
  before: readonly RootEntry[],
  listing: PrimaryListing,
  following: Following,
): RootEntry[] {
  const listed = listing.roots.map((root) => {
    const known = before.find(({ id }) => id === root.certificate.id);
    if (root.certificate.id === listing.activeRootId)
      return activeRow(known, root, listing, before, following);
    return root.prepared
      ? preparedRow(known, root, following)
      : retiredRow(known, root, listing, following);
  });
  const ids = new Set(listed.map(({ id }) => id));
  const removed = before
    // A prepared root that the primary took back has signed nothing.
    .filter(({ id, status }) => !ids.has(id) && status !== "prepared")
    .map((root) => (root.status === "active" ? retire(root, following.now) : root));
  return withoutRoots([...listed, ...removed], droppedOf(before, listing));
}

/** The roots of a state that the primary has dropped. */
function droppedOf(before: readonly RootEntry[], { dropped }: PrimaryListing): RootEntry[] {
  return before.filter((root) => dropped.some(({ id }) => id === root.id));
}

/** What a state records of the roots that the primary has dropped. */
export function followedDrops(
  { roots, dropped }: Pick<CaState, "roots" | "dropped">,
  listing: PrimaryListing,
  now: Date,
): DroppedRoot[] {
  const gone = droppedOf(roots, listing);
  const known = [...recordDrops({ roots, dropped: [] }, gone, now), ...dropped];
  return listing.dropped.map(
    (each) => known.find((root) => root.id === each.id) ?? { ...each, at: now, through: [] },
  );
}

function activeRow(
  known: RootEntry | undefined,
  root: PrimaryRoot,
  listing: PrimaryListing,
  before: readonly RootEntry[],
  { clusterId, issuing, leafTtlMs, now, bridge }: Following,
): RootEntry {
  const base = known ?? newRow(root, clusterId, leafTtlMs, now);
  const listed = crossSignedIn(root, listing);
  const cross = listed.length > 0 ? listed : (bridge ?? bridgeIn(base, before));
  const isActive = known?.status === "active";
  const issuers = issuing?.issuers ?? issuerChainOf(base);
  const issuer = issuers[0] ?? root.certificate;
  const leafIssuers =
    issuing === null
      ? base.leafIssuers
      : known === undefined
        ? [presentIssuer(issuer)]
        : replacedIssuers(known, issuer, now);
  return {
    ...base,
    status: "active",
    since: isActive ? base.since : now,
    rotatedOutAt: null,
    abandoned: root.abandoned,
    lost: false,
    intermediates: [...issuers, ...cross],
    signingKeyId: issuing === null ? base.signingKeyId : colonHex(issuing.issuerKeyId),
    leafIssuers,
    leafTtlMaxMs: Math.max(base.leafTtlMaxMs, leafTtlMs),
  };
}

/** What of a root's cross-signed certificates leads to a root that is still published here. */
function bridgeIn(root: RootEntry, before: readonly RootEntry[]): readonly Certificate[] {
  return crossChainOf(root).filter((certificate) =>
    before.some((by) => by.status === "retired" && couldHaveIssued(by.certificate, certificate)),
  );
}

function retiredRow(
  known: RootEntry | undefined,
  root: PrimaryRoot,
  listing: PrimaryListing,
  { clusterId, leafTtlMs, now }: Following,
): RootEntry {
  const base = known ?? newRow(root, clusterId, leafTtlMs, now);
  const retired = base.status === "retired" ? base : retire(base, now);
  return {
    ...retired,
    ...abandonedBy(retired, root),
    intermediates: crossSignedIn(root, listing).filter((certificate) =>
      sameAuthority(certificate, root.certificate),
    ),
  };
}

/**
 * A root that the primary publishes before it signs. Leaves of this datacenter have it only if the
 * primary went back to a backup from before it signed.
 */
function preparedRow(
  known: RootEntry | undefined,
  root: PrimaryRoot,
  { clusterId, leafTtlMs, now }: Following,
): RootEntry {
  if (known !== undefined) return known.status === "active" ? retire(known, now) : known;
  return {
    ...newRow(root, clusterId, leafTtlMs, now),
    status: "prepared",
    rotatedOutAt: null,
  };
}

/** A root under which this datacenter has signed nothing yet. */
function newRow(
  { name, certificate }: PrimaryRoot,
  clusterId: string,
  leafTtlMaxMs: number,
  now: Date,
): RootEntry {
  const { subjectKeyId } = certificate;
  return {
    id: certificate.id,
    name,
    certificate,
    intermediates: [],
    status: "retired",
    since: now,
    rotatedOutAt: now,
    abandoned: false,
    signingKeyId: subjectKeyId === null ? "" : colonHex(subjectKeyId),
    leafIssuers: [],
    leafTtlMaxMs,
    externalTrustDomain: clusterId,
    createIndex: 0,
    modifyIndex: 0,
  };
}

/** Whether a listing has other roots, or other cross-signed certificates, than a state. */
export function differs(state: CaState, listing: PrimaryListing): boolean {
  const { roots, clusterId } = state;
  const unchanged = { clusterId, issuing: null, leafTtlMs: 0, now: new Date(0) };
  return !sameRows(roots, followedRoots(roots, listing, unchanged));
}

/** Whether a state has other roots than the primary publishes, or follows another datacenter. */
export function isBehind(state: CaState, { primary, listing }: Followed): boolean {
  const { primacy } = listing;
  return (
    state.primary?.datacenter !== primary.name ||
    (primacy !== null &&
      (primacy.promotions !== state.promotions || primacy.leafTtlMs !== state.primary.leafTtlMs)) ||
    listing.dropped.map(({ id }) => id).join() !== state.dropped.map(({ id }) => id).join() ||
    differs(state, listing)
  );
}

/** Whether a datacenter was promoted after the one of a state, and takes its place as the primary. */
export function isSuperseded(
  { promotions }: CaState,
  { primary, listing: { primacy } }: Followed,
): boolean {
  return primacy !== null && primacy.datacenter === primary.name && primacy.promotions > promotions;
}

/** Rows as they are committed: all of them are stamped if a client can see a difference. */
export function stampedRows(
  before: readonly RootEntry[],
  next: readonly RootEntry[],
  index: number,
): readonly RootEntry[] {
  if (sameRows(before, next)) return next;
  return stamp(
    next.map((root) => ({ ...root, createIndex: root.createIndex || index })),
    index,
  );
}

/** Whether a client sees the same in two lists of rows. */
function sameRows(before: readonly RootEntry[], next: readonly RootEntry[]): boolean {
  return (
    before.length === next.length &&
    next.every((root) => {
      const other = before.find(({ id }) => id === root.id);
      return (
        other !== undefined &&
        other.status === root.status &&
        other.abandoned === root.abandoned &&
        (other.lost ?? false) === (root.lost ?? false) &&
        other.signingKeyId === root.signingKeyId &&
        areSame(other.intermediates, root.intermediates)
      );
    })
  );
}

/** Whether there is something for `pruneFollowed` to do. */
export function followedPrunable(
  state: CaState,
  listing: PrimaryListing,
  policy: Policy,
  time: DeletionTime,
): boolean {
  return (
    removable(state, listing, policy, time).size > 0 ||
    state.roots.some((root) => liveIssuers(root, policy, time).length !== root.leafIssuers.length)
  );
}

/**
 * Drops the roots that the primary publishes no longer and no leaf of this datacenter needs, and the
 * record of issuers without a live leaf.
 */
export function pruneFollowed(
  state: CaState,
  commitId: string,
  listing: PrimaryListing,
  { policy, time }: { readonly policy: Policy; readonly time: DeletionTime },
): CaState {
  const gone = removable(state, listing, policy, time);
  const roots = state.roots
    .filter(({ id }) => !gone.has(id))
    .map((root) => ({ ...root, leafIssuers: liveIssuers(root, policy, time) }));
  return checked({
    ...after(state, commitId),
    roots: stampedRows(state.roots, roots, state.index + 1),
  });
}

/**
 * The IDs of the roots that can be removed: the primary publishes them no longer, and no leaf of this
 * datacenter under them can be alive.
 */
function removable(
  { roots }: CaState,
  listing: PrimaryListing,
  policy: Policy,
  time: DeletionTime,
): ReadonlySet<string> {
  const listed = new Set(listing.roots.map(({ certificate }) => certificate.id));
  return new Set(
    roots.filter((root) => !listed.has(root.id) && isDead(root, policy, time)).map(({ id }) => id),
  );
}

/** What a secondary datacenter takes over. */
interface FollowedChange {
  /** Not stamped. */
  readonly roots: readonly RootEntry[];
  /** Null: it stays. */
  readonly config: NewConfig | null;
  readonly provider: ProviderState;
  readonly primary: FollowedPrimary | null;
  readonly promotions: number;
  readonly dropped: readonly DroppedRoot[];
}

/** The state of a secondary datacenter that follows. Keys of retired roots are not kept. */
export function follow(state: CaState, commitId: string, change: FollowedChange): CaState {
  const { config, provider, primary, promotions, dropped } = change;
  const index = state.index + 1;
  const { createIndex } = state.config;
  const garbage = Object.entries(state.provider.retired).filter(([key]) => isGarbage(key));
  return checked({
    ...after(state, commitId),
    config: config === null ? state.config : { ...config, createIndex, modifyIndex: index },
    roots: stampedRows(state.roots, change.roots, index),
    provider: { active: provider, retired: Object.fromEntries(garbage), prepared: null },
    primary,
    promotions,
    otherPrimary: null,
    dropped,
  });
}
