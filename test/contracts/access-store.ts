/**
 * What every implementation of the access store must do, sentence by sentence of src/core/access-store.ts.
 * @module
 */
import assert from "node:assert/strict";
import { afterEach, before, beforeEach, describe, it } from "node:test";
import {
  type AccessStore,
  CHANGES_KEPT,
  type Changes,
  type Mark,
  NOTHING_WRITTEN,
  type RecordChange,
  type RecordKind,
} from "../../src/core/access-store.ts";
import { ConflictError } from "../../src/core/errors.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { type Codec, createCodec } from "../../src/store/codec.ts";
import { createFakeClock } from "../fakes/clock.ts";
import type { MakeBackend, StoreBackend } from "./store.ts";

const TTL = 60_000;
let tips = 0;
const newTip = () => `tip-${++tips}`;

const set = (kind: RecordKind, id: string, expected: number, document: string, key: string | null = null): RecordChange => ({
  kind,
  id,
  expected,
  next: { key, document },
});
const remove = (kind: RecordKind, id: string, expected: number): RecordChange => ({ kind, id, expected, next: null });
const refusedWith = (code: string) => (error: unknown) => {
  assert.ok(error instanceof ConflictError);
  assert.equal(error.code, code);
  return true;
};
const ids = (changes: Changes) => changes.records.map(({ kind, id }) => `${kind}/${id}`).toSorted();
const markOf = ({ index, tip }: Mark): Mark => ({ index, tip });

