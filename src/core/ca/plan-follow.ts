/**
 * Plans what a secondary datacenter takes over from the primary one: its roots, and an issuer that
 * the primary certifies. Nothing is in use until the result is committed: a listing or an answer
 * that does not hold leaves everything as it is.
 * @module
 */
import { CaError } from "../errors.ts";
import type { PrimaryListing } from "../ports/primary.ts";
import type { CommonConfig, Provider, ProviderType, Provisioned } from "../ports/provider.ts";
import type { ClusterIdentity } from "../spiffe/trust-domain.ts";
import {
  activeRoot,
  type CaConfig,
  type CaState,
  type FollowedPrimary,
  type ProviderState,
  type RootEntry,
} from "../state.ts";
import { type Certificate, inForce } from "../x509/certificate.ts";
import { requireChainSize } from "./chain-size.ts";
import type { ChangeContext, PlannedChange } from "./change.ts";
import { crossSignedUntil } from "./cross-chain.ts";
import {
  proveUnderEach,
  requireFollowable,
  requireLife,
  requirePrimacy,
  requireUsable,
} from "./follow-checks.ts";
import {
  activeOf,
  type Followed,
  follow,
  followedDrops,
  followedPrunable,
  followedRoots,
  isBehind,
  isSuperseded,
  pruneFollowed,
  stampedRows,
} from "./followed-roots.ts";
import { withGarbage } from "./garbage.ts";
import {
  type ConfigurationRequest,
  issuingOf,
  newCommitId,
  openProved,
  readChangedConfig,
  readFirstConfig,
  requireType,
  requireValid,
  wrapConfigError,
} from "./plan-change.ts";
import { lateRenewal } from "./schedule.ts";
import { type Snapshot, snapshotOf, withState } from "./snapshot.ts";
import { firstState, type NewConfig } from "./transitions.ts";

/** A new issuer, opened and proved. */
interface Issuer {
  /** As `Following` has it. */
  readonly bridge?: readonly Certificate[];
  /** For the operator, besides those of `provisioned`. */
  readonly warnings?: readonly string[];
  readonly provider: Provider;
  readonly provisioned: Provisioned;
  /** Whether its state names what the present issuer leaves outside. */
  readonly keepsGarbage: boolean;
}

/** A configuration with its provider's type. */
interface Target {
  readonly type: ProviderType;
  readonly config: CommonConfig;
  /** The present issuer's, if it is of the same provider. */
  readonly previous: { readonly config: CommonConfig; readonly state: ProviderState } | null;
}

/**
 * Plans the first state: the primary's roots with an issuer of this datacenter, in one step.
 * @throws {ConfigError} @throws {ConflictError} @throws {ProviderError} @throws {SealError}
 */
export async function planJoin(
  { primary, listing }: Followed,
  request: NewConfig,
  change: ChangeContext,
): Promise<PlannedChange> {
  const { clusterId, trustDomain } = listing;
  const cluster = { clusterId, trustDomain };
  const { type, sent, config, stored } = readFirstConfig(cluster, request, "secondary", change);
  requirePrimacy(listing, primary.name, null);
  await requireUsable(listing, [], primary.name, change.now);
  const target = { type, config: sent, previous: null };
  const { provider, provisioned } = await obtainIssuer(
    target,
    cluster,
    { primary, listing },
    change,
  );
  const following = {
    clusterId,
    issuing: issuingOf(provider, change.now),
    leafTtlMs: config.leafTtlMs,
    now: change.now,
  };
  const next = firstState(cluster, newCommitId(change.random), {
    config: stored,
    roots: stampedRows([], followedRoots([], listing, following), 1),
    provider: provisioned.state,
    ...positionOf({ primary, listing }, NEVER_PROMOTED, {
      renewAt: lateRenewal(provider.issuer, change.now),
      now: change.now,
    }),
  });
  return {
    kind: "join",
    snapshot: snapshotOf(next, config, provider),
    warnings: provisioned.warnings,
  };
}

/**
 * Plans to follow the primary's roots, with a new issuer if the active one is another, if one is due,
 * or if this datacenter was the primary one until now.
 * @param renew a new issuer also under the same root.
 * @returns null if there is nothing to follow.
 * @throws {ConflictError} if the primary's roots cannot be those that this datacenter follows
 * @throws {ProviderError} @throws {SealError}
 */
