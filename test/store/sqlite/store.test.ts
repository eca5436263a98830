/**
 * The embedded store under both contracts, and what a file adds: other processes, damage, crashes.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, describe, it } from "node:test";
import { StoreError } from "../../../src/core/errors.ts";
import { systemClock } from "../../../src/entry/platform.ts";
import { createSealer } from "../../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../../src/seal/kek.ts";
import type { Backend } from "../../../src/store/backend.ts";
import { claimSqlite, openSqlite } from "../../../src/store/sqlite/backend.ts";
import { type Codec, createCodec } from "../../../src/store/state-document.ts";
import { describeBackups } from "../../contracts/backups.ts";
import { describeLeafCounts } from "../../contracts/leaf-counts.ts";
import { describeLeases } from "../../contracts/lease.ts";
import { describeLooks } from "../../contracts/looks.ts";
import { describeAccessStore } from "../../contracts/record-store.ts";
import { describeReplicas } from "../../contracts/replicas.ts";
import {
  describeStore,
  exampleStates,
  expectedOf,
  type StoreBackend,
} from "../../contracts/store.ts";
import { createFakeClock, type FakeClock } from "../../fakes/clock.ts";

const CHILD = join(import.meta.dirname, "child.ts");
const folder = mkdtempSync(join(tmpdir(), "meshca-sqlite-"));
let files = 0;
const newPath = () => join(folder, `${++files}.db`);

function sqlite(clock: FakeClock): StoreBackend {
  const path = newPath();
  let backend: Backend = openSqlite(path, clock);
  /** The file is locked while it is open, so it is closed for a moment. */
  const aside = <T>(work: (db: DatabaseSync) => T): T => {
    backend.close();
    const db = new DatabaseSync(path);
    try {
      return work(db);
    } finally {
      db.close();
      backend = openSqlite(path, clock);
    }
  };
  return {
    open: (codec, holder) => backend.open(codec, holder),
    document: () =>
      aside(
        (db) =>
          (db.prepare("SELECT document FROM state").get() as { document: string } | undefined)
            ?.document ?? null,
      ),
    replace: (document) => aside((db) => db.prepare("UPDATE state SET document = ?").run(document)),
    time: async () => clock.now(),
    elapse: (ms) => clock.advance(ms),
    grainMs: 1,
    close: () => backend.close(),
  };
}

/** As two workers of one server have it: each holder over a connection of its own. */
function shared(clock: FakeClock): StoreBackend {
  const path = newPath();
  // Its polls need a time that passes; leases go by the one that is moved by hand.
  const polled = { ...clock, sleep: systemClock.sleep };
  const giveBack = claimSqlite(path);
  const opened: Backend[] = [];
  const aside = <T>(work: (db: DatabaseSync) => T): T => {
    const db = new DatabaseSync(path);
    try {
      return work(db);
    } finally {
      db.close();
    }
  };
  return {
    open(codec, holder) {
      const backend = openSqlite(path, polled, { shared: true });
      opened.push(backend);
      return backend.open(codec, holder);
    },
    document: () =>
      aside(
        (db) =>
          (db.prepare("SELECT document FROM state").get() as { document: string } | undefined)
            ?.document ?? null,
      ),
    replace: (document) => aside((db) => db.prepare("UPDATE state SET document = ?").run(document)),
    time: async () => clock.now(),
    elapse: (ms) => clock.advance(ms),
    grainMs: 1,
    close() {
      for (const backend of opened) backend.close();
      giveBack();
    },
  };
}

const throwsWith = (code: string) => (error: unknown) => {
  assert.ok(error instanceof StoreError);
  assert.equal(error.code, code);
  return true;
};

