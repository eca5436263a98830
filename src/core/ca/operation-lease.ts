/**
 * The lease under which one change at a time runs: extended while the change is worked out, and
 * used to find out the outcome of a commit whose answer is missing.
 * @module
 */

import { NotReadyError, reasonOf, StoreError } from "../errors.ts";
import type { Lease } from "../ports/lease.ts";
import type { Expected } from "../ports/store.ts";
import type { CaState } from "../state.ts";
import type { CaPorts } from "./ca-ports.ts";
import type { Replica } from "./replica.ts";
import type { Policy } from "./timing-and-limits.ts";

type Ports = Pick<CaPorts, "store" | "leases" | "clock" | "random" | "log">;

export class OperationLease {
  readonly #ports: Ports;
  readonly #policy: Policy;
  /** The highest term seen when the lease was requested. */
  readonly termBefore: number;
  /** Another one once the outcome of a commit had to be found out. */
  #lease: Lease;
  /** Until when the lease surely lasts, by this replica's clock in milliseconds since 1970. */
  #heldUntil: number;
  /** Ends the extending. */
  readonly #extending = new AbortController();

  private constructor(
    ports: Ports,
    policy: Policy,
    granted: { readonly lease: Lease; readonly heldUntil: number; readonly termBefore: number },
  ) {
    this.#ports = ports;
    this.#policy = policy;
    this.termBefore = granted.termBefore;
    this.#lease = granted.lease;
    this.#heldUntil = granted.heldUntil;
    void this.#keepExtending();
  }

  /**
   * Acquires the lease and begins to extend it. Waits up to `operationWaitMs` for another replica's
   * change to end.
   * @returns null if that change still runs. @throws {StoreError}
   */
  static async acquire(
    ports: Ports,
    policy: Policy,
    replica: Pick<Replica, "term">,
  ): Promise<OperationLease | null> {
    const { leases, clock, random } = ports;
    const until = clock.now().getTime() + policy.operationWaitMs;
    for (let wait = 20; ; wait = Math.min(500, 2 * wait)) {
      // Until the answer is handled, a read may already have seen this grant, or the next one.
      const termBefore = replica.term;
      const heldUntil = clock.now().getTime() + policy.operationLeaseMs;
      const lease = await leases.acquire("operation", policy.operationLeaseMs);
      if (lease !== null)
        return new OperationLease(ports, policy, { lease, heldUntil, termBefore });
      if (clock.now().getTime() >= until) return null;
      await clock.sleep(wait * (1 + random.fraction()));
    }
  }

  get lease(): Lease {
    return this.#lease;
  }

  /** Extends the lease. @returns whether it is held; else another change may run. */
  async extend(): Promise<boolean> {
    const { leases, clock } = this.#ports;
    const lease = this.#lease;
    const heldUntil = clock.now().getTime() + this.#policy.operationLeaseMs;
    // Without an answer it may have been extended or not: it lasts as long as it did.
    const held = await leases.renew(lease, this.#policy.operationLeaseMs).catch(() => null);
    if (held !== null && this.#lease === lease) this.#heldUntil = held ? heldUntil : 0;
    return held === true;
  }

  /**
   * Called before each step outside, which takes a while itself.
   * @throws {NotReadyError} `operation_running` if another change may run
   */
  requireHeld(): void {
    const { operationLeaseMs } = this.#policy;
    if (this.#ports.clock.now().getTime() + operationLeaseMs / 3 < this.#heldUntil) return;
    throw new NotReadyError(
      "operation_running",
      "Aborting change of the CA: its operation lease expired, and another change may run",
      { retryAfterMs: operationLeaseMs },
    );
  }

  /**
   * Commits a state.
   * @throws {NotReadyError} `outcome_unknown` if it cannot be known whether the store accepted it
   * @throws {ConflictError} @throws {StoreError} if the store did not
   */
  async commit(next: CaState, expected: Omit<Expected, "term">): Promise<void> {
    // Finding out the outcome must not keep others from changing the CA.
    this.#extending.abort();
    try {
      await this.#ports.store.commit(next, { ...expected, term: this.#lease.term });
    } catch (error) {
      if (!(error instanceof StoreError) || error.code === "state_regressed") throw error;
      if (!(await this.#resolveOutcome(next.commitId))) throw error;
    }
  }

  /** Ends the extending and releases the lease; it never rejects. */
  async release(): Promise<void> {
    this.#extending.abort();
    await this.#ports.leases.release(this.#lease).catch((error: unknown) =>
      this.#ports.log.warn("Failed to release the operation lease; it expires by itself", {
        reason: reasonOf(error),
      }),
    );
  }

  /** Creating a key outside may take longer than one lease lasts. */
  async #keepExtending(): Promise<void> {
    const { signal } = this.#extending;
    const pause = this.#policy.operationLeaseMs / 3;
    for (let wait = pause; ; ) {
      await this.#ports.clock.sleep(wait, signal);
      if (signal.aborted) return;
      wait = (await this.extend()) ? pause : pause / 5;
    }
  }

  /**
   * Whether the store accepted a commit whose answer is missing. A higher term is granted first: it
   * fences a write that is still on its way, so that what is read afterwards stays true.
   */
  async #resolveOutcome(commitId: string): Promise<boolean> {
    const { store, leases, clock, random } = this.#ports;
    const { settleMs, operationLeaseMs } = this.#policy;
    const until = clock.now().getTime() + settleMs;
    const { term } = this.#lease;
    for (let wait = 50; ; wait = Math.min(1000, 2 * wait)) {
      try {
        await leases.release(this.#lease);
        this.#lease = (await leases.acquire("operation", operationLeaseMs)) ?? this.#lease;
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
          "The store does not answer: it is unknown whether the CA was changed. Read the roots and the configuration before trying again",
          { retryAfterMs: settleMs },
        );
      await clock.sleep(wait * (1 + random.fraction()));
    }
  }
}
