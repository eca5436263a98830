/**
 * The set document of access control: what its MAC covers, and which sets are successors of
 * another.
 * @module
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { type AclKey, createAclKey, openAclKey } from "../../src/acl/acl-key.ts";
import {
  ancestorsOf,
  changedDigest,
  decodeSet,
  decodeStop,
  elementOf,
  encodeSet,
  encodeStop,
  MAX_ANCESTORS,
  type RecordSet,
  setRegression,
} from "../../src/acl/record-set.ts";
import type { Mark, StoredRecord } from "../../src/core/ports/record-store.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { systemRandom } from "../fakes/clock.ts";

const CLUSTER = "11111111-2222-3333-4444-555555555555";
const RECORD: StoredRecord = {
  kind: "policy",
  id: "p",
  version: 1,
  key: "name",
  document: "text",
  createIndex: 1,
  modifyIndex: 1,
};
const SET: RecordSet = { index: 3, tip: "c", ancestors: [{ index: 2, tip: "b" }] };

let key: AclKey;
let other: AclKey;
before(async () => {
  const sealer = createSealer(await readKeks(makeKek()));
  const make = async () =>
    openAclKey(await createAclKey(sealer, CLUSTER, systemRandom), sealer, CLUSTER);
  [key, other] = [await make(), await make()];
});

describe("elementOf()", () => {
  const changes: readonly Partial<StoredRecord>[] = [
    { kind: "token" },
    { id: "q" },
    { version: 2 },
    { key: "other" },
    { key: null },
    { document: "texts" },
    { createIndex: 2 },
    { modifyIndex: 2 },
  ];
  for (const change of changes)
    it(`elementOf() differs for ${JSON.stringify(change)}`, async () => {
      const [one, two] = [
        await elementOf(RECORD, key),
        await elementOf({ ...RECORD, ...change }, key),
      ];
      assert.notEqual(one, two);
      assert.equal(one, await elementOf({ ...RECORD }, key));
    });

  it("elementOf() differs under another key", async () =>
    assert.notEqual(await elementOf(RECORD, key), await elementOf(RECORD, other)));
});

describe("changedDigest()", () => {
  it("changedDigest() does not depend on the order of changes, and is never negative", () => {
    const digest = changedDigest(changedDigest(0n, [], [5n, 7n]), [5n], [1n << 255n, 1n << 255n]);
    assert.equal(digest, 7n);
    assert.equal(changedDigest(0n, [1n], [1n]), 0n);
    assert.equal(changedDigest(0n, [1n], []), (1n << 256n) - 1n);
  });
});

describe("decodeSet()", () => {
  it("decodeSet() is authentic only for the same digest, key, write and ancestors", async () => {
    const document = await encodeSet(SET, 42n, key);
    assert.deepEqual(await decodeSet(document, 42n, key), { set: SET, authentic: true });
    const authentic = async (text: string, digest = 42n, by = key) =>
      (await decodeSet(text, digest, by))?.authentic;
    assert.equal(await authentic(document, 43n), false);
    assert.equal(await authentic(document, 42n, other), false);
    const fields = JSON.parse(document) as Record<string, unknown>;
    for (const change of [
      { index: 4 },
      { tip: "d" },
      { ancestors: [] },
      { ancestors: [{ index: 2, tip: "x" }] },
      { mac: "" },
    ])
      assert.equal(
        await authentic(JSON.stringify({ ...fields, ...change })),
        false,
        JSON.stringify(change),
      );
  });

  for (const text of [
    "",
    "{}",
    "null",
    '{"schema":2,"index":1,"tip":"a","ancestors":[],"mac":""}',
    '{"schema":1,"index":-1}',
  ])
    it(`decodeSet() returns null for the malformed ${JSON.stringify(text)}`, async () =>
      assert.equal(await decodeSet(text, 0n, key), null));
});

describe("decodeStop()", () => {
  it("decodeStop() returns a stop mark with a valid MAC, and null for a changed one", async () => {
    const stop = { index: 3, tip: "c", reason: "lost", by: "one", at: new Date(1_780_000_000_000) };
    const document = await encodeStop(stop, key);
    assert.deepEqual(await decodeStop(document, key), stop);
    assert.equal(await decodeStop(document, other), null);
    const fields = JSON.parse(document) as Record<string, unknown>;
    for (const change of [
      { index: 9 },
      { tip: "d" },
      { reason: "x" },
      { by: "two" },
      { at: 1 },
      { mac: "x" },
    ])
      assert.equal(
        await decodeStop(JSON.stringify({ ...fields, ...change }), key),
        null,
        JSON.stringify(change),
      );
  });
});

describe("setRegression()", () => {
  const mark = (index: number, tip: string): Mark => ({ index, tip });
  const cases: readonly (readonly [string, RecordSet, Mark | null, RegExp | null])[] = [
    ["nothing was seen", SET, null, null],
    ["the same write was seen", SET, mark(3, "c"), null],
    ["the write before was seen", SET, mark(2, "b"), null],
    [
      "more was written since than is named",
      { ...SET, index: 90, ancestors: [mark(89, "y")] },
      mark(3, "c"),
      null,
    ],
    ["the set is older", SET, mark(4, "d"), /^the stored ACL is at index 3, but index 4 was seen$/],
    [
      "another write has the index",
      SET,
      mark(3, "x"),
      /^the stored set has another write at index 3 than the one that was seen$/,
    ],
    [
      "another write came before",
      SET,
      mark(2, "x"),
      /^the stored set at index 3 has another ancestor at index 2 than the write that was seen$/,
    ],
    [
      "the index that was seen is left out",
      { ...SET, index: 9, ancestors: [mark(8, "h"), mark(2, "b")] },
      mark(5, "e"),
      /^the write at index 5 that was seen is not an ancestor of the stored set at index 9$/,
    ],
  ];
  for (const [what, set, seen, lost] of cases)
    it(`setRegression() ${lost === null ? "returns null" : "returns what was lost"} if ${what}`, () => {
      const found = setRegression(set, seen);
      if (lost === null) assert.equal(found, null);
      else assert.match(found ?? "", lost);
    });
});

describe("ancestorsOf()", () => {
  it("ancestorsOf() returns each write once, the latest first, up to the limit", () => {
    const marks = Array.from({ length: MAX_ANCESTORS + 10 }, (_, i) => ({
      index: i,
      tip: `t${i}`,
    }));
    const named = ancestorsOf(...marks, ...marks);
    assert.equal(named.length, MAX_ANCESTORS);
    assert.deepEqual(named[0], marks.at(-1));
    assert.ok(named.every(({ index }, i) => i === 0 || index < (named[i - 1]?.index ?? 0)));
  });
});
