/**
 * The CA: keeps the last snapshot, signs under it, and is the only one that commits. It has no loop and no timer of its
 * own: whoever composes it calls `heartbeat`, `tick` and `follow`.
 * @module
 */
import type { Clock, Random } from "../clock.ts";
import { CaError, ConflictError, NotReadyError, SealError, StoreError } from "../errors.ts";
import type { Lease, Leases } from "../lease.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import type { ProviderTypes } from "../provider.ts";
import type { Recollection } from "../recollection.ts";
import type { Replica, Replicas } from "../replicas.ts";
import type { Sealer } from "../sealer.ts";
import type { Expected, Store } from "../store.ts";
import { createIssuer, type IssuedLeaf, requireInForce } from "./issue.ts";
import { createLeadership } from "./leadership.ts";
import { createLimiter } from "./limiter.ts";
import { regression } from "./lineage.ts";
import { createOperations, NOTHING_STORED, type Operation, type OperationName } from "./operation.ts";
import { type Plan, plan } from "./plan.ts";
import { checkLeaseTimes, DEFAULT_POLICY, type Policy } from "./policy.ts";
import {
  type Change,
  type ChangeContext,
  type ConfigurationRequest,
  newCommitId,
  planBootstrap,
  planConfiguration,
  planNewRoot,
  type RotationRequest,
} from "./reconfigure.ts";
import { planResolution } from "./resolve.ts";
import { keksInUse, rewrapped } from "./rewrap.ts";
import { loadSnapshot, type Snapshot, snapshotOf } from "./snapshot.ts";
import { createStanding } from "./standing.ts";
import { type CaState, SCHEMA, type Schema } from "./state.ts";
import type { KekUse, ResolutionRequest, RestoreOptions, StateConflict, Status } from "./status.ts";
import { type NewConfig, prune, reseal } from "./transitions.ts";

export interface BootstrapConfig extends NewConfig {
  /** Null: a random one. */
  readonly clusterId: string | null;
}

export interface ManagerOptions {
  readonly store: Store;
  readonly leases: Leases;
  readonly replicas: Replicas;
  /** What this replica saw last, or null where nothing is kept beside it. */
  readonly recollection: Recollection | null;
  /** What this replica is called among the others. */
  readonly self: Pick<Replica, "id" | "address">;
  readonly sealer: Sealer;
  readonly providers: ProviderTypes;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly datacenter: string;
  /** Used once, when there is no state. */
  readonly bootstrap: BootstrapConfig;
  /** @default DEFAULT_POLICY */
  readonly policy?: Policy;
}

export interface CaManager {
  /** The last snapshot, or null before there is a state. */
  readonly snapshot: Snapshot | null;
  readonly status: Status;
  /** The last snapshot. @throws {NotReadyError} `ca_uninitialized` */
  require(): Snapshot;
  /** Takes what this replica saw before it was restarted, and what is stored. @throws {CaError} when the CA cannot be served like this. */
  start(): Promise<void>;
  /** Signs one PEM request. @throws {CaError} of every kind */
  sign(csr: string): Promise<IssuedLeaf>;
  /** Changes the configuration. @returns whether anything changed. @throws {CaError} of every kind; then nothing changed. */
  configure(request: ConfigurationRequest): Promise<boolean>;
  /** Rotates to a new root now. @returns the snapshot with it. @throws {CaError} of every kind; then nothing changed. */
  rotate(request: RotationRequest): Promise<Snapshot>;
  /** Seals everything anew with the current key-encryption key. @returns whether anything changed. @throws {CaError} */
  rewrap(): Promise<boolean>;
  /** Which key-encryption keys are needed. @throws {StoreError} */
  kekUse(): Promise<KekUse>;
  /** The two states where the store lost writes, or null. @throws {StoreError} */
  conflict(): Promise<StateConflict | null>;
  /** Keeps one of the two. @throws {ConflictError} `no_conflict` @throws {CaError} */
  resolve(request: ResolutionRequest): Promise<Snapshot>;
  /** Makes a state of this CA, or of one that is to go on in an empty store, the present one. @throws {CaError} */
  restore(state: CaState, options: RestoreOptions): Promise<Snapshot>;
  /** Reads the store and takes what is newer. @throws {StoreError} */
  refresh(): Promise<void>;
  /** Says that this replica lives, and looks who else does. @throws {StoreError} */
  heartbeat(): Promise<void>;
  /** Does the one thing that is due, if this replica leads. @returns what it did, or when something is due next. */
  tick(): Promise<Plan>;
  /** Waits until the stored state may have changed, and takes it. @throws {StoreError} */
  follow(signal: AbortSignal): Promise<void>;
  /** Calls `listener` with every new snapshot until the returned function is called. */
  subscribe(listener: (snapshot: Snapshot) => void): () => void;
  /** Why no leaf can be signed now, or null. */
  obstacle(): string | null;
  /** The name that the leader goes by, or null. @throws {StoreError} */
  leader(): Promise<string | null>;
  readonly signing: number;
  /** Lets the change that runs end and refuses others, gives back leases, and ends the provider. */
  close(): Promise<void>;
}

