/**
 * Contract of every implementation of the record store, sentence by sentence of
 * src/core/ports/record-store.ts.
 * @module
 */
import assert from "node:assert/strict";
import { afterEach, before, beforeEach, describe, it } from "node:test";
import { ConflictError, StoreError } from "../../src/core/errors.ts";
import {
  CHANGES_KEPT,
  type Changes,
  type Mark,
  NOTHING_WRITTEN,
  type RecordChange,
  type RecordKind,
  type RecordStore,
} from "../../src/core/ports/record-store.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { type Codec, createCodec } from "../../src/store/state-document.ts";
import { createFakeClock } from "../fakes/clock.ts";
import type { MakeBackend, StoreBackend } from "./store.ts";

const TTL = 60_000;
const AT_ONCE = new Date(0);
let tips = 0;
const newTip = () => `tip-${++tips}`;

const set = (
  kind: RecordKind,
  id: string,
  expected: number,
  document: string,
  key: string | null = null,
): RecordChange => ({
  kind,
  id,
  expected,
  next: { key, document },
});
const remove = (kind: RecordKind, id: string, expected: number): RecordChange => ({
  kind,
  id,
  expected,
  next: null,
});
const refusedWith = (code: string) => (error: unknown) => {
  assert.ok(error instanceof ConflictError);
  assert.equal(error.code, code);
  return true;
};
const ids = (changes: Changes) => changes.records.map(({ kind, id }) => `${kind}/${id}`).toSorted();
const markOf = ({ index, tip }: Mark): Mark => ({ index, tip });

