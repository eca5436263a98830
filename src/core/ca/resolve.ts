/**
 * Merges two states of one CA: after a store lost writes, when a backup is restored, or when a
 * secondary datacenter becomes the primary one with the backup of that one. One side is kept; the roots of the other side stay published as retired until none of their leaves is alive.
 * @module
 */

import type { DeletionTime } from "../deletion-time.ts";
import { ConflictError } from "../errors.ts";
import {
  activeRecord,
  activeRoot,
  type CaState,
  MAX_ANCESTORS,
  type ProviderRecord,
  type RootEntry,
} from "../state.ts";
import type { Certificate } from "../x509/certificate.ts";
import type { ResolutionRequest } from "./api.ts";
import type { Hints } from "./ca-ports.ts";
import { requireChainSize } from "./chain-size.ts";
import type { ChangeContext, PlannedChange } from "./change.ts";
import { crossChainOf, issuerChainOf } from "./cross-chain.ts";
import { buildCrossChain } from "./cross-sign.ts";
import { requireNotDropped, unitedDrops, withoutRoots } from "./dropped-roots.ts";
import { isGarbage, withGarbage } from "./garbage.ts";
import { replacedIssuers, unitedIssuers, withKeptIssuers } from "./leaf-issuers.ts";
import { newCommitId, openProved, wrapConfigError } from "./plan-change.ts";
import { isDead } from "./root-removal.ts";
import { parseOf, snapshotOf, typeOf } from "./snapshot.ts";
import { abandonedBy, retire, stamp } from "./transitions.ts";

interface Resolution {
  readonly kept: CaState;
  /** Null if there is no other state. */
  readonly other: CaState | null;
  /** The highest index seen on either side: the result gets the next one. */
  readonly index: number;
  readonly forceWithoutCrossSigning: boolean;
  readonly kind: "resolve" | "restore" | "promote";
  /** For what may be dropped because it expired. */
  readonly time: DeletionTime;
}

/** Which of two states is kept, and the other one. @throws {ConflictError} `no_conflict` */
export function choose(
  keep: ResolutionRequest["keep"],
  snapshot: CaState,
  stored: CaState | null,
): [CaState, CaState | null] {
  if (keep === "snapshot") return [snapshot, stored];
  if (stored !== null) return [stored, snapshot];
  throw new ConflictError(
    "no_conflict",
    "Cannot keep the stored state: the store holds none; keep the snapshot",
  );
}

/** @throws {ConflictError} `cluster_differs` if a backup is not of the present CA */
export function requireSameCluster(
  backup: CaState,
  present: CaState | null,
  { importBackup }: Hints,
): void {
  if (present === null) return;
  if (present.clusterId !== backup.clusterId)
    throw new ConflictError(
      "cluster_differs",
      `Cannot restore: the backup is of cluster ${backup.clusterId}, this is ${present.clusterId}; ${importBackup}`,
    );
  // Two CAs that were created with one cluster id: no leaf of one is valid in the other.
  if (present.trustDomain !== backup.trustDomain)
    throw new ConflictError(
      "cluster_differs",
      `Cannot restore: the backup is of trust domain ${backup.trustDomain}, this is ${present.trustDomain}; ${importBackup}`,
    );
}

/**
 * Compares the index under which an operator decided to restore a backup, as a change of the
 * configuration does.
 * @param modifyIndex 0 or null: no comparison.
 * @throws {ConflictError} `index_mismatch`, with the root that would become active
 */
export function requireRestorable(
  backup: CaState,
  present: CaState | null,
  modifyIndex: bigint | null,
): void {
  const index = present?.config.modifyIndex ?? 0;
  if (modifyIndex === null || modifyIndex === 0n || modifyIndex === BigInt(index)) return;
  const now =
    present === null ? "there is no CA now" : `root ${activeRoot(present).id} is active now`;
  throw new ConflictError(
    "index_mismatch",
    `ModifyIndex did not match existing: it is ${index}. Nothing was restored; the backup would make root ${activeRoot(backup).id} active, and ${now}`,
  );
}

/**
 * @throws {ConflictError} `root_abandoned` if the root that would become active was abandoned on
 * the other side
 */
function requireNotAbandoned(kept: CaState, other: CaState | null): void {
  const { id } = activeRoot(kept);
  if (other?.roots.some((root) => root.id === id && root.abandoned) !== true) return;
  throw new ConflictError(
    "root_abandoned",
    `Cannot make root ${id} active: a forced rotation abandoned it since, as is done if a key may be stolen. ForceWithoutCrossSigning makes it active nevertheless`,
  );
}

