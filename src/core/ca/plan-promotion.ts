/**
 * Plans the promotion of a datacenter to the primary one: with the root of the lost primary, from its
 * backup; with a new root, which is published before it signs, since nothing certifies it; or, in a
 * datacenter that is a primary one already, with its own.
 * @module
 */
import type { DeletionTime } from "../deletion-time.ts";
import { ConfigError, ConflictError } from "../errors.ts";
import type { PrimacyClaim } from "../ports/primary.ts";
import type { ProviderTypes } from "../ports/provider.ts";
import {
  activeRecord,
  activeRoot,
  type CaState,
  type PreparedRoot,
  type ProviderRecord,
} from "../state.ts";
import type { Change, ChangeContext, PlannedChange } from "./change.ts";
import { isGarbage } from "./garbage.ts";
import {
  newCommitId,
  newRoot,
  openProved,
  planRotation,
  requireIndex,
  requireNothingPrepared,
  requireType,
  requireValid,
  wrapConfigError,
} from "./plan-change.ts";
import { planResolution } from "./resolve.ts";
import { rebound } from "./rewrap.ts";
import { type Snapshot, snapshotOf, typeOf, withState } from "./snapshot.ts";
import { after, prepareRoot } from "./transitions.ts";

/** With which root a datacenter becomes the primary one. */
export type PromotionRoot =
  /** That of a backup of the primary datacenter. */
  | { readonly kind: "backup"; readonly backup: CaState }
  /** A new one, which becomes active when clients have had `soakMs` to read it. */
  | { readonly kind: "new"; readonly soakMs: number }
  /** Its own, if it is a primary datacenter. */
  | { readonly kind: "own" };

export interface PromotionRequest {
  readonly root: PromotionRoot;
  readonly forceWithoutCrossSigning: boolean;
  /** 0 or null: no comparison. */
  readonly modifyIndex: bigint | null;
}

type Promoting = ChangeContext & Pick<Change, "sealer" | "hints" | "datacenter">;

/**
 * Plans a promotion.
 * @param claims which datacenter is the primary one, as other datacenters report.
 * @throws {ConflictError} if the root is not one of this mesh, or is not to be used
 * @throws {ConfigError} @throws {SealError} @throws {ProviderError} @throws {StoreError}
 */
export async function planPromotion(
  snapshot: Snapshot,
  { root, forceWithoutCrossSigning: force, modifyIndex }: PromotionRequest,
  claims: readonly PrimacyClaim[],
  change: Promoting,
): Promise<PlannedChange> {
  const { state } = snapshot;
  if (change.datacenter === null)
    throw new ConflictError(
      "transition_invalid",
      "Cannot promote: this deployment has one datacenter, which is the primary one",
    );
  requireIndex(state, modifyIndex);
  requireNothingPrepared(state);
  const highest = Math.max(state.promotions, ...claims.map(({ promotions }) => promotions));
  switch (root.kind) {
    case "backup": {
      const { backup } = root;
      const promotions = Math.max(highest, backup.promotions) + 1;
      return planWithBackup(
        state,
        { backup, promotions, force, time: await change.look() },
        change,
      );
    }
    case "new":
      return planWithNewRoot(snapshot, highest + 1, root.soakMs, change);
    case "own":
      return planWithOwnRoot(snapshot, highest + 1, change);
  }
}

async function planWithBackup(
  state: CaState,
  {
    backup,
    promotions,
    force,
    time,
  }: {
    readonly backup: CaState;
    readonly promotions: number;
    readonly force: boolean;
    readonly time: DeletionTime;
  },
  change: Promoting,
): Promise<PlannedChange> {
  const { sealer, providers } = change;
  requirePrimaryOf(state, backup);
  const handedOver = { ...backup, provider: handOver(backup, providers) };
  const provider = await rebound(handedOver, providers, {
    from: sealer.of(backup.datacenter),
    to: sealer,
  });
  const kept: CaState = { ...backup, provider, promotions };
  const index = Math.max(backup.index, state.index);
  return planResolution(
    { kind: "promote", kept, other: state, index, forceWithoutCrossSigning: force, time },
    change,
  );
}

/** The keys of a backup, without what the other datacenter created outside and has to delete. */
function handOver(backup: CaState, providers: ProviderTypes): CaState["provider"] {
  const { prepared, retired } = backup.provider;
  const handed = <T extends ProviderRecord>(record: T): T => ({
    ...record,
    state: typeOf(providers, record.provider).handOver?.(record.state) ?? record.state,
  });
  return {
    active: handed(activeRecord(backup)).state,
    retired: Object.fromEntries(
      Object.entries(retired)
        .filter(([key]) => !isGarbage(key))
        .map(([key, record]) => [key, handed(record)]),
    ),
    prepared: prepared === null ? null : handed(prepared),
  };
}

