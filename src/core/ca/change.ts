/**
 * A change of the CA as a unit of work: one at a time under the operation lease, compatible with
 * every live replica, recorded in the audit log, committed with a known outcome. A change that fails
 * rolls back what its provider created outside.
 * @module
 */

import type { DeletionTime } from "../deletion-time.ts";
import { CaError, NotReadyError } from "../errors.ts";
import { type AuditRecord, type Caller, NOBODY } from "../ports/audit.ts";
import type { Random } from "../ports/clock.ts";
import type {
  CommonConfig,
  Compensation,
  Provider,
  ProviderContext,
  ProviderType,
  ProviderTypes,
} from "../ports/provider.ts";
import type { Replica as LiveReplica } from "../ports/replicas.ts";
import type { Sealer } from "../ports/sealer.ts";
import type { Expected } from "../ports/store.ts";
import type { ClusterIdentity } from "../spiffe/trust-domain.ts";
import {
  type CaState,
  type ConfigMap,
  leastSchema,
  type ProviderState,
  SCHEMA,
  SCHEMAS,
  type Schema,
  schemaFor,
} from "../state.ts";
import type { Certificate } from "../x509/certificate.ts";
import type { ServerNames } from "../x509/leaf.ts";
import type { CaPorts, Hints } from "./ca-ports.ts";
import type { DeletionClock } from "./deletion-looks.ts";
import { OperationLease } from "./operation-lease.ts";
import type { Replica } from "./replica.ts";
import { Rollback } from "./rollback.ts";
import { type Snapshot, withDatacenter, withSchema } from "./snapshot.ts";
import type { Policy } from "./timing-and-limits.ts";

/** The kind of change that runs, in Consul's words; RESOLVING is ours. */
type OperationName = "INITIALIZING" | "RECONFIGURING" | "RENEWING" | "RESOLVING";

/** A change that is ready to be committed. */
export interface PlannedChange {
  /** For the log and the audit log. */
  readonly kind:
    | "bootstrap"
    | "configure"
    | "rotate"
    | "auto-rotate"
    | "renew"
    | "resolve"
    | "restore"
    | "prune"
    | "collect"
    | "cross"
    | "rewrap"
    | "record-access"
    | "record-datacenter"
    | "intermediate"
    | "join"
    | "follow"
    | "promote"
    | "record-primary"
    | "activate"
    | "rollback"
    | "drop";
  readonly snapshot: Snapshot;
  /** IDs of the roots that force abandons. @default none */
  readonly abandonedRoots?: readonly string[];
  /** IDs of the roots that an operator dropped. @default none */
  readonly droppedRoots?: readonly string[];
  /** For the operator. @default none */
  readonly warnings?: readonly string[] | undefined;
}

/** What each kind of change did, for the log. */
const DESCRIPTIONS: Readonly<Record<PlannedChange["kind"], string>> = {
  bootstrap: "created the first root",
  configure: "changed the configuration",
  rotate: "rotated the root",
  "auto-rotate": "rotated the root, as RootAutoRotate requires",
  renew: "renewed the issuer of leaves",
  resolve: "resolved a conflict of the CA state",
  restore: "restored a backup",
  prune: "removed roots and certificates that no leaf needs",
  collect: "deleted obsolete provider resources",
  cross: "renewed a cross-signed certificate",
  rewrap: "encrypted all keys with the current key-encryption key",
  "record-access": "recorded that the ACL is set up",
  "record-datacenter": "recorded the name of the datacenter",
  intermediate: "signed an intermediate for another datacenter",
  join: "took over the roots of the primary datacenter, with an intermediate of this one",
  follow: "followed the roots of the primary datacenter",
  promote: "made this datacenter the primary one",
  "record-primary": "recorded which other datacenter is the primary one",
  activate: "made the prepared root the active one",
  rollback: "made a retired root the active one again",
  drop: "dropped roots whose keys others may know",
};

/** What a first commit expects. */
export const NOTHING_STORED = { index: 0, commitId: null };

