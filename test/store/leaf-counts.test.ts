/**
 * The stored form of leaf counts: what its MAC is bound to, and what is made of other texts.
 * @module
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import type { LeafRecord } from "../../src/core/leaf-record.ts";
import type { Sealer } from "../../src/core/ports/sealer.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { SealedLeafCounts } from "../../src/store/leaf-counts.ts";

const CLUSTER = "cluster";
const RECORD: LeafRecord = {
  since: 7,
  writers: { one: { writes: 3, at: 1_780_000_000_000, isOpen: true } },
  rows: [{ root: "a:b", issuer: "c:d", hours: [[494_444, 2]] }],
};
const ANNOUNCEMENT = { replica: "one", write: 4, rows: RECORD.rows };

describe("SealedLeafCounts", () => {
  let sealer: Sealer;
  const codec = (datacenter: string | null = null, readsUnbound = true) =>
    new SealedLeafCounts({ sealer, datacenter, readsUnbound });
  const kindOf = async (codec: SealedLeafCounts, text: string, clusterId = CLUSTER) =>
    (await codec.decode(text, clusterId)).kind;

  before(async () => {
    sealer = createSealer(await readKeks(makeKek()));
  });

  it("reads what it wrote", async () => {
    const text = await codec().encode(RECORD, CLUSTER);
    assert.deepEqual(await codec().decode(text, CLUSTER), {
      ...{ kind: "record", record: RECORD, isCurrent: true },
    });
    const announced = await codec().encodeAnnouncement(ANNOUNCEMENT, CLUSTER);
    assert.deepEqual(await codec().decodeAnnouncement(announced, CLUSTER), ANNOUNCEMENT);
    assert.equal(await kindOf(codec(), ""), "empty");
  });

  it("is bound to its cluster, its datacenter and its kind", async () => {
    const text = await codec("dc1").encode(RECORD, CLUSTER);
    const announced = await codec("dc1").encodeAnnouncement(ANNOUNCEMENT, CLUSTER);
    assert.equal(await kindOf(codec("dc1"), text), "record");
    for (const [other, cluster] of [
      [codec("dc1"), "other"],
      [codec("dc2"), CLUSTER],
      [codec(), CLUSTER],
    ] as const) {
      assert.equal(await kindOf(other, text, cluster), "unusable");
      assert.equal(await other.decodeAnnouncement(announced, cluster), null);
    }
    assert.equal(await kindOf(codec("dc1"), announced), "unusable");
    assert.equal(await codec("dc1").decodeAnnouncement(text, CLUSTER), null);
  });

  it("goes on with what was written before there were several datacenters, unless it is a secondary", async () => {
    const text = await codec().encode(RECORD, CLUSTER);
    assert.equal(await kindOf(codec("dc1"), text), "record");
    assert.equal(await kindOf(codec("dc2", false), text), "unusable");
  });

  it("names the key-encryption key that it lacks, and says if it is not the current one", async () => {
    const [old, next] = [makeKek(), makeKek()];
    const before = createSealer(await readKeks(old));
    const text = await new SealedLeafCounts({
      ...{ sealer: before, datacenter: null, readsUnbound: true },
    }).encode(RECORD, CLUSTER);
    assert.deepEqual(await codec().decode(text, CLUSTER), {
      ...{ kind: "unknown-key", kek: before.keks[0] },
    });
    const both = createSealer(await readKeks(`${next},${old}`));
    const read = await new SealedLeafCounts({
      ...{ sealer: both, datacenter: null, readsUnbound: true },
    }).decode(text, CLUSTER);
    assert.deepEqual(read, { kind: "record", record: RECORD, isCurrent: false });
  });

  it("takes nothing from another text, and leaves one of a later schema", async () => {
    const sealed = (body: object) => codec().encode(body as LeafRecord, CLUSTER);
    for (const text of [
      "{",
      "null",
      "{}",
      '{"schema":1,"body":"{}","mac":""}',
      '{"schema":0,"body":"{}","mac":"a:b"}',
      await sealed({}),
      await sealed({ ...RECORD, since: -1 }),
      await sealed({ ...RECORD, rows: [{ ...RECORD.rows[0], hours: [[1, 1.5]] }] }),
      await sealed({ ...RECORD, more: 1 }),
    ]) {
      assert.equal(await kindOf(codec(), text), "unusable", text);
      assert.equal(await codec().decodeAnnouncement(text, CLUSTER), null, text);
    }
    assert.equal(await kindOf(codec(), '{"schema":2}'), "newer");
  });
});
