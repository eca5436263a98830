/**
 * The CA: serves a snapshot of its state, signs leaves under it, and is the only one that commits
 * changes. It has no loop and no timer of its own: the composition root calls `heartbeat`, `tick`
 * and `follow`.
 * @module
 */

import { ConflictError, faultCodeOf, NotReadyError, reasonOf, StoreError } from "../errors.ts";
import { type Caller, NOBODY } from "../ports/audit.ts";
import type { LastSeenStore } from "../ports/last-seen.ts";
import type { LeafCountPorts } from "../ports/leaf-counts.ts";
import type { PeerDatacenters, PrimaryDatacenter } from "../ports/primary.ts";
import type { Replica as LiveReplica } from "../ports/replicas.ts";
import { defaultTrustDomain } from "../spiffe/trust-domain.ts";
import {
  ACCESS_SCHEMA,
  type AccessRecord,
  type CaState,
  DATACENTER_SCHEMA,
  type OtherPrimaryRecord,
  SCHEMA,
} from "../state.ts";
import type { Certificate } from "../x509/certificate.ts";
import { NO_SERVER_NAMES, type ServerNames } from "../x509/leaf.ts";
import type { KekUse, ResolutionRequest, RestoreOptions, StateConflict, Status } from "./api.ts";
import { type AutoRotation, autoRotationAt, autoRotationOf } from "./auto-rotation.ts";
import type { CaPorts } from "./ca-ports.ts";
import {
  type Change,
  type ChangeContext,
  ChangeRunner,
  NOTHING_STORED,
  type PlannedChange,
} from "./change.ts";
import { DeletionClock } from "./deletion-looks.ts";
import { followsDrop, trustOfDropped } from "./dropped-roots.ts";
import { Follower } from "./follower.ts";
import { garbageDueAt } from "./garbage.ts";
import { type IntermediateRequest, planIntermediate } from "./intermediates.ts";
import { Leadership } from "./leadership.ts";
import { LeafCounter } from "./leaf-counter.ts";
import { type LeafSummary, NOT_COUNTING } from "./leaf-summary.ts";
import { elapsedMs, Limiter, type Priority } from "./limiter.ts";
import { Maintenance } from "./maintenance.ts";
import { OtherPrimary, otherPrimaryText } from "./other-primary.ts";
import {
  type ConfigurationRequest,
  newCommitId,
  planConfiguration,
  preparedText,
  requireNothingPrepared,
} from "./plan-change.ts";
import { type DropOutcome, type DropRequest, planDrop } from "./plan-drop.ts";
import { planCollection, planCrossing, planPrune, planRenewal } from "./plan-maintenance.ts";
import { type PromotionRequest, planActivation, planPromotion } from "./plan-promotion.ts";
import { planRollback, type RollbackRequest, requirePrimary } from "./plan-rollback.ts";
import {
  type BootstrapConfig,
  newClusterId,
  planAutoRotation,
  planBootstrap,
  planNewRoot,
  planReplacedRoot,
  type RotationRequest,
} from "./plan-root.ts";
import { renewWindowMs } from "./renew-window.ts";
import { Replica } from "./replica.ts";
import { ReplicaHealth } from "./replica-health.ts";
import { createReplicaMemory, type PrimaryMemory, type ReplicaMemory } from "./replica-memory.ts";
import { choose, planResolution, requireRestorable, requireSameCluster } from "./resolve.ts";
import { keksInUse, rewrapped } from "./rewrap.ts";
import { longestConfirmMs } from "./root-removal.ts";
import { nextStep, type Step } from "./schedule.ts";
import { Secondary } from "./secondary.ts";
import { type IssuedLeaf, LeafSigner, requireAbleToSign, type SignOptions } from "./signer.ts";
import { type Snapshot, withState } from "./snapshot.ts";
import { checkAges, checkLeaseTimes, DEFAULT_POLICY, type Policy } from "./timing-and-limits.ts";
import { recordAccess, recordDatacenter, recordOtherPrimary, reseal } from "./transitions.ts";

