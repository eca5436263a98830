/**
 * The SQLite file of an embedded CA: its tables, its lock and its settings.
 * @module
 */
import { DatabaseSync } from "node:sqlite";
import * as v from "valibot";
import { CaError, StoreError } from "../../core/errors.ts";
import { ACCESS_SET_TABLE, ACCESS_TABLES } from "./record-store.ts";
import { sqliteError } from "./transaction.ts";

/**
 * Version of the tables, kept in SQLite's user_version. The document in them has a schema of its
 * own.
 */
const TABLES = 4;

/** Makes the tables of each version from the version before; version 0 is an empty file. */
const CREATE = [
  `CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), idx INTEGER NOT NULL, commit_id TEXT NOT NULL, document TEXT NOT NULL) STRICT;
  CREATE TABLE lease (name TEXT PRIMARY KEY, holder TEXT, term INTEGER NOT NULL, expires_at INTEGER NOT NULL) STRICT;`,
  `CREATE TABLE stop_mark (id INTEGER PRIMARY KEY CHECK (id = 1), idx INTEGER NOT NULL, commit_id TEXT NOT NULL, term INTEGER NOT NULL, document TEXT NOT NULL, reason TEXT NOT NULL, noticed_by TEXT NOT NULL, set_at INTEGER NOT NULL) STRICT;
   CREATE TABLE replica (id TEXT PRIMARY KEY, replica TEXT NOT NULL, expires_at INTEGER NOT NULL) STRICT;`,
  ACCESS_TABLES,
  ACCESS_SET_TABLE,
];

/**
 * Tables that an earlier version may find in a file and ignores: they are in no version, so that it
 * opens the file nevertheless.
 */
const OPTIONAL =
  "CREATE TABLE IF NOT EXISTS leaf_count (id INTEGER PRIMARY KEY CHECK (id = 1), counts TEXT NOT NULL) STRICT;";

/** How long a worker waits for the transaction of another one, in milliseconds. */
const BUSY_MS = 5000;

/**
 * Claims a file for the workers of one server: creates its tables, frees its leases, and locks
 * every other server out.
 * @returns releases the file.
 * @throws {StoreError} as `openDatabase`
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

/**
 * Opens or creates a file.
 * @param shared whether workers of one server have it open together, and the server claimed it.
 * @throws {StoreError} `store_busy` if another process has it open, `schema_unknown` if a newer
 * version of meshca created it, `state_corrupt` if it is not a database of meshca,
 * `store_unavailable` if it cannot be opened
 */
export function openDatabase(path: string, shared: boolean): DatabaseSync {
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
    // Nothing is written before the file is known to be ours.
    db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;");
    if (shared) return;
    db.exec("BEGIN IMMEDIATE");
    for (const create of [...CREATE.slice(version), OPTIONAL]) db.exec(create);
    // The holder of a lease held this file's lock too, and has ended. Terms stay, so that they only
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
