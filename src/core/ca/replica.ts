/**
 * This replica of the CA: the snapshot that it serves, its heartbeat, and what it has seen in the
 * store. It takes a stored state only if that follows what was seen before; else the store lost
 * writes, and all changes are stopped until an operator decides.
 * @module
 */

import { NotReadyError, reasonOf, StoreError } from "../errors.ts";
import type { LastSeenStore } from "../ports/last-seen.ts";
import type { Lease } from "../ports/lease.ts";
import type { Replica as LiveReplica } from "../ports/replicas.ts";
import type { Stored } from "../ports/store.ts";
import { type CaState, leastSchema, SCHEMA, SCHEMAS, type Schema } from "../state.ts";
import type { CaPorts } from "./ca-ports.ts";
import type { LeafCounter } from "./leaf-counter.ts";
import { withKeptIssuers } from "./leaf-issuers.ts";
import { isAway, type ReplicaHealth } from "./replica-health.ts";
import type { SeenMemory } from "./replica-memory.ts";
import { requireKeks } from "./rewrap.ts";
import { loadSnapshot, type Snapshot, snapshotOf } from "./snapshot.ts";
import type { Policy } from "./timing-and-limits.ts";

/**
 * How old the instant of the last confirmation in the last-seen state may be, in milliseconds; a
 * tenth of max_staleness if that is less. A replica that starts while the store is away then signs
 * for at least nine tenths of max_staleness.
 */
const MAX_CONFIRMATION_MS = 15_000;

type Ports = Pick<
  CaPorts,
  "store" | "replicas" | "providers" | "sealer" | "random" | "clock" | "log" | "hints"
>;

export interface ReplicaOptions {
  /** Its id and address among the live replicas. */
  readonly self: Pick<LiveReplica, "id" | "address">;
  /** Null if nothing is kept outside of the store. */
  readonly lastSeen: LastSeenStore | null;
  readonly policy: Policy;
  /** What its heartbeat says of the leaves that it signed. @default null: it does not count them */
  readonly leaves?: Pick<LeafCounter, "announcement"> | null;
}

export class Replica {
  readonly health: ReplicaHealth;
  readonly #ports: Ports;
  readonly #options: ReplicaOptions;
  readonly #memory: SeenMemory;
  readonly #listeners = new Set<(snapshot: Snapshot) => void>();
  /** The snapshot that the listeners were last called with. */
  #lastNotified: Snapshot | null;
  /** Settles when the last-seen state is persisted; it never rejects. */
  #persisting: Promise<void> = Promise.resolve();
  /** The confirmation that was last persisted, in milliseconds since 1970. */
  #persistedConfirmation: number | null = null;

  constructor(ports: Ports, options: ReplicaOptions, health: ReplicaHealth, memory: SeenMemory) {
    this.#ports = ports;
    this.#options = options;
    this.health = health;
    this.#memory = memory;
    this.#lastNotified = memory.current;
  }

  /** Its id among the live replicas. */
  get id(): string {
    return this.#options.self.id;
  }

  /** The last snapshot, or null before there is a state. */
  get current(): Snapshot | null {
    return this.#memory.current;
  }

  /** The highest term seen of the lease `operation`. */
  get term(): number {
    return this.#memory.term;
  }

  /** Why changes are stopped until an operator decides, or null. */
  get stopped(): string | null {
    return this.#memory.stopped;
  }

  /** The oldest schema that holds all of the state that must not be lost. */
  get leastSchema(): Schema {
    return this.current === null ? SCHEMAS[0] : leastSchema(this.current.state);
  }

  /** The last snapshot. @throws {NotReadyError} `ca_uninitialized` */
  require(): Snapshot {
    // Consul's text (agent/consul/server_connect.go).
    if (this.current === null)
      throw new NotReadyError("ca_uninitialized", "CA has not finished initializing", {
        retryAfterMs: 1000,
      });
    return this.current;
  }