/** Runs the contract on fresh backends. */
export function describeAccessStore(name: string, makeBackend: MakeBackend): void {
  describe(`${name} access store`, () => {
    let codec: Codec;
    let backend: StoreBackend;
    let one: AccessStore;
    let two: AccessStore;

    before(async () => {
      codec = createCodec(createSealer(await readKeks(makeKek())));
    });
    beforeEach(async () => {
      backend = await makeBackend(createFakeClock());
      one = backend.open(codec, "one").access;
      two = backend.open(codec, "two").access;
    });
    afterEach(() => backend.close());

    it("read() gives nothing, and all of it, before the first write", async () => {
      assert.deepEqual(await one.read(null), { ...NOTHING_WRITTEN, complete: true, records: [], gone: [] });
      assert.deepEqual(await one.read(NOTHING_WRITTEN), { ...NOTHING_WRITTEN, complete: false, records: [], gone: [] });
    });

    it("read() gives records as they were written, whatever is in a document", async () => {
      const document = JSON.stringify({ text: 'é\u2028\n"\\ \u0000 {} ', long: "x".repeat(100_000) });
      const index = await one.write([set("token", "a", 0, document, "key-a"), set("policy", "a", 0, "")], "tip-x");
      const read = await two.read(null);
      assert.equal(index, 1);
      assert.deepEqual(
        { ...read, records: read.records.toSorted((a, b) => a.kind.localeCompare(b.kind)) },
        {
          index: 1,
          tip: "tip-x",
          complete: true,
          records: [
            { kind: "policy", id: "a", version: 1, key: null, document: "", createIndex: 1, modifyIndex: 1 },
            { kind: "token", id: "a", version: 1, key: "key-a", document, createIndex: 1, modifyIndex: 1 },
          ],
          gone: [],
        },
      );
    });

    it("read() gives what changed since a mark, each once and as it is now, and what is gone", async () => {
      await one.write([set("token", "kept", 0, "k"), set("token", "changed", 0, "1"), set("token", "gone", 0, "g")], newTip());
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
      assert.deepEqual(await two.read(markOf(changes)), { ...markOf(changes), complete: false, records: [], gone: [] });
    });

    it("read() gives everything for a mark that is not of this store's past", async () => {
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

    it("read() gives everything where a mark is further back than changes are kept", async () => {
      await one.write([set("token", "first", 0, ""), set("policy", "p", 0, "0")], newTip());
      const old = markOf(await one.read(null));
      await one.write([remove("token", "first", 1)], newTip());
      const recent = markOf(await one.read(null));
      for (let i = 1; i < CHANGES_KEPT; i++) await one.write([set("policy", "p", i, String(i))], newTip());
      const changes = await one.read(recent);
      assert.deepEqual([changes.complete, ids(changes)], [false, ["policy/p"]]);
      const all = await one.read(old);
      assert.deepEqual([all.complete, ids(all), all.gone], [true, ["policy/p"], []]);
    });

    it("write() is refused where a record is not at the expected version, and then nothing of it is written", async () => {
      await one.write([set("token", "a", 0, "1"), set("token", "b", 0, "1")], newTip());
      const before = await one.read(null);
      for (const wrong of [
        set("token", "a", 0, "x"),
        set("token", "a", 2, "x"),
        remove("token", "a", 2),
        remove("token", "c", 1),
        set("token", "c", 1, "x"),
      ])
        for (const changes of [[wrong], [set("token", "b", 1, "x"), wrong], [wrong, set("token", "new", 0, "x")]])
          await assert.rejects(two.write(changes, newTip()), refusedWith("index_mismatch"));
      assert.deepEqual(await one.read(null), before);
    });

    it("write() keeps the same ids of several kinds apart", async () => {
      await one.write([set("token", "a", 0, "t", "k"), set("policy", "a", 0, "p", "k")], newTip());
      await two.write([remove("token", "a", 1)], newTip());
      assert.deepEqual(ids(await one.read(null)), ["policy/a"]);
    });

    it("write() is refused for a key that another record of the kind has, and then nothing of it is written", async () => {
      await one.write([set("policy", "a", 0, "", "name-a"), set("policy", "b", 0, "", "name-b")], newTip());
      const before = await one.read(null);
      await assert.rejects(two.write([set("token", "t", 0, ""), set("policy", "c", 0, "", "name-a")], newTip()), refusedWith("name_taken"));
      await assert.rejects(two.write([set("policy", "b", 1, "", "name-a")], newTip()), refusedWith("name_taken"));
      assert.deepEqual(await one.read(null), before);
      await two.write([set("policy", "a", 1, "again", "name-a")], newTip());
    });

    it("write() frees the key of what is renamed or deleted", async () => {
      await one.write([set("policy", "a", 0, "", "first")], newTip());
      await one.write([set("policy", "a", 1, "", "second")], newTip());
      await one.write([set("policy", "b", 0, "", "first")], newTip());
      await one.write([remove("policy", "a", 2)], newTip());
      await one.write([set("policy", "c", 0, "", "second")], newTip());
      await one.write([set("policy", "c", 1, "", null)], newTip());
      await one.write([set("policy", "d", 0, "", "second")], newTip());
      await assert.rejects(one.write([set("policy", "e", 0, "", "first")], newTip()), refusedWith("name_taken"));
    });

    it("write() begins anew with a record that was deleted", async () => {
      await one.write([set("token", "a", 0, "1")], newTip());
      await one.write([set("token", "a", 1, "2")], newTip());
      await one.write([remove("token", "a", 2)], newTip());
      const index = await one.write([set("token", "a", 0, "3")], newTip());
      const [record] = (await two.read(null)).records;
      assert.deepEqual([record?.version, record?.createIndex, record?.document], [1, index, "3"]);
    });

    it("write() lets one of many that race win, and only one", async () => {
      const all = Array.from({ length: 8 }, (_, i) => backend.open(codec, `holder ${i}`).access);
      const outcomes = await Promise.allSettled(
        all.map((access, i) => access.write([set("bootstrap", "bootstrap", 0, String(i))], newTip())),
      );
      assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 1);
      for (const outcome of outcomes) if (outcome.status === "rejected") refusedWith("index_mismatch")(outcome.reason);
      assert.equal((await one.read(null)).records.length, 1);
    });

    it("claim() is true once for each id, for one of all who ask", async () => {
      const asked = await Promise.all([one, two, one, two].map((access) => access.claim("a", TTL)));
      assert.equal(asked.filter((first) => first).length, 1);
      assert.equal(await one.claim("b", TTL), true);
      assert.equal(await two.claim("b", TTL), false);
    });

    it("claim() is held beyond its end, until it is forgotten", async () => {
      assert.equal(await one.claim("a", 1), true);
      await backend.elapse(50);
      await new Promise((resolve) => setTimeout(resolve, 50));
      assert.equal(await two.claim("a", 1), false);
      await one.forgetClaims(new Date(8.64e15));
      assert.equal(await two.claim("a", 1), true);
    });

    it("forgetClaims() forgets what ended by an instant, and nothing else", async () => {
      const now = (await backend.open(codec, "clock").store.now()).getTime();
      await one.claim("short", 1);
      await one.claim("long", 3_600_000);
      // A real store's own clock has to reach the end of the short one.
      await new Promise((resolve) => setTimeout(resolve, 50));
      await one.forgetClaims(new Date(now + 60_000));
      assert.deepEqual([await two.claim("short", 1000), await two.claim("long", 1000)], [true, false]);
      await one.forgetClaims(new Date(0));
      assert.deepEqual([await two.claim("short", 1000), await two.claim("long", 1000)], [false, false]);
    });

    it("watch() resolves at once where the tip is another one", async () => {
      await one.write([set("token", "a", 0, "")], "now");
      await two.watch("before", AbortSignal.timeout(10_000));
      await two.watch("", AbortSignal.timeout(10_000));
    });

    it("watch() resolves within a second of a write by anybody", async () => {
      await one.write([set("token", "a", 0, "")], "first");
      const signal = AbortSignal.timeout(10_000);
      const watching = [one, two].map((access) => access.watch("first", signal));
      await new Promise((resolve) => setTimeout(resolve, 20));
      const written = performance.now();
      await two.write([set("token", "a", 1, "")], "second");
      await Promise.all(watching);
      assert.ok(performance.now() - written < 1000);
      assert.equal(signal.aborted, false);
      assert.equal((await one.read(null)).tip, "second");
    });

    it("watch() resolves when its signal fires", async () => {
      const { tip } = await one.read(null);
      const stop = new AbortController();
      const watching = one.watch(tip, stop.signal);
      stop.abort();
      await watching;
      await one.watch(tip, AbortSignal.abort());
    });
  });
}
