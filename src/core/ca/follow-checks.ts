/**
 * What a secondary datacenter requires of the primary's roots, and of an intermediate that it signed.
 * @module
 */
import { ConflictError, PrimaryError, ProviderError } from "../errors.ts";
import { MAX_FOLLOWED_AHEAD, type PrimaryListing } from "../ports/primary.ts";
import type { Provider } from "../ports/provider.ts";
import type { ClusterIdentity } from "../spiffe/trust-domain.ts";
import { activeRoot, type CaState } from "../state.ts";
import { type Certificate, inForce } from "../x509/certificate.ts";
import { isSignedBy } from "../x509/chain.ts";
import type { ChangeContext } from "./change.ts";
import { requireNotDropped } from "./dropped-roots.ts";
import { activeOf, crossSignedIn, type Followed } from "./followed-roots.ts";
import { proveCrossing } from "./snapshot.ts";

/** The shortest life of an intermediate that is taken, in milliseconds: the shortest LeafCertTTL. */
const MIN_LIFE_MS = 3_600_000;

/** @throws {ConflictError} if these cannot be the roots that a state follows */
export async function requireFollowable(
  state: CaState,
  { primary, listing }: Followed,
  now: Date,
): Promise<void> {
  requireSameDomain(state, listing, primary.name);
  requirePrimacy(listing, primary.name, state);
  requireNoRegression(state, listing, primary.name);
  for (const { certificate } of listing.roots)
    requireNotDropped(
      state,
      certificate,
      `Cannot follow datacenter ${primary.name}, which publishes a dropped root again, as after a restore of an old backup; drop it there`,
    );
  const known = state.roots.map(({ certificate }) => certificate);
  await requireUsable(listing, known, primary.name, now);
}

/** @throws {ProviderError} if an intermediate is valid for too long or not long enough */
export function requireLife(
  issuer: Certificate,
  root: Certificate,
  primary: string,
  now: Date,
): void {
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
export async function proveUnderEach(
  provider: Provider,
  listing: PrimaryListing,
  primary: string,
  { trustDomain }: ClusterIdentity,
  { now, random }: ChangeContext,
): Promise<void> {
  const active = activeOf(listing);
  const targets = listing.roots
    .filter(
      ({ abandoned, prepared, certificate }) =>
        !abandoned && !prepared && inForce(certificate, now),
    )
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
 * @param known what was followed before; null: nothing.
 * @throws {PrimaryError} `not_primary` if a listing is of a secondary datacenter
 * @throws {ConflictError} `transition_invalid` if another datacenter took its place as the primary one
 */
export function requirePrimacy(
  { primacy }: PrimaryListing,
  primary: string,
  known: Pick<CaState, "primary" | "promotions"> | null,
): void {
  const refuse = (why: string) =>
    new ConflictError("transition_invalid", `Cannot follow datacenter ${primary}: ${why}`);
  // A version that does not say it knows of no promotion.
  const { datacenter, promotions: its } = primacy ?? { datacenter: primary, promotions: 0 };
  if (datacenter !== primary)
    throw new PrimaryError(
      "not_primary",
      `Cannot follow datacenter ${primary}: it is not the primary datacenter, and follows ${datacenter}; set the name and the servers of the primary datacenter to those of ${datacenter}`,
    );
  if (known === null) return;
  const { promotions } = known;
  if (its < promotions)
    throw refuse(
      `another datacenter was promoted after it: this datacenter has seen promotion ${promotions}, and the last one that it knows is ${its}. Set the name and the servers of the primary datacenter to those of the promoted one`,
    );
  if (its > promotions + MAX_FOLLOWED_AHEAD)
    throw refuse(
      `it reports promotion ${its} as the last one, and this datacenter has seen promotion ${promotions}: no mesh has so many. Find out who runs its servers`,
    );
  const before = known.primary?.datacenter ?? null;
  const isOther = before !== null && before !== primary;
  if (isOther && its === promotions)
    throw refuse(
      `datacenter ${before} is the primary one, too, by ${promotions === 0 ? "its creation" : `promotion ${promotions}`}; promote the one that is to remain`,
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
export async function requireUsable(
  listing: PrimaryListing,
  known: readonly Certificate[],
  primary: string,
  now: Date,
): Promise<void> {
  const refuse = (why: string) =>
    new ConflictError("transition_invalid", `Cannot follow datacenter ${primary}: ${why}`);
  const active = activeOf(listing);
  if (active.abandoned) throw refuse(`its active root ${active.certificate.id} was abandoned`);
  const { id, notBefore, notAfter } = active.certificate;
  if (!inForce(active.certificate, now))
    throw refuse(
      notBefore > now
        ? `its active root ${id} is not valid before ${notBefore.toISOString()}; check the clocks of both`
        : `its active root ${id} expired at ${notAfter.toISOString()}; replace the root there, and this datacenter follows`,
    );
  const dropped = new Set(listing.dropped.map((root) => root.id));
  const both = listing.roots.find(({ certificate }) => dropped.has(certificate.id));
  if (both !== undefined)
    throw refuse(`it publishes root ${both.certificate.id}, which it lists as dropped`);
  const ids = new Set(known.map(({ id }) => id));
  for (const { certificate } of listing.roots) {
    if (ids.has(certificate.id)) continue;
    if (!certificate.isCa || !(await isSignedBy(certificate, certificate)))
      throw refuse(`it publishes ${certificate.id}, which is not a self-signed CA certificate`);
  }
}
