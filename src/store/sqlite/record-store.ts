/**
 * The records of access control in SQLite: a row each, and the names of the records that the last
 * writes changed.
 * @module
 */
import type { DatabaseSync } from "node:sqlite";
import * as v from "valibot";
import {
  CHANGES_KEPT,
  type Changes,
  type Mark,
  NOTHING_WRITTEN,
  RECORD_KINDS,
  type RecordChange,
  type RecordStore,
  type SetChange,
} from "../../core/ports/record-store.ts";
import { changesOf, type Records, requireSet, requireVersions } from "../record-checks.ts";
import { Waiter } from "../waiter.ts";
import type { SqliteParts } from "./store.ts";
import { optionalRow } from "./transaction.ts";

/** Tables from version 3 on. */
export const ACCESS_TABLES = `
  CREATE TABLE access_record (kind TEXT NOT NULL, id TEXT NOT NULL, key TEXT, version INTEGER NOT NULL, create_idx INTEGER NOT NULL, modify_idx INTEGER NOT NULL, document TEXT NOT NULL, PRIMARY KEY (kind, id)) STRICT;
  CREATE UNIQUE INDEX access_key ON access_record (kind, key);
  CREATE TABLE access_write (idx INTEGER PRIMARY KEY, tip TEXT NOT NULL) STRICT;
  CREATE TABLE access_touched (idx INTEGER NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (idx, kind, id)) STRICT;
  CREATE TABLE access_claim (id TEXT PRIMARY KEY, expires_at INTEGER NOT NULL) STRICT;
`;

/** Tables from version 4 on. */
export const ACCESS_SET_TABLE =
  "CREATE TABLE access_set (id INTEGER PRIMARY KEY CHECK (id = 1), document TEXT, stopped TEXT) STRICT; INSERT INTO access_set (id) VALUES (1);";

const kind = v.picklist(RECORD_KINDS);
const SetRow = v.object({ document: v.nullable(v.string()), stopped: v.nullable(v.string()) });
const NameRow = v.object({ kind, id: v.string() });
const WriteRow = v.pipe(
  v.object({ idx: v.number(), tip: v.string() }),
  v.transform(({ idx, tip }): Mark => ({ index: idx, tip })),
);
const RecordRow = v.pipe(
  v.object({
    kind,
    id: v.string(),
    key: v.nullable(v.string()),
    version: v.number(),
    create_idx: v.number(),
    modify_idx: v.number(),
    document: v.string(),
  }),
  v.transform(({ create_idx: createIndex, modify_idx: modifyIndex, ...record }) => ({
    ...record,
    createIndex,
    modifyIndex,
  })),
);

export class SqliteRecordStore implements RecordStore {
  readonly #parts: SqliteParts;
  readonly #sql: ReturnType<typeof statements>;
  readonly #waiter = new Waiter();
  readonly #records: Records;

