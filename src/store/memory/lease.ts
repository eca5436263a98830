/**
 * The reference leases, in memory.
 * @module
 */
import type { Clock } from "../../core/ports/clock.ts";
import { isOff, type Lease, type LeaseName, type Leases } from "../../core/ports/lease.ts";

interface Grant {
  /** Null once it was given back. */
  readonly holder: string | null;
  readonly term: number;
  /** In milliseconds since 1970. */
  readonly expiresMs: number;
}

/** The last grant of each lease, which all holders share. */
export type Grants = Map<LeaseName, Grant>;

export class MemoryLeases implements Leases {
  readonly #grants: Grants;
  readonly #clock: Clock;
  readonly #holder: string;

  constructor(grants: Grants, clock: Clock, holder: string) {
    this.#grants = grants;
    this.#clock = clock;
    this.#holder = holder;
  }

  async acquire(name: LeaseName, ttlMs: number): Promise<Lease | null> {
    const held = this.#held(name);
    if (held !== null && !isOff(held.expiresMs, this.#nowMs(), ttlMs)) return null;
    return this.#grant({ name, term: (this.#grants.get(name)?.term ?? 0) + 1 }, ttlMs);
  }

  async renew(lease: Lease, ttlMs: number): Promise<boolean> {
    if (!this.#owns(lease)) return false;
    this.#grant(lease, ttlMs);
    return true;
  }

  async release(lease: Lease): Promise<void> {
    const { name, term } = lease;
    if (this.#owns(lease)) this.#grants.set(name, { holder: null, term, expiresMs: 0 });
  }

  async holder(name: LeaseName): Promise<string | null> {
    return this.#held(name)?.holder ?? null;
  }

  #grant(lease: Lease, ttlMs: number): Lease {
    const expiresMs = this.#nowMs() + ttlMs;
    this.#grants.set(lease.name, { holder: this.#holder, term: lease.term, expiresMs });
    return lease;
  }

  #owns({ name, term }: Lease): boolean {
    const held = this.#held(name);
    return held?.term === term && held.holder === this.#holder;
  }

  #held(name: LeaseName): Grant | null {
    const grant = this.#grants.get(name);
    const isHeld = grant !== undefined && grant.holder !== null;
    return isHeld && grant.expiresMs > this.#nowMs() ? grant : null;
  }

  #nowMs(): number {
    return this.#clock.now().getTime();
  }
}
