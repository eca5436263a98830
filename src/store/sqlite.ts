/**
 * The embedded store and leases: one SQLite file, one process. Every commit is on disk before it is answered (WAL with
 * synchronous=FULL). The file is locked for as long as it is open, so that no second process can serve from it.
 * @module
 */
import { DatabaseSync } from "node:sqlite";
import * as v from "valibot";
import type { Clock } from "../core/clock.ts";
import { CaError, StoreError } from "../core/errors.ts";
import type { LeaseName, Leases } from "../core/lease.ts";
import type { Store } from "../core/store.ts";
import { requireExpected } from "./checks.ts";
import type { Codec } from "./codec.ts";
import { createWaiter } from "./waiter.ts";

/** Version of the tables, kept in SQLite's user_version. The document in them has a schema of its own. */
const TABLES = 1;

const CREATE = `
  CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), idx INTEGER NOT NULL, commit_id TEXT NOT NULL, document TEXT NOT NULL) STRICT;
  CREATE TABLE lease (name TEXT PRIMARY KEY, holder TEXT, term INTEGER NOT NULL, expires_at INTEGER NOT NULL) STRICT;
  PRAGMA user_version = ${TABLES};
`;

const StateRow = v.object({ idx: v.number(), commit_id: v.string(), document: v.string() });
const LeaseRow = v.object({ holder: v.nullable(v.string()), term: v.number(), expires_at: v.number() });

export interface SqliteBackend {
  /** A store and leases for one holder. */
  open(codec: Codec, holder: string): { store: Store; leases: Leases };
  /** Closes the file. */
  close(): void;
}

/**
 * Opens or makes a database file.
 * @throws {StoreError} `store_busy` when another process has it, `schema_unknown` when a newer meshca made it,
 *   `state_corrupt` when it is no database, `store_unavailable` when it cannot be opened.
 */
export function openSqlite(path: string, clock: Clock): SqliteBackend {
  const db = openDatabase(path);
  const waiter = createWaiter();
  const now = () => clock.now().getTime();

  const sql = {
    state: db.prepare("SELECT idx, commit_id, document FROM state WHERE id = 1"),
    write: db.prepare(
      "INSERT INTO state (id, idx, commit_id, document) VALUES (1, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET idx = excluded.idx, commit_id = excluded.commit_id, document = excluded.document",
    ),
    lease: db.prepare("SELECT holder, term, expires_at FROM lease WHERE name = ?"),
    grant: db.prepare(
      "INSERT INTO lease (name, holder, term, expires_at) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, term = excluded.term, expires_at = excluded.expires_at",
    ),
  };
  const readState = () => {
    const row = sql.state.get();
    return row === undefined || row === null ? null : v.parse(StateRow, row);
  };
  const readLease = (name: LeaseName) => {
    const row = sql.lease.get(name);
    return row === undefined || row === null ? null : v.parse(LeaseRow, row);
  };

  /** Runs a step that sees and changes the file alone. */
  const transaction = <T>(step: () => T): T => {
    try {
      db.exec("BEGIN IMMEDIATE");
      try {
        const result = step();
        db.exec("COMMIT");
        return result;
      } catch (error) {
        db.exec("ROLLBACK");
        throw error;
      }
    } catch (error) {
      throw error instanceof CaError ? error : failed(error, path);
    }
  };

  /** Leaves no key that a commit dropped behind in the log: secure_delete clears the file alone. */
  const emptyLog = () => {
    try {
      db.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    } catch {
      // The commit stands whatever becomes of the log, which the next commit empties.
    }
  };

  return {
    open(codec, holder) {
      const owns = (name: LeaseName, term: number) => {
        const lease = readLease(name);
        return lease !== null && lease.term === term && lease.holder === holder && lease.expires_at > now();
      };
      return {
        store: {
          async read() {
            const row = transaction(readState);
            if (row === null) return null;
            const state = await codec.decode(row.document);
            // The columns are compared at each commit; only the document has a MAC.
            if (state.index !== row.idx || state.commitId !== row.commit_id)
              throw new StoreError("state_corrupt", "Cannot trust the stored state: its row is not of its document");
            return state;
          },
          async commit(next, expected) {
            const document = await codec.encode(next);
            transaction(() => {
              const state = readState();
              requireExpected(
                { index: state?.idx ?? 0, commitId: state?.commit_id ?? null, term: readLease("operation")?.term ?? 0 },
                expected,
              );
              sql.write.run(next.index, next.commitId, document);
            });
            emptyLog();
            waiter.notify();
          },
          async watch(commitId, signal) {
            if ((transaction(readState)?.commit_id ?? null) === commitId) await waiter.wait(signal);
          },
          now: async () => clock.now(),
          async close() {},
        },
        leases: {
          async acquire(name, ttlMs) {
            return transaction(() => {
              const lease = readLease(name);
              if (lease !== null && lease.holder !== null && lease.expires_at > now()) return null;
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
      };
    },
    close() {
      db.close();
    },
  };
}

function openDatabase(path: string): DatabaseSync {
  let db: DatabaseSync | undefined;
  try {
    db = new DatabaseSync(path);
    // EXCLUSIVE before WAL: the lock is taken at the first access and kept, and no shared memory file is needed.
    db.exec("PRAGMA locking_mode = EXCLUSIVE");
    const version = v.parse(v.object({ user_version: v.number() }), db.prepare("PRAGMA user_version").get()).user_version;
    if (version > TABLES)
      throw new StoreError(
        "schema_unknown",
        `Cannot open ${path}: a newer version of meshca made it (tables ${version}, this version knows up to ${TABLES})`,
      );
    const { tables } = v.parse(v.object({ tables: v.number() }), db.prepare("SELECT count(*) AS tables FROM sqlite_master").get());
    if (version === 0 && tables > 0) throw new StoreError("state_corrupt", `Cannot open ${path}: it is another program's database`);
    // Only now is anything written: the file is ours.
    db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;");
    db.exec("BEGIN IMMEDIATE");
    if (version === 0) db.exec(CREATE);
    // Whoever held a lease held this file's lock too, and is gone. Terms stay, so that they only grow.
    db.exec("UPDATE lease SET holder = NULL, expires_at = 0; COMMIT;");
    return db;
  } catch (error) {
    db?.close();
    throw error instanceof CaError ? error : failed(error, path);
  }
}

/** SQLite's reason in our terms. */
function failed(error: unknown, path: string): StoreError {
  const text = error instanceof Error ? error.message : "";
  if (/locked|busy/i.test(text)) return new StoreError("store_busy", `Cannot open ${path}: another process has it open`);
  if (/not a database|malformed/i.test(text))
    return new StoreError("state_corrupt", `Cannot open ${path}: it is not a SQLite database, or a damaged one`);
  return new StoreError("store_unavailable", `Cannot use the SQLite file: ${text}`, { cause: error });
}