export interface CaOptions {
  readonly ports: CaPorts;
  /** This replica's id and address among the live ones. */
  readonly self: Pick<LiveReplica, "id" | "address">;
  /** Null if nothing is kept outside of the store. */
  readonly lastSeen: LastSeenStore | null;
  /** @default null: leaves are not counted */
  readonly leafCounts?: LeafCountPorts | null;
  readonly datacenter: string;
  /** Whether the deployment has several datacenters, of which this is one. @default false */
  readonly hasDatacenters?: boolean;
  /**
   * The datacenter that this one follows, until this one is promoted, and again once that one is.
   * @default null: this is the primary one
   */
  readonly primary?: PrimaryDatacenter | null;
  /** The other datacenters in the configuration. @default null: a deployment of one datacenter */
  readonly peers?: PeerDatacenters | null;
  /** The names that a server's own certificate is allowed to have. @default NO_SERVER_NAMES */
  readonly serverNames?: ServerNames;
  /**
   * The names of this CA's servers, which no service is allowed to have.
   * @param addresses of the live replicas, `host:port` each. @default NO_SERVER_NAMES
   */
  readonly reservedNames?: (addresses: readonly string[]) => ServerNames;
  /** The configuration of the first root, used if there is no state. */
  readonly bootstrap: BootstrapConfig;
  /** @default DEFAULT_POLICY */
  readonly policy?: Policy;
  /** @default one that has seen nothing */
  readonly memory?: ReplicaMemory;
}

/** What a drop did, and the snapshot that it left. */
export interface DroppedRoots extends DropOutcome {
  readonly snapshot: Snapshot;
}

/**
 * A certificate authority over its ports. The constructor reads and writes nothing.
 *
 * Every change throws a `CaError`; unless its code is `outcome_unknown`, nothing was changed then.
 */
export class CertificateAuthority {
  readonly #ports: CaPorts;
  readonly #policy: Policy;
  readonly #bootstrapConfig: BootstrapConfig;
  readonly #replica: Replica;
  readonly #leadership: Leadership;
  readonly #deletionClock: DeletionClock;
  readonly #changes: ChangeRunner;
  readonly #maintenance: Maintenance;
  readonly #limiter: Limiter;
  /** Null if leaves are not counted. */
  readonly #leaves: LeafCounter | null;
  readonly #signer: LeafSigner;
  /** Into which every state is bound; null in a deployment of one datacenter. */
  readonly #boundDatacenter: string | null;
  readonly #primaryMemory: PrimaryMemory;
  /** Null if no datacenter to follow is configured. */
  readonly #secondary: Secondary | null;
  /** Null in a deployment of one datacenter. */
  readonly #otherPrimary: OtherPrimary | null;

