/**
 * How a change is made: one at a time under the operation lease, followed by every replica alive,
 * and committed so that its outcome is known.
 * @module
 */

import { CaError, NotReadyError, reasonOf, StoreError } from "../errors.ts";
import { type Caller, NOBODY } from "../ports/audit.ts";
import type { Clock, Random } from "../ports/clock.ts";
import type { Lease, Leases } from "../ports/lease.ts";
import type { Log } from "../ports/log.ts";
import type { Metrics } from "../ports/metrics.ts";
import type { Expected, Store } from "../ports/store.ts";
import { type CaState, SCHEMA, SCHEMAS, type Schema } from "../state.ts";
import type { Policy } from "./policy.ts";
import type { Standing } from "./replica-health.ts";

/** What runs, in Consul's words (consul-ca.md §4.2); resolving a conflict is ours. */
export type OperationName = "INITIALIZING" | "RECONFIGURING" | "RENEWING" | "RESOLVING";

/**
 * A change under its lease. The lease is another one after the outcome of a commit had to be looked
 * for.
 */
export interface Operation {
  lease: Lease;
  /** By the clock, in milliseconds: how long the lease is known to last. */
  heldUntil: number;
  /** Ends the lengthening of the lease. */
  readonly keeping: AbortController;
  /** The newest schema that every replica alive reads. */
  schema: Schema;
  /** Who asked for it. */
  readonly caller: Caller;
}

/** What a first commit expects. */
export const NOTHING_STORED = { index: 0, commitId: null };

export interface OperationsOptions {
  readonly store: Store;
  readonly leases: Leases;
  readonly standing: Standing;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly policy: Policy;
  /** The key-encryption key that this replica seals with. */
  readonly kek: string;
  /** Looks who is alive. @throws {StoreError} */
  readonly heartbeat: () => Promise<void>;
  /** The highest term that was seen. */
  readonly seen: () => number;
  /** The oldest schema that holds all that must not be lost of what is stored. */
  readonly leastSchema: () => Schema;
  /**
   * Called with each lease, before anything is done under it: takes what is stored.
   * @param before the highest term that had been seen when the lease was asked for: a store that
   * lost nothing grants a higher one.
   * @throws {CaError} where nothing may be changed
   */
  readonly begin: (lease: Lease, name: OperationName, before: number) => Promise<void>;
}

export interface Operations {
  /** Runs one change. @throws {NotReadyError} where it cannot begin, and whatever `work` throws */
  run<T>(
    name: OperationName,
    work: (operation: Operation) => Promise<T>,
    caller?: Caller,
  ): Promise<T>;
  /**
   * Commits a state.
   * @throws {NotReadyError} `outcome_unknown` while nobody can know whether it was accepted
   * @throws {ConflictError} @throws {StoreError} when it was not
   */
  commit(next: CaState, from: Omit<Expected, "term">, operation: Operation): Promise<void>;
  /**
   * Lengthens a change's lease, and says whether it still has it: else another change may run, and
   * may use what this one made.
   */
  hold(operation: Operation): Promise<boolean>;
  /**
   * Called before each step outside.
   * @throws {NotReadyError} `operation_running` where another change may run by now
   */
  requireHeld(operation: Operation): void;
  /** Why a replica that is alive could not follow a change, by what is known of it; or null. */
  whyNotFollowed(): string | null;
  /** Lets the change that runs end, and refuses others. */
  close(): Promise<void>;
}