/**
 * Works out the state that follows both.
 * @throws {ConfigError} if the kept root cannot be certified by another one that is published,
 * without force
 * @throws {SealError} @throws {ProviderError} @throws {ConflictError}
 */
export async function planResolution(
  resolution: Resolution,
  change: ChangeContext,
): Promise<PlannedChange> {
  const { forceWithoutCrossSigning: force } = resolution;
  const { now, policy, random, providers: types } = change;
  const kept = withKeptIssuers(resolution.kept, types);
  const other = resolution.other === null ? null : withKeptIssuers(resolution.other, types);
  const index = resolution.index + 1;
  if (!force) requireNotAbandoned(kept, other);
  if (other !== null)
    requireNotDropped(other, activeRoot(kept).certificate, "Cannot make a root active again");
  const united = unite(kept, other, change, resolution.time);
  const type = typeOf(types, kept.config.provider);
  const config = wrapConfigError(() => parseOf(type, kept));
  const root = activeRoot(united).certificate;
  const prepared = { root, state: kept.provider.active };
  const provider = await openProved(united, { type, config, prepared }, change);
  // The cross-signed certificates of a secondary datacenter are the primary's, which it follows next.
  const { chain, abandonedRoots, forceWouldAbandon } =
    kept.primary === null
      ? await buildCrossChain(snapshotOf(united, config, provider), provider, root, force, change)
      : { chain: crossChainOf(activeRoot(kept)), abandonedRoots: [], forceWouldAbandon: [] };
  const ownAccess = kept.access ?? other?.access ?? null;
  const next: CaState = {
    ...united,
    // A backup has no ACL records: the present ones stay, and an empty store begins without.
    access: resolution.kind === "resolve" ? ownAccess : (other?.access ?? null),
    commitId: newCommitId(random),
    index,
    config: { ...kept.config, modifyIndex: index },
    roots: stamp(
      united.roots.map((entry) =>
        withOutcome(entry, [...provider.issuerChain, ...chain], abandonedRoots),
      ),
      index,
    ),
    provider: {
      active: kept.provider.active,
      retired: Object.fromEntries(
        Object.entries(united.provider.retired).filter(([id]) => !abandonedRoots.includes(id)),
      ),
      prepared: kept.provider.prepared,
    },
  };
  // A chain and a listing as long as those of the kept state were accepted before.
  if (isLonger(next, kept)) {
    const retiring = other === null ? null : activeRoot(other).id;
    await requireChainSize({ next, retiring, force, forceWouldAbandon }, change);
  }
  return {
    kind: resolution.kind,
    snapshot: snapshotOf(
      withGarbage(withIssuerOf(other, united), next, { types, policy, now }),
      config,
      provider,
    ),
    abandonedRoots,
  };
}

/** With the issuer of a secondary datacenter among what is dropped: its external resources are garbage. */
function withIssuerOf(other: CaState | null, united: CaState): CaState {
  if (other === null || other.primary === null) return united;
  const { retired } = united.provider;
  return {
    ...united,
    provider: {
      ...united.provider,
      retired: { [activeRoot(other).id]: activeRecord(other), ...retired },
    },
  };
}

/** Whether leaves or the listing of roots become longer than they are in a state. */
function isLonger(next: CaState, than: CaState): boolean {
  return (
    activeRoot(next).intermediates.length > activeRoot(than).intermediates.length ||
    next.roots.length > than.roots.length
  );
}

function withOutcome(
  entry: RootEntry,
  chain: readonly Certificate[],
  abandonedRoots: readonly string[],
): RootEntry {
  if (entry.status === "active") return { ...entry, intermediates: chain };
  return { ...entry, abandoned: entry.abandoned || abandonedRoots.includes(entry.id) };
}

/**
 * The kept state with every root of the other one that may still be needed, and the keys of all of
 * them.
 */
