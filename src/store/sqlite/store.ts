/**
 * The embedded store and leases: one SQLite file. Every commit is on disk before it is answered
 * (WAL with synchronous=FULL). The file is locked for as long as it is open, so that no second
 * process can serve from it; only the workers of one server share it, and see each other's commits
 * by a poll.
 * @module
 */
import { DatabaseSync } from "node:sqlite";
import * as v from "valibot";
import { CaError, StoreError } from "../../core/errors.ts";
import type { Clock } from "../../core/ports/clock.ts";
import { isOff, type LeaseName } from "../../core/ports/lease.ts";
import type { LookStore } from "../../core/ports/looks.ts";
import type { Backend } from "../backend.ts";
import { requireExpected } from "../checks.ts";
import { createMemoryLooks } from "../looks.ts";
import { readReplica } from "../replica-record.ts";
import { Waiter } from "../waiter.ts";
import { ACCESS_SET_TABLE, ACCESS_TABLES, createSqliteAccess } from "./acl.ts";
import { createTransaction, sqliteError } from "./transaction.ts";

/**
 * Version of the tables, kept in SQLite's user_version. The document in them has a schema of its
 * own.
 */
const TABLES = 4;

/** The newest tables from the version before, where 0 is an empty file. */
const CREATE = [
  `CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), idx INTEGER NOT NULL, commit_id TEXT NOT NULL, document TEXT NOT NULL) STRICT;
  CREATE TABLE lease (name TEXT PRIMARY KEY, holder TEXT, term INTEGER NOT NULL, expires_at INTEGER NOT NULL) STRICT;`,
  `CREATE TABLE stop_mark (id INTEGER PRIMARY KEY CHECK (id = 1), idx INTEGER NOT NULL, commit_id TEXT NOT NULL, term INTEGER NOT NULL, document TEXT NOT NULL, reason TEXT NOT NULL, noticed_by TEXT NOT NULL, set_at INTEGER NOT NULL) STRICT;
   CREATE TABLE replica (id TEXT PRIMARY KEY, replica TEXT NOT NULL, expires_at INTEGER NOT NULL) STRICT;`,
  ACCESS_TABLES,
  ACCESS_SET_TABLE,
];

/** How soon a worker sees what another one committed, in milliseconds. */
const POLL_MS = 50;
/** How long a worker waits for another one's transaction, in milliseconds. */
const BUSY_MS = 5000;

/** Grows with every transaction of another connection. */
const DataVersion = v.object({ data_version: v.number() });
const StateRow = v.object({ idx: v.number(), commit_id: v.string(), document: v.string() });
const LeaseRow = v.object({
  holder: v.nullable(v.string()),
  term: v.number(),
  expires_at: v.number(),
});

const MarkRow = v.object({
  idx: v.number(),
  commit_id: v.string(),
  term: v.number(),
  document: v.string(),
  reason: v.string(),
  noticed_by: v.string(),
  set_at: v.number(),
});
const ReplicaRow = v.object({ replica: v.string() });

export interface SqliteOptions {
  /** The workers of one server have the file open together; the server claimed it for them. */
  readonly shared?: boolean;
  /** Where looks at the clock are remembered. @default in memory */
  readonly looks?: LookStore;
}

/**
 * Opens or makes a database file.
 * @throws {StoreError} `store_busy` when another process has it, `schema_unknown` when a newer
 * meshca made it,
 *   `state_corrupt` when it is no database, `store_unavailable` when it cannot be opened.
 */