  /** @throws {RangeError} for lease times or ages that cannot work */
  constructor(options: CaOptions) {
    const { ports, self, lastSeen, datacenter, policy = DEFAULT_POLICY } = options;
    const { serverNames = NO_SERVER_NAMES, memory = createReplicaMemory() } = options;
    const { reservedNames = () => NO_SERVER_NAMES } = options;
    checkLeaseTimes(policy);
    checkAges(policy);
    const { leases, clock, random, metrics, audit } = ports;
    this.#ports = ports;
    this.#policy = policy;
    this.#bootstrapConfig = options.bootstrap;
    this.#boundDatacenter = options.hasDatacenters === true ? datacenter : null;
    const health = new ReplicaHealth(ports, policy, memory.health);
    const { leafCounts = null } = options;
    const counting = { id: self.id, policy, clock, log: ports.log };
    const leaves = leafCounts === null ? null : new LeafCounter({ ...leafCounts, ...counting });
    this.#leaves = leaves;
    this.#replica = new Replica(ports, { self, lastSeen, policy, leaves }, health, memory.seen);
    this.#leadership = new Leadership(leases, clock, policy);
    this.#deletionClock = new DeletionClock(ports, policy);
    this.#changes = new ChangeRunner({
      ports,
      policy,
      replica: this.#replica,
      deletionClock: this.#deletionClock,
      serverNames,
      datacenter: this.#boundDatacenter,
    });
    this.#maintenance = new Maintenance(ports, policy.inspectMs);
    this.#primaryMemory = memory.primary;
    const { primary = null } = options;
    this.#secondary =
      primary === null
        ? null
        : new Secondary({
            follower: new Follower(primary, ports, memory.primary),
            changes: this.#changes,
            maintenance: this.#maintenance,
            ...{ policy, clock, metrics, bootstrap: options.bootstrap },
          });
    const { peers = null } = options;
    this.#otherPrimary =
      peers === null
        ? null
        : new OtherPrimary({
            ...{ peers, datacenter, clock, log: ports.log },
            memory: memory.otherPrimary,
          });
    this.#limiter = new Limiter(clock, policy, memory.limiter);
    this.#signer = new LeafSigner({
      datacenter,
      serverNames,
      reservedNames: () => reservedNames(health.live.map(({ address }) => address)),
      hints: ports.hints,
      clock,
      random,
      limiter: this.#limiter,
      metrics,
      audit,
      leaves,
      snapshot: () => this.#requireFresh(),
    });
  }

  // What this replica serves

  /** The last snapshot, or null before there is a state. */
  get snapshot(): Snapshot | null {
    return this.#replica.current;
  }

  /** The last snapshot. @throws {NotReadyError} `ca_uninitialized` */
  require(): Snapshot {
    return this.#replica.require();
  }

  /**
   * Takes what this replica saw before a restart, and what is stored.
   * @throws {CaError} if the CA cannot be served by this replica
   */
  async start(): Promise<void> {
    await this.#replica.start();
    const { snapshot } = this;
    if (snapshot === null) return;
    const obstacle = this.#roleObstacle(snapshot.state);
    if (obstacle !== null) throw new StoreError("datacenter_differs", `Cannot serve: ${obstacle}`);
  }

  /** Reads the store and takes what is newer. @throws {StoreError} */
  refresh(): Promise<void> {
    return this.#replica.refresh();
  }

  /**
   * Refreshes unless the store confirmed the snapshot within `policy.maxAgeMs`, with a heartbeat if
   * one is due.
   * @throws {StoreError}
   */
  refreshIfStale(): Promise<void> {
    return this.#replica.refreshIfStale();
  }

  /** Announces this replica and reads the live ones, with their leaf counts. @throws {StoreError} */
  async heartbeat(): Promise<void> {
    await this.#replica.heartbeat();
    const { current, health } = this.#replica;
    if (current === null || this.#leaves === null) return;
    // Counts that cannot be read hold up nothing; the next write of them reports it.
    await this.#leaves.heard({ state: current.state, live: health.live }).catch(() => undefined);
  }

  /** Waits until the stored state may have changed, and takes it. @throws {StoreError} */
  follow(signal: AbortSignal): Promise<void> {
    return this.#replica.follow(signal);
  }

  /** Calls `listener` with every new snapshot until the returned function is called. */
  subscribe(listener: (snapshot: Snapshot) => void): () => void {
    return this.#replica.subscribe(listener);
  }

  // Leaves

  /** Signs one PEM request. @throws {CaError} of every kind */
  sign(csr: string, options?: SignOptions): Promise<IssuedLeaf> {
    return this.#signer.sign(csr, options);
  }

  /**
   * Looks whether a request would be accepted now, before its body is read.
   * @throws {RateLimitedError}
   */
  requireRoom(priority: Priority): void {
    try {
      this.#limiter.requireRoom(priority);
    } catch (error) {
      this.#ports.metrics.leafRefused("sign_rate_limited");
      throw error;
    }
  }

  /**
   * Over how long holders of leaves should spread renewals after a root change, in milliseconds;
   * whole seconds. It goes by what this replica signed since it started, on Workers this isolate.
   * @throws {NotReadyError} `ca_uninitialized`
   */
  get renewWindowMs(): number {
    const now = elapsedMs(this.#ports.clock);
    const { config, state } = this.require();
    return renewWindowMs(this.#limiter.history, config, now, followsDrop(state));
  }

  /** Signing requests in flight. */
  get signing(): number {
    return this.#limiter.inFlight;
  }

  /** How many leaves are live under which root. @throws {NotReadyError} `ca_uninitialized` */
  get leaves(): LeafSummary {
    const snapshot = this.require();
    return this.#leaves?.summary(snapshot) ?? NOT_COUNTING;
  }

  /**
   * Writes the leaves that this replica signed into the counts that all replicas share.
   * @returns whether that is done until more are signed. @throws {StoreError}
   */
  async saveLeafCounts(): Promise<boolean> {
    const { current, health } = this.#replica;
    if (this.#leaves === null) return true;
    // Hours that are over by a wrong clock would be deleted.
    if (current === null || health.changeObstacle() !== null || !this.#isAnnounced) return false;
    return this.#leaves.save({ state: current.state, live: health.live });
  }

  /** Whether the last heartbeat is known to the store. */
  get #isAnnounced(): boolean {
    return this.#replica.health.live.some(({ id }) => id === this.#replica.id);
  }

  // Changes that an operator asks for

  /**
   * Changes the configuration, and rotates if it describes another root.
   * @returns whether anything changed.
   */
  configure(request: ConfigurationRequest, caller: Caller = NOBODY): Promise<boolean> {
    const following = this.#following;
    if (following !== null) return following.configure(request, caller);
    return this.#changes.run("RECONFIGURING", caller, async (change) => {
      await this.#requireLeading(change, "Cannot change the configuration");
      const planned = await planConfiguration(change.require(), request, change);
      if (planned === null) change.recordUnchanged("configure");
      else await change.commit(planned);
      return planned !== null;
    });
  }

  /**
   * Rotates to a new root now; in a secondary datacenter to a new intermediate.
   * @returns the snapshot with it.
   */
  rotate(request: RotationRequest, caller: Caller = NOBODY): Promise<Snapshot> {
    const following = this.#following;
    if (following !== null) return following.rotate(request, caller);
    return this.#changes.run("RECONFIGURING", caller, async (change) => {
      await this.#requireLeading(change, "Cannot rotate");
      return change.commit(await planNewRoot(change.require(), request, change));
    });
  }

  /**
   * Makes a retired root the active one again.
   * @returns the snapshot with it.
   */
  rollBack(request: RollbackRequest, caller: Caller = NOBODY): Promise<Snapshot> {
    return this.#changes.run("RECONFIGURING", caller, async (change) => {
      const snapshot = change.require();
      requirePrimary(snapshot.state);
      await this.#requireLeading(change, "Cannot roll back");
      return change.commit(await planRollback(snapshot, request, change));
    });
  }

  /**
   * Makes this datacenter the primary one of its mesh. Others follow it once they are configured to.
   * @returns the snapshot with its root.
   */
  promote(request: PromotionRequest, caller: Caller = NOBODY): Promise<Snapshot> {
    return this.#changes.run("RECONFIGURING", caller, async (change) => {
      const snapshot = change.require();
      const claims = (await this.#otherPrimary?.look(snapshot.state, 0)) ?? [];
      return change.commit(await planPromotion(snapshot, request, claims, change));
    });
  }

  /**
   * Drops a root whose key others may know, in one commit. What it leaves in its provider is deleted
   * then, or by the leader, which retries it.
   */
  async drop(request: DropRequest, caller: Caller = NOBODY): Promise<DroppedRoots> {
    const done = await this.#changes.run("RECONFIGURING", caller, async (change) => {
      await this.#requirePrimary(change, "Cannot drop a root");
      const { planned, ...outcome } = await planDrop(change.require(), request, change);
      return { ...outcome, snapshot: await change.commit(planned) };
    });
    await this.#deleteDropped(caller);
    return done;
  }

  /** Deletes what dropped roots leave in their providers. It never rejects. */
  async #deleteDropped(caller: Caller): Promise<void> {
    const { providers, log } = this.#ports;
    const isDue = () => garbageDueAt(this.require().state, providers)?.getTime() === 0;
    try {
      while (isDue())
        await this.#changes.run("RENEWING", caller, async (change) => {
          const planned = await planCollection(change.require(), change);
          if (planned !== null) await change.commit(planned);
        });
    } catch (error) {
      log.warn(
        "Failed to delete what a dropped root leaves in its provider; the leader will retry",
        { reason: reasonOf(error) },
      );
    }
  }

  /**
   * Encrypts everything secret again under the current key-encryption key.
   * @returns whether anything changed.
   */
  rewrap(caller: Caller = NOBODY): Promise<boolean> {
    const { store, sealer, random } = this.#ports;
    return this.#changes.run("RENEWING", caller, async (change) => {
      const snapshot = change.require();
      const { state } = snapshot;
      const { kek: macKek } = await store.read();
      if ([...keksInUse(state, sealer), macKek].every((id) => id === sealer.keks[0])) {
        change.recordUnchanged("rewrap");
        return false;
      }
      const next = reseal(state, newCommitId(random), await rewrapped(state, sealer));
      await change.commit({ kind: "rewrap", snapshot: withState(snapshot, next) });
      return true;
    });
  }

  /**
   * Certifies the key of another datacenter's CA.
   * @returns the certificate, then those between it and the root.
   * @throws {RequestError} @throws {DeniedError}
   */
  async signIntermediate(request: IntermediateRequest): Promise<readonly Certificate[]> {
    const { metrics } = this.#ports;
    try {
      // After a rotation all datacenters ask at the same time.
      const signed = await this.#changes.runInTurn("RENEWING", request.caller, async (change) => {
        await this.#requireLeading(change, "Cannot sign intermediate");
        const { planned, path } = await planIntermediate(change.require(), request, change);
        await change.commit(planned);
        return path;
      });
      metrics.intermediateRequested("ok");
      return signed;
    } catch (error) {
      metrics.intermediateRequested(faultCodeOf(error));
      throw error;
    }
  }

  /** The two states between which an operator has to decide, or null. @throws {StoreError} */
  async conflict(): Promise<StateConflict | null> {
    const [mark, stored] = [await this.#ports.store.stopMark(), await this.#ports.store.read()];
    if (mark === null) return null;
    return { reason: mark.reason, by: mark.by, at: mark.at, snapshot: mark, stored };
  }

  /** Keeps one of the two states. @throws {ConflictError} `no_conflict` */
  resolve(request: ResolutionRequest, caller: Caller = NOBODY): Promise<Snapshot> {
    const { store } = this.#ports;
    return this.#changes.run("RESOLVING", caller, async (change) => {
      const [mark, stored] = [await store.stopMark(), await store.read()];
      if (mark === null)
        throw new ConflictError(
          "no_conflict",
          "There is no state conflict to resolve: the store lost no writes",
        );
      const [kept, other] = choose(request.keep, mark.state, stored.state);
      const index = Math.max(
        mark.state.index,
        stored.state?.index ?? 0,
        change.snapshot?.state.index ?? 0,
      );
      const { forceWithoutCrossSigning } = request;
      const time = await change.look(other);
      const planned = await planResolution(
        { kind: "resolve", kept, other, index, forceWithoutCrossSigning, time },
        change,
      );
      const expected = { ...(stored.state ?? NOTHING_STORED), resolves: mark.state.commitId };
      const snapshot = await change.commit(planned, expected);
      this.#replica.resolved(mark.term);
      return snapshot;
    });
  }

  /** Makes a backup the present state: one of this CA, or of any CA if the store is empty. */
  restore(backup: CaState, options: RestoreOptions, caller: Caller = NOBODY): Promise<Snapshot> {
    const { forceWithoutCrossSigning, modifyIndex = null, onlyWhereEmpty = false } = options;
    return this.#changes.run("RECONFIGURING", caller, async (change) => {
      if (onlyWhereEmpty && change.snapshot !== null) return change.snapshot;
      const other = change.snapshot?.state ?? null;
      requireSameCluster(backup, other, this.#ports.hints);
      requireRestorable(backup, other, modifyIndex);
      const index = Math.max(backup.index, other?.index ?? 0);
      const time = await change.look(other);
      const planned = await planResolution(
        { kind: "restore", kept: backup, other, index, forceWithoutCrossSigning, time },
        change,
      );
      return change.commit(planned);
    });
  }

  /**
   * Records in the CA document what is known of access control, once every live replica reads a
   * schema that has it.
   * @param work gets the present record; null leaves it as it is.
   * @returns whether anything changed.
   */
  recordAccess(
    work: (recorded: AccessRecord | null) => Promise<AccessRecord | null>,
  ): Promise<boolean> {
    return this.#changes.run("RENEWING", NOBODY, async (change) => {
      const snapshot = change.require();
      if (change.schema < ACCESS_SCHEMA) return false;
      const { access } = snapshot.state;
      const next = await work(access);
      const isSame =
        next?.keyId === access?.keyId &&
        next?.bootstrapAccessorId === access?.bootstrapAccessorId &&
        next?.recordSchema === access?.recordSchema;
      if (next === null || isSame) return false;
      const state = recordAccess(snapshot.state, newCommitId(change.random), next);
      await change.commit({ kind: "record-access", snapshot: withState(snapshot, state) });
      return true;
    });
  }

  // Background work

  /**
   * Does the one step that is due, if this replica leads.
   * @returns what it did, or when something is due next. @throws {CaError}
   */
  async tick(): Promise<Step> {
    const { clock, providers } = this.#ports;
    const until = new Date(clock.now().getTime() + this.#policy.leaderRetryMs);
    await this.#retryRollback();
    // Deadlines go by the store's clock: while it cannot be trusted, nothing is due.
    if (this.#replica.health.changeObstacle() !== null) return { kind: "wait", until };
    const leads = await this.#leadership.lead();
    this.#primaryMemory.isAsked = leads;
    if (!leads) return { kind: "wait", until };
    await this.#replica.refresh();
    const state = this.snapshot?.state ?? null;
    // Also while changes are stopped: the looks then confirm deadlines as at any other time.
    const time = await this.#deletionClock.look(state);
    if (this.#replica.stopped !== null) return { kind: "wait", until };
    const garbageAt = state === null ? null : garbageDueAt(state, providers);
    if (this.#secondary !== null && (await this.#secondary.look(state))) {
      const { step, handled } = await this.#secondary.tick(state, time, garbageAt);
      return handled ? step : this.#maintain(step);
    }
    if (state !== null) {
      // Another replica has settings by which this datacenter follows.
      if (this.#roleObstacle(state) !== null) return { kind: "wait", until };
      await this.#otherPrimary?.look(state);
      await this.#recordOtherPrimary(state);
    }
    const rotateAt = state === null ? null : autoRotationAt(state, providers);
    const due = nextStep(state, this.#policy, time, { collectAt: garbageAt, rotateAt });
    if (due.kind === "bootstrap") await this.#bootstrap();
    else if (due.kind === "prune") await this.#apply(planPrune);
    else if (due.kind === "activate") await this.#apply(planActivation);
    else {
      await this.#recordDatacenter();
      return this.#maintain(due);
    }
    return due;
  }

  /**
   * Records the name of this datacenter in a state from before there were several, once every live
   * replica reads a schema that has it.
   */
  async #recordDatacenter(): Promise<void> {
    const datacenter = this.#boundDatacenter;
    const isOld = ({ schema }: { readonly schema: number }) => schema < DATACENTER_SCHEMA;
    if (datacenter === null || this.snapshot?.state.datacenter !== null) return;
    if (this.#replica.health.live.some(isOld)) return;
    await this.#changes.run("RENEWING", NOBODY, async (change) => {
      const snapshot = change.require();
      if (snapshot.state.datacenter !== null || isOld(change)) return;
      const state = recordDatacenter(snapshot.state, newCommitId(change.random), datacenter);
      await change.commit({ kind: "record-datacenter", snapshot: withState(snapshot, state) });
    });
  }

  /** Records that another datacenter is the primary one, or no more, for after a restart. */
  async #recordOtherPrimary({ otherPrimary: known }: CaState): Promise<void> {
    const found = this.#otherPrimary?.found ?? null;
    const isSame = (other: OtherPrimaryRecord | null) =>
      other?.datacenter === found?.datacenter && other?.promotions === found?.promotions;
    const isOld = ({ schema }: { readonly schema: number }) => schema < SCHEMA;
    if (isSame(known) || this.#replica.health.live.some(isOld)) return;
    await this.#changes.run("RENEWING", NOBODY, async (change) => {
      const snapshot = change.require();
      if (isSame(snapshot.state.otherPrimary) || isOld(change)) return;
      const record =
        found === null
          ? null
          : { datacenter: found.datacenter, promotions: found.promotions, by: found.by };
      const state = recordOtherPrimary(snapshot.state, newCommitId(change.random), record);
      await change.commit({ kind: "record-primary", snapshot: withState(snapshot, state) });
    });
  }

  /** Whether this datacenter follows another one. */
  get isSecondary(): boolean {
    return this.#following !== null;
  }

  /** Whether a datacenter to follow is configured. */
  get hasPrimary(): boolean {
    return this.#secondary !== null;
  }

  /**
   * Waits until the primary's roots may have changed, and follows them, if this replica leads.
   * @returns whether it waited. @throws {CaError}
   */
  async followPrimary(signal: AbortSignal): Promise<boolean> {
    const secondary = this.#secondary;
    if (secondary === null || this.#leadership.lease === null) return false;
    const changed = await secondary.watch(signal);
    if (changed === true) await this.tick();
    return changed !== null;
  }

  /** Does a step that may have to wait for its retry, or an inspection. @returns what it did */
  async #maintain(due: Step): Promise<Step> {
    const maintenance = this.#maintenance;
    const now = this.#ports.clock.now().getTime();
    maintenance.clearFaults(due.kind);
    switch (due.kind) {
      case "renew":
        if (!maintenance.renewal.isDue) break;
        await maintenance.renewal.run(() => this.#apply(planRenewal));
        return due;
      case "auto-rotate":
        if (
          await maintenance.attempt(
            maintenance.autoRotation,
            "Failed to rotate the root as RootAutoRotate requires; will retry",
            () => this.#apply(planAutoRotation),
          )
        )
          return due;
        break;
      case "cross":
        if (
          await maintenance.attempt(
            maintenance.crossSigning,
            "Failed to renew a cross-signed certificate; will retry",
            () => this.#apply(planCrossing),
          )
        )
          return due;
        break;
      case "collect":
        if (
          await maintenance.attempt(
            maintenance.collection,
            "Failed to delete obsolete provider resources; will retry",
            () => this.#apply(planCollection),
          )
        )
          return due;
        break;
    }
    if (maintenance.inspectionDue) await maintenance.inspect(() => this.#inspect());
    if (due.kind === "wait") return due;
    return { kind: "wait", until: new Date(now + this.#policy.leaderRetryMs) };
  }

  /** Creates the first root, unless another replica did. */
  #bootstrap(): Promise<void> {
    return this.#changes.run("INITIALIZING", NOBODY, async (change) => {
      if (change.snapshot !== null) return;
      const { clusterId: id, trustDomain, ...config } = this.#bootstrapConfig;
      const clusterId = id ?? newClusterId(change.random);
      const cluster = { clusterId, trustDomain: trustDomain ?? defaultTrustDomain(clusterId) };
      await change.commit(await planBootstrap(cluster, config, change));
    });
  }

  /** Runs a change by which the CA maintains itself. @param plan returns null if none is due. */
  #apply(
    plan: (snapshot: Snapshot, change: ChangeContext) => Promise<PlannedChange | null>,
  ): Promise<void> {
    return this.#changes.run("RENEWING", NOBODY, async (change) => {
      const planned = await plan(change.require(), change);
      if (planned !== null) await change.commit(planned);
    });
  }

  /** Inspects the provider's issuer and root: a lost issuer is renewed, another root followed. */
  async #inspect(): Promise<void> {
    const found = await this.snapshot?.provider?.external?.inspect();
    const following = this.#following;
    if (following !== null) {
      // The root is the primary's.
      if (found?.issuerLost === true) await following.replaceIssuer();
      return;
    }
    if (!found?.rootReplaced) this.#maintenance.setRefusedRoot(null);
    if (found?.issuerLost) await this.#apply(planRenewal);
    if (!found?.rootReplaced) return;
    await this.#apply(planReplacedRoot).then(
      () => this.#maintenance.setRefusedRoot(null),
      (error: unknown) => this.#maintenance.setRefusedRoot(error),
    );
  }

  /** What follows the primary datacenter; null if this is the primary one. */
  get #following(): Secondary | null {
    const state = this.snapshot?.state ?? null;
    return state === null || state.primary !== null ? this.#secondary : null;
  }

  /** That this replica has the settings of a primary datacenter and the state of a secondary one. */
  #roleObstacle({ primary }: CaState): string | null {
    if (primary === null || this.#secondary !== null) return null;
    return `the stored state follows the primary datacenter ${primary.datacenter}, and the settings of this server name no other primary datacenter. Configure it to follow ${primary.datacenter}, or promote this datacenter first`;
  }

  /**
   * @throws {ConflictError} `transition_invalid` if another datacenter is the primary one, or a root is
   * prepared
   */
  async #requireLeading(change: Change, action: string): Promise<void> {
    await this.#requirePrimary(change, action);
    requireNothingPrepared(change.require().state);
  }

  /**
   * @throws {ConflictError} `transition_invalid` if another datacenter is the primary one
   */
  async #requirePrimary(change: Change, action: string): Promise<void> {
    const { state } = change.require();
    const obstacle = this.#roleObstacle(state);
    if (obstacle !== null) throw new ConflictError("transition_invalid", `${action}: ${obstacle}`);
    await this.#otherPrimary?.require(state, action);
  }

  async #retryRollback(): Promise<void> {
    const { rollback } = this.#maintenance;
    if (this.#changes.mustRollBack && rollback.isDue)
      await rollback.run(() => this.#changes.retryRollback()).catch(() => undefined);
  }

  /** Updates the health of the provider's external resources. It never rejects. */
  async probe(): Promise<void> {
    await this.snapshot?.provider?.external?.probe();
  }

  /**
   * The latest instant confirmed as past by the store's clock (core/deletion-time.ts), for records
   * that belong to no root, such as tokens. For the leader. @throws {StoreError}
   */
  async confirmedTime(): Promise<Date> {
    const { state } = this.require();
    const { maxRecordConfirmMs } = this.#policy;
    const spanMs = Math.min(longestConfirmMs(state.roots, this.#policy), maxRecordConfirmMs);
    return (await this.#deletionClock.look(state)).confirmed(spanMs);
  }

  // What an operator asks

  get status(): Status {
    const { health, current, term, stopped } = this.#replica;
    const { stalenessMs, storeAway, confirmedAt, clockOffsetMs, clockAlarm, live } = health;
    const { notes, unavailable } = this.#maintenance.health(current?.provider);
    const leads = this.#leadership.lease !== null;
    return {
      role: leads ? "leader" : "follower",
      term,
      index: current?.state.index ?? 0,
      stalenessMs,
      storeAway,
      confirmedAt,
      changeObstacle: this.#changeObstacle(),
      clockOffsetMs,
      clockAlarm,
      stopped,
      live,
      notes,
      providerUnavailable: unavailable,
      primary: this.#following?.statusOf(current?.state ?? null, leads || this.#ledLast) ?? null,
      otherPrimary: this.#otherPrimary?.found ?? null,
      trustOfDropped:
        current === null ? [] : trustOfDropped(current.state, this.#ports.clock.now()),
      preparedRoot: current?.state.provider.prepared ?? null,
    };
  }

  /** Whether this replica led last, if it leads for the time of a request only. */
  get #ledLast(): boolean {
    return this.#policy.maxAgeMs !== null && this.#primaryMemory.isAsked;
  }

  /** The next rotation of the root by itself; null if none is configured. */
  get autoRotation(): AutoRotation | null {
    const state = this.snapshot?.state ?? null;
    return state === null ? null : autoRotationOf(state, this.#ports.providers);
  }

  /** Why the root is not one that this CA can replace by another of its own, or null. */
  get rotationObstacle(): string | null {
    const { snapshot } = this;
    if (snapshot === null) return null;
    const { provider } = snapshot.state.config;
    const type = this.#ports.providers.get(provider);
    return type?.rotateObstacle(snapshot.config, snapshot.state.provider.active) ?? null;
  }

  /** Why no leaf can be signed now, or null. */
  obstacle(): string | null {
    try {
      const snapshot = this.require();
      requireAbleToSign(snapshot, this.#ports.clock.now());
      const stale = this.#replica.health.signingObstacle(snapshot.config.leafTtlMs);
      return stale?.message ?? this.#maintenance.health(snapshot.provider).obstacle;
    } catch (error) {
      const reason = reasonOf(error).trim();
      const { primary } = this.status;
      if (this.snapshot !== null || primary === null) return reason;
      return `${reason}: it waits for the primary datacenter ${primary.datacenter}${primary.fault === null ? "" : `: ${primary.fault.reason}`}`;
    }
  }

  /** The key-encryption keys that are needed. @throws {StoreError} */
  async kekUse(): Promise<KekUse> {
    const { store, sealer } = this.#ports;
    await this.heartbeat();
    const { state, kek: macKek } = await store.read();
    const ids = state === null ? [] : keksInUse(state, sealer);
    if (state !== null && macKek !== null) ids.push(macKek);
    const { live } = this.#replica.health;
    return { current: sealer.keks[0] as string, inUse: [...new Set(ids)], live };
  }

  /** The address of the leader, or null. @throws {StoreError} */
  async leader(): Promise<string | null> {
    // The holder of a lease is an address and, after a space, an id of the process.
    return (await this.#ports.leases.holder("leader"))?.split(" ")[0] ?? null;
  }

  /** Releases the lease by which this replica leads. */
  resign(): Promise<void> {
    return this.#leadership.resign();
  }

  /** Lets the running change end and refuses others, releases leases, and closes the provider. */
  async close(): Promise<void> {
    await this.#changes.close();
    await this.#replica.close();
    await this.#leadership.resign();
    await this.#closeLeaves();
    await this.#replica.leave();
    await this.#maintenance.close(this.snapshot?.provider);
  }

  /** Writes the last leaf counts, if this replica may have signed any. It never rejects. */
  async #closeLeaves(): Promise<void> {
    const { current, health } = this.#replica;
    if (current === null || health.changeObstacle() !== null || !this.#isAnnounced) return;
    await this.#leaves?.close({ state: current.state, live: health.live });
  }

  /** The snapshot to sign under. @throws {NotReadyError} if it may be too old */
  #requireFresh(): Snapshot {
    const snapshot = this.require();
    const obstacle = this.#replica.health.signingObstacle(snapshot.config.leafTtlMs);
    if (obstacle === null) return snapshot;
    throw new NotReadyError(obstacle.code, `Cannot sign leaf: ${obstacle.message}`, {
      retryAfterMs: this.#policy.heartbeatMs,
    });
  }

  /** Why a change would be refused, in the order in which it would be noticed; or null. */
  #changeObstacle(): string | null {
    const { health, current, stopped } = this.#replica;
    const skew = health.changeObstacle();
    if (skew !== null) return skew.message;
    if (health.storeAway) {
      const since = health.confirmedAt?.toISOString();
      return `the store has not answered since ${since ?? "the start"}`;
    }
    if (health.unwritten !== null) return `the last write to the store failed: ${health.unwritten}`;
    if (stopped !== null)
      return `the store lost writes (${stopped}); ${this.#ports.hints.resolveConflict}`;
    if (current === null) return "the CA has not finished initializing";
    const other = this.#otherPrimary?.found ?? null;
    if (other !== null) return otherPrimaryText(other);
    const { prepared } = current.state.provider;
    if (prepared !== null) return preparedText(prepared);
    return this.#changes.incompatibleReplica();
  }
}
