/**
 * The last backup in a file of the data folder, and what is no record of one.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { backupText, FileBackups, readBackupText } from "../../src/store/backups.ts";

describe("the last backup", () => {
  it("is kept in a file, over a restart", async () => {
    let text: string | null = null;
    const file = {
      name: "last-backup.json",
      read: () => text,
      write: async (next: string) => {
        text = next;
      },
    };
    const later = { at: new Date(2000), index: 2, rootId: "bb" };
    await new FileBackups(file).record({ at: new Date(1000), index: 1, rootId: "aa" });
    await new FileBackups(file).record(later);
    await new FileBackups(file).record({ at: new Date(1500), index: 1, rootId: "aa" });
    assert.deepEqual(await new FileBackups(file).last(), later);
    assert.equal(text, '{"at":2000,"index":2,"rootId":"bb"}');
  });

  it("is unknown if the text is not one", () => {
    const text = backupText({ at: new Date(1000), index: 1, rootId: "aa" });
    assert.notEqual(readBackupText(text), null);
    for (const other of ["", "{", "[]", '{"at":"x","index":1,"rootId":"aa"}', '{"at":1}'])
      assert.equal(readBackupText(other), null, other);
  });
});
