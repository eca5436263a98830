/**
 * PUT /v1/connect/ca/promote: who may call it, which bodies and backups it refuses, each with its
 * reason and without a change; and what the audit log has of it.
 * @module
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import type { Audit, AuditRecord } from "../../src/core/ports/audit.ts";
import { createTestCa } from "../fakes/ca.ts";
import { type Guarded, guarded } from "../fixtures/guarded.ts";

const PROMOTE = "/v1/connect/ca/promote";

describe("PUT /v1/connect/ca/promote", () => {
  const records: AuditRecord[] = [];
  let test: Guarded;
  before(async () => {
    const audit: Audit = {
      beforeChange: async (record) => void records.push(record),
      record: (record) => void records.push(record),
      refusal: () => undefined,
      failure: null,
      stopsSigning: false,
      stopsChanges: false,
      lost: 0,
      reserveLeft: null,
    };
    test = await guarded(await createTestCa({ hasDatacenters: true, audit }));
    records.length = 0;
  });

  async function requireRefused(
    body: unknown,
    status: number,
    reason: RegExp,
    secret = test.management,
  ): Promise<void> {
    const { document } = test.backend;
    const answer = await test.call("PUT", PROMOTE, body, secret);
    assert.equal(answer.status, status, answer.text);
    assert.match(answer.text, reason);
    assert.equal(test.backend.document, document);
    assert.deepEqual(records, []);
  }

  it("is refused without operator:write, before its body counts", async () => {
    const { id } = await test.access.addPolicy('operator = "read" intermediate = "write"');
    const { secret } = await test.access.addToken({ policies: [id] });
    const text = await test.options.codec.encode(test.manager.require().state);
    for (const body of [{}, { Backup: text }, { NewRoot: true, Soak: "x" }, "not JSON"])
      await requireRefused(body, 403, /^Permission denied/, secret);
  });

  it("is refused with a body that is malformed, names two roots, or a soak out of range", async () => {
    for (const [body, reason] of [
      ["not JSON", /JSON|decod/i],
      [{ NewRoot: true, Backup: "x" }, /^Cannot promote: Backup and NewRoot are both given/],
      [{ Soak: "10m" }, /^Cannot promote: Soak is given without NewRoot/],
      [{ NewRoot: true, Soak: "169h" }, /^Cannot promote: Soak must be a duration from 0 to 168h/],
      [{ NewRoot: true, Soak: "-1s" }, /^Cannot promote: Soak must be a duration from 0 to 168h/],
    ] as const)
      await requireRefused(body, 400, reason);
  });

  it("is refused with a backup that is changed, of a later version, or too large", async () => {
    const text = await test.options.codec.encode(test.manager.require().state);
    const document = JSON.parse(text) as Record<string, unknown>;
    for (const [backup, reason] of [
      ["", /^Cannot read backup: .* its document is not JSON$/],
      [JSON.stringify({ ...document, index: 99 }), /the MAC of its document is invalid$/],
      [JSON.stringify({ ...document, schema: 99 }), /it has schema 99/],
    ] as const)
      await requireRefused({ Backup: backup }, 400, reason);
    await requireRefused({ Backup: "x".repeat(64 * 1024 * 1024) }, 413, /./);
  });

  it("is refused if the configuration was changed since", async () => {
    await requireRefused({ ModifyIndex: 99 }, 409, /ModifyIndex/);
  });

  it("is recorded with its caller", async () => {
    const { status, text } = await test.call("PUT", PROMOTE, {});
    assert.equal(status, 200, text);
    const { active, state } = test.manager.require();
    assert.equal(state.promotions, 1);
    assert.deepEqual(
      records.map(({ action, subject, outcome }) => ({ action, subject, outcome })),
      [{ action: "promote", subject: active.id, outcome: "allowed" }],
    );
    assert.notEqual(records[0]?.caller.accessor, null);
  });
});
