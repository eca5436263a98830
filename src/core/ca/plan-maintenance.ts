/**
 * Plans the changes by which the CA maintains itself: a new issuer, new cross-signed certificates,
 * and the removal of what has expired.
 * @module
 */

import { InvariantError } from "../errors.ts";
import type { ChangeContext, PlannedChange } from "./change.ts";
import { crossChainOf } from "./cross-chain.ts";
import { buildCrossChain } from "./cross-sign.ts";
import { collectGarbage, withGarbage } from "./garbage.ts";
import { activeTarget, issuingOf, newCommitId, openProved, requireValid } from "./plan-change.ts";
import { longestConfirmMs } from "./root-removal.ts";
import { nextStep } from "./schedule.ts";
import { type Snapshot, snapshotOf, withState } from "./snapshot.ts";
import { areSame, crossAgain, prune, renewIssuer, reseal } from "./transitions.ts";

/** Plans a new issuer under the active root. @throws {SealError} @throws {ProviderError} */
export async function planRenewal(
  snapshot: Snapshot,
  change: ChangeContext,
): Promise<PlannedChange> {
  const { state, active } = snapshot;
  const { type, config } = activeTarget(snapshot, change);
  if (type.renew === undefined) throw new InvariantError("The provider has no issuer to renew");
  const { now, random, onRollback } = change;
  const root = active.certificate;
  const renewed = await type.renew(
    config,
    { state: state.provider.active, root, now, onRollback },
    change.contextFor(state),
  );
  const prepared = { root, ...renewed };
  const provider = await openProved(state, { type, config, prepared }, change);
  requireValid(provider, root, now);
  const issuing = issuingOf(provider, now);
  const next = renewIssuer(state, newCommitId(random), renewed.state, issuing);
  return {
    kind: "renew",
    snapshot: snapshotOf(next, config, provider),
    warnings: renewed.warnings,
  };
}

/**
 * Plans new cross-signed certificates for the active root: one of them expires before it is no longer
 * needed.
 * @throws {ConfigError} if a root cannot certify it any more @throws {ProviderError} @throws
 * {SealError}
 */
export async function planCrossing(
  snapshot: Snapshot,
  change: ChangeContext,
): Promise<PlannedChange> {
  const { state, active, provider, fault } = snapshot;
  if (provider === null) throw fault;
  const { chain } = await buildCrossChain(snapshot, provider, active.certificate, false, change);
  if (areSame(chain, crossChainOf(active)))
    throw new InvariantError("No cross-signed certificate is due after all");
  const next = crossAgain(state, newCommitId(change.random), chain);
  return { kind: "cross", snapshot: withState(snapshot, next) };
}

/**
 * Plans to drop dead roots with their keys, and certificates that are no longer needed.
 * @returns null if there are none. @throws {StoreError}
 */
export async function planPrune(
  snapshot: Snapshot,
  change: ChangeContext,
): Promise<PlannedChange | null> {
  const { state } = snapshot;
  const { policy, providers, random } = change;
  const time = await change.look();
  if (nextStep(state, policy, time).kind !== "prune") return null;
  const pruned = prune(state, newCommitId(random), policy, time);
  const next = withGarbage(state, pruned, { types: providers, policy, now: time.now });
  return { kind: "prune", snapshot: withState(snapshot, next) };
}

/**
 * Deletes garbage of one provider record, and plans to forget it.
 * @returns null if none is due. @throws {StoreError} @throws {ProviderError} @throws {SealError}
 */
export async function planCollection(
  snapshot: Snapshot,
  change: ChangeContext,
): Promise<PlannedChange | null> {
  const { state } = snapshot;
  const time = await change.look();
  const past = time.confirmed(longestConfirmMs(state.roots, change.policy));
  const collected = await collectGarbage(state, past, change);
  if (collected === null) return null;
  const next = reseal(state, newCommitId(change.random), collected);
  return { kind: "collect", snapshot: withState(snapshot, next) };
}
