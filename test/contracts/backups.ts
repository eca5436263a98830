/**
 * Contract of every store of the last backup, sentence by sentence of src/core/ports/backups.ts.
 * @module
 */
import assert from "node:assert/strict";
import { afterEach, before, beforeEach, describe, it } from "node:test";
import type { BackupLog } from "../../src/core/ports/backups.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { type Codec, createCodec } from "../../src/store/state-document.ts";
import { createFakeClock } from "../fakes/clock.ts";
import type { MakeBackend, StoreBackend } from "./store.ts";

const backupAt = (ms: number, index: number) => ({ at: new Date(ms), index, rootId: "aa:bb" });

/** Runs the contract on fresh backends. */
export function describeBackups(name: string, makeBackend: MakeBackend): void {
  describe(`${name} backups`, () => {
    let codec: Codec;
    let backend: StoreBackend;
    let one: BackupLog;
    let two: BackupLog;

    before(async () => {
      codec = createCodec(createSealer(await readKeks(makeKek())));
    });
    beforeEach(async () => {
      backend = await makeBackend(createFakeClock());
      one = backend.open(codec, "one").backups;
      two = backend.open(codec, "two").backups;
    });
    afterEach(() => backend.close());

    it("last() is null before the first backup, and then the one that any replica recorded", async () => {
      assert.equal(await one.last(), null);
      await one.record(backupAt(1_780_000_000_123, 7));
      assert.deepEqual(await two.last(), backupAt(1_780_000_000_123, 7));
      await two.record(backupAt(1_780_000_001_000, 8));
      assert.deepEqual(await one.last(), backupAt(1_780_000_001_000, 8));
    });

    it("an earlier backup than the recorded one changes nothing", async () => {
      await one.record(backupAt(1_780_000_001_000, 8));
      await two.record(backupAt(1_780_000_000_000, 7));
      assert.deepEqual(await one.last(), backupAt(1_780_000_001_000, 8));
    });
  });
}
