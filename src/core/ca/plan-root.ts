/**
 * Plans the first root, and another root that no change of the configuration asks for: on request,
 * when RootAutoRotate requires it, or since the active one was replaced outside.
 * @module
 */
import { ConfigError } from "../errors.ts";
import type { Random } from "../ports/clock.ts";
import type { ClusterIdentity } from "../spiffe/trust-domain.ts";
import { autoRotationAt } from "./auto-rotation.ts";
import type { ChangeContext, PlannedChange } from "./change.ts";
import { sameJson } from "./config-fields.ts";
import {
  activeTarget,
  newCommitId,
  newRoot,
  openProved,
  planRotation,
  planSameRoot,
  prepare,
  readFirstConfig,
  requireIndex,
  requireValid,
} from "./plan-change.ts";
import { type Snapshot, snapshotOf } from "./snapshot.ts";
import { bootstrap, type NewConfig } from "./transitions.ts";

export interface RotationRequest {
  readonly forceWithoutCrossSigning: boolean;
  readonly modifyIndex: bigint | null;
}

export interface BootstrapConfig extends NewConfig {
  /** Null: a random one. */
  readonly clusterId: string | null;
  /** Null: that of the cluster id. */
  readonly trustDomain: string | null;
}

/** 16 random bytes printed 8-4-4-4-12, without a UUID's version bits, as Consul does (go-uuid). */
export function newClusterId(random: Random): string {
  return newCommitId(random).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** Plans the first state. @throws {ConfigError} @throws {ProviderError} */
export async function planBootstrap(
  cluster: ClusterIdentity,
  request: NewConfig,
  change: ChangeContext,
): Promise<PlannedChange> {
  const { now, random, onRollback } = change;
  const { type, sent, config, stored } = readFirstConfig(cluster, request, "primary", change);
  const checkRoot = async () => undefined;
  const prepared = await type.prepare(
    sent,
    { previous: null, fresh: false, now, onRollback, checkRoot },
    change.contextFor(cluster),
  );
  const provider = await openProved(cluster, { type, config, prepared }, change);
  requireValid(provider, prepared.root, now);
  const next = bootstrap(cluster, newCommitId(random), {
    config: stored,
    root: newRoot(type, prepared, provider, now),
    leafTtlMs: config.leafTtlMs,
    now,
  });
  return {
    kind: "bootstrap",
    snapshot: snapshotOf(next, config, provider),
    warnings: prepared.warnings,
  };
}

/**
 * Plans "rotate now": a new root with the stored configuration.
 * @throws {ConfigError} if the root was supplied @throws {ConflictError} @throws {SealError}
 * @throws {ProviderError}
 */
export async function planNewRoot(
  snapshot: Snapshot,
  { forceWithoutCrossSigning: force, modifyIndex }: RotationRequest,
  change: ChangeContext,
): Promise<PlannedChange> {
  requireIndex(snapshot.state, modifyIndex);
  const { type, config } = activeTarget(snapshot, change);
  const obstacle = type.rotateObstacle(config, null);
  if (obstacle !== null) throw new ConfigError(obstacle);
  const prepared = await prepare(snapshot, { type, config }, { fresh: true, force }, change);
  const candidate = { type, config, stored: snapshot.state.config, prepared };
  // Below an external root only the issuers are new.
  if (prepared.root.id === snapshot.active.id) return planSameRoot(snapshot, candidate, change);
  return planRotation(snapshot, candidate, force, change);
}

/**
 * Plans the rotation that RootAutoRotate requires, without force.
 * @returns null if it is not due any more.
 * @throws {ConfigError} @throws {ConflictError} @throws {SealError} @throws {ProviderError}
 */
export async function planAutoRotation(
  snapshot: Snapshot,
  change: ChangeContext,
): Promise<PlannedChange | null> {
  const at = autoRotationAt(snapshot.state, change.providers);
  // Another replica may have rotated since.
  if (at === null || at > change.now) return null;
  const request = { forceWithoutCrossSigning: false, modifyIndex: null };
  return { ...(await planNewRoot(snapshot, request, change)), kind: "auto-rotate" };
}

/**
 * Plans to follow, without force, another root that took the active one's place outside.
 * @returns null if it is still the active one.
 * @throws {ConfigError} if the other root cannot be cross-signed @throws {SealError} @throws
 * {ProviderError}
 */
export async function planReplacedRoot(
  snapshot: Snapshot,
  change: ChangeContext,
): Promise<PlannedChange | null> {
  const { state } = snapshot;
  const target = activeTarget(snapshot, change);
  const prepared = await prepare(snapshot, target, { fresh: false, force: false }, change);
  const candidate = { ...target, stored: state.config, prepared };
  if (prepared.root.id !== snapshot.active.id)
    return planRotation(snapshot, candidate, false, change);
  if (sameJson(prepared.state, state.provider.active)) return null;
  return planSameRoot(snapshot, candidate, change);
}
