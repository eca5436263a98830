/**
 * The CA: keeps the last snapshot, signs under it, and is the only one that commits. It has no loop and no timer of its
 * own: whoever composes it calls `tick` and `follow`.
 * @module
 */
import type { Clock, Random } from "../clock.ts";
import { CaError, NotReadyError, StoreError } from "../errors.ts";
import type { Lease, Leases } from "../lease.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import type { ProviderTypes } from "../provider.ts";
import type { Sealer } from "../sealer.ts";
import type { Expected, Store } from "../store.ts";
import { createIssuer, type IssuedLeaf, requireInForce } from "./issue.ts";
import { createLimiter } from "./limiter.ts";
import { type Plan, plan } from "./plan.ts";
import { DEFAULT_POLICY, type Policy } from "./policy.ts";
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
import { loadSnapshot, type Snapshot, snapshotOf } from "./snapshot.ts";
import type { CaState, ProviderState } from "./state.ts";
import { type NewConfig, prune, reseal } from "./transitions.ts";

export interface BootstrapConfig extends NewConfig {
  /** Null: a random one. */
  readonly clusterId: string | null;
}

export interface ManagerOptions {
  readonly store: Store;
  readonly leases: Leases;
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
  /** The last snapshot. @throws {NotReadyError} `ca_uninitialized` */
  require(): Snapshot;
  /** Signs one PEM request. @throws {CaError} of every kind */
  sign(csr: string): Promise<IssuedLeaf>;
  /** Changes the configuration. @returns whether anything changed. @throws {CaError} of every kind; then nothing changed. */
  configure(request: ConfigurationRequest): Promise<boolean>;
  /** Rotates to a new root now. @returns the snapshot with it. @throws {CaError} of every kind; then nothing changed. */
  rotate(request: RotationRequest): Promise<Snapshot>;
  /** Reads the store and takes what is newer. @throws {StoreError} */
  refresh(): Promise<void>;
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

/** What runs, in Consul's words (consul-ca.md §4.2). */
type Operation = "INITIALIZING" | "RECONFIGURING" | "RENEWING";

/** Makes the CA over its ports. Nothing is read or written before the first call. */
export function createManager(options: ManagerOptions): CaManager {
  const { store, leases, sealer, providers, clock, random, log, metrics } = options;
  const policy = options.policy ?? DEFAULT_POLICY;
  const listeners = new Set<(snapshot: Snapshot) => void>();
  const limiter = createLimiter(clock, policy);
  let current: Snapshot | null = null;
  let running: Operation | null = null;
  let leading: Lease | null = null;
  /** Settles when the change that runs has ended; it never rejects. */
  let idle: Promise<unknown> = Promise.resolve();
  let closed = false;

  const require = (): Snapshot => {
    // Consul's text (consul-ca.md §1.2).
    if (current === null) throw new NotReadyError("ca_uninitialized", "CA has not finished initializing", { retryAfterMs: 1000 });
    return current;
  };
  const issue = createIssuer({ datacenter: options.datacenter, clock, random, limiter, metrics, snapshot: require });

  /** Makes a snapshot the current one. */
  const adopt = (next: Snapshot) => {
    const previous = current;
    current = next;
    if (previous?.provider !== next.provider) previous?.provider?.close();
    for (const listener of [...listeners]) listener(next);
  };

  const refresh = async (): Promise<void> => {
    // When this throws, what was read last stays in use: it was right, and its keys are still valid.
    const before = current;
    const state = await store.read();
    requireProgress(before?.state ?? null, state);
    if (state !== null) await take(state);
  };

  /** Takes a state that was read into use, if it is news or its key could not be opened before. */
  const take = async (state: CaState): Promise<void> => {
    const known = state.commitId === current?.state.commitId;
    if (known && current?.fault === null) return;
    const next = await loadSnapshot(state, providers, { sealer, random }, clock.now());
    if (next.fault !== null && known) return;
    if (next.fault !== null) log.error("Cannot open the signing key", { root: next.active.id, reason: reasonOf(next.fault) });
    // Another read may have come in first with something newer.
    if (current === null || current.state.index <= state.index) adopt(next);
  };

  /** Runs one change under the operation lease. */
  const operate = <T>(operation: Operation, work: (lease: Lease) => Promise<T>): Promise<T> => {
    if (closed) return Promise.reject(new NotReadyError("closing", "The CA is shutting down", { retryAfterMs: 1000 }));
    const done = runOperation(operation, work);
    idle = Promise.allSettled([idle, done]);
    return done;
  };

  const runOperation = async <T>(operation: Operation, work: (lease: Lease) => Promise<T>): Promise<T> => {
    const lease = running === null ? await leases.acquire("operation", policy.operationLeaseMs) : null;
    if (lease === null)
      throw new NotReadyError("operation_running", `CA is already in state ${JSON.stringify(running ?? "RECONFIGURING")}`, {
        retryAfterMs: 1000,
      });
    running = operation;
    try {
      const result = await work(lease);
      metrics.change(operation, "ok");
      return result;
    } catch (error) {
      metrics.change(operation, error instanceof CaError ? error.code : "internal");
      throw error;
    } finally {
      running = null;
      await leases.release(lease).catch((error: unknown) => log.warn("Cannot release the operation lease", { reason: reasonOf(error) }));
    }
  };

  const contextAt = (now: Date): ChangeContext => ({ types: providers, sealer, random, policy, now });

  /** Commits a state that was worked out from another. A missing answer is unknown until the commit id is read back. */
  const commit = async (next: CaState, from: CaState | null, lease: Lease): Promise<void> => {
    const expected: Expected = { index: from?.index ?? 0, commitId: from?.commitId ?? null, term: lease.term };
    try {
      await store.commit(next, expected);
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== "store_unavailable") throw error;
      if ((await store.read())?.commitId !== next.commitId) throw error;
    }
  };

