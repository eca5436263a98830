/**
 * Plans a rollback: a retired root becomes the active one again, with its provider, its key and the
 * fields of the configuration that decide them. Every other field stays as it is.
 * @module
 */
import { ConflictError, InvariantError, RequestError } from "../errors.ts";
import type { ProviderType } from "../ports/provider.ts";
import type { CaState, ConfigMap, ProviderRecord, RootEntry } from "../state.ts";
import type { Certificate } from "../x509/certificate.ts";
import { autoRotationAt } from "./auto-rotation.ts";
import type { ChangeContext, PlannedChange } from "./change.ts";
import { onlyFields, withoutFields } from "./config-fields.ts";
import { requireCrossSigning } from "./cross-sign.ts";
import { planRotation, requireIndex, wrapConfigError } from "./plan-change.ts";
import type { RotationRequest } from "./plan-root.ts";
import { type Snapshot, typeOf } from "./snapshot.ts";

export interface RollbackRequest extends RotationRequest {
  /** The ID of a retired root. */
  readonly to: string;
}

/** @throws {ConflictError} `transition_invalid` in a secondary datacenter */
export function requirePrimary({ primary }: CaState): void {
  if (primary === null) return;
  throw new ConflictError(
    "transition_invalid",
    `Cannot roll back: this datacenter follows ${primary.datacenter} and has no root of its own; roll back in ${primary.datacenter}`,
  );
}

/**
 * Plans a rollback. As in any rotation a leaf of the root verifies under each published root, or
 * force abandons those under which it does not.
 * @throws {RequestError} `not_found` for a root that is not listed
 * @throws {ConflictError} if the root cannot be used any more @throws {ConfigError}
 * @throws {SealError} @throws {ProviderError}
 */
export async function planRollback(
  snapshot: Snapshot,
  { to, forceWithoutCrossSigning: force, modifyIndex }: RollbackRequest,
  change: ChangeContext,
): Promise<PlannedChange> {
  const { state } = snapshot;
  requireIndex(state, modifyIndex);
  const retired = requireUsable(state, to, change.now);
  const checkRoot = async (found: Certificate | null) =>
    force ? undefined : requireCrossSigning(snapshot, found, change);
  const candidate = await prepareAgain(state, retired, checkRoot, change);
  const planned = await planRotation(snapshot, candidate, force, change);
  requireToStay(planned.snapshot, change);
  return { ...planned, kind: "rollback" };
}

/** A retired root with its key. */
interface Retired {
  readonly root: RootEntry;
  readonly record: ProviderRecord;
}

/**
 * Prepares a retired root to become the active one again.
 * @param checkRoot as `PrepareRequest` has it.
 * @returns what `planRotation` takes. @throws {ConfigError} @throws {SealError} @throws {ProviderError}
 */
export async function prepareAgain(
  state: CaState,
  { root, record }: Retired,
  checkRoot: (root: Certificate | null) => Promise<void>,
  change: ChangeContext,
) {
  const { now, onRollback, providers } = change;
  const type = typeOf(providers, record.provider);
  const { forceWithoutCrossSigning } = state.config;
  const merged = mergedConfig(state, record, typeOf(providers, state.config.provider), type);
  const stored = { provider: type.name, config: merged, forceWithoutCrossSigning };
  const config = wrapConfigError(() => type.parse(merged));
  const prepared = await type.prepare(
    config,
    {
      previous: { config: type.parse(record.config), state: record.state, root: root.certificate },
      ...{ fresh: false, onlyPrevious: true, now, onRollback },
      checkRoot,
    },
    change.contextFor(state),
  );
  if (prepared.root.id !== root.id)
    throw new InvariantError(`The provider ${type.name} prepared another root than ${root.id}`);
  return { type, config, stored, prepared, continuesRecord: true };
}

/**
 * The root to go back to, and its key.
 * @throws {RequestError} @throws {ConflictError}
 */
function requireUsable({ roots, provider }: CaState, id: string, now: Date): Retired {
  const root = roots.find((entry) => entry.id === id);
  if (root === undefined)
    throw new RequestError(
      "not_found",
      `Cannot roll back: no root ${JSON.stringify(id)} is listed. A root that no leaf needs is removed, with its key`,
    );
  const refuse = (code: "transition_invalid" | "root_abandoned", why: string) =>
    new ConflictError(code, `Cannot roll back: root ${id} ${why}`);
  if (root.status === "active") throw refuse("transition_invalid", "is active already");
  if (root.abandoned)
    throw refuse("root_abandoned", "was abandoned by a forced rotation, and its key destroyed");
  const { notAfter } = root.certificate;
  if (notAfter <= now) throw refuse("transition_invalid", `expired on ${notAfter.toISOString()}`);
  const record = provider.retired[id];
  if (record === undefined) throw refuse("transition_invalid", "has no key here");
  return { root, record };
}

/** The present configuration, with the fields that decide the root from the record of that root. */
function mergedConfig(
  { config: present }: CaState,
  record: ProviderRecord,
  from: ProviderType,
  to: ProviderType,
): ConfigMap | null {
  if (present.config === null && record.config === null) return null;
  return {
    ...withoutFields(present.config ?? {}, [...from.rootFields, ...to.rootFields]),
    ...onlyFields(record.config ?? {}, to.rootFields),
  };
}

/** @throws {ConflictError} `transition_invalid` if RootAutoRotate would replace the root at once */
function requireToStay({ state, active }: Snapshot, { providers, now }: ChangeContext): void {
  const at = autoRotationAt(state, providers);
  if (at === null || at > now) return;
  throw new ConflictError(
    "transition_invalid",
    `Cannot roll back: RootAutoRotate would replace root ${active.id} at once, since ${at.toISOString()}; set it to 0 or to a larger share of the root's life first`,
  );
}