export function openSqlite(
  path: string,
  clock: Clock,
  { shared = false, looks = createMemoryLooks() }: SqliteOptions = {},
): Backend {
  const db = openDatabase(path, shared);
  const waiter = new Waiter();
  const now = () => clock.now().getTime();

  const sql = {
    version: db.prepare("PRAGMA data_version"),
    state: db.prepare("SELECT idx, commit_id, document FROM state WHERE id = 1"),
    write: db.prepare(
      "INSERT INTO state (id, idx, commit_id, document) VALUES (1, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET idx = excluded.idx, commit_id = excluded.commit_id, document = excluded.document",
    ),
    mark: db.prepare(
      "SELECT idx, commit_id, term, document, reason, noticed_by, set_at FROM stop_mark WHERE id = 1",
    ),
    setMark: db.prepare(
      "INSERT OR REPLACE INTO stop_mark (id, idx, commit_id, term, document, reason, noticed_by, set_at) VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
    ),
    raiseMark: db.prepare("UPDATE stop_mark SET term = max(term, ?)"),
    clearMark: db.prepare("DELETE FROM stop_mark"),
    announce: db.prepare(
      "INSERT OR REPLACE INTO replica (id, replica, expires_at) VALUES (?, ?, ?)",
    ),
    leave: db.prepare("DELETE FROM replica WHERE id = ?"),
    // What ended, and what ends so far off that the clock has gone back since.
    forget: db.prepare("DELETE FROM replica WHERE expires_at <= ?1 OR expires_at > ?1 + 10 * ?2"),
    replicas: db.prepare("SELECT replica FROM replica ORDER BY id"),
    lease: db.prepare("SELECT holder, term, expires_at FROM lease WHERE name = ?"),
    grant: db.prepare(
      "INSERT INTO lease (name, holder, term, expires_at) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, term = excluded.term, expires_at = excluded.expires_at",
    ),
  };
  const readState = () => {
    const row = sql.state.get();
    return row === undefined || row === null ? null : v.parse(StateRow, row);
  };
  const readMark = () => {
    const row = sql.mark.get();
    return row === undefined || row === null ? null : v.parse(MarkRow, row);
  };
  const readLease = (name: LeaseName) => {
    const row = sql.lease.get(name);
    return row === undefined || row === null ? null : v.parse(LeaseRow, row);
  };

  const transaction = createTransaction(db, path);

  /** Leaves no key that a commit dropped behind in the log: secure_delete clears the file alone. */
  const emptyLog = () => {
    try {
      db.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    } catch {
      // The commit stands whatever becomes of the log, which the next commit empties.
    }
  };

  const access = createSqliteAccess({ db, clock, transaction, pollMs: shared ? POLL_MS : null });

  return {
    open(codec, holder) {
      const owns = (name: LeaseName, term: number) => {
        const lease = readLease(name);
        return (
          lease !== null &&
          lease.term === term &&
          lease.holder === holder &&
          lease.expires_at > now()
        );
      };
      return {
        store: {
          async read() {
            const { row, term, stopped } = transaction(() => ({
              row: readState(),
              term: readLease("operation")?.term ?? 0,
              stopped: readMark()?.commit_id ?? null,
            }));
            if (row === null) return { state: null, term, stopped, kek: null };
            const state = await codec.decode(row.document);
            // The columns are compared at each commit; only the document has a MAC.
            if (state.index !== row.idx || state.commitId !== row.commit_id)
              throw new StoreError(
                "state_corrupt",
                "Cannot trust the stored state: its row is not of its document",
              );
            return { state, term, stopped, kek: codec.kekOf(row.document) };
          },
          async commit(next, expected) {
            const document = await codec.encode(next);
            transaction(() => {
              const [state, mark, term] = [
                readState(),
                readMark(),
                readLease("operation")?.term ?? 0,
              ];
              const stored = {
                index: state?.idx ?? 0,
                commitId: state?.commit_id ?? null,
                term,
                stopped: mark?.commit_id ?? null,
              };
              requireExpected(stored, expected);
              sql.write.run(next.index, next.commitId, document);
              if (mark === null) return;
              sql.clearMark.run();
              // Whoever saw a higher term than is known here would take the store for one that lost
              // writes.
              if (mark.term > term) sql.grant.run("operation", null, mark.term, 0);
            });
            emptyLog();
            waiter.notify();
          },
          async stop({ state, term, reason, by, found }) {
            const document = await codec.encode(state);
            transaction(() => {
              if ((readState()?.commit_id ?? null) !== found) return;
              const mark = readMark();
              if (mark === null || mark.idx < state.index)
                sql.setMark.run(
                  state.index,
                  state.commitId,
                  Math.max(term, mark?.term ?? 0),
                  document,
                  reason,
                  by,
                  now(),
                );
              else sql.raiseMark.run(term);
            });
            waiter.notify();
          },
          async stopMark() {
            const mark = transaction(readMark);
            if (mark === null) return null;
            const { document, term, reason, noticed_by: by, set_at: at } = mark;
            return { state: await codec.decode(document), term, reason, by, at: new Date(at) };
          },
          async watch(commitId, signal) {
            // Outside of a transaction, since it looks at one row and locks nobody out.
            const same = () => (readState()?.commit_id ?? null) === commitId;
            if (!same()) return;
            if (!shared) return waiter.wait(signal);
            const version = () => v.parse(DataVersion, sql.version.get()).data_version;
            const stopped = readMark()?.commit_id;
            for (let seen = version(); !signal.aborted; await clock.sleep(POLL_MS, signal)) {
              const now = version();
              if (now !== seen && (!same() || readMark()?.commit_id !== stopped)) return;
              seen = now;
              // This process's own commits do not show in the version.
              if (!same()) return;
            }
          },
          now: async () => clock.now(),
          async close() {},
        },
        leases: {
          async acquire(name, ttlMs) {
            return transaction(() => {
              const lease = readLease(name);
              const isHeld = lease !== null && lease.holder !== null && lease.expires_at > now();
              if (isHeld && !isOff(lease.expires_at, now(), ttlMs)) return null;
              const term = (lease?.term ?? 0) + 1;
              sql.grant.run(name, holder, term, now() + ttlMs);
              return { name, term };
            });
          },
          async renew({ name, term }, ttlMs) {
            return transaction(() => {
              if (!owns(name, term)) return false;
              sql.grant.run(name, holder, term, now() + ttlMs);
              return true;
            });
          },
          async release({ name, term }) {
            transaction(() => {
              if (owns(name, term)) sql.grant.run(name, null, term, 0);
            });
          },
          async holder(name) {
            const lease = transaction(() => readLease(name));
            return lease !== null && lease.expires_at > now() ? lease.holder : null;
          },
        },
        replicas: {
          async announce(self, ttlMs) {
            const rows = transaction(() => {
              sql.announce.run(self.id, JSON.stringify(self), now() + ttlMs);
              sql.forget.run(now(), ttlMs);
              return sql.replicas.all().map((row) => v.parse(ReplicaRow, row).replica);
            });
            return rows.flatMap(readReplica);
          },
          async leave(id) {
            transaction(() => sql.leave.run(id));
          },
        },
        access,
        looks,
      };
    },
    close() {
      db.close();
    },
  };
}

