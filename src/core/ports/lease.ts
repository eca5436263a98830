/**
 * The lease port: who may try. A lease never makes a write right; its term does, compared by the
 * store with the write. One contract suite, test/contracts/lease.ts, holds every implementation.
 *
 * - `leader` decides which replica runs the periodic tick; losing it costs nothing but a duplicate
 *   try.
 * - `operation` serialises whatever has effects outside of the store.
 * - `acquire` grants a free or expired lease with a term above every term granted for that name
 *   before, across
 *   restarts too; it answers null where another holder has it. A holder that acquires what it has
 *   gets null as well. A
 *   lease that ends much further off than the time that is asked for counts as expired: the store's
 *   clock has gone back
 *   since it was granted, and its holder, if alive, would have renewed it since (`isOff`).
 * - `renew` lengthens the lease when this holder still has it under this term, and says whether it
 *   did.
 * - `release` gives it back when this holder still has it under this term; otherwise it does
 *   nothing.
 * @module
 */

export type LeaseName = "leader" | "operation";

/**
 * What a lease may end further off than twice the time that is asked for, in milliseconds: a clock
 * that is merely adjusted frees none.
 */
export const LEASE_SLACK_MS = 60_000;

/**
 * Whether a lease was granted by a clock that was further ahead than it may last.
 * @param expiresMs its end, @param nowMs the store's clock, both in milliseconds since 1970. @param
 * ttlMs the time asked for.
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
  /**
   * The name that the present holder of a lease goes by, or null where it is free.
   * @throws {StoreError}
   */
  holder(name: LeaseName): Promise<string | null>;
}