  /**
   * Loads the last-seen state and refreshes. If a shared store is away, the last-seen state is
   * served, as it is when the store goes away later.
   * @throws {CaError} if the CA cannot be served by this replica
   */
  async start(): Promise<void> {
    const { sealer, log } = this.#ports;
    await this.#loadLastSeen();
    try {
      await this.refresh();
    } catch (error) {
      if (this.#options.policy.maxStalenessMs === null || this.current === null || !isAway(error))
        throw error;
      requireKeks(this.current.state, sealer);
      log.warn("The store is away: starting from the last-seen state in the data folder", {
        reason: reasonOf(error),
        index: this.current.state.index,
        confirmed: this.health.confirmedAt?.toISOString() ?? null,
      });
      return;
    }
    requireKeks(this.current?.state ?? null, sealer);
    // A live replica keeps others from sealing with a key that it lacks. What was sealed before the
    // heartbeat is checked once more.
    await this.heartbeat();
    await this.refresh();
    requireKeks(this.current?.state ?? null, sealer);
    await this.#persistLastSeen();
  }

  /** Announces this replica and reads the live ones. @throws {StoreError} */
  async heartbeat(): Promise<void> {
    const { self, leaves = null } = this.#options;
    const clusterId = this.current?.state.clusterId ?? null;
    return this.health.heartbeat({
      ...self,
      ...(leaves === null ? {} : { leaves: await leaves.announcement(clusterId) }),
      keks: this.#ports.sealer.keks,
      schema: SCHEMA,
      index: this.current?.state.index ?? 0,
    });
  }

  /**
   * Reads the store and takes what is newer. If it throws, the snapshot stays in use.
   * @throws {StoreError} @throws {SealError}
   */
  async refresh(): Promise<void> {
    const [memory, health] = [this.#memory, this.health];
    const asked = this.#ports.clock.now();
    const seen = { state: memory.current?.state ?? null, term: memory.term };
    const stored = await this.#ports.store.read().catch((error: unknown) => {
      // An unusable answer is not silence: staleness is not put down to a store that is away.
      health.markUnreadable(isSilence(error) ? null : reasonOf(error));
      health.readFailed(error);
      throw error;
    });
    this.#requireSameCluster(stored.state);
    memory.lastReadCommitId = stored.state?.commitId ?? null;
    const rollback = rollbackOf(seen, stored);
    // Before there is a state no term has fenced anything: an emptied store begins at 0 again.
    memory.term = memory.current === null ? stored.term : Math.max(memory.term, stored.term);
    if (rollback !== null) {
      health.markFresh(asked);
      return this.#stop(rollback);
    }
    if (stored.stopped === null) memory.stopped = null;
    else memory.stopped ??= "another replica has seen states that the store lost";
    try {
      if (stored.state !== null) await this.#take(stored.state);
    } catch (error) {
      // Otherwise the snapshot would count as what is stored.
      health.markUnreadable(reasonOf(error));
      throw error;
    }
    health.markFresh(asked);
    this.#persistConfirmation();
  }

