/**
 * The CA: keeps the last snapshot, signs under it, and is the only one that commits. It has no loop
 * and no timer of its own: the composition root calls `heartbeat`, `tick` and `follow`.
 * @module
 */

import { ConflictError, InvariantError, NotReadyError, reasonOf, StoreError } from "../errors.ts";
import type { Audit, Caller } from "../ports/audit.ts";
import type { Clock, Random } from "../ports/clock.ts";
import type { LastSeenStore } from "../ports/last-seen.ts";
import type { Lease, Leases } from "../ports/lease.ts";
import type { Log } from "../ports/log.ts";
import type { LookStore } from "../ports/looks.ts";
import type { Metrics } from "../ports/metrics.ts";
import type { ProviderTypes } from "../ports/provider.ts";
import type { Replica, Replicas } from "../ports/replicas.ts";
import type { Sealer } from "../ports/sealer.ts";
import type { Store } from "../ports/store.ts";
import { type AccessRecord, type CaState, leastSchema, SCHEMA, SCHEMAS } from "../state.ts";
import { NO_SERVER_NAMES, type ServerNames } from "../x509/profile.ts";
import type { KekUse, ResolutionRequest, RestoreOptions, StateConflict, Status } from "./api.ts";
import { createChanges, decided } from "./change.ts";
import { longestConfirmMs } from "./cross-chain.ts";
import { DeletionClock } from "./deletion-clock.ts";
import { collect, collectAt, withRemnants } from "./garbage.ts";
import { createLeadership } from "./leadership.ts";
import { Limiter, type Priority } from "./limiter.ts";
import { createUpkeep } from "./maintenance.ts";
import { createOperations, NOTHING_STORED, type OperationName } from "./operation.ts";
import {
  type BootstrapConfig,
  type Change,
  type ChangeContext,
  type ConfigurationRequest,
  newClusterId,
  newCommitId,
  planBootstrap,
  planConfiguration,
  planCrossing,
  planNewRoot,
  planRenewal,
  planReplacedRoot,
  type RotationRequest,
} from "./plan-change.ts";
import { checkAges, checkLeaseTimes, DEFAULT_POLICY, type Policy } from "./policy.ts";
import { createFollower } from "./replica.ts";
import { createStanding, isAway } from "./replica-health.ts";
import { createMemory, type Memory } from "./replica-memory.ts";
import { choose, planResolution, requireRestorable, requireSameCluster } from "./resolve.ts";
import { keksInUse, requireKeks, rewrapped } from "./rewrap.ts";
import { lookFor, type Plan, plan } from "./schedule.ts";
import { type IssuedLeaf, LeafSigner, requireAbleToSign, type SignOptions } from "./signer.ts";
import type { Snapshot } from "./snapshot.ts";
import { prune, recordAccess, reseal } from "./transitions.ts";

/**
 * The last-seen file says to within this time when the store confirmed the state, in milliseconds.
 * A tenth of max_staleness if that is less: a replica that starts while the store is away then
 * signs for at least nine tenths of it.
 */
const MAX_CONFIRMATION_MS = 15_000;

export interface ManagerOptions {
  readonly store: Store;
  readonly leases: Leases;
  readonly replicas: Replicas;
  /** Where looks at the store's clock are remembered. */
  readonly looks: LookStore;
  /** What this replica saw last, or null where nothing is kept beside it. */
  readonly recollection: LastSeenStore | null;
  /** What this replica is called among the others. */
  readonly self: Pick<Replica, "id" | "address">;
  readonly sealer: Sealer;
  readonly providers: ProviderTypes;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  /** @default null: nothing is recorded */
  readonly audit?: Audit | null;
  readonly datacenter: string;
  /** What a server's own certificate may name. @default NO_SERVER_NAMES */
  readonly serverNames?: ServerNames;
  /** Used once, when there is no state. */
  readonly bootstrap: BootstrapConfig;
  /** @default DEFAULT_POLICY */
  readonly policy?: Policy;
  /** @default one that has seen nothing */
  readonly memory?: Memory;
}