describeStore("SQLite", sqlite);
describeLeases("SQLite", sqlite);
describeReplicas("SQLite", sqlite);
describeAccessStore("SQLite", sqlite);
describeLooks("SQLite", sqlite);
describeLeafCounts("SQLite", sqlite);
describeBackups("SQLite", sqlite);
describeStore("shared SQLite", shared);
describeLeases("shared SQLite", shared);
describeReplicas("shared SQLite", shared);
describeAccessStore("shared SQLite", shared);

describe("openSqlite()", () => {
  let codec: Codec;
  const kek = makeKek();

  before(async () => {
    codec = createCodec(createSealer(await readKeks(kek)));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  it("openSqlite() refuses a file that another process has open, and the other continues", async () => {
    const path = newPath();
    const clock = createFakeClock();
    const backend = openSqlite(path, clock);
    const tryOpen = () =>
      execFileSync(process.execPath, [CHILD, "open", path], { encoding: "utf8" }).trim();
    assert.equal(tryOpen(), "store_busy");
    const { store, leases } = backend.open(codec, "one");
    const lease = await leases.acquire("operation", 1000);
    const [state] = await exampleStates();
    await store.commit(state, expectedOf(null, lease?.term ?? 0));
    assert.equal(tryOpen(), "store_busy");
    assert.deepEqual((await store.read()).state, state);
    backend.close();
    assert.equal(tryOpen(), "opened");
  });

  it("openSqlite() refuses a file that this process has open already", () => {
    const path = newPath();
    const backend = openSqlite(path, createFakeClock());
    assert.throws(() => openSqlite(path, createFakeClock()), throwsWith("store_busy"));
    backend.close();
    openSqlite(path, createFakeClock()).close();
  });

  it("openSqlite() refuses a file that is no database, and leaves it as it is", () => {
    const path = newPath();
    const text = "This is the diary of somebody, and no database at all.\n".repeat(100);
    writeFileSync(path, text);
    assert.throws(() => openSqlite(path, createFakeClock()), throwsWith("state_corrupt"));
    assert.equal(readFileSync(path, "utf8"), text);
  });

  it("openSqlite() refuses a damaged database", async () => {
    const path = newPath();
    const backend = openSqlite(path, createFakeClock());
    const { store, leases } = backend.open(codec, "one");
    const lease = await leases.acquire("operation", 1000);
    await store.commit((await exampleStates())[1], expectedOf(null, lease?.term ?? 0));
    backend.close();
    const bytes = readFileSync(path);
    bytes.fill(0x55, 100, 4096);
    writeFileSync(path, bytes);
    assert.throws(() => openSqlite(path, createFakeClock()), throwsWith("state_corrupt"));
  });

  const newerFile = (): string => {
    const path = newPath();
    const db = new DatabaseSync(path);
    db.exec("CREATE TABLE later (x TEXT); PRAGMA user_version = 5;");
    db.close();
    return path;
  };

  it("openSqlite() refuses tables that a newer version made", () => {
    const path = newerFile();
    assert.throws(() => openSqlite(path, createFakeClock()), throwsWith("schema_unknown"));
    assert.throws(() => openSqlite(path, createFakeClock()), throwsWith("schema_unknown"));
  });

  it("openSqlite() leaves a file that a newer version made as it is", () => {
    const path = newerFile();
    const original = readFileSync(path);
    assert.throws(() => openSqlite(path, createFakeClock()));
    assert.ok(original.equals(readFileSync(path)), "the file was changed");
  });

  it("openSqlite() migrates the tables of the version before, and keeps their rows", async () => {
    const path = newPath();
    const clock = createFakeClock();
    const [state] = await exampleStates();
    const old = openSqlite(path, clock);
    const { store, leases } = old.open(codec, "one");
    await store.commit(
      state,
      expectedOf(null, (await leases.acquire("operation", 1000))?.term ?? 0),
    );
    old.close();
    const db = new DatabaseSync(path);
    db.exec(
      "DROP TABLE stop_mark; DROP TABLE replica; DROP TABLE access_record; DROP TABLE access_write; DROP TABLE access_touched; DROP TABLE access_claim; DROP TABLE access_set; PRAGMA user_version = 1;",
    );
    db.close();
    const upgraded = openSqlite(path, clock);
    const ports = upgraded.open(codec, "two");
    assert.deepEqual((await ports.store.read()).state, state);
    assert.equal(await ports.store.stopMark(), null);
    upgraded.close();
  });

  it("claimSqlite() keeps every other server away from the workers' file, and is kept away by one", () => {
    const path = newPath();
    const tryOpen = () =>
      execFileSync(process.execPath, [CHILD, "open", path], { encoding: "utf8" }).trim();
    const alone = openSqlite(path, createFakeClock());
    assert.throws(() => claimSqlite(path), throwsWith("store_busy"));
    alone.close();
    const giveBack = claimSqlite(path);
    const worker = openSqlite(path, createFakeClock(), { shared: true });
    assert.equal(tryOpen(), "store_busy");
    assert.throws(() => claimSqlite(path), throwsWith("store_busy"));
    worker.close();
    giveBack();
    assert.equal(tryOpen(), "opened");
  });

  it("openSqlite() refuses a path in a folder that is not there", () => {
    assert.throws(
      () => openSqlite(join(folder, "missing", "a.db"), createFakeClock()),
      throwsWith("store_unavailable"),
    );
  });

  it("openSqlite() frees the leases of a former process, and its terms keep growing", async () => {
    const path = newPath();
    const clock = createFakeClock();
    let last = { leader: 0, operation: 0 };
    for (let i = 0; i < 3; i++) {
      const backend = openSqlite(path, clock);
      const { leases } = backend.open(codec, `process ${i}`);
      assert.equal(await leases.holder("leader"), null);
      const [leader, operation] = [
        await leases.acquire("leader", 60_000),
        await leases.acquire("operation", 60_000),
      ];
      assert.ok(leader !== null && operation !== null);
      assert.ok(leader.term > last.leader && operation.term > last.operation);
      last = { leader: leader.term, operation: operation.term };
      backend.close();
    }
  });

  it("openSqlite() refuses writes under a term granted before it was reopened, once a higher one is granted", async () => {
    const path = newPath();
    const clock = createFakeClock();
    const first = openSqlite(path, clock);
    const old = await first.open(codec, "one").leases.acquire("operation", 60_000);
    first.close();
    const second = openSqlite(path, clock);
    const { store, leases } = second.open(codec, "one");
    assert.ok(old !== null);
    assert.equal(await leases.renew(old, 60_000), false);
    await leases.acquire("operation", 60_000);
    await assert.rejects(
      store.commit((await exampleStates())[0], expectedOf(null, old.term)),
      /another operation took over/,
    );
    second.close();
  });

  it("commit() loses nothing it has acknowledged when its process is killed", {
    timeout: 60_000,
  }, async () => {
    const path = newPath();
    let acknowledged = 0;
    for (let round = 1; round <= 5; round++) {
      const child = spawn(process.execPath, [CHILD, "commit", path, kek], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      const goal = acknowledged + round * 3;
      await new Promise<void>((resolve) => {
        let text = "";
        child.stdout.on("data", (chunk: Buffer) => {
          text += chunk.toString();
          const last = text.lastIndexOf("\n");
          if (last > 0)
            acknowledged = Number(text.slice(text.lastIndexOf("\n", last - 1) + 1, last));
          if (acknowledged >= goal) child.kill("SIGKILL");
        });
        child.on("close", () => resolve());
      });
      assert.equal(child.signalCode, "SIGKILL");
      const backend = openSqlite(path, createFakeClock());
      const { state } = await backend.open(codec, "after").store.read();
      backend.close();
      assert.ok(
        state !== null && state.index >= acknowledged,
        `read index ${state?.index}, acknowledged ${acknowledged}`,
      );
      acknowledged = state.index;
    }
  });
});
