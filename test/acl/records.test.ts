/**
 * The stored form of access control's records: which schema is written, and which are read.
 * @module
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { type AclKey, createAclKey, openAclKey } from "../../src/acl/acl-key.ts";
import { decodeRecord, encodeRecord, RECORD_SCHEMAS } from "../../src/acl/record-codec.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { systemRandom } from "../fakes/clock.ts";
import { CLUSTER } from "./access.ts";

describe("the record codec", () => {
  let key: AclKey;
  before(async () => {
    const sealer = createSealer(await readKeks(makeKek()));
    key = await openAclKey(await createAclKey(sealer, CLUSTER, systemRandom), sealer, CLUSTER);
  });

  const name = { kind: "policy", id: "p", version: 1, key: "ops" } as const;
  const policy = {
    id: "p",
    name: "ops",
    description: "",
    rules: 'operator = "read"',
    datacenters: [],
  };
  const stored = (document: string) => ({ ...name, document, createIndex: 1, modifyIndex: 1 });

  it("reads what it writes in every schema", async () => {
    for (const schema of RECORD_SCHEMAS) {
      const document = await encodeRecord(name, policy, key, schema);
      assert.equal((JSON.parse(document) as { schema: number }).schema, schema);
      assert.deepEqual(await decodeRecord(stored(document), key), policy);
    }
  });

  it("writes the first schema until every replica reads the second", async () => {
    assert.equal(
      (JSON.parse(await encodeRecord(name, policy, key)) as { schema: number }).schema,
      1,
    );
  });

  it("refuses a record whose schema was changed: the MAC covers it", async () => {
    const document = await encodeRecord(name, policy, key, 2);
    for (const schema of ["1", "3", '"2"'])
      assert.equal(
        await decodeRecord(stored(document.replace('"schema":2', `"schema":${schema}`)), key),
        null,
      );
  });
});
