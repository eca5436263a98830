/**
 * How the manager makes a change: worked out, recorded, committed, taken into use, and, where it
 * fails, undone outside.
 * @module
 */

import type { DeletionTime } from "../deletion-time.ts";
import { NotReadyError } from "../errors.ts";
import type { Audit, AuditRecord } from "../ports/audit.ts";
import type { Random } from "../ports/clock.ts";
import type { Log } from "../ports/log.ts";
import type { Compensation, ProviderTypes } from "../ports/provider.ts";
import type { Sealer } from "../ports/sealer.ts";
import type { Expected, Store } from "../ports/store.ts";
import type { CaState } from "../state.ts";
import type { ServerNames } from "../x509/profile.ts";
import type { Upkeep } from "./maintenance.ts";
import type { Operation, Operations } from "./operation.ts";
import type { Change, ChangeContext } from "./plan-change.ts";
import type { Policy } from "./policy.ts";
import type { Follower } from "./replica.ts";
import { type Snapshot, snapshotOf, withSchema } from "./snapshot.ts";

export interface ChangesOptions {
  readonly store: Store;
  readonly operations: Operations;
  readonly follower: Follower;
  readonly providers: ProviderTypes;
  readonly sealer: Sealer;
  readonly random: Random;
  readonly policy: Policy;
  readonly audit: Audit | null;
  readonly log: Log;
  readonly serverNames?: ServerNames;
  /** Looks at the store's clock, for what may be deleted of a state. @throws {StoreError} */
  readonly lookAt: (state: CaState | null) => Promise<DeletionTime>;
  /** Asked for once a change has failed: it makes changes itself. */
  readonly upkeep: () => Upkeep;
}

export interface Changes {
  /**
   * Works out a change, commits it and takes it into use. What a change that fails had made outside
   * is undone.
   * @returns null where there is nothing to change. @throws {CaError} of every kind
   */
  change(
    from: Omit<Expected, "term">,
    operation: Operation,
    work: (context: ChangeContext) => Promise<Change | null>,
  ): Promise<Snapshot | null>;
  /** Commits a state that leaves what signs as it is. @throws {CaError} */
  replace(
    kind: "prune" | "collect" | "cross" | "rewrap" | "record-access",
    next: CaState,
    snapshot: Snapshot,
    operation: Operation,
  ): Promise<void>;
}

export function createChanges(options: ChangesOptions): Changes {
  const {
    store,
    operations,
    follower,
    providers,
    sealer,
    random,
    policy,
    audit,
    log,
    serverNames,
  } = options;

  const change: Changes["change"] = async (from, operation, work) => {
    let undos: readonly Compensation[] = [];
    try {
      const onRollback = (undo: Compensation) => {
        operations.requireHeld(operation);
        undos = [...undos, undo];
      };
      const now = await store.now();
      const planned = await work({
        types: providers,
        sealer,
        random,
        policy,
        now,
        look: () => options.lookAt(follower.current?.state ?? null),
        onRollback,
        ...(serverNames === undefined ? {} : { serverNames }),
      });
      // What is committed is in use, whatever fails afterwards.
      const onCommitted = () => {
        undos = [];
      };
      if (planned !== null) return await apply(planned, from, operation, onCommitted);
    } catch (error) {
      // Where the outcome is not known, what was made may be in use.
      if (!(error instanceof NotReadyError && error.code === "outcome_unknown"))
        await options.upkeep().abandon(undos, from.commitId, operation);
      throw error;
    }
    // What was put right outside, as it should have been, stays so.
    return null;
  };

  /** Commits a worked-out change and takes it into use. */
  const apply = async (
    planned: Change,
    from: Omit<Expected, "term">,
    operation: Operation,
    onCommitted: () => void,
  ): Promise<Snapshot> => {
    const change = { ...planned, snapshot: withSchema(planned.snapshot, operation.schema) };
    const before = follower.current?.state.config.config;
    try {
      await audit?.beforeChange(decided(change.kind, change.snapshot.active.id, operation));
      await operations.commit(change.snapshot.state, from, operation);
    } catch (error) {
      void change.snapshot.provider?.close();
      throw error;
    }
    onCommitted();
    await follower.adopt(change.snapshot);
    const { state, active } = change.snapshot;
    const requestId = namedRequest(operation);
    log.info(`CA changed: ${change.kind}`, {
      change: change.kind,
      index: state.index,
      provider: state.config.provider,
      root: active.id,
      fields: changedFields(before, state.config.config),
      abandonedRoots: change.abandonedRoots,
      ...requestId,
    });
    for (const warning of change.warnings ?? [])
      log.warn(`CA changed: ${change.kind}, with a warning`, { warning, ...requestId });
    return change.snapshot;
  };

  const replace: Changes["replace"] = async (
    kind,
    next,
    { state, config, provider, fault },
    operation,
  ) => {
    const snapshot = withSchema({ ...snapshotOf(next, config, provider), fault }, operation.schema);
    await audit?.beforeChange(decided(kind, snapshot.active.id, operation));
    await operations.commit(snapshot.state, state, operation);
    await follower.adopt(snapshot);
    const gone = state.roots
      .filter(({ id }) => !next.roots.some((root) => root.id === id))
      .map(({ id }) => id);
    log.info(`CA changed: ${kind}`, {
      change: kind,
      index: next.index,
      pruned: gone,
      ...namedRequest(operation),
    });
  };

  return { change, replace };
}

/** The record of a change that was decided on. @param subject the root that will be active. */
export function decided(
  action: string,
  subject: string,
  { caller }: Operation,
  code: string | null = null,
): AuditRecord {
  return { caller, action, subject, outcome: "allowed", code };
}

/**
 * The id of the request that asked for a change, for the log; no field if the CA does it by itself.
 */
function namedRequest({ caller }: Operation): { readonly requestId?: string } {
  return caller.requestId === null ? {} : { requestId: caller.requestId };
}

/** The names of the fields in which two configurations differ; never their values. */
function changedFields(
  before: Readonly<Record<string, unknown>> | null | undefined,
  after: Readonly<Record<string, unknown>> | null,
): string[] {
  const [a, b] = [before ?? {}, after ?? {}];
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].filter(
    (key) => JSON.stringify(a[key]) !== JSON.stringify(b[key]),
  );
}