  /**
   * Refreshes, with a heartbeat if one is due, unless the store confirmed the snapshot within
   * `policy.maxAgeMs`.
   * @throws {StoreError}
   */
  async refreshIfStale(): Promise<void> {
    if (!this.health.isFresh(this.#options.policy.maxAgeMs ?? 0))
      await Promise.all([this.refresh(), this.health.heartbeatDue ? this.heartbeat() : null]);
    // Another request of the isolate may have taken a newer state.
    this.#notify();
  }

  /** Waits until the stored state may have changed, and refreshes. @throws {StoreError} */
  async follow(signal: AbortSignal): Promise<void> {
    await this.#ports.store
      .watch(this.current?.state.commitId ?? null, signal)
      .catch((error: unknown) => {
        this.health.readFailed(error);
        throw error;
      });
    if (!signal.aborted) await this.refresh();
  }

  /**
   * Refreshes at the beginning of a change.
   * @param lease the change's. @param termBefore the highest term seen when the lease was requested:
   * a store that lost nothing grants a higher one.
   * @param mayBeStopped whether the change is the one that ends a stop.
   * @throws {StoreError} `state_regressed` if changes are stopped
   */
  async refreshUnder(lease: Lease, termBefore: number, mayBeStopped: boolean): Promise<void> {
    const memory = this.#memory;
    await this.refresh();
    if (lease.term <= termBefore && memory.current !== null)
      await this.#stop(`it granted term ${lease.term}, term ${termBefore} was seen`);
    memory.term = Math.max(memory.term, lease.term);
    if (memory.stopped === null || mayBeStopped) return;
    throw new StoreError(
      "state_regressed",
      `Cannot change the CA: the store lost writes (${memory.stopped}), and an operator has to decide which state is kept; ${this.#ports.hints.showConflict}`,
    );
  }

  /**
   * Serves a snapshot from now on, unless a newer one, or one of the same state, is served by now: a
   * read, or the answer to a commit, may come late.
   */
  async adopt(next: Snapshot): Promise<void> {
    const previous = this.#memory.current;
    // Of the same state the served one has replaced, and closed, the provider before.
    const isLate =
      previous !== null &&
      (next.state.index < previous.state.index ||
        (next.state.commitId === previous.state.commitId && previous.fault === null));
    if (isLate) {
      if (next.provider !== previous.provider) void next.provider?.close();
      return this.#persisting;
    }
    this.#memory.current = next;
    if (previous?.provider !== next.provider) void previous?.provider?.close();
    this.#notify();
    await this.#persistLastSeen();
  }

  /** Ends a stop. @param term the highest term in the stop mark. */
  resolved(term: number): void {
    this.#memory.term = Math.max(this.#memory.term, term);
    this.#memory.stopped = null;
  }

  /** Calls `listener` with every new snapshot until the returned function is called. */
  subscribe(listener: (snapshot: Snapshot) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Persists the last confirmation of the last-seen state; it never rejects. */
  async close(): Promise<void> {
    if (this.#maxConfirmationMs !== null) await this.#persistLastSeen();
  }

  /** Leaves the live replicas; it never rejects. */
  async leave(): Promise<void> {
    await this.#ports.replicas.leave(this.#options.self.id).catch(() => undefined);
  }

  /** Null if the confirmation is persisted with the state only. */
  get #maxConfirmationMs(): number | null {
    const { maxStalenessMs } = this.#options.policy;
    return maxStalenessMs === null ? null : Math.min(MAX_CONFIRMATION_MS, maxStalenessMs / 10);
  }

  #requireSameCluster(stored: CaState | null): void {
    const seen = this.#memory.current?.state ?? null;
    if (seen === null || stored === null) return;
    const isSame = stored.clusterId === seen.clusterId;
    if (isSame && stored.trustDomain === seen.trustDomain) return;
    const [found, served] = isSame
      ? [`trust domain, ${stored.trustDomain}`, seen.trustDomain]
      : [`cluster, ${stored.clusterId}`, seen.clusterId];
    const error = new StoreError(
      "cluster_mismatch",
      `The store holds the state of another ${found}; this replica serves ${served}, and nothing was changed`,
    );
    this.health.markUnreadable(error.message);
    throw error;
  }

  /** Stops changes on all replicas. @throws {StoreError} */
  async #stop(reason: string): Promise<void> {
    const { state } = this.require();
    const { store, log, hints } = this.#ports;
    const memory = this.#memory;
    if (memory.stopped === null)
      log.error(
        `The store lost writes: leaves are signed under the last-seen state, and CA changes are stopped until an operator decides which state is kept; ${hints.showConflict}`,
        { reason },
      );
    memory.stopped = reason;
    // Also if the mark has this state already: the term seen here may be higher.
    await store.stop({
      state,
      term: memory.term,
      reason,
      by: this.#options.self.address,
      found: memory.lastReadCommitId,
    });
  }

  /** Adopts a stored state if it is new, or if its key could not be opened before. */
  async #take(state: CaState): Promise<void> {
    const isKnown = state.commitId === this.current?.state.commitId;
    if (isKnown && this.current?.fault === null) return;
    const complete = withKeptIssuers(state, this.#ports.providers);
    const next = this.#withOpenProvider(complete) ?? (await this.#load(complete));
    if (next.fault !== null && isKnown) return;
    if (next.fault !== null)
      this.#ports.log.error(
        "Failed to open the CA's signing key: the roots are served, no leaf is signed; will retry",
        { root: next.active.id, reason: reasonOf(next.fault) },
      );
    await this.adopt(next);
  }

