/**
 * Plans to drop a root since others may know its key: it is published no more, its key destroyed, every
 * certificate by it or for it taken out of all chains, and the chain of leaves built anew with the roots
 * that stay. If it was active, another root becomes active in the same commit.
 * @module
 */
import { CaError, ConfigError, ConflictError, RequestError } from "../errors.ts";
import {
  activeRecord,
  activeRoot,
  type CaState,
  type ProviderRecord,
  type RootEntry,
} from "../state.ts";
import { inForce } from "../x509/certificate.ts";
import { requireChainSize } from "./chain-size.ts";
import type { ChangeContext, PlannedChange } from "./change.ts";
import { issuerChainOf } from "./cross-chain.ts";
import { buildCrossChain } from "./cross-sign.ts";
import {
  recordDrops,
  rootsOfKey,
  type TrustOfDropped,
  trustedThrough,
  trustOfDropped,
  withoutRoots,
} from "./dropped-roots.ts";
import { garbageKey } from "./garbage.ts";
import { activeTarget, newCommitId, planRotation, requireIndex } from "./plan-change.ts";
import { planActivation } from "./plan-promotion.ts";
import { prepareAgain } from "./plan-rollback.ts";
import { type Snapshot, typeOf, withState } from "./snapshot.ts";
import { after, stamp } from "./transitions.ts";

export interface DropRequest {
  readonly id: string;
  /** Make a new root the active one, also if another one could become it. */
  readonly newRoot: boolean;
  /** Drop the roots, too, through which the root is trusted; in place of an active one a new one is made. */
  readonly alsoThrough: boolean;
  /** Abandon roots that cannot certify the active one, and drop a root whose provider is unavailable. */
  readonly forceWithoutCrossSigning: boolean;
  /** 0 or null: no comparison. */
  readonly modifyIndex: bigint | null;
}

/** What a drop did, besides the state that it left. */
export interface DropOutcome {
  /** IDs, the requested one first. */
  readonly droppedRoots: readonly string[];
  /** The published roots that still make dropped ones be trusted. */
  readonly trust: readonly TrustOfDropped[];
  /** What stays in a provider since others made it, for an operator. */
  readonly left: readonly string[];
}

/** A root that is dropped, with what there is of its key. */
interface Dropping {
  readonly root: RootEntry;
  readonly record: ProviderRecord | null;
}

/**
 * Plans a drop.
 * @throws {RequestError} `not_found` for a root that is not listed
 * @throws {ConflictError} if no root could take the place of the active one @throws {ConfigError}
 * @throws {SealError} @throws {ProviderError} @throws {StoreError}
 */
export async function planDrop(
  snapshot: Snapshot,
  request: DropRequest,
  change: ChangeContext,
): Promise<DropOutcome & { readonly planned: PlannedChange }> {
  const { state } = snapshot;
  const { now } = change;
  if (state.primary !== null)
    throw new ConflictError(
      "transition_invalid",
      `Cannot drop a root: this datacenter follows ${state.primary.datacenter} and has its roots; drop it in ${state.primary.datacenter}`,
    );
  requireIndex(state, request.modifyIndex);
  const gone = rootsToDrop(state, request, now);
  const dropping = gone.map((root) => ({ root, record: recordOf(state, root) }));
  const left = await leavings(state, dropping, request, change);
  const base = withState(snapshot, withoutKeys(state, gone, now));
  const planned = await planSuccessor(snapshot, base, gone, request, change);
  const next = finished(state, planned.snapshot.state, gone, left.garbage);
  const droppedRoots = gone.map(({ id }) => id);
  return {
    droppedRoots,
    trust: trustOfDropped(next, now).filter(({ droppedId }) => droppedRoots.includes(droppedId)),
    left: left.texts,
    planned: {
      ...planned,
      kind: "drop",
      snapshot: withState(planned.snapshot, next),
      droppedRoots,
    },
  };
}

/** The root of a request, those of its key, and those through which it is trusted if they go too. */
function rootsToDrop(
  { roots }: CaState,
  { id, alsoThrough }: DropRequest,
  now: Date,
): readonly RootEntry[] {
  const root = roots.find((entry) => entry.id === id);
  if (root === undefined)
    throw new RequestError(
      "not_found",
      `Cannot drop a root: no root ${JSON.stringify(id)} is listed`,
    );
  const ofKey = [root, ...rootsOfKey(roots, root).filter((entry) => entry !== root)];
  if (!alsoThrough) return ofKey;
  const through = trustedThrough(roots, ofKey, now).map(({ rootId }) => rootId);
  return [...ofKey, ...roots.filter((entry) => through.includes(entry.id))];
}

