/**
 * Whether this replica leads, which decides who does the background work and nothing else.
 * @module
 */
import type { Clock } from "../ports/clock.ts";
import type { Lease, Leases } from "../ports/lease.ts";
import type { Policy } from "./policy.ts";

export interface Leadership {
  /**
   * Renews the lease, or tries for it.
   * @returns whether this replica leads.
   * @throws {StoreError}
   */
  lead(): Promise<boolean>;
  /** The lease while it counts: it was renewed within the renew deadline. */
  readonly lease: Lease | null;
  /** Gives the lease back, if the store answers. */
  resign(): Promise<void>;
}

export function createLeadership(leases: Leases, clock: Clock, policy: Policy): Leadership {
  let held: Lease | null = null;
  /** When the renewal that succeeded last was asked for. */
  let renewedAt = 0;

  const lease = (): Lease | null => {
    const age = clock.now().getTime() - renewedAt;
    // A clock that was set back says nothing about how old the lease is.
    return age >= 0 && age <= policy.leaderRenewDeadlineMs ? held : null;
  };

  return {
    get lease() {
      return lease();
    },
    async lead() {
      const asked = clock.now().getTime();
      if (held !== null && !(await leases.renew(held, policy.leaderLeaseMs))) held = null;
      held ??= await leases.acquire("leader", policy.leaderLeaseMs);
      if (held !== null) renewedAt = asked;
      return held !== null;
    },
    async resign() {
      const lease = held;
      held = null;
      if (lease !== null) await leases.release(lease).catch(() => undefined);
    },
  };
}