function unite(
  kept: CaState,
  other: CaState | null,
  { now, policy }: Pick<ChangeContext, "now" | "policy">,
  time: DeletionTime,
): CaState {
  if (other === null) return { ...kept, ancestors: ancestorsOf(kept, null) };
  const active = activeRoot(kept);
  const theirs = new Map(other.roots.map((root) => [root.id, root]));
  // A root that the other side has pruned must not be published, and its key trusted, again.
  const isPruned = (root: RootEntry) => !theirs.has(root.id) && isDead(root, policy, time);
  const unpruned = kept.roots.filter((root) => !isPruned(root));
  const mine = unpruned.map((root) => {
    const twin = theirs.get(root.id);
    theirs.delete(root.id);
    if (twin === undefined) return root;
    if (root !== active) return both(root, twin, now);
    const leafTtlMaxMs = Math.max(root.leafTtlMaxMs, twin.leafTtlMaxMs);
    const leafIssuers = unitedIssuers(root.leafIssuers, twin.leafIssuers);
    const issuer = issuerChainOf(root)[0] ?? root.certificate;
    return {
      ...root,
      leafTtlMaxMs,
      leafIssuers: replacedIssuers({ leafIssuers, leafTtlMaxMs }, issuer, now),
    };
  });
  // By confirmed time: the clock may be ahead for a moment.
  const added = [...theirs.values()]
    .map((root) => retiredSince(root, now))
    .filter((root) => !isDead(root, policy, time));
  const dropped = unitedDrops(kept.dropped, other.dropped, now);
  const isDropped = ({ id }: RootEntry) => dropped.some((root) => root.id === id);
  const all = [...mine, ...added];
  const roots = withoutRoots(all, all.filter(isDropped));
  const records: Record<string, ProviderRecord> = {
    ...other.provider.retired,
    // The key of a secondary datacenter is the one of its issuer, not of the root.
    ...(other.primary === null ? { [activeRoot(other).id]: activeRecord(other) } : {}),
    ...kept.provider.retired,
  };
  const wanted = roots.filter(({ id, abandoned }) => id !== active.id && !abandoned);
  return {
    ...kept,
    ...positionIn(kept, other),
    ancestors: ancestorsOf(kept, other),
    // Their holders have them, whichever state is kept.
    intermediates: [
      ...kept.intermediates,
      ...other.intermediates.filter(({ serial }) =>
        kept.intermediates.every((own) => own.serial !== serial),
      ),
    ],
    roots,
    dropped,
    provider: {
      active: kept.provider.active,
      retired: Object.fromEntries([
        ...Object.entries(records).filter(([id]) => isGarbage(id)),
        ...wanted.flatMap(({ id }) =>
          records[id] === undefined ? [] : [[id, records[id]] as const],
        ),
      ]),
      prepared: kept.provider.prepared,
    },
  };
}

/**
 * Which datacenter is the primary one. An older backup must not lower the number of promotions: those
 * that follow this datacenter would refuse it, and this one would follow one that was superseded.
 */
function positionIn(kept: CaState, other: CaState): Pick<CaState, "primary" | "promotions"> {
  const { primary, promotions } = kept;
  const isOtherRole = (primary === null) !== (other.primary === null);
  if (isOtherRole || other.promotions <= promotions) return { primary, promotions };
  // When the intermediate is renewed goes with the kept one.
  const followed =
    other.primary === null ? null : { ...other.primary, renewAt: primary?.renewAt ?? null };
  return { primary: followed, promotions: other.promotions };
}

/** A root that both sides have, retired in the kept one. */
function both(root: RootEntry, twin: RootEntry, now: Date): RootEntry {
  // If the other side still signed by it, its latest leaves are from now.
  const last = Math.max(
    ...[root.rotatedOutAt, retiredSince(twin, now).rotatedOutAt].map(
      (date) => date?.getTime() ?? 0,
    ),
  );
  const leafTtlMaxMs = Math.max(root.leafTtlMaxMs, twin.leafTtlMaxMs);
  const leafIssuers = unitedIssuers(root.leafIssuers, twin.leafIssuers);
  return {
    ...root,
    rotatedOutAt: new Date(last),
    ...abandonedBy(root, twin),
    leafTtlMaxMs,
    leafIssuers: replacedIssuers({ leafIssuers, leafTtlMaxMs }, null, now),
    createIndex: Math.min(root.createIndex, twin.createIndex),
  };
}

function retiredSince(root: RootEntry, now: Date): RootEntry {
  return root.status === "retired" ? root : retire(root, now);
}

/** The newest of both sides in turn, so that a replica of either side finds the state it has seen. */
function ancestorsOf(kept: CaState, other: CaState | null): string[] {
  const [mine, theirs] = [
    [kept.commitId, ...kept.ancestors],
    other === null ? [] : [other.commitId, ...other.ancestors],
  ];
  const ids = Array.from({ length: MAX_ANCESTORS }, (_, i) => [mine[i], theirs[i]]).flat();
  return [...new Set(ids.filter((id) => id !== undefined))].slice(0, MAX_ANCESTORS);
}
