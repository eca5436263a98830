/**
 * The grants of leases in SQLite: a row each, whose term only grows.
 * @module
 */
import type { DatabaseSync } from "node:sqlite";
import * as v from "valibot";
import type { LeaseName } from "../../core/ports/lease.ts";
import type { Grant, Grants } from "../leases.ts";
import { optionalRow } from "./transaction.ts";

const GrantRow = v.pipe(
  v.object({ holder: v.nullable(v.string()), term: v.number(), expires_at: v.number() }),
  v.transform(({ holder, term, expires_at }): Grant => ({ holder, term, expiresMs: expires_at })),
);

/** Its methods run within a transaction. */
export function sqliteGrants(db: DatabaseSync): Grants {
  const read = db.prepare("SELECT holder, term, expires_at FROM lease WHERE name = ?");
  const write = db.prepare(
    "INSERT INTO lease (name, holder, term, expires_at) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, term = excluded.term, expires_at = excluded.expires_at",
  );
  return {
    get: (name: LeaseName) => optionalRow(GrantRow, read.get(name)),
    set(name, { holder, term, expiresMs }) {
      write.run(name, holder, term, expiresMs);
    },
  };
}