export interface CaManager {
  /** The last snapshot, or null before there is a state. */
  readonly snapshot: Snapshot | null;
  readonly status: Status;
  /** The last snapshot. @throws {NotReadyError} `ca_uninitialized` */
  require(): Snapshot;
  /**
   * Takes what this replica saw before it was restarted, and what is stored. If a shared store does
   * not answer, the last-seen state is served as after any other loss of the store. @throws
   * {CaError} if the CA cannot be served like this.
   */
  start(): Promise<void>;
  /** Signs one PEM request, if `permit` lets it. @throws {CaError} of every kind */
  sign(csr: string, options?: SignOptions): Promise<IssuedLeaf>;
  /**
   * Looks whether a request would be taken now, before its body is read.
   * @throws {RateLimitedError}
   */
  requireRoom(priority: Priority): void;
  /**
   * Changes the configuration.
   * @returns whether anything changed.
   * @throws {CaError} of every kind; then nothing changed.
   */
  configure(request: ConfigurationRequest, caller?: Caller): Promise<boolean>;
  /**
   * Rotates to a new root now.
   * @returns the snapshot with it.
   * @throws {CaError} of every kind; then nothing changed.
   */
  rotate(request: RotationRequest, caller?: Caller): Promise<Snapshot>;
  /**
   * Seals everything anew with the current key-encryption key.
   * @returns whether anything changed.
   * @throws {CaError}
   */
  rewrap(caller?: Caller): Promise<boolean>;
  /**
   * Records in the CA document what is known of access control, once every live replica can read
   * that.
   * @param work gets what is recorded; null leaves it as it is.
   * @returns whether anything changed. @throws {CaError}
   */
  recordAccess(
    work: (recorded: AccessRecord | null) => Promise<AccessRecord | null>,
  ): Promise<boolean>;
  /** Which key-encryption keys are needed. @throws {StoreError} */
  kekUse(): Promise<KekUse>;
  /** The two states where the store lost writes, or null. @throws {StoreError} */
  conflict(): Promise<StateConflict | null>;
  /** Keeps one of the two. @throws {ConflictError} `no_conflict` @throws {CaError} */
  resolve(request: ResolutionRequest, caller?: Caller): Promise<Snapshot>;
  /**
   * Makes a state of this CA, or of one that is to go on in an empty store, the present one.
   * @throws {CaError}
   */
  restore(state: CaState, options: RestoreOptions, caller?: Caller): Promise<Snapshot>;
  /** Reads the store and takes what is newer. @throws {StoreError} */
  refresh(): Promise<void>;
  /**
   * Refreshes unless the store confirmed what is served within `policy.maxAgeMs`, with a heartbeat
   * where it is time for one.
   * @throws {StoreError}
   */
  freshen(): Promise<void>;
  /** Says that this replica lives, and looks who else does. @throws {StoreError} */
  heartbeat(): Promise<void>;
  /**
   * Does the one thing that is due, if this replica leads.
   * @returns what it did, or when something is due next.
   */
  tick(): Promise<Plan>;
  /**
   * The instant up to which what is over may be deleted that belongs to no root, such as tokens, by
   * the store's clock (deletion-time.ts). For the replica that leads. @throws {StoreError}
   */
  confirmedTime(): Promise<Date>;
  /** Looks whether what the provider needs outside answers. It never rejects. */
  probe(): Promise<void>;
  /** Waits until the stored state may have changed, and takes it. @throws {StoreError} */
  follow(signal: AbortSignal): Promise<void>;
  /** Calls `listener` with every new snapshot until the returned function is called. */
  subscribe(listener: (snapshot: Snapshot) => void): () => void;
  /** Why no leaf can be signed now, or null. */
  obstacle(): string | null;
  /** The name that the leader goes by, or null. @throws {StoreError} */
  leader(): Promise<string | null>;
  readonly signing: number;
  /** Gives back the lease by which this replica leads. */
  resign(): Promise<void>;
  /** Lets the change that runs end and refuses others, gives back leases, and ends the provider. */
  close(): Promise<void>;
}