/**
 * Claims a file for the workers of one server: makes its tables, frees its leases, and keeps every
 * other server away.
 * @returns what gives it back.
 * @throws {StoreError} as `openSqlite` does
 */
export function claimSqlite(path: string): () => void {
  const guard = connect(`${path}-workers`, (db) =>
    db.exec("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;"),
  );
  try {
    openDatabase(path, false).close();
  } catch (error) {
    guard.close();
    throw error;
  }
  return () => guard.close();
}

function openDatabase(path: string, shared: boolean): DatabaseSync {
  return connect(path, (db) => {
    // EXCLUSIVE before WAL: the lock is taken at the first access and kept, and no shared memory
    // file is needed.
    db.exec(shared ? `PRAGMA busy_timeout = ${BUSY_MS}` : "PRAGMA locking_mode = EXCLUSIVE");
    const version = v.parse(
      v.object({ user_version: v.number() }),
      db.prepare("PRAGMA user_version").get(),
    ).user_version;
    if (version > TABLES)
      throw new StoreError(
        "schema_unknown",
        `Cannot open ${JSON.stringify(path)}: a newer version of meshca made it (tables ${version}, this version knows up to ${TABLES})`,
      );
    const { tables } = v.parse(
      v.object({ tables: v.number() }),
      db.prepare("SELECT count(*) AS tables FROM sqlite_master").get(),
    );
    if (version === 0 && tables > 0)
      throw new StoreError(
        "state_corrupt",
        `Cannot open ${JSON.stringify(path)}: it is another program's database`,
      );
    // Only now is anything written: the file is ours.
    db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;");
    if (shared) return;
    db.exec("BEGIN IMMEDIATE");
    for (const create of CREATE.slice(version)) db.exec(create);
    // Whoever held a lease held this file's lock too, and is gone. Terms stay, so that they only
    // grow.
    db.exec(
      `PRAGMA user_version = ${TABLES}; UPDATE lease SET holder = NULL, expires_at = 0; DELETE FROM replica; COMMIT;`,
    );
  });
}

/** @throws {StoreError} */
function connect(path: string, prepare: (db: DatabaseSync) => void): DatabaseSync {
  let db: DatabaseSync | undefined;
  try {
    db = new DatabaseSync(path);
    prepare(db);
    return db;
  } catch (error) {
    db?.close();
    throw error instanceof CaError ? error : sqliteError(error, path);
  }
}
