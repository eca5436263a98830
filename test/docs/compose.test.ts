/**
 * compose.yaml is read by Compose, which refuses a mapping with a key twice, as YAML 1.2 section
 * 3.2.1.3 has it.
 * @module
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";

const FILE = readFileSync(new URL("../../compose.yaml", import.meta.url), "utf8");

/** Keys that a block mapping has twice, each with the number of its line. */
function duplicateKeys(yaml: string): string[] {
  const duplicates: string[] = [];
  /** The keys of the mappings that are open, from the outermost one, by their indentation. */
  const open: { readonly indent: number; readonly keys: Set<string> }[] = [];
  for (const [at, line] of yaml.split("\n").entries()) {
    const [, blanks, key] = /^( *)([\w<-]+):(?: |$)/.exec(line) ?? [];
    if (blanks === undefined || key === undefined) continue;
    while ((open.at(-1)?.indent ?? -1) > blanks.length) open.pop();
    if (open.at(-1)?.indent !== blanks.length)
      open.push({ indent: blanks.length, keys: new Set() });
    const { keys } = open.at(-1) ?? { keys: new Set<string>() };
    if (keys.has(key)) duplicates.push(`${at + 1}: ${key}`);
    keys.add(key);
  }
  return duplicates;
}

describe("compose.yaml", () => {
  it("has no key twice in a mapping, which Compose refuses", () => {
    assert.deepEqual(duplicateKeys("a:\n  b: 1\nc:\n  b: 1\n"), []);
    assert.deepEqual(duplicateKeys("a:\n  b: 1\n  c:\n    d: 1\n  b: 2\n"), ["5: b"]);
    assert.deepEqual(duplicateKeys(FILE), []);
  });

  it("gives each replica its own name, data folder and port", () => {
    for (const n of [1, 2, 3]) {
      const replica = FILE.split(`  replica-${n}:\n`)[1]?.split(/\n {2}\S/)[0] ?? "";
      assert.match(replica, new RegExp(`MESHCA_ADVERTISE: replica-${n}:8500`));
      assert.match(replica, new RegExp(`"replica-${n}:/data"`));
      assert.match(replica, new RegExp(`"127\\.0\\.0\\.1:850${n}:8500"`));
    }
  });
});