/**
 * Makes the CA over its ports. Nothing is read or written before the first call.
 * @throws {RangeError} for lease times that cannot work
 */
export function createManager(options: ManagerOptions): CaManager {
  const { store, leases, sealer, providers, clock, random, log, metrics, self } = options;
  const policy = options.policy ?? DEFAULT_POLICY;
  const audit = options.audit ?? null;
  checkLeaseTimes(policy);
  checkAges(policy);
  const memory = options.memory ?? createMemory();
  const limiter = new Limiter(clock, policy, memory.limiter);
  const leadership = createLeadership(leases, clock, policy);
  const standing = createStanding(store, options.replicas, clock, policy, memory.standing);
  const deletionClock = new DeletionClock(store, options.looks, clock);
  const kek = sealer.keks[0] as string;
  const confirmationMs =
    policy.maxStalenessMs === null
      ? null
      : Math.min(MAX_CONFIRMATION_MS, policy.maxStalenessMs / 10);
  const follower = createFollower({
    ...options,
    standing,
    confirmationMs,
    memory: memory.follower,
  });
  const { require, refresh } = follower;
  /** The snapshot to sign under, while it may still be what is true. */
  const requireCurrent = (): Snapshot => {
    const snapshot = require();
    const obstacle = standing.signingObstacle(snapshot.config.leafTtlMs);
    if (obstacle !== null)
      throw new NotReadyError(obstacle.code, `Cannot sign leaf: ${obstacle.message}`, {
        retryAfterMs: policy.heartbeatMs,
      });
    return snapshot;
  };
  const signer = new LeafSigner({
    datacenter: options.datacenter,
    serverNames: options.serverNames ?? NO_SERVER_NAMES,
    clock,
    random,
    limiter,
    metrics,
    audit,
    snapshot: requireCurrent,
  });

  const heartbeat = () =>
    standing.heartbeat({
      ...self,
      keks: sealer.keks,
      schema: SCHEMA,
      index: follower.current?.state.index ?? 0,
    });

  /**
   * Takes what is stored before a change.
   * @throws {StoreError} `state_regressed` where nothing may be changed.
   */
  const begin = async (lease: Lease, name: OperationName, before: number): Promise<void> => {
    await refresh();
    if (lease.term <= before && follower.current !== null)
      await follower.stop(`it granted term ${lease.term}, term ${before} was seen`);
    follower.sawTerm(lease.term);
    if (follower.stopped === null || name === "RESOLVING") return;
    throw new StoreError(
      "state_regressed",
      `Cannot change the CA: the store lost writes (${follower.stopped}), and an operator has to decide which state is kept; see GET /v1/connect/ca/state-conflict`,
    );
  };
  const least = () =>
    follower.current === null ? SCHEMAS[0] : leastSchema(follower.current.state);
  const operations = createOperations({
    ...options,
    policy,
    standing,
    kek,
    heartbeat,
    seen: () => follower.term,
    leastSchema: least,
    begin,
  });

  /** Looks at the store's clock. @throws {StoreError} */
  const lookAt = (state: CaState | null) =>
    deletionClock.look(lookFor(state, policy, state === null ? null : collectAt(state, providers)));

  const { change, replace } = createChanges({
    ...options,
    operations,
    follower,
    policy,
    audit,
    lookAt,
    upkeep: () => upkeep,
  });

  const stepBootstrap = () =>
    operations.run("INITIALIZING", async (operation) => {
      if (follower.current !== null) return;
      const { clusterId, ...config } = options.bootstrap;
      const id = clusterId ?? newClusterId(random);
      await change(NOTHING_STORED, operation, (context) => planBootstrap(id, config, context));
    });

  const stepPrune = () =>
    operations.run("RENEWING", async (operation) => {
      const snapshot = require();
      const { state } = snapshot;
      const time = await lookAt(state);
      if (plan(state, policy, time).kind === "prune")
        await replace(
          "prune",
          withRemnants(
            state,
            prune(state, newCommitId(random), policy, time),
            providers,
            policy,
            time.now,
          ),
          snapshot,
          operation,
        );
    });

  /** Deletes outside what nobody needs any more. */
  const stepCollect = () =>
    operations.run("RENEWING", async (operation) => {
      const snapshot = require();
      const requireLease = () => operations.requireHeld(operation);
      const now = (await lookAt(snapshot.state)).confirmed(
        longestConfirmMs(snapshot.state.roots, policy),
      );
      const collected = await collect(snapshot.state, {
        types: providers,
        sealer,
        random,
        now,
        requireLease,
      });
      if (collected !== null)
        await replace(
          "collect",
          reseal(snapshot.state, newCommitId(random), collected),
          snapshot,
          operation,
        );
    });

  /** Has cross-signed certificates made again that are needed for longer than they live. */
  const stepCross = () =>
    operations.run("RENEWING", async (operation) => {
      const snapshot = require();
      const look = () => lookAt(snapshot.state);
      const { now } = await look();
      const onRollback = () => operations.requireHeld(operation);
      const next = await planCrossing(snapshot, {
        types: providers,
        sealer,
        random,
        policy,
        now,
        look,
        onRollback,
      });
      if (next !== null) await replace("cross", next, snapshot, operation);
      return next !== null;
    });

  /** A change of the manager's own accord. */
  const stepChange =
    (work: (snapshot: Snapshot, context: ChangeContext) => Promise<Change | null>) => () =>
      operations.run("RENEWING", async (operation) => {
        const snapshot = require();
        await change(snapshot.state, operation, (context) => work(snapshot, context));
      });

  const upkeep = createUpkeep({
    clock,
    log,
    policy,
    operations,
    snapshot: () => follower.current,
    followRoot: stepChange(planReplacedRoot),
    renew: stepChange(planRenewal),
    cross: stepCross,
    collect: stepCollect,
  });

  /** Why a change would be refused before it begins, in the order in which it would be noticed. */
  const whyNoChange = (): string | null => {
    const skew = standing.changeObstacle();
    if (skew !== null) return skew.message;
    if (standing.storeAway) {
      const since = standing.confirmedAt;
      return `the store has not answered ${since === null ? "since the start" : `since ${since.toISOString()}`}`;
    }
    if (standing.unwritten !== null)
      return `the last write to the store failed: ${standing.unwritten}`;
    if (follower.stopped !== null)
      return `the store lost writes (${follower.stopped}); decide with PUT /v1/connect/ca/state-conflict`;
    if (follower.current === null) return "the CA has not finished initializing";
    return operations.whyNotFollowed();
  };

  return {
    get snapshot() {
      return follower.current;
    },
    get status(): Status {
      const { stalenessMs, storeAway, clockOffsetMs, alarmed: clockAlarm, live } = standing;
      const role = leadership.lease === null ? "follower" : "leader";
      const { current, term, stopped } = follower;
      const { notes } = upkeep.health();
      const index = current?.state.index ?? 0;
      const { confirmedAt } = standing;
      const changeObstacle = whyNoChange();
      return {
        role,
        term,
        index,
        stalenessMs,
        storeAway,
        confirmedAt,
        changeObstacle,
        clockOffsetMs,
        clockAlarm,
        stopped,
        live,
        notes,
      };
    },
    get signing() {
      return limiter.inFlight;
    },
    require,
    async start() {
      await follower.recollect();
      try {
        await refresh();
      } catch (error) {
        const seen = follower.current;
        if (policy.maxStalenessMs === null || seen === null || !isAway(error)) throw error;
        requireKeks(seen.state, sealer);
        log.warn("The store is away: starting from the last-seen state in the data folder", {
          reason: reasonOf(error),
          index: seen.state.index,
          confirmed: standing.confirmedAt?.toISOString() ?? null,
        });
        return;
      }
      requireKeks(follower.current?.state ?? null, sealer);
      // Only a replica that can serve the CA counts as alive, and from then on nothing is sealed
      // that it cannot open: so once more.
      await heartbeat();
      await refresh();
      requireKeks(follower.current?.state ?? null, sealer);
      await follower.keep();
    },
    sign: (csr, signOptions) => signer.sign(csr, signOptions),
    requireRoom(priority) {
      try {
        limiter.requireRoom(priority);
      } catch (error) {
        metrics.leafRefused("sign_rate_limited");
        throw error;
      }
    },
    refresh,
    async freshen() {
      if (!standing.isFresh(policy.maxAgeMs ?? 0))
        await Promise.all([refresh(), standing.silent ? heartbeat() : null]);
      // What is stored may be what somebody else has taken already.
      follower.tell();
    },
    heartbeat,
    async configure(request, caller) {
      return operations.run(
        "RECONFIGURING",
        async (operation) => {
          const snapshot = require();
          const changed = await change(snapshot.state, operation, (context) =>
            planConfiguration(snapshot, request, context),
          );
          if (changed === null)
            audit?.record(decided("configure", snapshot.active.id, operation, "unchanged"));
          return changed !== null;
        },
        caller,
      );
    },
    async rotate(request, caller) {
      return operations.run(
        "RECONFIGURING",
        async (operation) => {
          const snapshot = require();
          return done(
            await change(snapshot.state, operation, (context) =>
              planNewRoot(snapshot, request, context),
            ),
          );
        },
        caller,
      );
    },
    async rewrap(caller) {
      return operations.run(
        "RENEWING",
        async (operation) => {
          const snapshot = require();
          const { state } = snapshot;
          const { kek: authenticates } = await store.read();
          if ([...keksInUse(state, sealer), authenticates].every((id) => id === kek)) {
            audit?.record(decided("rewrap", snapshot.active.id, operation, "unchanged"));
            return false;
          }
          await replace(
            "rewrap",
            reseal(state, newCommitId(random), await rewrapped(state, sealer)),
            snapshot,
            operation,
          );
          return true;
        },
        caller,
      );
    },
    async recordAccess(work) {
      return operations.run("RENEWING", async (operation) => {
        const snapshot = require();
        if (operation.schema < SCHEMA) return false;
        const { access } = snapshot.state;
        const next = await work(access);
        const same =
          next?.keyId === access?.keyId &&
          next?.bootstrapAccessorId === access?.bootstrapAccessorId;
        if (next === null || same) return false;
        await replace(
          "record-access",
          recordAccess(snapshot.state, newCommitId(random), next),
          snapshot,
          operation,
        );
        return true;
      });
    },
    async kekUse() {
      await heartbeat();
      const { state, kek: authenticates } = await store.read();
      const ids =
        state === null
          ? []
          : [...keksInUse(state, sealer), ...(authenticates === null ? [] : [authenticates])];
      return { current: kek, inUse: [...new Set(ids)], live: standing.live };
    },
    async conflict() {
      const [mark, stored] = [await store.stopMark(), await store.read()];
      if (mark === null) return null;
      return { reason: mark.reason, by: mark.by, at: mark.at, snapshot: mark, stored };
    },
    async resolve({ keep, forceWithoutCrossSigning }, caller) {
      return operations.run(
        "RESOLVING",
        async (operation) => {
          const [mark, stored] = [await store.stopMark(), await store.read()];
          if (mark === null)
            throw new ConflictError(
              "no_conflict",
              "There is no conflict to resolve: the store lost nothing",
            );
          const [kept, other] = choose(keep, mark.state, stored.state);
          const index = Math.max(
            mark.state.index,
            stored.state?.index ?? 0,
            follower.current?.state.index ?? 0,
          );
          const time = await lookAt(other);
          const resolution = {
            kept,
            other,
            index,
            forceWithoutCrossSigning,
            kind: "resolve",
            time,
          } as const;
          const from = { ...(stored.state ?? NOTHING_STORED), resolves: mark.state.commitId };
          const snapshot = done(
            await change(from, operation, (context) => planResolution(resolution, context)),
          );
          follower.resolved(mark.term);
          return snapshot;
        },
        caller,
      );
    },
    async restore(
      state,
      { forceWithoutCrossSigning, modifyIndex = null, onlyWhereEmpty = false },
      caller,
    ) {
      return operations.run(
        "RECONFIGURING",
        async (operation) => {
          if (onlyWhereEmpty && follower.current !== null) return follower.current;
          const other = follower.current?.state ?? null;
          requireSameCluster(state, other);
          requireRestorable(state, other, modifyIndex);
          const index = Math.max(state.index, other?.index ?? 0);
          const time = await lookAt(other);
          const resolution = {
            kept: state,
            other,
            index,
            forceWithoutCrossSigning,
            kind: "restore",
            time,
          } as const;
          return done(
            await change(other ?? NOTHING_STORED, operation, (context) =>
              planResolution(resolution, context),
            ),
          );
        },
        caller,
      );
    },
    async tick() {
      const until = new Date(clock.now().getTime() + policy.leaderRetryMs);
      await upkeep.tidy();
      // Times that decide are the store's: while they cannot be trusted nothing is due.
      if (standing.changeObstacle() !== null || !(await leadership.lead()))
        return { kind: "wait", until };
      await refresh();
      const state = follower.current?.state ?? null;
      // Also while changes are stopped: what is over by then is not to be asked for again once an
      // operator has decided.
      const time = await lookAt(state);
      if (follower.stopped !== null) return { kind: "wait", until };
      const due = plan(state, policy, time, state === null ? null : collectAt(state, providers));
      if (due.kind === "bootstrap") await stepBootstrap();
      else if (due.kind === "prune") await stepPrune();
      else return upkeep.step(due);
      return due;
    },
    async confirmedTime() {
      const { state } = require();
      const spanMs = Math.min(longestConfirmMs(state.roots, policy), policy.maxRecordConfirmMs);
      return (await lookAt(state)).confirmed(spanMs);
    },
    async probe() {
      await follower.current?.provider?.external?.probe();
    },
    async follow(signal) {
      await store
        .watch(follower.current?.state.commitId ?? null, signal)
        .catch((error: unknown) => {
          standing.failed(error);
          throw error;
        });
      if (!signal.aborted) await refresh();
    },
    subscribe: follower.subscribe,
    obstacle() {
      try {
        const snapshot = require();
        requireAbleToSign(snapshot, clock.now());
        return (
          standing.signingObstacle(snapshot.config.leafTtlMs)?.message ?? upkeep.health().obstacle
        );
      } catch (error) {
        return reasonOf(error).trim();
      }
    },
    // The holder of a lease is an address and, behind a space, what tells two starts apart.
    leader: async () => (await leases.holder("leader"))?.split(" ")[0] ?? null,
    resign: leadership.resign,
    async close() {
      await operations.close();
      if (confirmationMs !== null) await follower.keep();
      await leadership.resign();
      await options.replicas.leave(self.id).catch(() => undefined);
      await upkeep.close();
    },
  };
}

/** What a change made that cannot come to nothing. */
function done(snapshot: Snapshot | null): Snapshot {
  if (snapshot === null) throw new InvariantError("A change came to nothing");
  return snapshot;
}
