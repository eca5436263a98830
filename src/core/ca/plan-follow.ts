/**
 * Plans what a secondary datacenter takes over from the primary one: its roots, and an issuer that
 * the primary certifies. Nothing is in use until the result is committed: a listing or an answer
 * that does not hold leaves everything as it is.
 * @module
 */
import { ConflictError, ProviderError } from "../errors.ts";
import type { PrimaryDatacenter, PrimaryListing } from "../ports/primary.ts";
import type { CommonConfig, Provider, ProviderType, Provisioned } from "../ports/provider.ts";
import type { ClusterIdentity } from "../spiffe/trust-domain.ts";
import { activeRoot, type CaState, type ProviderState } from "../state.ts";
import { type Certificate, inForce } from "../x509/certificate.ts";
import { isSignedBy } from "../x509/chain.ts";
import { requireChainSize } from "./chain-size.ts";
import type { ChangeContext, PlannedChange } from "./change.ts";
import { redact, requireDistinctFields, requireKept, sameJson } from "./config-fields.ts";
import {
  activeOf,
  bootstrapFollower,
  crossSignedIn,
  differs,
  follow,
  followedPrunable,
  followedRoots,
  pruneFollowed,
  stampedRows,
} from "./followed-roots.ts";
import { withGarbage } from "./garbage.ts";
import {
  type ConfigurationRequest,
  issuingOf,
  newCommitId,
  openProved,
  parseFor,
  requireIndex,
  requireReadOnlyState,
  requireType,
  requireValid,
  withoutSecrets,
  wrapConfigError,
} from "./plan-change.ts";
import { proveCrossing, type Snapshot, snapshotOf, withState } from "./snapshot.ts";
import type { NewConfig } from "./transitions.ts";

/** What a secondary datacenter follows, as it is known now. */
export interface Followed {
  readonly primary: PrimaryDatacenter;
  readonly listing: PrimaryListing;
}

/** The shortest life of an intermediate that is taken, in milliseconds: the shortest LeafCertTTL. */
const MIN_LIFE_MS = 3_600_000;

/** A new issuer, opened and proved. */
interface Issuer {
  readonly provider: Provider;
  readonly provisioned: Provisioned;
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
  const type = requireType(request.provider, change);
  wrapConfigError(() => requireDistinctFields(request.config));
  const sent = wrapConfigError(() =>
    parseFor(trustDomain, type, request.config, { isSecondary: true }),
  );
  const { config, stored } = withoutSecrets(type, sent, request, { isSecondary: true });
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
  const next = bootstrapFollower(cluster, newCommitId(change.random), {
    config: stored,
    roots: stampedRows([], followedRoots([], listing, following), 1),
    provider: provisioned.state,
    primary: { datacenter: primary.name, index: listing.index },
  });
  return {
    kind: "join",
    snapshot: snapshotOf(next, config, provider),
    warnings: provisioned.warnings,
  };
}

/**
 * Plans to follow the primary's roots, with a new issuer if the active one is another, or if one is
 * due.
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
  const { state, active, config } = snapshot;
  if (!renew && !differs(state, listing)) return null;
  requireSameDomain(state, listing, primary.name);
  requireNoRegression(state, listing, primary.name);
  await requireUsable(
    listing,
    state.roots.map(({ certificate }) => certificate),
    primary.name,
    change.now,
  );
  const type = requireType(state.config.provider, change);
  if (!renew && active.id === listing.activeRootId)
    return planOtherRoots(snapshot, { primary, listing }, change);
  const target = { type, config, previous: { config, state: state.provider.active } };
  const issuer = await obtainIssuer(target, state, { primary, listing }, change);
  return planIssuer(
    snapshot,
    { primary, listing },
    { config, stored: state.config },
    issuer,
    change,
  );
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
  const type = requireType(request.provider, change);
  requireReadOnlyState(request);
  wrapConfigError(() => requireDistinctFields(request.config));
  requireKept(request, state.config, type.secretFields);
  const redacted = redact(request.config, type.secretFields);
  const isSameProvider = request.provider === state.config.provider;
  const isSame = isSameProvider && sameJson(redacted, state.config.config);
  if (isSame && sameJson(redacted, request.config)) return null;
  requireIndex(state, request.modifyIndex);
  const sent = wrapConfigError(() =>
    parseFor(state.trustDomain, type, request.config, { isSecondary: true }),
  );
  const kept = withoutSecrets(type, sent, request, { isSecondary: true });
  if (isSameProvider && type.keepsIssuer?.(snapshot.config, sent) === true)
    return planSameIssuer(snapshot, kept, change);
  requireSameDomain(state, listing, primary.name);
  requireNoRegression(state, listing, primary.name);
  await requireUsable(
    listing,
    state.roots.map(({ certificate }) => certificate),
    primary.name,
    change.now,
  );
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
    primary: { datacenter: primary.name, index: listing.index },
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
  { provider, provisioned }: Issuer,
  change: ChangeContext,
): Promise<PlannedChange> {
  const { state } = snapshot;
  const { now } = change;
  const roots = followedRoots(state.roots, listing, {
    clusterId: state.clusterId,
    issuing: issuingOf(provider, now),
    leafTtlMs: config.leafTtlMs,
    now,
  });
  const followed = follow(state, newCommitId(change.random), {
    roots,
    config: stored === state.config ? null : stored,
    provider: provisioned.state,
    primary: { datacenter: primary.name, index: listing.index },
  });
  const next = withGarbage(state, followed, change.providers, change.policy, now);
  await requireSize(next, state, change);
  return {
    kind: activeRoot(next).id === activeRoot(state).id ? "renew" : "follow",
    snapshot: snapshotOf(next, config, provider),
    warnings: provisioned.warnings,
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
  return { provider, provisioned };
}

/** @throws {ProviderError} if an intermediate is valid for too long or not long enough */
function requireLife(issuer: Certificate, root: Certificate, primary: string, now: Date): void {
  const refuse = (why: string) =>
    new ProviderError(
      "provider_contract",
      `Cannot take the intermediate that datacenter ${primary} signed: ${why}`,
    );
  if (issuer.notAfter > root.notAfter)
    throw refuse(
      `it is valid until ${issuer.notAfter.toISOString()}, and its root only until ${root.notAfter.toISOString()}`,
    );
  if (issuer.notAfter.getTime() - now.getTime() < MIN_LIFE_MS)
    throw refuse(
      `it is valid until ${issuer.notAfter.toISOString()} only, which is less than an hour; raise IntermediateCertTTL there, or rotate its root`,
    );
}