/** A committed or prepared provider state that is to be opened. */
interface Opening {
  readonly config: CommonConfig;
  readonly state: ProviderState;
  readonly root: Certificate;
  readonly cluster: ClusterIdentity;
}

/** What planning uses of a change. */
export type ChangeContext = Pick<
  Change,
  | "now"
  | "policy"
  | "random"
  | "providers"
  | "serverNames"
  | "look"
  | "contextFor"
  | "open"
  | "onRollback"
  | "requireLease"
>;

/** What all changes of a CA share. */
interface ChangeSetup {
  readonly ports: Omit<CaPorts, "replicas" | "looks">;
  readonly policy: Policy;
  readonly replica: Replica;
  readonly deletionClock: DeletionClock;
  readonly serverNames: ServerNames;
  /** Into which every state is bound; null in a deployment of one datacenter. */
  readonly datacenter: string | null;
}

/** With what a change begins. */
type Beginning = Pick<Change, "now" | "schema"> & {
  readonly lease: OperationLease;
  readonly caller: Caller;
};

/**
 * Octets of the largest intermediate in PEM: RSA-4096, signed by RSA-4096, has 2,110.
 */
const INTERMEDIATE_BYTES = 2304;

/**
 * The policy of a change in which the chains of other datacenters keep their bounds, too: they have
 * the cross-signed certificates of the primary's leaves, and an intermediate of their own.
 * @param state null before there is one.
 * @param hasDatacenters whether the deployment has several datacenters.
 */
function reservingChain(
  policy: Policy,
  state: Pick<CaState, "primary" | "intermediates"> | null,
  hasDatacenters: boolean,
): Policy {
  const isPrimary = state === null || state.primary === null;
  if (!isPrimary || !(hasDatacenters || (state?.intermediates.length ?? 0) > 0)) return policy;
  return {
    ...policy,
    maxChainLength: policy.maxChainLength - 1,
    maxChainBytes: policy.maxChainBytes - INTERMEDIATE_BYTES,
  };
}

/** One change under its lease. */
export class Change {
  /** What is stored at the beginning; null before there is a state. */
  readonly snapshot: Snapshot | null;
  /** The store's clock at the beginning. */
  readonly now: Date;
  /** The newest schema that every live replica reads. */
  readonly schema: Schema;
  readonly policy: Policy;
  readonly random: Random;
  readonly providers: ProviderTypes;
  /** The names in this server's own certificate, which a root must not forbid. */
  readonly serverNames: ServerNames;
  readonly #setup: ChangeSetup;
  readonly #lease: OperationLease;
  readonly #caller: Caller;
  #compensations: readonly Compensation[] = [];
  /** Opened providers that are not in use yet. */
  readonly #candidates = new Set<Provider>();

  constructor(setup: ChangeSetup, { now, schema, lease, caller }: Beginning) {
    this.snapshot = setup.replica.current;
    this.now = now;
    this.schema = schema;
    const state = this.snapshot?.state ?? null;
    this.policy = reservingChain(setup.policy, state, setup.datacenter !== null);
    this.random = setup.ports.random;
    this.providers = setup.ports.providers;
    this.serverNames = setup.serverNames;
    this.#setup = setup;
    this.#lease = lease;
    this.#caller = caller;
  }

  /** The snapshot of a change that needs one. @throws {NotReadyError} `ca_uninitialized` */
  require(): Snapshot {
    return this.snapshot ?? this.#setup.replica.require();
  }

  /** Looks at the store's clock, for what may be deleted of a state. @throws {StoreError} */
  look(state: CaState | null = this.snapshot?.state ?? null): Promise<DeletionTime> {
    return this.#setup.deletionClock.look(state);
  }

  contextFor({ clusterId, trustDomain }: ClusterIdentity): ProviderContext {
    const { ports, datacenter: configured } = this.#setup;
    // A state that is bound to its datacenter stays so without the setting.
    const datacenter = configured ?? this.snapshot?.state.datacenter ?? null;
    return { clusterId, trustDomain, datacenter, sealer: ports.sealer, random: this.random };
  }