  #load(state: CaState): Promise<Snapshot> {
    const { providers, sealer, random, clock } = this.#ports;
    return loadSnapshot(state, providers, { sealer, random }, clock.now());
  }

  /** A snapshot with the provider that is open, if the state has the same root and configuration. */
  #withOpenProvider(state: CaState): Snapshot | null {
    const { current } = this;
    if (current === null || current.provider === null) return null;
    const identity = ({ config, roots, provider, primary }: CaState) =>
      JSON.stringify([
        // A configuration is read by the role of its datacenter.
        primary === null,
        config.provider,
        config.config,
        roots.find(({ status }) => status === "active")?.id,
        provider.active,
      ]);
    if (identity(current.state) !== identity(state)) return null;
    return snapshotOf(state, current.config, current.provider);
  }

  /** @throws {StoreError} @throws {SealError} */
  async #loadLastSeen(): Promise<void> {
    const seen = (await this.#options.lastSeen?.load()) ?? null;
    if (seen === null) return;
    this.#memory.term = seen.term;
    if (seen.confirmedAt !== null) this.health.markFresh(seen.confirmedAt);
    this.#memory.current = await this.#load(withKeptIssuers(seen.state, this.#ports.providers));
  }

  /**
   * Persists the state, term and confirmation under the present key-encryption key, one write after
   * the other, since of two concurrent ones the older could win. It never rejects.
   */
  #persistLastSeen(): Promise<void> {
    this.#persisting = this.#persisting.then(async () => {
      const { current, term } = this.#memory;
      if (current === null) return;
      const { confirmedAt } = this.health;
      this.#persistedConfirmation = confirmedAt?.getTime() ?? null;
      await this.#options.lastSeen
        ?.save({ state: current.state, term, confirmedAt })
        .catch((error: unknown) =>
          this.#ports.log.warn("Failed to persist the last-seen state", {
            reason: reasonOf(error),
          }),
        );
    });
    return this.#persisting;
  }

  /** Persists the confirmation now and then: a restart while the store is away counts from it. */
  #persistConfirmation(): void {
    const { confirmedAt } = this.health;
    const [limit, persisted] = [this.#maxConfirmationMs, this.#persistedConfirmation];
    if (limit === null || this.#options.lastSeen === null || confirmedAt === null) return;
    const age = persisted === null ? Number.POSITIVE_INFINITY : confirmedAt.getTime() - persisted;
    if (age < 0 || age >= limit) void this.#persistLastSeen();
  }

  #notify(): void {
    const { current } = this;
    if (current === null || current === this.#lastNotified) return;
    this.#lastNotified = current;
    for (const listener of [...this.#listeners]) listener(current);
  }
}

/** Whether an error only means that the store gave no usable answer. */
function isSilence(error: unknown): boolean {
  return (
    error instanceof StoreError &&
    ["store_unavailable", "store_refused", "store_busy"].includes(error.code)
  );
}

/** What a replica has seen in the store. */
interface Seen {
  readonly state: CaState | null;
  /** The highest term of the lease `operation`. */
  readonly term: number;
}

/**
 * Detects that the store lost writes: a failover to a copy that lagged behind, a restart from an
 * older file, an emptied database.
 * @returns in what the store fell behind what was seen, as the rest of a sentence, or null
 */
export function rollbackOf(seen: Seen, stored: Stored): string | null {
  const { state } = stored;
  // Without a state there is nothing that a lost grant of a lease could endanger, and nothing to
  // put into a stop mark.
  if (seen.state === null) return null;
  const { index, commitId } = seen.state;
  if (state === null) return `it holds no state, index ${index} was seen`;
  if (state.index < index) return `it is at index ${state.index}, index ${index} was seen`;
  if (state.index === index && state.commitId !== commitId)
    return `it holds another state under index ${index} than the one that was seen`;
  if (!descends(state, seen.state))
    return `the state at index ${index} that was seen is no ancestor of the one at index ${state.index}`;
  if (stored.term < seen.term)
    return `its highest operation term is ${stored.term}, term ${seen.term} was seen`;
  return null;
}

/** Whether a state descends from another one; true if it names too few ancestors to decide. */
function descends(state: CaState, from: CaState): boolean {
  if (state.commitId === from.commitId || state.ancestors.includes(from.commitId)) return true;
  return state.index - from.index > state.ancestors.length;
}
