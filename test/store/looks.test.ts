/**
 * Looks at the clock in a file: as they are stored, and while the file cannot be used.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Log } from "../../src/core/ports/log.ts";
import type { PersistentFile } from "../../src/core/ports/persistent-file.ts";
import { FileLooks } from "../../src/store/looks.ts";

const LOOKS = [{ reached: 1000, since: 2000 }];

/** A file, and what was logged about it. */
function setup(text: string | null = null) {
  const file = { text, fails: false };
  const lines: string[] = [];
  const fail = () => {
    if (file.fails) throw new Error("EROFS");
  };
  const kept: PersistentFile = {
    name: "/data/looks-sqlite.json",
    read() {
      fail();
      return file.text;
    },
    async write(next) {
      fail();
      file.text = next;
    },
  };
  const log: Log = { debug() {}, info() {}, warn: (message) => lines.push(message), error() {} };
  return { file, lines, open: () => new FileLooks(kept, log) };
}

describe("FileLooks", () => {
  it("FileLooks continues with the looks that an earlier process saved", async () => {
    const { file, open } = setup();
    const before = open();
    assert.equal(await before.save(LOOKS, (await before.load()).version), true);
    assert.equal(file.text, "[[1000,2000]]");
    assert.deepEqual((await open().load()).looks, LOOKS);
  });

  for (const text of [
    "",
    "{",
    "null",
    "[1]",
    "[[1]]",
    '[["1",2]]',
    "[[1,null]]",
    "[[2,2],[1,3]]",
    "[[1,3],[2,3]]",
    "[[1e999,1]]",
  ])
    it(`load() takes no looks from ${JSON.stringify(text)}, and save() replaces it`, async () => {
      const { open } = setup(text);
      const looks = open();
      const { version, ...read } = await looks.load();
      assert.deepEqual(read.looks, []);
      assert.equal(await looks.save(LOOKS, version), true);
      assert.deepEqual((await looks.load()).looks, LOOKS);
    });

  it("load() takes no more looks than are ever kept", async () => {
    const { open } = setup(JSON.stringify(Array.from({ length: 65 }, (_, i) => [i, i])));
    assert.deepEqual((await open().load()).looks, []);
  });

  it("save() changes nothing if another worker of the server saved since", async () => {
    const { file, open } = setup();
    const [one, two] = [open(), open()];
    const stale = await two.load();
    assert.equal(await one.save(LOOKS, (await one.load()).version), true);
    assert.equal(await two.save([], stale.version), false);
    assert.equal(file.text, "[[1000,2000]]");
  });

  it("save() remembers in memory while the file cannot be used, says so once, and writes again when it can", async () => {
    const { file, lines, open } = setup();
    const looks = open();
    file.fails = true;
    for (let i = 1; i <= 3; i++) {
      const { version } = await looks.load();
      assert.equal(await looks.save([{ reached: i, since: i }], version), true);
    }
    assert.deepEqual((await looks.load()).looks, [{ reached: 3, since: 3 }]);
    assert.equal(lines.length, 1);
    file.fails = false;
    assert.equal(await looks.save(LOOKS, (await looks.load()).version), true);
    assert.equal(file.text, "[[1000,2000]]");
  });
});
