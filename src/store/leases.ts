/**
 * The lease port over a table of grants, for the stores of one machine.
 * @module
 */
import type { Clock } from "../core/ports/clock.ts";
import { isOff, type Lease, type LeaseName, type Leases } from "../core/ports/lease.ts";

export interface Grant {
  /** Null once it was given back. */
  readonly holder: string | null;
  readonly term: number;
  /** In milliseconds since 1970. */
  readonly expiresMs: number;
}

/** The last grant of each lease, which all holders share. */
export interface Grants {
  get(name: LeaseName): Grant | null | undefined;
  set(name: LeaseName, grant: Grant): void;
}

/** The highest term granted for a lease; 0 before the first. */
export function termOf(grants: Grants, name: LeaseName): number {
  return grants.get(name)?.term ?? 0;
}

export class TableLeases implements Leases {
  readonly #grants: Grants;
  readonly #transaction: <T>(step: () => T) => T;
  readonly #clock: Clock;
  readonly #holder: string;

  /** @param transaction runs a step that reads and writes grants, isolated from other holders. */
  constructor(grants: Grants, transaction: <T>(step: () => T) => T, clock: Clock, holder: string) {
    this.#grants = grants;
    this.#transaction = transaction;
    this.#clock = clock;
    this.#holder = holder;
  }

  async acquire(name: LeaseName, ttlMs: number): Promise<Lease | null> {
    return this.#transaction(() => {
      const held = this.#held(name);
      if (held !== null && !isOff(held.expiresMs, this.#nowMs(), ttlMs)) return null;
      return this.#grant({ name, term: termOf(this.#grants, name) + 1 }, ttlMs);
    });
  }

  async renew(lease: Lease, ttlMs: number): Promise<boolean> {
    return this.#transaction(() => {
      if (!this.#owns(lease)) return false;
      this.#grant(lease, ttlMs);
      return true;
    });
  }

  async release(lease: Lease): Promise<void> {
    const { name, term } = lease;
    this.#transaction(() => {
      if (this.#owns(lease)) this.#grants.set(name, { holder: null, term, expiresMs: 0 });
    });
  }

  async holder(name: LeaseName): Promise<string | null> {
    return this.#transaction(() => this.#held(name)?.holder ?? null);
  }

  #grant(lease: Lease, ttlMs: number): Lease {
    const { name, term } = lease;
    this.#grants.set(name, { holder: this.#holder, term, expiresMs: this.#nowMs() + ttlMs });
    return lease;
  }

  #owns({ name, term }: Lease): boolean {
    const held = this.#held(name);
    return held?.term === term && held.holder === this.#holder;
  }

  #held(name: LeaseName): Grant | null {
    const grant = this.#grants.get(name) ?? null;
    const isHeld = grant !== null && grant.holder !== null && grant.expiresMs > this.#nowMs();
    return isHeld ? grant : null;
  }

  #nowMs(): number {
    return this.#clock.now().getTime();
  }
}
