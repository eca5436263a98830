/**
 * Contract of every store of leaf counts, sentence by sentence of src/core/ports/leaf-counts.ts.
 * @module
 */
import assert from "node:assert/strict";
import { afterEach, before, beforeEach, describe, it } from "node:test";
import type { LeafCountStore } from "../../src/core/ports/leaf-counts.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { type Codec, createCodec } from "../../src/store/state-document.ts";
import { createFakeClock } from "../fakes/clock.ts";
import type { MakeBackend, StoreBackend } from "./store.ts";

/** Runs the contract on fresh backends. */
export function describeLeafCounts(name: string, makeBackend: MakeBackend): void {
  describe(`${name} leaf counts`, () => {
    let codec: Codec;
    let backend: StoreBackend;
    let one: LeafCountStore;
    let two: LeafCountStore;

    before(async () => {
      codec = createCodec(createSealer(await readKeks(makeKek())));
    });
    beforeEach(async () => {
      backend = await makeBackend(createFakeClock());
      one = backend.open(codec, "one").leaves;
      two = backend.open(codec, "two").leaves;
    });
    afterEach(() => backend.close());

    it("load() returns an empty text before the first save, and then what any replica saved", async () => {
      assert.equal(await one.load(), "");
      assert.equal(await one.save('{"a":"ä \\u0000 1"}', ""), true);
      assert.equal(await two.load(), '{"a":"ä \\u0000 1"}');
      assert.equal(await two.save("b", '{"a":"ä \\u0000 1"}'), true);
      assert.equal(await one.load(), "b");
    });

    it("save() changes nothing if another text was saved since", async () => {
      assert.equal(await one.save("mine", ""), true);
      assert.equal(await two.save("theirs", ""), false);
      assert.equal(await two.save("theirs", "other"), false);
      assert.equal(await two.load(), "mine");
    });

    it("save() at the same time lets one of the replicas through", async () => {
      const saved = await Promise.all([one, two, one, two].map((each, i) => each.save(`${i}`, "")));
      assert.equal(saved.filter(Boolean).length, 1);
      assert.equal(await one.load(), String(saved.indexOf(true)));
    });

    it("save() leaves the state, its index and its watchers alone", async () => {
      const { store } = backend.open(codec, "three");
      const ended = new AbortController();
      let woken = false;
      const watch = store.watch(null, ended.signal).then(() => {
        woken = !ended.signal.aborted;
      });
      assert.equal(await one.save("mine", ""), true);
      await two.load();
      assert.equal((await store.read()).state, null);
      ended.abort();
      await watch;
      assert.equal(woken, false);
    });
  });
}
