/**
 * External resources that replaced issuers and pruned roots leave behind. Of a root that is gone the
 * state keeps what names them, among the retired records and under a key that is no root's ID, until
 * they are deleted.
 * @module
 */

import type { ProviderContext, ProviderTypes } from "../ports/provider.ts";
import type { ClusterIdentity } from "../spiffe/trust-domain.ts";
import { activeRecord, type CaState, type ProviderRecord } from "../state.ts";
import { pruneAt } from "./root-removal.ts";
import { typeOf } from "./snapshot.ts";
import type { Policy } from "./timing-and-limits.ts";

/** Stored; no root's ID begins like this. */
const PREFIX = "left:";

/** Whether a key of the retired records names garbage. */
export function isGarbage(key: string): boolean {
  return key.startsWith(PREFIX);
}

/** The key of the garbage of a root, of a commit. */
export function garbageKey(commitId: string, rootId: string): string {
  return `${PREFIX}${commitId}:${rootId}`;
}

interface GarbageOptions {
  readonly types: ProviderTypes;
  readonly policy: Policy;
  readonly now: Date;
  /**
   * Whether the active record was dropped.
   * @default whether its root is not active any more, and its record not kept
   */
  readonly dropsActive?: boolean;
  /** The root whose retired record the active one continues, so that nothing of it is dropped. */
  readonly continued?: string | null;
}

/** A state that follows another, with the garbage of the records that it dropped. */
export function withGarbage(
  before: CaState,
  next: CaState,
  { types, policy, now, dropsActive, continued = null }: GarbageOptions,
): CaState {
  const dropped = Object.entries(before.provider.retired).filter(
    ([key]) => next.provider.retired[key] === undefined && key !== continued,
  );
  const active = before.roots.find(({ status }) => status === "active");
  const isGone = (id: string) =>
    next.roots.find((root) => root.id === id)?.status !== "active" &&
    next.provider.retired[id] === undefined;
  if (active !== undefined && (dropsActive ?? isGone(active.id)))
    dropped.push([active.id, activeRecord(before)]);
  const garbage = dropped.flatMap(([id, record]) => {
    const root = next.roots.find((entry) => entry.id === id);
    const was = before.roots.find((entry) => entry.id === id);
    const over = was?.status === "retired" ? pruneAt(was, policy) : now;
    // Leaves of a root that is still listed, abandoned or active again, may be alive until it would
    // be pruned.
    const after =
      root === undefined
        ? new Date(Math.min(now.getTime(), over.getTime()))
        : new Date(
            Math.max(now.getTime(), pruneAt({ ...root, rotatedOutAt: now }, policy).getTime()),
          );
    const state = typeOf(types, record.provider).garbage?.garbageOf(record.state, after) ?? null;
    return state === null ? [] : [[garbageKey(next.commitId, id), { ...record, state }] as const];
  });
  if (garbage.length === 0) return next;
  const retired = { ...next.provider.retired, ...Object.fromEntries(garbage) };
  return { ...next, provider: { ...next.provider, retired } };
}

/** When the first garbage may be deleted; null without garbage. */
export function garbageDueAt(state: CaState, types: ProviderTypes): Date | null {
  const dates = holders(state).flatMap(
    ([, { provider, state: kept }]) => typeOf(types, provider).garbage?.dueAt(kept) ?? [],
  );
  return dates.length === 0 ? null : new Date(Math.min(...dates.map(Number)));
}

/** What collecting uses of a change. */
interface Collecting {
  readonly providers: ProviderTypes;
  contextFor(cluster: ClusterIdentity): ProviderContext;
  /** Called before each deletion. @throws {NotReadyError} */
  readonly requireLease: () => void;
}

/**
 * Deletes the due garbage of one record. A record whose garbage cannot be deleted delays no other.
 * @param now the latest instant that is confirmed as past.
 * @returns the provider states without it, or null if none was due.
 * @throws {ProviderError} @throws {SealError}
 */
export async function collectGarbage(
  state: CaState,
  now: Date,
  change: Collecting,
): Promise<CaState["provider"] | null> {
  const failures: unknown[] = [];
  for (const [key, record] of holders(state)) {
    const type = typeOf(change.providers, record.provider);
    const { garbage } = type;
    const due = garbage?.dueAt(record.state) ?? null;
    if (garbage === undefined || due === null || due > now) continue;
    const { retired: kept, prepared } = state.provider;
    const others = [activeRecord(state), ...Object.values(kept), prepared]
      .filter((other) => other !== null)
      .filter((other) => other.state !== record.state && other.provider === record.provider)
      .map((other) => other.state);
    const request = { state: record.state, others, now, requireLease: change.requireLease };
    // A record of a secondary datacenter names no root, and to delete needs none.
    const collect = async () =>
      garbage.collect(type.parse(record.config, "secondary"), request, change.contextFor(state));
    const left = await collect().catch((error: unknown) => {
      failures.push(error);
      return null;
    });
    if (left === null) continue;
    if (key === null) return { ...state.provider, active: left };
    const { [key]: _done, ...rest } = state.provider.retired;
    const retired =
      garbage.dueAt(left) === null ? rest : { ...rest, [key]: { ...record, state: left } };
    return { ...state.provider, retired };
  }
  if (failures.length > 0) throw failures[0];
  return null;
}

/** The records that may have garbage; the active one under null. */
function holders(state: CaState): [string | null, ProviderRecord][] {
  return [
    [null, activeRecord(state)],
    ...Object.entries(state.provider.retired).filter(([key]) => isGarbage(key)),
  ];
}