  /**
   * Registers a compensating action before its resource is created outside.
   * @throws {NotReadyError} `operation_running` if another change may run
   */
  readonly onRollback = (compensation: Compensation): void => {
    this.requireLease();
    this.#compensations = [...this.#compensations, compensation];
  };

  /** The registered compensating actions, in the order of their registration. */
  get compensations(): readonly Compensation[] {
    return this.#compensations;
  }

  /** The commit id of the state that the change began with; null if there was none. */
  get base(): string | null {
    return this.snapshot?.state.commitId ?? null;
  }

  /** @returns false if the lease expired, so that another change may run. */
  readonly extendLease = (): Promise<boolean> => this.#lease.extend();

  /** @throws {NotReadyError} `operation_running` if another change may run */
  readonly requireLease = (): void => this.#lease.requireHeld();

  /** Encrypts and decrypts what is stored. */
  get sealer(): Sealer {
    return this.#setup.ports.sealer;
  }

  /** Into which every state is bound; null in a deployment of one datacenter. */
  get datacenter(): string | null {
    return this.#setup.datacenter;
  }

  get hints(): Hints {
    return this.#setup.ports.hints;
  }

  /** Opens a provider. The change closes it at its end, unless it is committed. */
  async open(type: ProviderType, opening: Opening): Promise<Provider> {
    const { config, state, root, cluster } = opening;
    const provider = await type.open(config, state, root, this.contextFor(cluster));
    this.#candidates.add(provider);
    return provider;
  }

  /**
   * Records the change, commits it and serves it.
   * @param expected what must be stored now. @default what was stored at the beginning
   * @throws {ConflictError} @throws {NotReadyError} @throws {StoreError}
   */
  async commit(planned: PlannedChange, expected = this.#base()): Promise<Snapshot> {
    const { ports, replica } = this.#setup;
    const { datacenter } = this.#setup;
    const { snapshot: next } = planned;
    const bound = datacenter === null ? next : withDatacenter(next, datacenter);
    const snapshot = withSchema(bound, this.#schemaOf(bound.state));
    const subject = planned.droppedRoots?.join() ?? snapshot.active.id;
    await ports.audit?.beforeChange(this.#record(planned.kind, subject, null));
    await this.#lease.commit(snapshot.state, expected);
    // From here on it is in use, whatever fails.
    this.#compensations = [];
    if (snapshot.provider !== null) this.#candidates.delete(snapshot.provider);
    await replica.adopt(snapshot);
    this.#log({ ...planned, snapshot });
    return snapshot;
  }

  /**
   * Records a change that has no effect on the state. Resources that its provider repaired stay.
   * @throws {NotReadyError} `audit_unavailable`
   */
  recordUnchanged(kind: PlannedChange["kind"]): void {
    this.#compensations = [];
    this.#setup.ports.audit?.record(this.#record(kind, this.require().active.id, "unchanged"));
  }

  /** Closes the providers that were not committed. */
  close(): void {
    for (const provider of this.#candidates) void provider.close();
  }

  /**
   * The schema to store a state in.
   * @throws {NotReadyError} `replica_behind` if a live replica could not read the state
   */
  #schemaOf(state: CaState): Schema {
    const schema = schemaFor(state, this.schema);
    if (schema === null) this.requireSchema(leastSchema(state));
    return schema ?? SCHEMA;
  }

  /** @throws {NotReadyError} `replica_behind` if a live replica reads no such schema */
  requireSchema(least: Schema): void {
    if (this.schema >= least) return;
    const { replica, policy } = this.#setup;
    const older = replica.health.live.find((each) => each.schema < least);
    throw new NotReadyError(
      "replica_behind",
      `Cannot change the CA: its next state needs schema ${least}${older === undefined ? "" : `, and ${readsUpTo(older)}`}; stop that replica, or start the newer version there`,
      { retryAfterMs: policy.replicaTtlMs },
    );
  }

  #base(): Omit<Expected, "term"> {
    return this.snapshot?.state ?? NOTHING_STORED;
  }

  #record(action: string, subject: string, code: string | null): AuditRecord {
    return { caller: this.#caller, action, subject, outcome: "allowed", code };
  }

  #log({
    kind,
    snapshot,
    abandonedRoots = [],
    droppedRoots = [],
    warnings = [],
  }: PlannedChange): void {
    const { log } = this.#setup.ports;
    const { state, active } = snapshot;
    const before = this.snapshot?.state;
    const kept = new Set(state.roots.map(({ id }) => id));
    const { requestId } = this.#caller;
    const request = requestId === null ? {} : { requestId };
    log.info(`CA changed: ${DESCRIPTIONS[kind]}`, {
      change: kind,
      index: state.index,
      provider: state.config.provider,
      root: active.id,
      fields: changedFields(before?.config.config, state.config.config),
      abandonedRoots,
      ...(droppedRoots.length === 0 ? {} : { droppedRoots }),
      pruned:
        before?.roots
          .map(({ id }) => id)
          .filter((id) => !kept.has(id) && !droppedRoots.includes(id)) ?? [],
      ...request,
    });
    for (const warning of warnings)
      log.warn(`CA changed: ${DESCRIPTIONS[kind]}, with a warning`, { warning, ...request });
  }
}