  constructor(parts: SqliteParts) {
    this.#parts = parts;
    this.#sql = statements(parts.db);
    this.#records = {
      find: (name) => optionalRow(RecordRow, this.#sql.one.get(name.kind, name.id)),
      owner: (kind, key) => optionalRow(NameRow, this.#sql.owner.get(kind, key)),
    };
  }

  async read(since: Mark | null): Promise<Changes> {
    const sql = this.#sql;
    return this.#parts.transaction(() => {
      const { document: set, stopped } = this.#set();
      const head = { ...this.#last(), set, stopped };
      if (since?.tip === head.tip) return { ...head, ...changesOf([], this.#records) };
      if (since === null || optionalRow(WriteRow, sql.write.get(since.index))?.tip !== since.tip) {
        const records = sql.all.all().map((row) => v.parse(RecordRow, row));
        return { ...head, complete: true, records, gone: [] };
      }
      const names = sql.touched.all(since.index).map((row) => v.parse(NameRow, row));
      return { ...head, ...changesOf(names, this.#records) };
    });
  }

  async write(changes: readonly RecordChange[], tip: string, set?: SetChange): Promise<number> {
    const sql = this.#sql;
    const replacesAll = set?.at === null;
    const index = this.#parts.transaction(() => {
      requireVersions(changes, replacesAll ? null : this.#records);
      const last = this.#last();
      if (set !== undefined) requireSet(last, this.#set().stopped, set);
      const index = set?.index ?? last.index + 1;
      if (replacesAll)
        this.#parts.db.exec(
          "DELETE FROM access_record; DELETE FROM access_write; DELETE FROM access_touched;",
        );
      this.#writeRecords(changes, index);
      sql.logWrite.run(index, tip);
      if (set !== undefined) sql.setWhole.run(set.document);
      sql.forgetWrite.run(index - CHANGES_KEPT);
      sql.forgetTouched.run(index - CHANGES_KEPT);
      return index;
    });
    this.#waiter.notify();
    return index;
  }

  async stop(mark: string, found: string): Promise<void> {
    this.#parts.transaction(() => {
      if (this.#last().tip === found) this.#sql.stop.run(mark);
    });
    this.#waiter.notify();
  }

  async claim(id: string, ttlMs: number, until: Date): Promise<boolean> {
    const { clock, transaction } = this.#parts;
    const end = Math.max(clock.now().getTime() + Math.ceil(ttlMs), until.getTime());
    return transaction(() => Number(this.#sql.claim.run(id, end).changes) === 1);
  }

  async forgetClaims(until: Date): Promise<void> {
    this.#parts.transaction(() => this.#sql.expire.run(until.getTime()));
  }

  async watch(tip: string, signal: AbortSignal): Promise<void> {
    const { pollMs, clock } = this.#parts;
    // Outside of a transaction: it reads one row and must not lock others out.
    if (this.#last().tip !== tip) return;
    if (pollMs === null) return this.#waiter.wait(signal);
    while (!signal.aborted && this.#last().tip === tip) await clock.sleep(pollMs, signal);
  }

  #writeRecords(changes: readonly RecordChange[], index: number): void {
    const created = changes.map((change) => this.#records.find(change)?.createIndex ?? index);
    // All are removed first, so that a key that one gives up is free for another one.
    for (const { kind, id } of changes) this.#sql.remove.run(kind, id);
    changes.forEach(({ kind, id, expected, next }, i) => {
      const [version, createIndex] = [expected + 1, created[i] ?? index];
      if (next !== null)
        this.#sql.set.run(kind, id, next.key, version, createIndex, index, next.document);
      this.#sql.logTouched.run(index, kind, id);
    });
  }

  #last(): Mark {
    return optionalRow(WriteRow, this.#sql.last.get()) ?? NOTHING_WRITTEN;
  }

  #set(): v.InferOutput<typeof SetRow> {
    return v.parse(SetRow, this.#sql.whole.get());
  }
}

function statements(db: DatabaseSync) {
  const columns = "kind, id, key, version, create_idx, modify_idx, document";
  return {
    last: db.prepare("SELECT idx, tip FROM access_write ORDER BY idx DESC LIMIT 1"),
    write: db.prepare("SELECT idx, tip FROM access_write WHERE idx = ?"),
    all: db.prepare(`SELECT ${columns} FROM access_record`),
    one: db.prepare(`SELECT ${columns} FROM access_record WHERE kind = ? AND id = ?`),
    owner: db.prepare("SELECT kind, id FROM access_record WHERE kind = ? AND key = ?"),
    touched: db.prepare("SELECT DISTINCT kind, id FROM access_touched WHERE idx > ?"),
    set: db.prepare(
      `INSERT OR REPLACE INTO access_record (${columns}) VALUES (?, ?, ?, ?, ?, ?, ?)`,
    ),
    remove: db.prepare("DELETE FROM access_record WHERE kind = ? AND id = ?"),
    logWrite: db.prepare("INSERT INTO access_write (idx, tip) VALUES (?, ?)"),
    logTouched: db.prepare("INSERT INTO access_touched (idx, kind, id) VALUES (?, ?, ?)"),
    forgetWrite: db.prepare("DELETE FROM access_write WHERE idx <= ?"),
    forgetTouched: db.prepare("DELETE FROM access_touched WHERE idx <= ?"),
    whole: db.prepare("SELECT document, stopped FROM access_set WHERE id = 1"),
    setWhole: db.prepare("UPDATE access_set SET document = ?, stopped = NULL WHERE id = 1"),
    stop: db.prepare("UPDATE access_set SET stopped = ? WHERE id = 1"),
    expire: db.prepare("DELETE FROM access_claim WHERE expires_at <= ?"),
    claim: db.prepare("INSERT OR IGNORE INTO access_claim (id, expires_at) VALUES (?, ?)"),
  };
}