  /** Commits a worked-out change and takes it into use. */
  const apply = async (change: Change, before: CaState | null, lease: Lease): Promise<Snapshot> => {
    try {
      await commit(change.snapshot.state, before, lease);
    } catch (error) {
      change.snapshot.provider?.close();
      throw error;
    }
    adopt(change.snapshot);
    const { state, active } = change.snapshot;
    log.info(`CA changed: ${change.kind}`, {
      change: change.kind,
      index: state.index,
      provider: state.config.provider,
      root: active.id,
      fields: changedFields(before?.config.config, state.config.config),
      leftByForce: change.leftByForce,
    });
    return change.snapshot;
  };

  const stepBootstrap = () =>
    operate("INITIALIZING", async (lease) => {
      await refresh();
      if (current !== null) return;
      const { clusterId, ...config } = options.bootstrap;
      const now = await store.now();
      await apply(await planBootstrap(clusterId ?? newClusterId(random), config, contextAt(now)), null, lease);
    });

  const stepPrune = () =>
    operate("RENEWING", async (lease) => {
      await refresh();
      const snapshot = require();
      const now = await store.now();
      const { state } = snapshot;
      if (plan(state, policy, now, sealer.isStale).kind !== "prune") return;
      const next = prune(state, newCommitId(random), policy, now);
      await commit(next, state, lease);
      adopt({ ...snapshotOf(next, snapshot.config, snapshot.provider), fault: snapshot.fault });
      const gone = state.roots.filter(({ id }) => !next.roots.some((root) => root.id === id));
      log.info("CA changed: prune", { change: "prune", index: next.index, pruned: gone.map(({ id }) => id) });
    });

  const stepReseal = () =>
    operate("RENEWING", async (lease) => {
      await refresh();
      const snapshot = require();
      const { state } = snapshot;
      if (plan(state, policy, await store.now(), sealer.isStale).kind !== "reseal") return;
      const renew = async (sealed: ProviderState): Promise<ProviderState> =>
        Object.fromEntries(
          await Promise.all(
            Object.entries(sealed).map(async ([key, text]) => [key, sealer.isStale(text) ? await sealer.rewrap(text) : text]),
          ),
        );
      const retired = await Promise.all(
        Object.entries(state.provider.retired).map(async ([id, record]) => [id, { ...record, state: await renew(record.state) }] as const),
      );
      const next = reseal(state, newCommitId(random), { active: await renew(state.provider.active), retired: Object.fromEntries(retired) });
      await commit(next, state, lease);
      adopt({ ...snapshotOf(next, snapshot.config, snapshot.provider), fault: snapshot.fault });
      log.info("CA changed: reseal", { change: "reseal", index: next.index });
    });

  /** Whether this replica leads. */
  const lead = async (): Promise<boolean> => {
    if (leading !== null && (await leases.renew(leading, policy.leaderLeaseMs))) return true;
    leading = await leases.acquire("leader", policy.leaderLeaseMs);
    return leading !== null;
  };

  return {
    get snapshot() {
      return current;
    },
    get signing() {
      return limiter.inFlight;
    },
    require,
    sign: issue,
    refresh,
    async configure(request) {
      return operate("RECONFIGURING", async (lease) => {
        await refresh();
        const snapshot = require();
        const change = await planConfiguration(snapshot, request, contextAt(await store.now()));
        if (change === null) return false;
        await apply(change, snapshot.state, lease);
        return true;
      });
    },
    async rotate(request) {
      return operate("RECONFIGURING", async (lease) => {
        await refresh();
        const snapshot = require();
        return apply(await planNewRoot(snapshot, request, contextAt(await store.now())), snapshot.state, lease);
      });
    },
    async tick() {
      const until = new Date(clock.now().getTime() + policy.leaderLeaseMs / 3);
      if (!(await lead())) return { kind: "wait", until };
      await refresh();
      const due = plan(current?.state ?? null, policy, await store.now(), sealer.isStale);
      if (due.kind === "bootstrap") await stepBootstrap();
      else if (due.kind === "prune") await stepPrune();
      else if (due.kind === "reseal") await stepReseal();
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
        requireInForce(require(), clock.now());
        return null;
      } catch (error) {
        return reasonOf(error).trim();
      }
    },
    leader: () => leases.holder("leader"),
    async close() {
      closed = true;
      await idle;
      if (leading !== null) await leases.release(leading).catch(() => undefined);
      leading = null;
      current?.provider?.close();
    },
  };
}

/** @throws {StoreError} `state_regressed` when the store lost what this replica has seen. */
function requireProgress(seen: CaState | null, state: CaState | null): void {
  if (seen !== null && (state === null || state.index < seen.index))
    throw new StoreError(
      "state_regressed",
      `The store lost writes: it is at index ${state?.index ?? 0}, this replica has seen ${seen.index}`,
    );
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