/** Makes the CA over its ports. Nothing is read or written before the first call. @throws {RangeError} for lease times that cannot work */
export function createManager(options: ManagerOptions): CaManager {
  const { store, leases, sealer, providers, clock, random, log, metrics, self } = options;
  const policy = options.policy ?? DEFAULT_POLICY;
  checkLeaseTimes(policy);
  const listeners = new Set<(snapshot: Snapshot) => void>();
  const limiter = createLimiter(clock, policy);
  const leadership = createLeadership(leases, clock, policy);
  const standing = createStanding(store, options.replicas, clock, policy);
  const kek = sealer.keks[0] as string;
  let current: Snapshot | null = null;
  /** The highest term of the lease `operation` that was seen. */
  let term = 0;
  /** Why nothing may be changed until an operator decides. */
  let stopped: string | null = null;
  /** Settles when what was seen last is kept; it never rejects. */
  let keeping: Promise<void> = Promise.resolve();

  const require = (): Snapshot => {
    // Consul's text (consul-ca.md §1.2).
    if (current === null) throw new NotReadyError("ca_uninitialized", "CA has not finished initializing", { retryAfterMs: 1000 });
    return current;
  };
  /** The snapshot to sign under, while it may still be what is true. */
  const requireCurrent = (): Snapshot => {
    const snapshot = require();
    const obstacle = standing.signingObstacle(snapshot.config.leafTtlMs);
    if (obstacle !== null)
      throw new NotReadyError(obstacle.code, `Cannot sign leaf: ${obstacle.message}`, { retryAfterMs: policy.heartbeatMs });
    return snapshot;
  };
  const issue = createIssuer({ datacenter: options.datacenter, clock, random, limiter, metrics, snapshot: requireCurrent });

  /** Makes a snapshot the current one, unless something newer is by now: a read, or the answer to a commit, may come late. */
  const adopt = async (next: Snapshot): Promise<void> => {
    const previous = current;
    if (previous !== null && next.state.index < previous.state.index) {
      if (next.provider !== previous.provider) next.provider?.close();
      return;
    }
    current = next;
    if (previous?.provider !== next.provider) previous?.provider?.close();
    for (const listener of [...listeners]) listener(next);
    await keep();
  };

  /** Keeps what was seen last, one after the other: two writes at once could leave the older one. */
  const keep = (): Promise<void> => {
    keeping = keeping.then(async () => {
      if (current === null) return;
      await options.recollection
        ?.save({ state: current.state, term })
        .catch((error: unknown) => log.warn("Cannot keep beside the store what was seen last", { reason: reasonOf(error) }));
    });
    return keeping;
  };

  const refresh = async (): Promise<void> => {
    // When this throws, what was read last stays in use: it was right, and its keys are still valid.
    const [asked, seen] = [clock.now(), { state: current?.state ?? null, term }];
    const stored = await store.read();
    const { state } = stored;
    if (seen.state !== null && state !== null && state.clusterId !== seen.state.clusterId)
      throw new StoreError(
        "cluster_mismatch",
        `The store holds the state of another cluster, ${state.clusterId}; this replica serves ${seen.state.clusterId}, and nothing was changed`,
      );
    standing.confirm(asked);
    const lost = regression(seen, stored);
    // Before there is a state no term has fenced anything: a store that was emptied begins anew.
    term = current === null ? stored.term : Math.max(term, stored.term);
    if (lost !== null) return stop(lost, stored.stopped);
    if (stored.stopped === null) stopped = null;
    else stopped ??= "another replica has seen what the store lost";
    if (state !== null) await take(state);
  };

  /** Stops all changes, here and everywhere. Signing goes on under what was seen. */
  const stop = async (reason: string, mark: string | null): Promise<void> => {
    const snapshot = require();
    if (stopped === null) log.error("The store lost writes: changes are stopped until an operator decides", { reason });
    stopped = reason;
    if (mark !== snapshot.state.commitId) await store.stop({ state: snapshot.state, term, reason, by: self.address });
  };

  /** Takes a state that was read into use, if it is news or its key could not be opened before. */
  const take = async (state: CaState): Promise<void> => {
    const known = state.commitId === current?.state.commitId;
    if (known && current?.fault === null) return;
    const next = (await reopened(state)) ?? (await loadSnapshot(state, providers, { sealer, random }, clock.now()));
    if (next.fault !== null && known) return;
    if (next.fault !== null) log.error("Cannot open the signing key", { root: next.active.id, reason: reasonOf(next.fault) });
    await adopt(next);
  };

  /** A state under whose root and configuration this replica signs already: its key is not opened a second time. */
  const reopened = async (state: CaState): Promise<Snapshot | null> => {
    if (current === null || current.provider === null) return null;
    const what = ({ config, roots, provider }: CaState) =>
      JSON.stringify([config.provider, config.config, roots.find(({ status }) => status === "active")?.id, provider.active]);
    return what(current.state) === what(state) ? snapshotOf(state, current.config, current.provider) : null;
  };

  const heartbeat = () => standing.heartbeat({ ...self, keks: sealer.keks, schema: SCHEMA, index: current?.state.index ?? 0 });

  /** Takes what is stored before a change. @throws {StoreError} `state_regressed` where nothing may be changed. */
  const begin = async (lease: Lease, name: OperationName, before: number): Promise<void> => {
    if (lease.term <= before && current !== null) await stop(`it granted term ${lease.term}, term ${before} was seen`, null);
    await refresh();
    term = Math.max(term, lease.term);
    if (stopped === null || name === "RESOLVING") return;
    throw new StoreError(
      "state_regressed",
      `Cannot change the CA: the store lost writes (${stopped}), and an operator has to decide which state is kept; see GET /v1/connect/ca/state-conflict`,
    );
  };
  const operations = createOperations({ ...options, policy, standing, kek, heartbeat, seen: () => term, begin });

  const contextAt = (now: Date): ChangeContext => ({ types: providers, sealer, random, policy, now });

  /** Commits a worked-out change and takes it into use. */
  const apply = async (planned: Change, from: Omit<Expected, "term">, operation: Operation): Promise<Snapshot> => {
    const change = { ...planned, snapshot: withSchema(planned.snapshot, operation.schema) };
    const before = current?.state.config.config;
    try {
      await operations.commit(change.snapshot.state, from, operation);
    } catch (error) {
      change.snapshot.provider?.close();
      throw error;
    }
    await adopt(change.snapshot);
    const { state, active } = change.snapshot;
    log.info(`CA changed: ${change.kind}`, {
      change: change.kind,
      index: state.index,
      provider: state.config.provider,
      root: active.id,
      fields: changedFields(before, state.config.config),
      leftByForce: change.leftByForce,
    });
    return change.snapshot;
  };

  /** Commits a state that leaves what signs as it is. */
  const replace = async (kind: "prune" | "rewrap", next: CaState, { state, config, provider, fault }: Snapshot, operation: Operation) => {
    const snapshot = withSchema({ ...snapshotOf(next, config, provider), fault }, operation.schema);
    await operations.commit(snapshot.state, state, operation);
    await adopt(snapshot);
    const gone = state.roots.filter(({ id }) => !next.roots.some((root) => root.id === id)).map(({ id }) => id);
    log.info(`CA changed: ${kind}`, { change: kind, index: next.index, pruned: gone });
  };

  const stepBootstrap = () =>
    operations.run("INITIALIZING", async (operation) => {
      if (current !== null) return;
      const { clusterId, ...config } = options.bootstrap;
      const change = await planBootstrap(clusterId ?? newClusterId(random), config, contextAt(await store.now()));
      await apply(change, NOTHING_STORED, operation);
    });

  const stepPrune = () =>
    operations.run("RENEWING", async (operation) => {
      const snapshot = require();
      const now = await store.now();
      const { state } = snapshot;
      if (plan(state, policy, now).kind === "prune")
        await replace("prune", prune(state, newCommitId(random), policy, now), snapshot, operation);
    });

  return {
    get snapshot() {
      return current;
    },
    get status(): Status {
      const { stalenessMs, storeAway, clockOffsetMs, alarmed: clockAlarm, live } = standing;
      const role = leadership.lease === null ? "follower" : "leader";
      return { role, term, index: current?.state.index ?? 0, stalenessMs, storeAway, clockOffsetMs, clockAlarm, stopped, live };
    },
    get signing() {
      return limiter.inFlight;
    },
    require,
    async start() {
      const seen = (await options.recollection?.load()) ?? null;
      if (seen !== null) {
        term = seen.term;
        current = await loadSnapshot(seen.state, providers, { sealer, random }, clock.now());
      }
      await heartbeat();
      await refresh();
      if (current === null) return;
      const missing = keksInUse(current.state, sealer).filter((id) => !sealer.keks.includes(id));
      if (missing.length > 0)
        throw new SealError(
          "kek_unknown",
          `Cannot start: keys of the CA are sealed with ${missing.map((id) => `key-encryption key ${JSON.stringify(id)}`).join(" and ")}, which ${missing.length > 1 ? "are" : "is"} not among those given`,
        );
    },
    sign: issue,
    refresh,
    heartbeat,
    async configure(request) {
      return operations.run("RECONFIGURING", async (operation) => {
        const snapshot = require();
        const change = await planConfiguration(snapshot, request, contextAt(await store.now()));
        if (change === null) return false;
        await apply(change, snapshot.state, operation);
        return true;
      });
    },
    async rotate(request) {
      return operations.run("RECONFIGURING", async (operation) => {
        const snapshot = require();
        return apply(await planNewRoot(snapshot, request, contextAt(await store.now())), snapshot.state, operation);
      });
    },
    async rewrap() {
      return operations.run("RENEWING", async (operation) => {
        const snapshot = require();
        const { state } = snapshot;
        const { kek: authenticates } = await store.read();
        if ([...keksInUse(state, sealer), authenticates].every((id) => id === kek)) return false;
        await replace("rewrap", reseal(state, newCommitId(random), await rewrapped(state, sealer)), snapshot, operation);
        return true;
      });
    },
    async kekUse() {
      await heartbeat();
      const { state, kek: authenticates } = await store.read();
      const ids = state === null ? [] : [...keksInUse(state, sealer), ...(authenticates === null ? [] : [authenticates])];
      return { current: kek, inUse: [...new Set(ids)], live: standing.live };
    },
    async conflict() {
      const [mark, stored] = [await store.stopMark(), await store.read()];
      if (mark === null) return null;
      const { reason, by, at } = mark;
      return { reason, by, at, snapshot: mark, stored };
    },
    async resolve({ keep, forceWithoutCrossSigning }) {
      return operations.run("RESOLVING", async (operation) => {
        const [mark, stored] = [await store.stopMark(), await store.read()];
        if (mark === null) throw new ConflictError("no_conflict", "There is no conflict to resolve: the store lost nothing");
        if (keep === "stored" && stored.state === null)
          throw new ConflictError("no_conflict", "Cannot keep what is stored: the store holds no state; keep the snapshot");
        const [kept, other] = keep === "snapshot" || stored.state === null ? [mark.state, stored.state] : [stored.state, mark.state];
        const index = Math.max(mark.state.index, stored.state?.index ?? 0, current?.state.index ?? 0);
        const resolution = { kept, other, index, forceWithoutCrossSigning, kind: "resolve" } as const;
        const change = await planResolution(resolution, contextAt(await store.now()));
        const from = { ...(stored.state ?? NOTHING_STORED), resolves: mark.state.commitId };
        const snapshot = await apply(change, from, operation);
        term = Math.max(term, mark.term);
        stopped = null;
        return snapshot;
      });
    },
    async restore(state, { forceWithoutCrossSigning, onlyWhereEmpty = false }) {
      return operations.run("RECONFIGURING", async (operation) => {
        if (onlyWhereEmpty && current !== null) return current;
        const other = current?.state ?? null;
        if (other !== null && other.clusterId !== state.clusterId)
          throw new ConflictError(
            "cluster_differs",
            `Cannot restore: the backup is of cluster ${state.clusterId}, this is ${other.clusterId}; start on an empty store with MESHCA_IMPORT instead`,
          );
        const index = Math.max(state.index, other?.index ?? 0);
        const resolution = { kept: state, other, index, forceWithoutCrossSigning, kind: "restore" } as const;
        return apply(await planResolution(resolution, contextAt(await store.now())), other ?? NOTHING_STORED, operation);
      });
    },
    async tick() {
      const until = new Date(clock.now().getTime() + policy.leaderRetryMs);
      // Times that decide are the store's: while they cannot be trusted nothing is due.
      if (standing.changeObstacle() !== null || !(await leadership.lead())) return { kind: "wait", until };
      await refresh();
      if (stopped !== null) return { kind: "wait", until };
      const due = plan(current?.state ?? null, policy, await store.now());
      if (due.kind === "bootstrap") await stepBootstrap();
      else if (due.kind === "prune") await stepPrune();
      return due;
    },
    async follow(signal) {
      await store.watch(current?.state.commitId ?? null, signal);
      if (!signal.aborted) await refresh();
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    obstacle() {
      try {
        const snapshot = require();
        requireInForce(snapshot, clock.now());
        return standing.signingObstacle(snapshot.config.leafTtlMs)?.message ?? null;
      } catch (error) {
        return reasonOf(error).trim();
      }
    },
    // The holder of a lease is an address and, behind a space, what tells two starts apart.
    leader: async () => (await leases.holder("leader"))?.split(" ")[0] ?? null,
    async close() {
      await operations.close();
      await leadership.resign();
      await options.replicas.leave(self.id).catch(() => undefined);
      current?.provider?.close();
    },
  };
}

function withSchema(snapshot: Snapshot, schema: Schema): Snapshot {
  return { ...snapshot, state: { ...snapshot.state, schema } };
}

/** The text of an error of ours; only the kind of any other, whose text may hold anything. */
function reasonOf(error: unknown): string {
  return error instanceof CaError ? error.message : error instanceof Error ? error.name : "unknown";
}

/** The names of the fields in which two configurations differ; never their values. */
function changedFields(
  before: Readonly<Record<string, unknown>> | null | undefined,
  after: Readonly<Record<string, unknown>> | null,
): string[] {
  const [a, b] = [before ?? {}, after ?? {}];
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((key) => JSON.stringify(a[key]) !== JSON.stringify(b[key]));
}

/** 16 random bytes printed 8-4-4-4-12, without a UUID's version bits, as Consul does (consul-ca.md §3.3). */
function newClusterId(random: Random): string {
  return newCommitId(random).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