/** @throws {ConflictError} if a backup is not of the primary datacenter that a state follows */
function requirePrimaryOf({ primary, clusterId, trustDomain }: CaState, backup: CaState): void {
  const refuse = (
    why: string,
    code: "cluster_differs" | "transition_invalid" = "transition_invalid",
  ) => new ConflictError(code, `Cannot promote: the backup ${why}`);
  for (const [what, own, other] of [
    ["cluster", clusterId, backup.clusterId],
    ["trust domain", trustDomain, backup.trustDomain],
  ] as const)
    if (own !== other)
      throw refuse(
        `is of ${what} ${other}, this is ${own}; give a backup of the primary datacenter of this mesh`,
        "cluster_differs",
      );
  if (backup.primary !== null)
    throw refuse(
      `is of the secondary datacenter ${backup.datacenter ?? "unknown"}, which has no root; give a backup of the primary datacenter`,
    );
  // A primary that was the only datacenter when it was saved has no name in its backup.
  if (primary !== null && backup.datacenter !== null && backup.datacenter !== primary.datacenter)
    throw refuse(
      `is of datacenter ${backup.datacenter}, and this datacenter follows ${primary.datacenter}`,
    );
}

async function planWithNewRoot(
  snapshot: Snapshot,
  promotions: number,
  soakMs: number,
  change: ChangeContext,
): Promise<PlannedChange> {
  const { state, active } = snapshot;
  const { now, onRollback, random, providers } = change;
  if (state.primary === null)
    throw new ConflictError(
      "transition_invalid",
      "Cannot promote with a new root: this datacenter is a primary one and has its own; promote it with that one, and rotate the root then",
    );
  const type = requireType(state.config.provider, { providers });
  const config = wrapConfigError(() => type.parse(state.config.config, "primary"));
  const obstacle = type.rotateObstacle(config, null);
  if (obstacle !== null) throw new ConfigError(obstacle);
  const previous = {
    config: snapshot.config,
    state: state.provider.active,
    root: active.certificate,
  };
  const checkRoot = async () => undefined;
  const prepared = await type.prepare(
    config,
    { previous, fresh: true, now, onRollback, checkRoot },
    change.contextFor(state),
  );
  const provider = await openProved(state, { type, config, prepared }, change);
  requireValid(provider, prepared.root, now);
  const record: PreparedRoot = {
    rootId: prepared.root.id,
    activateAt: new Date(now.getTime() + soakMs),
    provider: type.name,
    config: state.config.config,
    state: prepared.state,
  };
  const next = prepareRoot(
    { ...state, primary: null, promotions },
    newCommitId(random),
    { root: newRoot(type, prepared, provider, now), leafTtlMs: config.leafTtlMs, now },
    record,
  );
  // The present issuer signs until then.
  const { provider: present, fault } = snapshot;
  return {
    kind: "promote",
    snapshot: { ...snapshotOf(next, config, present), fault },
    warnings: prepared.warnings,
  };
}

/** @throws {ConflictError} `transition_invalid` in a secondary datacenter */
function planWithOwnRoot(
  snapshot: Snapshot,
  promotions: number,
  { random }: ChangeContext,
): PlannedChange {
  const { state } = snapshot;
  if (state.primary !== null)
    throw new ConflictError(
      "transition_invalid",
      `Cannot promote: this datacenter follows ${state.primary.datacenter} and has no root of its own; give a backup of ${state.primary.datacenter}, or have a new root made`,
    );
  const next = { ...after(state, newCommitId(random)), promotions };
  return { kind: "promote", snapshot: withState(snapshot, next) };
}

/**
 * Plans to make the prepared root the active one. Roots that cannot certify it are abandoned: clients
 * have read it since.
 * @returns null if there is none any more.
 * @throws {ConfigError} @throws {ProviderError} @throws {SealError}
 */
export async function planActivation(
  snapshot: Snapshot,
  change: ChangeContext,
): Promise<PlannedChange | null> {
  const { state } = snapshot;
  const { prepared } = state.provider;
  if (prepared === null) return null;
  const entry = state.roots.find(({ id }) => id === prepared.rootId) ?? activeRoot(state);
  const type = requireType(prepared.provider, change);
  const config = wrapConfigError(() => type.parse(prepared.config));
  const { provider, config: sent } = prepared;
  const candidate = {
    type,
    config,
    stored: { provider, config: sent, forceWithoutCrossSigning: false },
    prepared: { root: entry.certificate, state: prepared.state },
  };
  const planned = await planRotation(snapshot, candidate, true, change);
  const { abandonedRoots = [] } = planned;
  const roots = planned.snapshot.state.roots.map((root) =>
    abandonedRoots.includes(root.id) ? { ...root, lost: true } : root,
  );
  const next = withState(planned.snapshot, { ...planned.snapshot.state, roots });
  return { ...planned, kind: "activate", snapshot: next };
}