export async function planFollow(
  snapshot: Snapshot,
  { primary, listing }: Followed,
  change: ChangeContext,
  renew = false,
): Promise<PlannedChange | null> {
  const { state, active } = snapshot;
  const isOwnIssuer = state.primary !== null;
  if (!isOwnIssuer && !isSuperseded(state, { primary, listing })) return null;
  if (isOwnIssuer && !renew && !isBehind(state, { primary, listing })) return null;
  await requireFollowable(state, { primary, listing }, change.now);
  const type = requireType(state.config.provider, change);
  if (isOwnIssuer && !renew && active.id === listing.activeRootId)
    return planOtherRoots(snapshot, { primary, listing }, change);
  const configured = isOwnIssuer
    ? { config: snapshot.config, stored: state.config }
    : withoutRoot(type, state.config);
  const { config } = configured;
  const previous = { config: snapshot.config, state: state.provider.active };
  const issuer = await obtainIssuer(
    { type, config, previous },
    state,
    { primary, listing },
    change,
  );
  const former = isOwnIssuer
    ? null
    : await bridgeTo(activeOf(listing).certificate, snapshot, change);
  return planIssuer(snapshot, { primary, listing }, configured, { ...issuer, ...former }, change);
}

/**
 * Has the root that this datacenter had as the primary one certify the one that it follows, which its
 * clients may not have read yet.
 */
async function bridgeTo(
  root: Certificate,
  { state, active, provider }: Snapshot,
  { now, policy }: ChangeContext,
): Promise<Pick<Issuer, "bridge" | "warnings">> {
  const isKnown = state.roots.some(({ id }) => id === root.id);
  const crossSigner = provider?.crossSigner ?? null;
  if (isKnown || crossSigner === null || !inForce(active.certificate, now)) return {};
  const retiring: RootEntry = { ...active, status: "retired", rotatedOutAt: now };
  try {
    return {
      bridge: await crossSigner.crossSign(root, now, crossSignedUntil(retiring, policy, now)),
    };
  } catch (error) {
    if (!(error instanceof CaError)) throw error;
    const warning = `Root ${active.id} cannot certify root ${root.id}, which is followed: clients that have not read it refuse new leaves until they do (${error.message})`;
    return { warnings: [warning] };
  }
}

/** The configuration of a datacenter that was the primary one. */
function withoutRoot(type: ProviderType, { config: sent, ...stored }: CaConfig): Configured {
  const config = type.withoutRoot?.(sent) ?? sent;
  return {
    config: wrapConfigError(() => type.parse(config, "secondary")),
    stored: { ...stored, config },
  };
}

/** What a datacenter knows before it follows. */
const NEVER_PROMOTED = { promotions: 0, roots: [], dropped: [] };

/**
 * What of the primary datacenter a state records that follows it.
 * @param renewAt as `lateRenewal` has it.
 */
function positionOf(
  { primary, listing }: Followed,
  known: Pick<CaState, "promotions" | "roots" | "dropped">,
  { renewAt, now }: { readonly renewAt: Date | null; readonly now: Date },
): Pick<CaState, "promotions" | "dropped"> & { readonly primary: FollowedPrimary } {
  return {
    dropped: followedDrops(known, listing, now),
    primary: {
      datacenter: primary.name,
      index: listing.index,
      leafTtlMs: listing.primacy?.leafTtlMs ?? null,
      renewAt,
    },
    promotions: listing.primacy?.promotions ?? known.promotions,
  };
}

/**
 * Plans a change of configuration, which in a secondary datacenter concerns only its provider: the
 * roots are the primary's.
 * @returns null if it is what is stored already.
 * @throws {ConfigError} @throws {ConflictError} @throws {ProviderError} @throws {SealError}
 */
export async function planFollowerConfiguration(
  snapshot: Snapshot,
  request: ConfigurationRequest,
  { primary, listing }: Followed,
  change: ChangeContext,
): Promise<PlannedChange | null> {
  const { state } = snapshot;
  const requested = readChangedConfig(state, request, change);
  if (requested === null) return null;
  const { type, sent, isSame: _, ...kept } = requested;
  const isSameProvider = request.provider === state.config.provider;
  if (isSameProvider && type.keepsIssuer?.(snapshot.config, sent) === true)
    return planSameIssuer(snapshot, kept, change);
  await requireFollowable(state, { primary, listing }, change.now);
  const previous = isSameProvider
    ? { config: snapshot.config, state: state.provider.active }
    : null;
  const issuer = await obtainIssuer(
    { type, config: sent, previous },
    state,
    { primary, listing },
    change,
  );
  const planned = await planIssuer(snapshot, { primary, listing }, kept, issuer, change);
  return { ...planned, kind: "configure" };
}

/** The issuer stays; lifetimes and limits change. */
async function planSameIssuer(
  snapshot: Snapshot,
  { config, stored }: Configured,
  change: ChangeContext,
): Promise<PlannedChange> {
  const { state, active } = snapshot;
  const type = requireType(stored.provider, change);
  const prepared = { root: active.certificate, state: state.provider.active };
  const provider = await openProved(state, { type, config, prepared }, change);
  const next = follow(state, newCommitId(change.random), {
    roots: state.roots.map((root) =>
      root.status === "active"
        ? { ...root, leafTtlMaxMs: Math.max(root.leafTtlMaxMs, config.leafTtlMs) }
        : root,
    ),
    config: stored,
    provider: state.provider.active,
    primary: state.primary,
    promotions: state.promotions,
    dropped: state.dropped,
  });
  return { kind: "configure", snapshot: snapshotOf(next, config, provider) };
}