/** Runs changes, one at a time. */
export class ChangeRunner {
  readonly #setup: ChangeSetup;
  /** The change that runs, and what settles when it has ended. */
  #running: { readonly name: OperationName; readonly ended: Promise<void> } | null = null;
  /** Settles when the running change has ended; it never rejects. */
  #idle: Promise<unknown> = Promise.resolve();
  #closed = false;
  readonly #rollback: Rollback;

  constructor(setup: ChangeSetup) {
    this.#setup = setup;
    this.#rollback = new Rollback(setup.ports.log);
  }

  /** Whether a rollback failed that `retryRollback` has to finish. */
  get mustRollBack(): boolean {
    return this.#rollback.isIncomplete;
  }

  /**
   * Runs one change. If `work` throws, what it created outside is rolled back.
   * @throws {NotReadyError} if it cannot begin, and whatever `work` throws
   */
  async run<T>(
    name: OperationName,
    caller: Caller,
    work: (change: Change) => Promise<T>,
  ): Promise<T> {
    if (this.#closed)
      throw new NotReadyError("closing", "The CA is shutting down", { retryAfterMs: 1000 });
    const done = this.#run(name, caller, work);
    this.#idle = Promise.allSettled([this.#idle, done]);
    return done;
  }

  /**
   * Like `run`, but waits for a change of this replica as long as for one of another replica, up to
   * `operationWaitMs`: for requests of machines, which come at the same time.
   * @throws {NotReadyError} if it cannot begin, and whatever `work` throws
   */
  async runInTurn<T>(
    name: OperationName,
    caller: Caller,
    work: (change: Change) => Promise<T>,
  ): Promise<T> {
    const { clock } = this.#setup.ports;
    const until = clock.now().getTime() + this.#setup.policy.operationWaitMs;
    while (this.#running !== null) {
      const left = until - clock.now().getTime();
      if (left <= 0) break;
      const over = new AbortController();
      await Promise.race([this.#running.ended, clock.sleep(left, over.signal)]);
      over.abort();
    }
    return this.run(name, caller, work);
  }

  /** Retries a failed rollback as a change of its own. @throws {Error} if it failed again */
  async retryRollback(): Promise<void> {
    await this.run("RENEWING", NOBODY, (change) => this.#rollback.retry(change));
  }

  /** Why a live replica could not follow a change, by the last heartbeat; or null. */
  incompatibleReplica(): string | null {
    const least = this.#setup.replica.leastSchema;
    const kek = this.#setup.ports.sealer.keks[0] as string;
    for (const { address, keks, schema } of this.#setup.replica.health.live) {
      if (schema < least)
        return `${readsUpTo({ address, schema })}, and schema ${least} is in use; stop that replica, or start the newer version there`;
      if (!keks.includes(kek))
        return `replica ${address} does not have key-encryption key ${JSON.stringify(kek)}; add the key to every replica, after its present one, before any replica encrypts with it`;
    }
    return null;
  }

  /** Lets the running change end, and refuses others. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#idle;
  }

  async #run<T>(
    name: OperationName,
    caller: Caller,
    work: (change: Change) => Promise<T>,
  ): Promise<T> {
    if (this.#running !== null) throw busy(this.#running.name);
    const { promise: ended, resolve: end } = Promise.withResolvers<void>();
    this.#running = { name, ended };
    const { ports, policy, replica } = this.#setup;
    let lease: OperationLease | null = null;
    try {
      this.#requireClock();
      lease = await OperationLease.acquire(ports, policy, replica);
      if (lease === null) throw busy("RECONFIGURING");
      await replica.refreshUnder(lease.lease, lease.termBefore, name === "RESOLVING");
      const schema = await this.#requireReplicasCompatible();
      const result = await this.#runUnder(lease, schema, caller, work);
      ports.metrics.change(name, "ok");
      return result;
    } catch (error) {
      ports.metrics.change(name, error instanceof CaError ? error.code : "internal");
      replica.health.writeFailed(error);
      throw error;
    } finally {
      this.#running = null;
      await lease?.release();
      end();
    }
  }

  async #runUnder<T>(
    lease: OperationLease,
    schema: Schema,
    caller: Caller,
    work: (change: Change) => Promise<T>,
  ): Promise<T> {
    const now = await this.#setup.ports.store.now();
    const change = new Change(this.#setup, { now, schema, lease, caller });
    try {
      return await work(change);
    } catch (error) {
      // With an unknown outcome the new resources may be in use.
      if (!(error instanceof NotReadyError && error.code === "outcome_unknown"))
        await this.#rollback.run(change.compensations, change);
      throw error;
    } finally {
      change.close();
    }
  }

  /** @throws {NotReadyError} `clock_skewed` */
  #requireClock(): void {
    const skew = this.#setup.replica.health.changeObstacle();
    if (skew === null) return;
    throw new NotReadyError(skew.code, `Cannot change the CA: ${skew.message}`, {
      retryAfterMs: this.#setup.policy.heartbeatMs,
    });
  }

  /**
   * @returns the newest schema that every live replica reads.
   * @throws {NotReadyError} `replica_behind` if a live replica could not follow @throws
   * {NotReadyError} `clock_skewed` @throws {StoreError}
   */
  async #requireReplicasCompatible(): Promise<Schema> {
    await this.#setup.replica.heartbeat();
    // A failover since the last comparison may have brought another clock, by which every retired
    // root looks dead.
    this.#requireClock();
    const reason = this.incompatibleReplica();
    if (reason !== null)
      throw new NotReadyError("replica_behind", `Cannot change the CA: ${reason}`, {
        retryAfterMs: this.#setup.policy.replicaTtlMs,
      });
    const newest = Math.min(...this.#setup.replica.health.live.map(({ schema }) => schema));
    return SCHEMAS.findLast((schema) => schema <= newest) ?? SCHEMAS[0];
  }
}

function readsUpTo({ address, schema }: Pick<LiveReplica, "address" | "schema">): string {
  return `replica ${address} runs a version of meshca that reads the stored state up to schema ${schema}`;
}

function busy(running: OperationName): NotReadyError {
  // Consul's text (agent/consul/leader_connect_ca.go).
  return new NotReadyError(
    "operation_running",
    `CA is already in state ${JSON.stringify(running)}`,
    { retryAfterMs: 1000 },
  );
}

/** The names of the fields in which two configurations differ; never their values. */
function changedFields(before: ConfigMap | null | undefined, after: ConfigMap | null): string[] {
  const [a, b] = [before ?? {}, after ?? {}];
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].filter(
    (key) => JSON.stringify(a[key]) !== JSON.stringify(b[key]),
  );
}
