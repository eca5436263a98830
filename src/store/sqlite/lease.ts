/**
 * Leases in SQLite: a row each, whose term only grows.
 * @module
 */
import type { DatabaseSync } from "node:sqlite";
import * as v from "valibot";
import type { Clock } from "../../core/ports/clock.ts";
import { isOff, type Lease, type LeaseName, type Leases } from "../../core/ports/lease.ts";
import { optionalRow, type Transaction } from "./transaction.ts";

const LeaseRow = v.object({
  holder: v.nullable(v.string()),
  term: v.number(),
  expires_at: v.number(),
});

/** The last grant of each lease; its methods run within a transaction. */
export class LeaseTable {
  readonly #read;
  readonly #grant;

  constructor(db: DatabaseSync) {
    this.#read = db.prepare("SELECT holder, term, expires_at FROM lease WHERE name = ?");
    this.#grant = db.prepare(
      "INSERT INTO lease (name, holder, term, expires_at) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, term = excluded.term, expires_at = excluded.expires_at",
    );
  }

  read(name: LeaseName) {
    return optionalRow(LeaseRow, this.#read.get(name));
  }

  /** The highest term granted; 0 before the first. */
  term(name: LeaseName): number {
    return this.read(name)?.term ?? 0;
  }

  /** @param holder null for a free lease. @param expiresMs in milliseconds since 1970. */
  grant({ name, term }: Lease, holder: string | null, expiresMs: number): void {
    this.#grant.run(name, holder, term, expiresMs);
  }
}

export class SqliteLeases implements Leases {
  readonly #table: LeaseTable;
  readonly #transaction: Transaction;
  readonly #clock: Clock;
  readonly #holder: string;

  constructor(table: LeaseTable, transaction: Transaction, clock: Clock, holder: string) {
    this.#table = table;
    this.#transaction = transaction;
    this.#clock = clock;
    this.#holder = holder;
  }

  async acquire(name: LeaseName, ttlMs: number): Promise<Lease | null> {
    return this.#transaction(() => {
      const held = this.#held(name);
      if (held !== null && !isOff(held.expires_at, this.#nowMs(), ttlMs)) return null;
      const lease = { name, term: this.#table.term(name) + 1 };
      this.#table.grant(lease, this.#holder, this.#nowMs() + ttlMs);
      return lease;
    });
  }

  async renew(lease: Lease, ttlMs: number): Promise<boolean> {
    return this.#transaction(() => {
      if (!this.#owns(lease)) return false;
      this.#table.grant(lease, this.#holder, this.#nowMs() + ttlMs);
      return true;
    });
  }

  async release(lease: Lease): Promise<void> {
    this.#transaction(() => {
      if (this.#owns(lease)) this.#table.grant(lease, null, 0);
    });
  }

  async holder(name: LeaseName): Promise<string | null> {
    return this.#transaction(() => this.#held(name)?.holder ?? null);
  }

  #owns({ name, term }: Lease): boolean {
    const held = this.#held(name);
    return held?.term === term && held.holder === this.#holder;
  }

  #held(name: LeaseName) {
    const lease = this.#table.read(name);
    const isHeld = lease !== null && lease.holder !== null && lease.expires_at > this.#nowMs();
    return isHeld ? lease : null;
  }

  #nowMs(): number {
    return this.#clock.now().getTime();
  }
}
