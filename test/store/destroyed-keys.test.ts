/**
 * A key that a commit dropped is deleted from the file, not only from the state.
 * @module
 */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { openSqlite } from "../../src/store/sqlite/backend.ts";
import { createCodec } from "../../src/store/state-document.ts";
import { confirmOver, createCa } from "../fakes/ca.ts";
import { createFakeClock } from "../fakes/clock.ts";

describe("a pruned root's key", () => {
  it("commit() removes it from the database file and its log", async () => {
    const folder = mkdtempSync(join(tmpdir(), "meshca-"));
    const path = join(folder, "meshca.db");
    const clock = createFakeClock();
    const sealer = createSealer(await readKeks(makeKek()));
    const backend = openSqlite(path, clock);
    const manager = createCa({ ...backend.open(createCodec(sealer), "one"), sealer, clock });
    const holds = (text: string) =>
      [path, `${path}-wal`].some(
        (file) => existsSync(file) && readFileSync(file, "latin1").includes(text),
      );
    try {
      await manager.tick();
      const sealed = manager.require().state.provider.active.key ?? "";
      const secret = sealed.split(":")[4] ?? "";
      assert.ok(secret.length > 100 && holds(secret));
      await manager.rotate({ forceWithoutCrossSigning: false, modifyIndex: null });
      assert.ok(holds(secret));
      clock.advance(2 * 72 * 3_600_000 + 1);
      await confirmOver({ manager, clock });
      assert.equal((await manager.tick()).kind, "prune");
      assert.equal(holds(secret), false);
      await manager.close();
    } finally {
      backend.close();
      assert.equal(readFileSync(path, "latin1").includes("BEGIN"), false);
      rmSync(folder, { recursive: true });
    }
  });
});