function recordOf(state: CaState, { id, status }: RootEntry): ProviderRecord | null {
  if (status === "active") return activeRecord(state);
  const { retired, prepared } = state.provider;
  return retired[id] ?? (prepared?.rootId === id ? prepared : null);
}

/** What dropped roots leave in their providers: to be deleted, by the root's ID, and what stays. */
async function leavings(
  state: CaState,
  dropping: readonly Dropping[],
  { forceWithoutCrossSigning: force }: DropRequest,
  change: ChangeContext,
): Promise<{ readonly garbage: ReadonlyMap<string, ProviderRecord>; readonly texts: string[] }> {
  const garbage = new Map<string, ProviderRecord>();
  const texts: string[] = [];
  for (const { root, record } of dropping) {
    if (record === null) continue;
    const type = typeOf(change.providers, record.provider);
    const { garbage: collector } = type;
    if (collector === undefined) continue;
    // A record of a secondary datacenter names no root, and to delete needs none.
    const config = type.parse(record.config, "secondary");
    const look = (offline: boolean) =>
      collector.garbageOfDropped(config, record.state, change.contextFor(state), offline);
    const found = await look(false).catch((error: unknown) => {
      if (error instanceof CaError && error.code === "provider_unavailable" && force)
        return look(true);
      throw error;
    });
    texts.push(...found.left);
    if (found.state !== null) garbage.set(root.id, { ...record, state: found.state });
  }
  return { garbage, texts };
}

/**
 * The state without the keys of dropped roots and without their rows, but for an active one, which stays
 * until another root takes its place and is not to be reached then.
 */
function withoutKeys(state: CaState, gone: readonly RootEntry[], now: Date): CaState {
  const ids = gone.map(({ id }) => id);
  const { active, retired, prepared } = state.provider;
  const present = activeRoot(state);
  const rows = withoutRoots(
    state.roots,
    gone.filter(({ status }) => status !== "active"),
  );
  return {
    ...state,
    roots: rows.map((root) =>
      ids.includes(root.id)
        ? { ...present, abandoned: true, intermediates: issuerChainOf(present) }
        : root,
    ),
    dropped: recordDrops(state, gone, now),
    provider: {
      active,
      retired: Object.fromEntries(Object.entries(retired).filter(([id]) => !ids.includes(id))),
      prepared: prepared === null || ids.includes(prepared.rootId) ? null : prepared,
    },
  };
}

/** The change that leaves a root active which is not dropped. */
async function planSuccessor(
  snapshot: Snapshot,
  base: Snapshot,
  gone: readonly RootEntry[],
  { newRoot, alsoThrough, forceWithoutCrossSigning: force }: DropRequest,
  change: ChangeContext,
): Promise<PlannedChange> {
  const dropsActive = gone.some(({ id }) => id === snapshot.active.id);
  const { prepared } = base.state.provider;
  if (newRoot || (alsoThrough && dropsActive)) {
    if (prepared !== null)
      throw new ConflictError(
        "transition_invalid",
        `Cannot drop a root and make a new one: root ${prepared.rootId} is prepared; without a new root it becomes active at once if the active one is dropped`,
      );
    return planFresh(base, gone, force, change);
  }
  if (!dropsActive) {
    requireKeyLeft(snapshot, base);
    return planSameActive(snapshot, base, force, change);
  }
  const activated = await planActivation(base, change);
  if (activated !== null) return activated;
  const successor = usable(base.state, change.now);
  if (successor === null)
    throw new ConflictError(
      "transition_invalid",
      `Cannot drop root ${snapshot.active.id}: it is active, and no other root has a key with which leaves can be signed; have a new root made in its place ("NewRoot": true)`,
    );
  return planRevival(base, successor, force, change);
}

/** @throws {ConflictError} if only a prepared root has a key here, which is dropped */
function requireKeyLeft({ state, provider }: Snapshot, base: Snapshot): void {
  const { prepared } = state.provider;
  if (prepared === null || base.state.provider.prepared !== null) return;
  if (provider !== null && provider.crossSigner !== null) return;
  throw new ConflictError(
    "transition_invalid",
    `Cannot drop root ${prepared.rootId}: it is prepared, and the active root has no key here; have a new root made in its place ("NewRoot": true, "ForceWithoutCrossSigning": true)`,
  );
}