export function createOperations(options: OperationsOptions): Operations {
  const { store, leases, standing, clock, random, log, metrics, policy, kek } = options;
  let running: OperationName | null = null;
  /** Settles when the change that runs has ended; it never rejects. */
  let idle: Promise<unknown> = Promise.resolve();
  let closed = false;

  /** @throws {NotReadyError} `clock_skewed` */
  const requireTime = () => {
    const skew = standing.changeObstacle();
    if (skew !== null)
      throw new NotReadyError(skew.code, `Cannot change the CA: ${skew.message}`, {
        retryAfterMs: policy.heartbeatMs,
      });
  };

  /** Why a replica that is alive could not follow a change, or null. */
  const whyNotFollowed = (): string | null => {
    const least = options.leastSchema();
    for (const { address, keks, schema } of standing.live) {
      if (schema < least)
        return `replica ${address} runs a version of meshca that reads the stored state up to schema ${schema}, and schema ${least} is in use; stop that replica, or start the newer version there`;
      if (!keks.includes(kek))
        return `replica ${address} does not have key-encryption key ${JSON.stringify(kek)}; give it to all replicas, behind the present one, before one of them seals with it`;
    }
    return null;
  };

  /**
   * The schema to write.
   * @throws {NotReadyError} `replica_behind` if a replica alive could not follow, `clock_skewed`
   */
  const requireFollowable = async (): Promise<Schema> => {
    await options.heartbeat();
    // A failover since the last comparison may have brought another clock, by which everything
    // retired looks dead.
    requireTime();
    const reason = whyNotFollowed();
    if (reason !== null)
      throw new NotReadyError("replica_behind", `Cannot change the CA: ${reason}`, {
        retryAfterMs: policy.replicaTtlMs,
      });
    const newest = Math.min(...standing.live.map(({ schema }) => schema));
    return SCHEMAS.findLast((schema) => schema <= newest) ?? SCHEMAS[0];
  };

  /** Waits a while for another replica's change to end. */
  const acquire = async (): Promise<{ lease: Lease; heldUntil: number; before: number } | null> => {
    const until = clock.now().getTime() + policy.operationWaitMs;
    for (let wait = 20; ; wait = Math.min(500, 2 * wait)) {
      // Until the answer is handled, a read may already tell of this grant, or of the next one.
      const before = options.seen();
      const heldUntil = clock.now().getTime() + policy.operationLeaseMs;
      const lease = await leases.acquire("operation", policy.operationLeaseMs);
      if (lease !== null) return { lease, heldUntil, before };
      if (clock.now().getTime() >= until) return null;
      await clock.sleep(wait * (1 + random.fraction()));
    }
  };

  const busy = (state: OperationName) =>
    new NotReadyError("operation_running", `CA is already in state ${JSON.stringify(state)}`, {
      retryAfterMs: 1000,
    });

  const perform = async <T>(
    name: OperationName,
    work: (operation: Operation) => Promise<T>,
    caller: Caller,
  ): Promise<T> => {
    if (running !== null) throw busy(running);
    running = name;
    let operation: Operation | null = null;
    const keeping = new AbortController();
    try {
      requireTime();
      const granted = await acquire();
      if (granted === null) throw busy("RECONFIGURING");
      const { before, ...held } = granted;
      operation = { ...held, keeping, schema: SCHEMA, caller };
      void keep(operation);
      await options.begin(held.lease, name, before);
      operation.schema = await requireFollowable();
      const result = await work(operation);
      metrics.change(name, "ok");
      return result;
    } catch (error) {
      metrics.change(name, error instanceof CaError ? error.code : "internal");
      standing.notWritten(error);
      throw error;
    } finally {
      running = null;
      keeping.abort();
      if (operation !== null) await release(operation.lease);
    }
  };

  const hold = async (operation: Operation): Promise<boolean> => {
    const { lease } = operation;
    const heldUntil = clock.now().getTime() + policy.operationLeaseMs;
    // What is not answered may have been done: then the lease lasts as long as it did.
    const held = await leases.renew(lease, policy.operationLeaseMs).catch(() => null);
    if (held !== null && operation.lease === lease) operation.heldUntil = held ? heldUntil : 0;
    return held === true;
  };

  /**
   * Lengthens the lease for as long as a change is worked out: a key that is made outside may take
   * longer than one lasts.
   */
  const keep = async (operation: Operation): Promise<void> => {
    const { signal } = operation.keeping;
    const pause = policy.operationLeaseMs / 3;
    for (let wait = pause; ; ) {
      await clock.sleep(wait, signal);
      if (signal.aborted) return;
      wait = (await hold(operation)) ? pause : pause / 5;
    }
  };

  const release = (lease: Lease) =>
    leases.release(lease).catch((error: unknown) =>
      log.warn("Cannot release the operation lease", {
        reason: reasonOf(error),
      }),
    );

  /**
   * Whether a commit whose answer is missing was accepted. A higher term is granted first, so that
   * a write which is still on its way is refused when it arrives, and what is then read stays true.
   */
  const settle = async (commitId: string, operation: Operation): Promise<boolean> => {
    const until = clock.now().getTime() + policy.settleMs;
    const { term } = operation.lease;
    for (let wait = 50; ; wait = Math.min(1000, 2 * wait)) {
      try {
        await leases.release(operation.lease);
        operation.lease =
          (await leases.acquire("operation", policy.operationLeaseMs)) ?? operation.lease;
        const stored = await store.read();
        if (stored.state?.commitId === commitId || stored.state?.ancestors.includes(commitId))
          return true;
        if (stored.term > term) return false;
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
      }
      if (clock.now().getTime() >= until)
        throw new NotReadyError(
          "outcome_unknown",
          "The store does not answer: whether the change was made is not known yet. Read the roots and the configuration before trying again",
          { retryAfterMs: policy.settleMs },
        );
      await clock.sleep(wait * (1 + random.fraction()));
    }
  };

  return {
    whyNotFollowed,
    run(name, work, caller = NOBODY) {
      if (closed)
        return Promise.reject(
          new NotReadyError("closing", "The CA is shutting down", { retryAfterMs: 1000 }),
        );
      const done = perform(name, work, caller);
      idle = Promise.allSettled([idle, done]);
      return done;
    },
    async commit(next, from, operation) {
      // Whoever looks for the outcome of a commit is not to keep others from changing anything.
      operation.keeping.abort();
      try {
        await store.commit(next, { ...from, term: operation.lease.term });
      } catch (error) {
        if (
          !(error instanceof StoreError) ||
          error.code === "state_regressed" ||
          !(await settle(next.commitId, operation))
        )
          throw error;
      }
    },
    hold,
    requireHeld({ heldUntil }) {
      // What is begun now takes a while.
      if (clock.now().getTime() + policy.operationLeaseMs / 3 < heldUntil) return;
      throw new NotReadyError(
        "operation_running",
        "The lease of this change is over, and another one may run: it is not gone on with",
        {
          retryAfterMs: policy.operationLeaseMs,
        },
      );
    },
    async close() {
      closed = true;
      await idle;
    },
  };
}