/**
 * Proves a leaf under each root that a client may have as its only one.
 * @throws {ConflictError} if it does not verify under one
 */
async function proveUnderEach(
  provider: Provider,
  listing: PrimaryListing,
  primary: string,
  { trustDomain }: ClusterIdentity,
  { now, random }: ChangeContext,
): Promise<void> {
  const active = activeOf(listing);
  const targets = listing.roots
    .filter(({ abandoned, certificate }) => !abandoned && inForce(certificate, now))
    .map(({ certificate }) => certificate);
  const failed = await proveCrossing(
    provider,
    active.certificate,
    crossSignedIn(active, listing),
    targets,
    { trustDomain, random, now },
  );
  const [first] = failed;
  if (first === undefined) return;
  const [id, reason] = first;
  throw new ConflictError(
    "transition_invalid",
    `Cannot follow the roots of datacenter ${primary}: a leaf of this datacenter would not verify under root ${id}, which it publishes${reason === "" ? "" : `: ${reason}`}`,
  );
}

/** @throws {ConflictError} `cluster_differs` */
function requireSameDomain(
  { clusterId, trustDomain }: ClusterIdentity,
  listing: PrimaryListing,
  primary: string,
): void {
  if (listing.trustDomain === trustDomain && listing.clusterId === clusterId) return;
  throw new ConflictError(
    "cluster_differs",
    `Cannot follow datacenter ${primary}: it has the trust domain ${listing.trustDomain} (cluster ${listing.clusterId}), and this datacenter ${trustDomain} (cluster ${clusterId}); check the addresses of the primary datacenter`,
  );
}

/**
 * An index that went back is followed, as after a restart of the primary from a backup, unless the
 * roots went back, too.
 * @throws {ConflictError} `transition_invalid`
 */
function requireNoRegression(state: CaState, listing: PrimaryListing, primary: string): void {
  const known = state.primary;
  if (known === null || known.datacenter !== primary || listing.index >= known.index) return;
  const active = activeRoot(state);
  const isKnown = state.roots.some(({ id }) => id === listing.activeRootId);
  if (listing.activeRootId === active.id || !isKnown) return;
  throw new ConflictError(
    "transition_invalid",
    `Cannot follow datacenter ${primary}: its roots went back from index ${known.index} to ${listing.index}, from root ${active.id} to root ${listing.activeRootId}, as after a restore of an old backup or from another primary; rotate the root there, which gives it one that is newer than both`,
  );
}

/**
 * @param known roots that were followed before. @throws {ConflictError} if a root cannot be one
 */
async function requireUsable(
  listing: PrimaryListing,
  known: readonly Certificate[],
  primary: string,
  now: Date,
): Promise<void> {
  const refuse = (why: string) =>
    new ConflictError("transition_invalid", `Cannot follow datacenter ${primary}: ${why}`);
  const active = activeOf(listing);
  if (active.abandoned) throw refuse(`its active root ${active.certificate.id} was abandoned`);
  if (!inForce(active.certificate, now))
    throw refuse(
      `its active root ${active.certificate.id} is valid from ${active.certificate.notBefore.toISOString()} to ${active.certificate.notAfter.toISOString()} only`,
    );
  const ids = new Set(known.map(({ id }) => id));
  for (const { certificate } of listing.roots) {
    if (ids.has(certificate.id)) continue;
    if (!certificate.isCa || !(await isSignedBy(certificate, certificate)))
      throw refuse(`it publishes ${certificate.id}, which is not a self-signed CA certificate`);
  }
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