/** The active root stays. If its chain led through a dropped one, it is built anew. */
async function planSameActive(
  { active: before }: Snapshot,
  base: Snapshot,
  force: boolean,
  change: ChangeContext,
): Promise<PlannedChange> {
  const { active, provider, fault } = base;
  const next = after(base.state, newCommitId(change.random));
  if (active.intermediates.length === before.intermediates.length)
    return { kind: "drop", snapshot: withState(base, next) };
  if (provider === null) throw fault;
  const { chain, abandonedRoots, forceWouldAbandon } = await buildCrossChain(
    base,
    provider,
    active.certificate,
    force,
    change,
  );
  const roots = next.roots.map((root) =>
    root.id === active.id
      ? { ...root, intermediates: [...issuerChainOf(root), ...chain] }
      : { ...root, abandoned: root.abandoned || abandonedRoots.includes(root.id) },
  );
  const { retired } = next.provider;
  const kept = Object.entries(retired).filter(([id]) => !abandonedRoots.includes(id));
  const rebuilt = {
    ...next,
    roots,
    provider: { ...next.provider, retired: Object.fromEntries(kept) },
  };
  await requireChainSize({ next: rebuilt, retiring: null, force, forceWouldAbandon }, change);
  return { kind: "drop", snapshot: withState(base, rebuilt), abandonedRoots };
}

/** A new root becomes active, certified by those that stay. */
async function planFresh(
  base: Snapshot,
  [dropped]: readonly RootEntry[],
  force: boolean,
  change: ChangeContext,
): Promise<PlannedChange> {
  const { state, active } = base;
  const { type, config } = activeTarget(base, change);
  const refuse = (why: string) =>
    new ConflictError(
      "transition_invalid",
      `Cannot drop root ${dropped?.id}: no new root can be made in its place (${why}). Change the root in the configuration first, and drop it then`,
    );
  const obstacle = type.rotateObstacle(config, null);
  if (obstacle !== null) throw refuse(obstacle);
  const previous = {
    config: base.config,
    state: state.provider.active,
    root: active.certificate,
  };
  const { now, onRollback } = change;
  // The present root may be the dropped one, which certifies nothing.
  const checkRoot = async () => undefined;
  const prepared = await type
    .prepare(
      config,
      { previous, fresh: true, now, onRollback, checkRoot },
      change.contextFor(state),
    )
    .catch((error: unknown) => {
      throw error instanceof ConfigError ? refuse(error.message) : error;
    });
  return planRotation(base, { type, config, stored: state.config, prepared }, force, change);
}

/** The root that was retired last of those that could sign leaves; null if there is none. */
function usable({ roots, provider }: CaState, now: Date): RootEntry | null {
  const able = roots.filter(
    ({ id, status, abandoned, certificate }) =>
      status === "retired" &&
      !abandoned &&
      inForce(certificate, now) &&
      provider.retired[id] !== undefined,
  );
  const retiredAt = ({ rotatedOutAt }: RootEntry) => rotatedOutAt?.getTime() ?? 0;
  return able.toSorted((a, b) => retiredAt(b) - retiredAt(a))[0] ?? null;
}

/** A retired root becomes active again, with its provider and the fields that decide the root. */
async function planRevival(
  base: Snapshot,
  root: RootEntry,
  force: boolean,
  change: ChangeContext,
): Promise<PlannedChange> {
  const { state } = base;
  const record = state.provider.retired[root.id] as ProviderRecord;
  // The dropped root need not be able to certify it.
  const checkRoot = async () => undefined;
  const candidate = await prepareAgain(state, { root, record }, checkRoot, change);
  return planRotation(base, candidate, force, change);
}

/**
 * The state to be committed: without the dropped roots, and with what they leave in their providers.
 * @param garbage by the ID of the root.
 */
function finished(
  before: CaState,
  next: CaState,
  gone: readonly RootEntry[],
  garbage: ReadonlyMap<string, ProviderRecord>,
): CaState {
  const ids = gone.map(({ id }) => id);
  const { commitId, index, provider } = next;
  // Garbage of a root that signs again is none, and that of a dropped one is in `garbage`.
  const revived = activeRoot(next).id;
  const over = [...ids, ...[...ids, revived].map((id) => garbageKey(commitId, id))];
  const kept = Object.entries(provider.retired).filter(([key]) => !over.includes(key));
  const added = [...garbage].map(([id, record]) => [garbageKey(commitId, id), record] as const);
  const rows = withoutRoots(next.roots, gone);
  return {
    ...next,
    roots: stamp(rows, index),
    config: { ...next.config, createIndex: before.config.createIndex },
    provider: { ...provider, retired: Object.fromEntries([...kept, ...added]) },
  };
}
