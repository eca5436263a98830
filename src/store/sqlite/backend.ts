/**
 * The embedded store: one SQLite file. Every commit is on disk before it is answered (WAL with
 * synchronous=FULL). The file is locked while it is open, so that no second process can serve from
 * it; only the workers of one server share it, and read each other's commits by a poll.
 * @module
 */
import type { DatabaseSync } from "node:sqlite";
import * as v from "valibot";
import type { BackupLog } from "../../core/ports/backups.ts";
import type { Clock } from "../../core/ports/clock.ts";
import type { LeafCountStore } from "../../core/ports/leaf-counts.ts";
import type { LookStore } from "../../core/ports/looks.ts";
import type { Replicas } from "../../core/ports/replicas.ts";
import type { Backend } from "../backend.ts";
import { MemoryBackups } from "../backups.ts";
import { TableLeases } from "../leases.ts";
import { MemoryLooks } from "../looks.ts";
import { readReplica } from "../replica-record.ts";
import { Waiter } from "../waiter.ts";
import { openDatabase } from "./database.ts";
import { sqliteGrants } from "./grants.ts";
import { SqliteRecordStore } from "./record-store.ts";
import { type SqliteParts, SqliteStore } from "./store.ts";
import { createTransaction, optionalRow } from "./transaction.ts";

export { claimSqlite } from "./database.ts";

/** How soon a worker sees what another one committed, in milliseconds. */
const POLL_MS = 50;

const ReplicaRow = v.object({ replica: v.string() });
const CountsRow = v.object({ counts: v.string() });

interface SqliteOptions {
  /** Whether workers of one server have the file open together; the server claimed it for them. */
  readonly shared?: boolean;
  /** @default in memory */
  readonly looks?: LookStore;
  /** @default in memory */
  readonly backups?: BackupLog;
}

/** Opens or creates a database file. @throws {StoreError} as `openDatabase` */
export function openSqlite(path: string, clock: Clock, options: SqliteOptions = {}): Backend {
  const { shared = false, looks = new MemoryLooks(), backups = new MemoryBackups() } = options;
  const db = openDatabase(path, shared);
  const transaction = createTransaction(db, path);
  const parts: SqliteParts = { db, transaction, clock, pollMs: shared ? POLL_MS : null };
  const [grants, waiter] = [sqliteGrants(db), new Waiter()];
  const [replicas, access] = [sqliteReplicas(parts), new SqliteRecordStore(parts)];
  const leaves = sqliteLeafCounts(parts);
  return {
    open: (codec, holder) => ({
      store: new SqliteStore(parts, grants, codec, waiter),
      leases: new TableLeases(grants, transaction, clock, holder),
      replicas,
      access,
      looks,
      leaves,
      backups,
      facts: async () => ({
        kind: "sqlite",
        mode: null,
        prefix: null,
        waitReplicas: 0,
        servers: [],
      }),
    }),
    close: () => db.close(),
  };
}

function sqliteReplicas({ db, transaction, clock }: SqliteParts): Replicas {
  const sql = replicaStatements(db);
  return {
    async announce(self, ttlMs) {
      const rows = transaction(() => {
        const nowMs = clock.now().getTime();
        sql.announce.run(self.id, JSON.stringify(self), nowMs + ttlMs);
        sql.forget.run(nowMs, ttlMs);
        return sql.all.all().map((row) => v.parse(ReplicaRow, row).replica);
      });
      return rows.flatMap(readReplica);
    },
    async leave(id) {
      transaction(() => sql.leave.run(id));
    },
  };
}

function sqliteLeafCounts({ db, transaction }: SqliteParts): LeafCountStore {
  const read = db.prepare("SELECT counts FROM leaf_count WHERE id = 1");
  const write = db.prepare("INSERT OR REPLACE INTO leaf_count (id, counts) VALUES (1, ?)");
  const load = () => optionalRow(CountsRow, read.get())?.counts ?? "";
  return {
    load: async () => transaction(load),
    save: async (text, expected) =>
      transaction(() => {
        if (load() !== expected) return false;
        write.run(text);
        return true;
      }),
  };
}

function replicaStatements(db: DatabaseSync) {
  return {
    announce: db.prepare(
      "INSERT OR REPLACE INTO replica (id, replica, expires_at) VALUES (?, ?, ?)",
    ),
    leave: db.prepare("DELETE FROM replica WHERE id = ?"),
    // What expired, and what expires so far off that the clock has been set back since.
    forget: db.prepare("DELETE FROM replica WHERE expires_at <= ?1 OR expires_at > ?1 + 10 * ?2"),
    all: db.prepare("SELECT replica FROM replica ORDER BY id"),
  };
}
