/**
 * Leader election by the lease `leader`: the leader does the background work, and nothing else
 * depends on it.
 * @module
 */
import type { Clock } from "../ports/clock.ts";
import type { Lease, Leases } from "../ports/lease.ts";
import type { Policy } from "./timing-and-limits.ts";

export class Leadership {
  readonly #leases: Leases;
  readonly #clock: Clock;
  readonly #policy: Policy;
  #held: Lease | null = null;
  /** When the last successful renewal was requested, in milliseconds since 1970. */
  #renewedAt = 0;

  constructor(leases: Leases, clock: Clock, policy: Policy) {
    this.#leases = leases;
    this.#clock = clock;
    this.#policy = policy;
  }

  /** The lease while it counts: it was renewed within the renew deadline. */
  get lease(): Lease | null {
    const age = this.#clock.now().getTime() - this.#renewedAt;
    // After the clock was set back the age of the lease is unknown.
    return age >= 0 && age <= this.#policy.leaderRenewDeadlineMs ? this.#held : null;
  }

  /**
   * Renews or acquires the lease.
   * @returns whether this replica leads. @throws {StoreError}
   */
  async lead(): Promise<boolean> {
    const asked = this.#clock.now().getTime();
    const { leaderLeaseMs } = this.#policy;
    if (this.#held !== null && !(await this.#leases.renew(this.#held, leaderLeaseMs)))
      this.#held = null;
    this.#held ??= await this.#leases.acquire("leader", leaderLeaseMs);
    if (this.#held !== null) this.#renewedAt = asked;
    return this.#held !== null;
  }

  /** Releases the lease, if the store answers. */
  async resign(): Promise<void> {
    const lease = this.#held;
    this.#held = null;
    if (lease !== null) await this.#leases.release(lease).catch(() => undefined);
  }
}
