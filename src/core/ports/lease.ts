/**
 * The lease port: which replica may try. A lease by itself does not permit a write; its term does,
 * which the store compares with each write. test/contracts/lease.ts tests every implementation.
 *
 * - `leader` decides which replica runs the periodic tick; two leaders only try the same twice.
 * - `operation` serialises everything with effects outside of the store.
 * - `acquire` grants a free or expired lease with a term above every term granted for that name
 *   before, also across restarts. It returns null if a holder has the lease, including the caller.
 *   A lease that expires much further off than the TTL counts as expired: the store's clock was set
 *   back since it was granted, and a live holder would have renewed it (`isOff`).
 * - `renew` extends the lease if this holder still has it under this term, and returns whether.
 * - `release` gives the lease back if this holder still has it under this term; else it does
 *   nothing.
 * @module
 */

export type LeaseName = "leader" | "operation";

/**
 * How much further off than twice the TTL a lease may expire, in milliseconds: adjusting a clock by
 * less frees no lease.
 */
export const LEASE_SLACK_MS = 60_000;

/**
 * Whether a lease was granted before the clock was set back.
 * @param expiresMs the lease's expiry, in milliseconds since 1970.
 * @param nowMs the store's clock, in milliseconds since 1970.
 * @param ttlMs the TTL that is asked for.
 */
export function isOff(expiresMs: number, nowMs: number, ttlMs: number): boolean {
  return expiresMs - nowMs > 2 * ttlMs + LEASE_SLACK_MS;
}

export interface Lease {
  readonly name: LeaseName;
  readonly term: number;
}

export interface Leases {
  /** @throws {StoreError} */
  acquire(name: LeaseName, ttlMs: number): Promise<Lease | null>;
  /** @throws {StoreError} */
  renew(lease: Lease, ttlMs: number): Promise<boolean>;
  /** @throws {StoreError} */
  release(lease: Lease): Promise<void>;
  /** The name of the holder of a lease; null if it is free. @throws {StoreError} */
  holder(name: LeaseName): Promise<string | null>;
}
