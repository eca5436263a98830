/**
 * Contract of every store of looks at the clock, sentence by sentence of src/core/ports/looks.ts.
 * @module
 */
import assert from "node:assert/strict";
import { afterEach, before, beforeEach, describe, it } from "node:test";
import type { LookStore } from "../../src/core/ports/looks.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { type Codec, createCodec } from "../../src/store/state-document.ts";
import { createFakeClock } from "../fakes/clock.ts";
import type { MakeBackend, StoreBackend } from "./store.ts";

const LOOKS = [
  { reached: 1_780_000_000_000, since: 1_780_000_000_123 },
  { reached: 1_780_000_001_000.5, since: 1_780_000_002_000 },
];

/** Runs the contract on fresh backends. */
export function describeLooks(name: string, makeBackend: MakeBackend): void {
  describe(`${name} looks`, () => {
    let codec: Codec;
    let backend: StoreBackend;
    let one: LookStore;
    let two: LookStore;

    before(async () => {
      codec = createCodec(createSealer(await readKeks(makeKek())));
    });
    beforeEach(async () => {
      backend = await makeBackend(createFakeClock());
      one = backend.open(codec, "one").looks;
      two = backend.open(codec, "two").looks;
    });
    afterEach(() => backend.close());

    it("load() returns no looks before the first save, and then the looks that any replica saved", async () => {
      const before = await one.load();
      assert.deepEqual(before.looks, []);
      assert.equal(await one.save(LOOKS, before.version), true);
      assert.deepEqual((await two.load()).looks, LOOKS);
      assert.equal(await two.save([], (await two.load()).version), true);
      assert.deepEqual((await one.load()).looks, []);
    });

    it("save() changes nothing if other looks were saved since", async () => {
      const [mine, theirs] = [await one.load(), await two.load()];
      assert.equal(await one.save(LOOKS, mine.version), true);
      assert.equal(await two.save([], theirs.version), false);
      assert.deepEqual((await two.load()).looks, LOOKS);
    });
  });
}