/** Runs the contract on fresh backends. */
export function describeAccessStore(name: string, makeBackend: MakeBackend): void {
  describe(`${name} record store`, () => {
    let codec: Codec;
    let backend: StoreBackend;
    let one: RecordStore;
    let two: RecordStore;

    before(async () => {
      codec = createCodec(createSealer(await readKeks(makeKek())));
    });
    beforeEach(async () => {
      backend = await makeBackend(createFakeClock());
      one = backend.open(codec, "one").access;
      two = backend.open(codec, "two").access;
    });
    afterEach(() => backend.close());

    it("read() returns no records before the first write, complete only without a mark", async () => {
      assert.deepEqual(await one.read(null), {
        ...NOTHING_WRITTEN,
        set: null,
        stopped: null,
        complete: true,
        records: [],
        gone: [],
      });
      assert.deepEqual(await one.read(NOTHING_WRITTEN), {
        ...NOTHING_WRITTEN,
        set: null,
        stopped: null,
        complete: false,
        records: [],
        gone: [],
      });
    });

    it("read() returns records as they were written, whatever their documents contain", async () => {
      const document = JSON.stringify({
        text: 'é\u2028\n"\\ \u0000 {} ',
        long: "x".repeat(100_000),
      });
      const index = await one.write(
        [set("token", "a", 0, document, "key-a"), set("policy", "a", 0, "")],
        "tip-x",
      );
      const read = await two.read(null);
      assert.equal(index, 1);
      assert.deepEqual(
        { ...read, records: read.records.toSorted((a, b) => a.kind.localeCompare(b.kind)) },
        {
          index: 1,
          tip: "tip-x",
          set: null,
          stopped: null,
          complete: true,
          records: [
            {
              kind: "policy",
              id: "a",
              version: 1,
              key: null,
              document: "",
              createIndex: 1,
              modifyIndex: 1,
            },
            {
              kind: "token",
              id: "a",
              version: 1,
              key: "key-a",
              document,
              createIndex: 1,
              modifyIndex: 1,
            },
          ],
          gone: [],
        },
      );
    });

    it("read() returns changes since a mark, each record once in its present form, and deletions", async () => {
      await one.write(
        [
          set("token", "kept", 0, "k"),
          set("token", "changed", 0, "1"),
          set("token", "gone", 0, "g"),
        ],
        newTip(),
      );
      const mark = markOf(await two.read(null));
      await one.write([set("token", "changed", 1, "2")], newTip());
      await one.write([set("token", "changed", 2, "3"), remove("token", "gone", 1)], newTip());
      await one.write([set("token", "passing", 0, "p")], newTip());
      await one.write([remove("token", "passing", 1), set("token", "new", 0, "n")], newTip());
      const changes = await two.read(mark);
      assert.equal(changes.complete, false);
      assert.equal(changes.index, mark.index + 4);
      assert.deepEqual(ids(changes), ["token/changed", "token/new"]);
      assert.deepEqual(changes.gone.map(({ id }) => id).toSorted(), ["gone", "passing"]);
      const changed = changes.records.find(({ id }) => id === "changed");
      assert.deepEqual(changed, {
        kind: "token",
        id: "changed",
        version: 3,
        key: null,
        document: "3",
        createIndex: mark.index,
        modifyIndex: mark.index + 2,
      });
      assert.deepEqual(await two.read(markOf(changes)), {
        ...markOf(changes),
        set: null,
        stopped: null,
        complete: false,
        records: [],
        gone: [],
      });
    });

    it("read() returns everything for a mark that this store never gave", async () => {
      for (let i = 1; i <= 3; i++) await one.write([set("token", `t${i}`, 0, "")], newTip());
      const { index, tip } = await one.read(null);
      for (const mark of [
        { index, tip: "other" },
        { index: index - 1, tip: "other" },
        { index: index + 1, tip: "later" },
        { index: index - 1, tip },
        { index: 0, tip: "other" },
      ]) {
        const changes = await one.read(mark);
        if (changes.complete) assert.deepEqual(ids(changes), ["token/t1", "token/t2", "token/t3"]);
        else assert.equal(mark.tip, tip, JSON.stringify(mark));
      }
    });

    it("read() returns everything for a mark older than the kept changes", async () => {
      await one.write([set("token", "first", 0, ""), set("policy", "p", 0, "0")], newTip());
      const old = markOf(await one.read(null));
      await one.write([remove("token", "first", 1)], newTip());
      const recent = markOf(await one.read(null));
      for (let i = 1; i < CHANGES_KEPT; i++)
        await one.write([set("policy", "p", i, String(i))], newTip());
      const changes = await one.read(recent);
      assert.deepEqual([changes.complete, ids(changes)], [false, ["policy/p"]]);
      const all = await one.read(old);
      assert.deepEqual([all.complete, ids(all), all.gone], [true, ["policy/p"], []]);
    });

    it("write() is refused if a record is not at the expected version, and then writes nothing", async () => {
      await one.write([set("token", "a", 0, "1"), set("token", "b", 0, "1")], newTip());
      const before = await one.read(null);
      for (const wrong of [
        set("token", "a", 0, "x"),
        set("token", "a", 2, "x"),
        remove("token", "a", 2),
        remove("token", "c", 1),
        set("token", "c", 1, "x"),
      ])
        for (const changes of [
          [wrong],
          [set("token", "b", 1, "x"), wrong],
          [wrong, set("token", "new", 0, "x")],
        ])
          await assert.rejects(two.write(changes, newTip()), refusedWith("index_mismatch"));
      assert.deepEqual(await one.read(null), before);
    });

    it("write() keeps the same ids of several kinds apart", async () => {
      await one.write([set("token", "a", 0, "t", "k"), set("policy", "a", 0, "p", "k")], newTip());
      await two.write([remove("token", "a", 1)], newTip());
      assert.deepEqual(ids(await one.read(null)), ["policy/a"]);
    });

    it("write() is refused for a key that another record of the kind has, and then writes nothing", async () => {
      await one.write(
        [set("policy", "a", 0, "", "name-a"), set("policy", "b", 0, "", "name-b")],
        newTip(),
      );
      const before = await one.read(null);
      await assert.rejects(
        two.write([set("token", "t", 0, ""), set("policy", "c", 0, "", "name-a")], newTip()),
        refusedWith("name_taken"),
      );
      await assert.rejects(
        two.write([set("policy", "b", 1, "", "name-a")], newTip()),
        refusedWith("name_taken"),
      );
      assert.deepEqual(await one.read(null), before);
      await two.write([set("policy", "a", 1, "again", "name-a")], newTip());
    });

    it("write() frees the key of a renamed or deleted record", async () => {
      await one.write([set("policy", "a", 0, "", "first")], newTip());
      await one.write([set("policy", "a", 1, "", "second")], newTip());
      await one.write([set("policy", "b", 0, "", "first")], newTip());
      await one.write([remove("policy", "a", 2)], newTip());
      await one.write([set("policy", "c", 0, "", "second")], newTip());
      await one.write([set("policy", "c", 1, "", null)], newTip());
      await one.write([set("policy", "d", 0, "", "second")], newTip());
      await assert.rejects(
        one.write([set("policy", "e", 0, "", "first")], newTip()),
        refusedWith("name_taken"),
      );
    });

    it("write() creates a deleted record again from version 1", async () => {
      await one.write([set("token", "a", 0, "1")], newTip());
      await one.write([set("token", "a", 1, "2")], newTip());
      await one.write([remove("token", "a", 2)], newTip());
      const index = await one.write([set("token", "a", 0, "3")], newTip());
      const [record] = (await two.read(null)).records;
      assert.deepEqual([record?.version, record?.createIndex, record?.document], [1, index, "3"]);
    });

    it("write() succeeds for exactly one of many concurrent writers", async () => {
      const all = Array.from({ length: 8 }, (_, i) => backend.open(codec, `holder ${i}`).access);
      const outcomes = await Promise.allSettled(
        all.map((access, i) =>
          access.write([set("bootstrap", "bootstrap", 0, String(i))], newTip()),
        ),
      );
      assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 1);
      for (const outcome of outcomes)
        if (outcome.status === "rejected") refusedWith("index_mismatch")(outcome.reason);
      assert.equal((await one.read(null)).records.length, 1);
    });

    it("write() gives a record a key that another one releases in the same write, and refuses one key for two records", async () => {
      await one.write(
        [set("policy", "a", 0, "", "ops"), set("policy", "b", 0, "", "dev")],
        newTip(),
      );
      await one.write([set("policy", "c", 0, "", "ops"), remove("policy", "a", 1)], newTip());
      await one.write(
        [set("policy", "c", 1, "", "dev"), set("policy", "b", 1, "", "ops")],
        newTip(),
      );
      assert.deepEqual(
        (await two.read(null)).records.map(({ id, key }) => `${id} ${key}`).toSorted(),
        ["b ops", "c dev"],
      );
      await assert.rejects(
        one.write([set("policy", "c", 2, "", "x"), set("policy", "d", 0, "", "x")], newTip()),
        refusedWith("name_taken"),
      );
      await assert.rejects(
        one.write([set("policy", "c", 2, "", "dev"), set("policy", "d", 0, "", "dev")], newTip()),
        refusedWith("name_taken"),
      );
      await assert.rejects(
        one.write([set("policy", "e", 0, "", "ops")], newTip()),
        refusedWith("name_taken"),
      );
    });

    it("write() replaces the set document with the records if the last write is the expected one", async () => {
      const whole = (at: Mark, document: string, more = {}) => ({
        at,
        index: at.index + 1,
        document,
        resolves: null,
        ...more,
      });
      assert.equal(
        await one.write([set("token", "a", 0, "1")], "first", whole(NOTHING_WRITTEN, "set 1")),
        1,
      );
      const read = await two.read(null);
      assert.deepEqual([read.index, read.tip, read.set, read.stopped], [1, "first", "set 1", null]);
      for (const at of [NOTHING_WRITTEN, { index: 1, tip: "other" }, { index: 2, tip: "first" }])
        await assert.rejects(
          two.write([set("token", "b", 0, "1")], newTip(), whole(at, "set 2")),
          refusedWith("set_moved"),
        );
      // A fault in the records is reported first: repeating the write would not help.
      await assert.rejects(
        two.write([set("token", "a", 0, "x")], newTip(), whole(NOTHING_WRITTEN, "x")),
        refusedWith("index_mismatch"),
      );
      assert.deepEqual(await two.read(null), read);
      assert.equal(await two.write([], "second", whole(markOf(read), "set 2")), 2);
      assert.deepEqual(await one.read(markOf(read)), {
        index: 2,
        tip: "second",
        set: "set 2",
        stopped: null,
        complete: false,
        records: [],
        gone: [],
      });
    });

    it("write() lands at the index it names, above a store that lost writes, and later reads still return changes only", async () => {
      await one.write([set("token", "a", 0, "1")], "first");
      const at = markOf(await one.read(null));
      const jump = { at, index: 7, document: "set 7", resolves: null };
      assert.equal(await one.write([set("token", "b", 0, "1")], "seventh", jump), 7);
      const changes = await two.read(at);
      assert.deepEqual(
        [changes.index, changes.tip, changes.complete, ids(changes)],
        [7, "seventh", false, ["token/b"]],
      );
      assert.equal((await two.read(null)).records.find(({ id }) => id === "b")?.modifyIndex, 7);
      assert.equal(await two.write([set("token", "c", 0, "1")], "eighth"), 8);
      assert.deepEqual(ids(await one.read({ index: 7, tip: "seventh" })), ["token/c"]);
    });

    it("write() without a set document leaves the stored one unchanged, which then does not match the last write", async () => {
      await one.write([], "first", {
        at: NOTHING_WRITTEN,
        index: 1,
        document: "set 1",
        resolves: null,
      });
      await one.write([set("token", "a", 0, "1")], "second");
      const { index, tip, set: document } = await two.read(null);
      assert.deepEqual([index, tip, document], [2, "second", "set 1"]);
    });

    it("write() succeeds for exactly one of many concurrent writers of one set document", async () => {
      const all = Array.from({ length: 8 }, (_, i) => backend.open(codec, `holder ${i}`).access);
      const outcomes = await Promise.allSettled(
        all.map((access, i) =>
          access.write([set("token", String(i), 0, "")], newTip(), {
            at: NOTHING_WRITTEN,
            index: 1,
            document: "set",
            resolves: null,
          }),
        ),
      );
      assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 1);
      for (const outcome of outcomes)
        if (outcome.status === "rejected") refusedWith("set_moved")(outcome.reason);
      assert.equal((await one.read(null)).records.length, 1);
    });

    it("write() replaces all records if asked to, whatever versions and keys were stored", async () => {
      await one.write(
        [
          set("token", "a", 0, "1", "k"),
          set("token", "b", 0, "1"),
          set("policy", "p", 0, "", "ops"),
        ],
        "first",
      );
      await one.stop("mark", "first");
      const all = { at: null, index: 5, document: "set 5", resolves: null };
      await two.write(
        [set("token", "a", 6, "7", "k"), set("policy", "q", 0, "", "ops")],
        "fifth",
        all,
      );
      const read = await one.read({ index: 1, tip: "first" });
      assert.deepEqual(
        [read.index, read.tip, read.set, read.stopped, read.complete],
        [5, "fifth", "set 5", null, true],
      );
      assert.deepEqual(ids(read), ["policy/q", "token/a"]);
      const a = read.records.find(({ id }) => id === "a");
      assert.deepEqual([a?.version, a?.createIndex, a?.modifyIndex, a?.key], [7, 5, 5, "k"]);
      await one.write([set("token", "a", 7, "8", "k"), set("policy", "r", 0, "", "dev")], newTip());
      await assert.rejects(
        one.write([set("policy", "s", 0, "", "ops")], newTip()),
        refusedWith("name_taken"),
      );
    });

    it("stop() refuses writes with a set document until one resolves it", async () => {
      await one.write([], "first", {
        at: NOTHING_WRITTEN,
        index: 1,
        document: "set 1",
        resolves: null,
      });
      await two.stop("not this", "earlier");
      assert.equal((await one.read(null)).stopped, null);
      await two.stop("mark", "first");
      const read = await one.read({ index: 1, tip: "first" });
      assert.deepEqual([read.stopped, read.set], ["mark", "set 1"]);
      const whole = { at: { index: 1, tip: "first" }, index: 2, document: "set 2" };
      const stopped = (error: unknown) =>
        error instanceof StoreError && error.code === "state_regressed";
      for (const resolves of [null, "other"])
        await assert.rejects(one.write([], newTip(), { ...whole, resolves }), stopped);
      await one.write([], "second", { ...whole, resolves: "mark" });
      assert.deepEqual(
        [(await two.read(null)).stopped, (await two.read(null)).set],
        [null, "set 2"],
      );
      await assert.rejects(
        one.write([], newTip(), {
          at: { index: 2, tip: "second" },
          index: 3,
          document: "set 3",
          resolves: "mark",
        }),
        stopped,
      );
    });

    it("claim() is true once for each id, for one of all callers", async () => {
      const asked = await Promise.all(
        [one, two, one, two].map((access) => access.claim("a", TTL, AT_ONCE)),
      );
      assert.equal(asked.filter((first) => first).length, 1);
      assert.equal(await one.claim("b", TTL, AT_ONCE), true);
      assert.equal(await two.claim("b", TTL, AT_ONCE), false);
    });

    it("claim() does not expire before the instant by the caller's clock, which may differ from the store's", async () => {
      const until = new Date(Date.now() + 1000 * 86_400_000);
      assert.equal(await one.claim("a", 1, until), true);
      await one.forgetClaims(new Date(until.getTime() - 1));
      // In Redis a key for earlier versions is stored next to it and expires by Redis's own clock.
      const keyEnded = () => new Promise((resolve) => setTimeout(resolve, 50));
      await keyEnded();
      assert.equal(await two.claim("a", 1, AT_ONCE), false);
      await one.forgetClaims(until);
      await keyEnded();
      assert.equal(await two.claim("a", 1, AT_ONCE), true);
    });

    it("claim() stays claimed after its expiry, until it is forgotten", async () => {
      assert.equal(await one.claim("a", 1, AT_ONCE), true);
      await backend.elapse(50);
      await new Promise((resolve) => setTimeout(resolve, 50));
      assert.equal(await two.claim("a", 1, AT_ONCE), false);
      await one.forgetClaims(new Date(8.64e15));
      assert.equal(await two.claim("a", 1, AT_ONCE), true);
    });

    it("forgetClaims() forgets claims that expired by an instant, and no others", async () => {
      const now = (await backend.open(codec, "clock").store.now()).getTime();
      await one.claim("short", 1, AT_ONCE);
      await one.claim("long", 3_600_000, AT_ONCE);
      // A real store's own clock has to reach the end of the short one.
      await new Promise((resolve) => setTimeout(resolve, 50));
      await one.forgetClaims(new Date(now + 60_000));
      assert.deepEqual(
        [await two.claim("short", 1000, AT_ONCE), await two.claim("long", 1000, AT_ONCE)],
        [true, false],
      );
      await one.forgetClaims(new Date(0));
      assert.deepEqual(
        [await two.claim("short", 1000, AT_ONCE), await two.claim("long", 1000, AT_ONCE)],
        [false, false],
      );
    });

    it("watch() resolves at once if the tip differs", async () => {
      await one.write([set("token", "a", 0, "")], "now");
      await two.watch("before", AbortSignal.timeout(60_000));
      await two.watch("", AbortSignal.timeout(60_000));
    });

    it("watch() resolves after a write by any instance, and not because its signal aborts", async () => {
      await one.write([set("token", "a", 0, "")], "first");
      const signal = AbortSignal.timeout(60_000);
      const watching = [one, two].map((access) => access.watch("first", signal));
      await new Promise((resolve) => setTimeout(resolve, 20));
      await two.write([set("token", "a", 1, "")], "second");
      await Promise.all(watching);
      assert.equal(signal.aborted, false);
      assert.equal((await one.read(null)).tip, "second");
    });

    it("watch() resolves when its signal aborts", async () => {
      const { tip } = await one.read(null);
      const stop = new AbortController();
      const watching = one.watch(tip, stop.signal);
      stop.abort();
      await watching;
      await one.watch(tip, AbortSignal.abort());
    });
  });
}