/** The active root and its issuer stay; other roots or cross-signed certificates change. */
async function planOtherRoots(
  snapshot: Snapshot,
  { primary, listing }: Followed,
  change: ChangeContext,
): Promise<PlannedChange> {
  const { state, config, provider, fault } = snapshot;
  if (provider === null) throw fault;
  await proveUnderEach(provider, listing, primary.name, state, change);
  const roots = followedRoots(state.roots, listing, {
    clusterId: state.clusterId,
    issuing: null,
    leafTtlMs: config.leafTtlMs,
    now: change.now,
  });
  const next = follow(state, newCommitId(change.random), {
    roots,
    config: null,
    provider: state.provider.active,
    ...positionOf({ primary, listing }, state, {
      renewAt: state.primary?.renewAt ?? null,
      now: change.now,
    }),
  });
  await requireSize(next, state, change);
  return { kind: "follow", snapshot: snapshotOf(next, config, provider) };
}

interface Configured {
  readonly config: CommonConfig;
  /** The configuration to be stored. */
  readonly stored: NewConfig;
}

/** A new issuer under the primary's active root, which may be another one than before. */
async function planIssuer(
  snapshot: Snapshot,
  { primary, listing }: Followed,
  { config, stored }: Configured,
  { provider, provisioned, keepsGarbage, bridge, warnings = [] }: Issuer,
  change: ChangeContext,
): Promise<PlannedChange> {
  const { state } = snapshot;
  const { now } = change;
  const roots = followedRoots(state.roots, listing, {
    clusterId: state.clusterId,
    issuing: issuingOf(provider, now),
    leafTtlMs: config.leafTtlMs,
    now,
    ...(bridge === undefined ? {} : { bridge }),
  });
  const followed = follow(state, newCommitId(change.random), {
    roots,
    config: stored === state.config ? null : stored,
    provider: provisioned.state,
    ...positionOf({ primary, listing }, state, { renewAt: lateRenewal(provider.issuer, now), now }),
  });
  const next = withGarbage(state, followed, {
    ...{ types: change.providers, policy: change.policy, now },
    dropsActive: !keepsGarbage,
  });
  await requireSize(next, state, change);
  const isSamePrimary = state.primary?.datacenter === primary.name;
  return {
    kind: isSamePrimary && activeRoot(next).id === activeRoot(state).id ? "renew" : "follow",
    snapshot: snapshotOf(next, config, provider),
    warnings: [...(provisioned.warnings ?? []), ...warnings],
  };
}

/**
 * Makes a key here, has the primary certify it, and proves that leaves of it verify under every root
 * that is published.
 * @throws {ConfigError} @throws {ProviderError} @throws {SealError} @throws {NotReadyError}
 */
async function obtainIssuer(
  { type, config, previous }: Target,
  cluster: ClusterIdentity,
  { primary, listing }: Followed,
  change: ChangeContext,
): Promise<Issuer> {
  const { now, onRollback } = change;
  const root = activeOf(listing).certificate;
  const requested = await type.requestIntermediate(
    config,
    { previous, now, onRollback },
    change.contextFor(cluster),
  );
  const answered = await primary.signIntermediate(requested.csr);
  const provisioned = await requested.accept(answered, root, now);
  const prepared = { root, ...provisioned };
  const provider = await openProved(cluster, { type, config, prepared }, change);
  requireValid(provider, root, now);
  requireLife(provider.issuer, root, primary.name, now);
  await proveUnderEach(provider, listing, primary.name, cluster, change);
  const keepsGarbage = previous !== null && provisioned.dropsPrevious !== true;
  return { provider, provisioned, keepsGarbage };
}

async function requireSize(next: CaState, state: CaState, change: ChangeContext): Promise<void> {
  const retiring = activeRoot(state).id === activeRoot(next).id ? null : activeRoot(state).id;
  const rotated = { next, retiring, force: false, forceWouldAbandon: [] };
  await requireChainSize(rotated, change);
}

/**
 * Plans to drop roots that neither the primary publishes nor a leaf of this datacenter needs.
 * @returns null if there are none. @throws {StoreError}
 */
export async function planFollowerPrune(
  snapshot: Snapshot,
  listing: PrimaryListing,
  change: ChangeContext,
): Promise<PlannedChange | null> {
  const { state } = snapshot;
  const { policy, random } = change;
  const time = await change.look();
  if (!followedPrunable(state, listing, policy, time)) return null;
  const next = pruneFollowed(state, newCommitId(random), listing, { policy, time });
  return { kind: "prune", snapshot: withState(snapshot, next) };
}
