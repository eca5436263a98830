/**
 * Access control's records in SQLite: a row each, and the names of the last writes to tell what
 * changed.
 * @module
 */
import type { DatabaseSync } from "node:sqlite";
import * as v from "valibot";
import type { Clock } from "../../core/ports/clock.ts";
import {
  type AccessStore,
  CHANGES_KEPT,
  RECORD_KINDS,
  type StoredRecord,
} from "../../core/ports/record-store.ts";
import { keyConflict, keysOf, requireSet, versionConflict } from "../checks.ts";
import { Waiter } from "../waiter.ts";

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
const WriteRow = v.object({ idx: v.number(), tip: v.string() });
const SetRow = v.object({ document: v.nullable(v.string()), stopped: v.nullable(v.string()) });
const NameRow = v.object({ kind, id: v.string() });
const RecordRow = v.object({
  kind,
  id: v.string(),
  key: v.nullable(v.string()),
  version: v.number(),
  create_idx: v.number(),
  modify_idx: v.number(),
  document: v.string(),
});

export interface SqliteAccessOptions {
  readonly db: DatabaseSync;
  readonly clock: Clock;
  /** Runs a step that sees and changes the file alone. @throws {StoreError} */
  readonly transaction: <T>(step: () => T) => T;
  /**
   * How often to look for other connections' writes, in milliseconds; null where there are none.
   */
  readonly pollMs: number | null;
}

export function createSqliteAccess({
  db,
  clock,
  transaction,
  pollMs,
}: SqliteAccessOptions): AccessStore {
  const waiter = new Waiter();
  const columns = "kind, id, key, version, create_idx, modify_idx, document";
  const sql = {
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
  const optional = <T>(schema: v.GenericSchema<unknown, T>, row: unknown): T | null =>
    row === undefined || row === null ? null : v.parse(schema, row);
  const last = () => optional(WriteRow, sql.last.get()) ?? { idx: 0, tip: "" };
  const readSet = () => {
    const { document: set, stopped } = v.parse(SetRow, sql.whole.get());
    return { set, stopped };
  };
  const readRow = (row: unknown): StoredRecord => {
    const { create_idx: createIndex, modify_idx: modifyIndex, ...record } = v.parse(RecordRow, row);
    return { ...record, createIndex, modifyIndex };
  };
  const find = (of: { readonly kind: string; readonly id: string }): StoredRecord | null => {
    const row = sql.one.get(of.kind, of.id);
    return row === undefined || row === null ? null : readRow(row);
  };

  return {
    async read(since) {
      return transaction(() => {
        const { idx: index, tip } = last();
        const whole = readSet();
        if (since?.tip === tip)
          return { index, tip, ...whole, complete: false, records: [], gone: [] };
        if (since === null || optional(WriteRow, sql.write.get(since.index))?.tip !== since.tip)
          return {
            index,
            tip,
            ...whole,
            complete: true,
            records: sql.all.all().map(readRow),
            gone: [],
          };
        const touched = sql.touched.all(since.index).map((row) => v.parse(NameRow, row));
        const found = touched.map((name) => ({ name, record: find(name) }));
        return {
          index,
          tip,
          ...whole,
          complete: false,
          records: found.flatMap(({ record }) => (record === null ? [] : [record])),
          gone: found.flatMap(({ name, record }) => (record === null ? [name] : [])),
        };
      });
    },
    async write(changes, tip, whole) {
      const { twice, gives } = keysOf(changes);
      const replacesAll = whole?.at === null;
      const index = transaction(() => {
        for (const change of replacesAll ? [] : changes) {
          if ((find(change)?.version ?? 0) !== change.expected) throw versionConflict(change);
          const owner =
            change.next === null
              ? null
              : optional(NameRow, sql.owner.get(change.kind, change.next.key));
          if (owner !== null && owner.id !== change.id && !gives(owner.kind, owner.id))
            throw keyConflict(change);
        }
        if (twice !== null) throw keyConflict(twice);
        const before = last();
        if (whole !== undefined)
          requireSet({ index: before.idx, tip: before.tip }, readSet().stopped, whole);
        const next = whole?.index ?? before.idx + 1;
        if (replacesAll)
          db.exec(
            "DELETE FROM access_record; DELETE FROM access_write; DELETE FROM access_touched;",
          );
        const made = changes.map(({ kind, id }) => find({ kind, id })?.createIndex ?? next);
        // What is given up first, so that it is free for the others.
        for (const { kind, id } of changes) sql.remove.run(kind, id);
        changes.forEach(({ kind, id, expected, next: content }, i) => {
          if (content !== null)
            sql.set.run(
              kind,
              id,
              content.key,
              expected + 1,
              made[i] ?? next,
              next,
              content.document,
            );
          sql.logTouched.run(next, kind, id);
        });
        sql.logWrite.run(next, tip);
        if (whole !== undefined) sql.setWhole.run(whole.document);
        sql.forgetWrite.run(next - CHANGES_KEPT);
        sql.forgetTouched.run(next - CHANGES_KEPT);
        return next;
      });
      waiter.notify();
      return index;
    },
    async stop(mark, found) {
      transaction(() => {
        if (last().tip === found) sql.stop.run(mark);
      });
      waiter.notify();
    },
    async claim(id, ttlMs, until) {
      const end = Math.max(clock.now().getTime() + Math.ceil(ttlMs), until.getTime());
      return transaction(() => Number(sql.claim.run(id, end).changes) === 1);
    },
    async forgetClaims(until) {
      transaction(() => sql.expire.run(until.getTime()));
    },
    async watch(tip, signal) {
      // Outside of a transaction, since it looks at one row and locks nobody out.
      if (last().tip !== tip) return;
      if (pollMs === null) return waiter.wait(signal);
      while (!signal.aborted && last().tip === tip) await clock.sleep(pollMs, signal);
    },
  };
}
