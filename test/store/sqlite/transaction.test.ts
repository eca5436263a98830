/**
 * What is reported when SQLite fails: the first error, with the path and what to do.
 * @module
 */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, describe, it } from "node:test";
import { ConflictError, StoreError } from "../../../src/core/errors.ts";
import { openSqlite } from "../../../src/store/sqlite/backend.ts";
import { createTransaction, sqliteError } from "../../../src/store/sqlite/transaction.ts";
import { createFakeClock } from "../../fakes/clock.ts";

describe("createTransaction()", () => {
  let folder: string;
  let path: string;
  let db: DatabaseSync;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "meshca-sqlite-"));
    path = join(folder, "a.db");
    db = new DatabaseSync(path);
    db.exec("PRAGMA journal_mode = WAL; CREATE TABLE t (a TEXT); INSERT INTO t VALUES ('before');");
  });
  after(() => {
    db.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const failure = (act: () => unknown): Error => {
    try {
      act();
    } catch (error) {
      if (error instanceof Error) return error;
    }
    throw new assert.AssertionError({ message: "It did not fail" });
  };
  const count = () => db.prepare("SELECT count(*) AS n FROM t").get()?.n;

  it("says that the disk is full, with the path, though SQLite has rolled back by itself, and works again with room", () => {
    const transaction = createTransaction(db, path);
    const fill = () =>
      transaction(() => db.prepare("INSERT INTO t VALUES (?)").run("x".repeat(100_000)));
    db.exec("PRAGMA max_page_count = 3");
    for (let i = 0; i < 2; i++) {
      const error = failure(fill);
      assert.ok(error instanceof StoreError);
      assert.deepEqual(
        [error.code, error.message, error.retryAfterMs],
        [
          "store_unavailable",
          `Cannot use the SQLite file ${JSON.stringify(path)}: the disk is full`,
          5000,
        ],
      );
      assert.equal(count(), 1, "nothing was changed");
    }
    db.exec("PRAGMA max_page_count = 1000");
    fill();
    assert.equal(count(), 2);
  });

  it("rolls back what a step did that throws, and throws its error", () => {
    const transaction = createTransaction(db, path);
    const before = count();
    const conflict = new ConflictError("index_mismatch", "mismatch");
    const step = () => {
      db.exec("INSERT INTO t VALUES ('lost')");
      throw conflict;
    };
    assert.equal(
      failure(() => transaction(step)),
      conflict,
    );
    assert.equal(count(), before);
    transaction(() => db.exec("INSERT INTO t VALUES ('kept')"));
    assert.equal(count(), Number(before) + 1);
  });

  it("names what a step says also if it ended the transaction itself", () => {
    const transaction = createTransaction(db, path);
    const step = () => {
      db.exec("ROLLBACK");
      throw new Error("the first error");
    };
    assert.match(failure(() => transaction(step)).message, /the first error$/);
  });

  it("names the path of a file that cannot be opened, made or read", () => {
    const clock = createFakeClock();
    const open = (name: string) => failure(() => openSqlite(join(folder, name), clock)).message;
    mkdirSync(join(folder, "folder"));
    writeFileSync(join(folder, "text"), "this is no database at all, but a text".repeat(100));
    for (const name of ["missing/a.db", "folder"]) {
      assert.match(
        open(name),
        /^Cannot use the SQLite file ".*": it cannot be opened or made; check that its folder is there/,
      );
      assert.ok(open(name).includes(JSON.stringify(join(folder, name))));
    }
    assert.equal(
      open("text"),
      `Cannot open ${JSON.stringify(join(folder, "text"))}: it is not a SQLite database, or a damaged one`,
    );
  });
});

describe("sqliteError()", () => {
  const cases: readonly (readonly [
    errcode: number | null,
    text: string,
    code: string,
    says: RegExp,
  ])[] = [
    [13, "database or disk is full", "store_unavailable", /: the disk is full$/],
    [null, "database or disk is full", "store_unavailable", /: the disk is full$/],
    [778, "disk I/O error", "store_unavailable", /: the disk answers with an I\/O error$/],
    [8, "attempt to write a readonly database", "store_unavailable", /: it is read-only/],
    [1032, "attempt to write a readonly database", "store_unavailable", /: it is read-only/],
    [14, "unable to open database file", "store_unavailable", /: it cannot be opened or made/],
    [5, "database is locked", "store_busy", /: another process has it open$/],
    [261, "database is locked", "store_busy", /: another process has it open$/],
    [26, "file is not a database", "state_corrupt", /: it is not a SQLite database/],
    [11, "database disk image is malformed", "state_corrupt", /: it is not a SQLite database/],
    [1, "no such table: x", "store_unavailable", /: no such table: x$/],
    [null, "", "store_unavailable", /: SQLite failed$/],
  ];
  for (const [errcode, text, code, says] of cases)
    it(`reads ${errcode ?? "no code"} and ${JSON.stringify(text)} as ${code}`, () => {
      const cause = Object.assign(new Error(text), errcode === null ? {} : { errcode });
      const error = sqliteError(cause, "/data/a.db");
      assert.equal(error.code, code);
      assert.match(error.message, says);
      assert.ok(error.message.includes('"/data/a.db"'));
    });
});
