/**
 * What providers leave behind outside: of a root that is gone a remnant of its record is kept,
 * among the retired ones and under a name that is no root's, until what it names is deleted.
 * @module
 */
import type { CollectRequest, ProviderContext, ProviderTypes } from "../ports/provider.ts";
import type { CaState, ProviderRecord } from "../state.ts";
import { pruneAt } from "./cross-chain.ts";
import type { Policy } from "./policy.ts";
import { typeOf } from "./snapshot.ts";

const PREFIX = "left:";

/** Whether a key of the retired records names a remnant. */
export function isRemnant(key: string): boolean {
  return key.startsWith(PREFIX);
}

/** The record of the provider that signs leaves. */
export function activeRecord({ config, provider }: CaState): ProviderRecord {
  return { provider: config.provider, config: config.config, state: provider.active };
}

/** A state that follows another, with remnants of the records that it dropped. */
export function withRemnants(
  before: CaState,
  next: CaState,
  types: ProviderTypes,
  policy: Policy,
  now: Date,
): CaState {
  const dropped = Object.entries(before.provider.retired).filter(
    ([key]) => next.provider.retired[key] === undefined,
  );
  const active = before.roots.find(({ status }) => status === "active");
  const gone =
    active !== undefined && next.roots.find(({ id }) => id === active.id)?.status !== "active";
  if (gone && next.provider.retired[active.id] === undefined)
    dropped.push([active.id, activeRecord(before)]);
  const remnants = dropped.flatMap(([id, record]) => {
    const root = next.roots.find((entry) => entry.id === id);
    const was = before.roots.find((entry) => entry.id === id);
    const over = was?.status === "retired" ? pruneAt(was, policy) : now;
    // The leaves of a root that is still listed, left by force or active again, may be alive until
    // it would be pruned.
    const after =
      root === undefined
        ? new Date(Math.min(now.getTime(), over.getTime()))
        : new Date(
            Math.max(now.getTime(), pruneAt({ ...root, rotatedOutAt: now }, policy).getTime()),
          );
    const left = typeOf(types, record.provider).garbage?.garbageOf(record.state, after) ?? null;
    return left === null
      ? []
      : [[`${PREFIX}${next.commitId}:${id}`, { ...record, state: left }] as const];
  });
  if (remnants.length === 0) return next;
  return {
    ...next,
    provider: {
      ...next.provider,
      retired: { ...next.provider.retired, ...Object.fromEntries(remnants) },
    },
  };
}

/** When something that was left behind outside may be deleted, or null. */
export function collectAt(state: CaState, types: ProviderTypes): Date | null {
  const dates = holders(state).flatMap(
    ([, { provider, state: kept }]) => typeOf(types, provider).garbage?.dueAt(kept) ?? [],
  );
  return dates.length === 0 ? null : new Date(Math.min(...dates.map(Number)));
}

type CollectOptions = Pick<CollectRequest, "now" | "requireLease"> & {
  readonly types: ProviderTypes;
};

/**
 * Deletes outside what may be deleted by now, of one record. One that cannot be looked at holds up
 * no other.
 * @returns the provider states without it, or null where none was due.
 * @throws {ProviderError} @throws {SealError}
 */
export async function collect(
  state: CaState,
  { types, now, requireLease, ...rest }: Omit<ProviderContext, "clusterId"> & CollectOptions,
): Promise<CaState["provider"] | null> {
  const failures: unknown[] = [];
  for (const [key, record] of holders(state)) {
    const type = typeOf(types, record.provider);
    const due = type.garbage?.dueAt(record.state) ?? null;
    if (due === null || due > now || type.garbage === undefined) continue;
    const others = [activeRecord(state), ...Object.values(state.provider.retired)]
      .filter((other) => other.state !== record.state && other.provider === record.provider)
      .map((other) => other.state);
    const left = await type.garbage
      .collect(
        type.parse(record.config),
        { state: record.state, others, now, requireLease },
        { ...rest, clusterId: state.clusterId },
      )
      .catch((error: unknown) => {
        failures.push(error);
        return null;
      });
    if (left === null) continue;
    if (key === null) return { ...state.provider, active: left };
    const { [key]: _done, ...retired } = state.provider.retired;
    return {
      ...state.provider,
      retired:
        type.garbage.dueAt(left) === null
          ? retired
          : { ...retired, [key]: { ...record, state: left } },
    };
  }
  if (failures.length > 0) throw failures[0];
  return null;
}

/** The records that may name something to delete; the active one under null. */
export function holders(state: CaState): [string | null, ProviderRecord][] {
  return [
    [null, activeRecord(state)],
    ...Object.entries(state.provider.retired).filter(([key]) => isRemnant(key)),
  ];
}
