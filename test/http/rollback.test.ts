/**
 * PUT /v1/connect/ca/rollback: the response, and the status of each refusal.
 * @module
 */
import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import { createTestApp, type TestApp } from "../fixtures/app.ts";

const ROTATE = "/v1/connect/ca/rotate";
const ROLLBACK = "/v1/connect/ca/rollback";
const CONFIGURATION = "/v1/connect/ca/configuration";

interface Outcome {
  readonly ActiveRootID: string;
  readonly ModifyIndex: number;
}

let test: TestApp;

beforeEach(async () => {
  test = await createTestApp();
});

const activeId = () => test.manager.require().active.id;

async function call(target: string, body: unknown, method = "PUT") {
  const init = body === undefined ? { method } : { method, body: JSON.stringify(body) };
  const answer = await test.fetch(target, init);
  return { status: answer.status, text: await answer.text(), headers: answer.headers };
}

/** Rotates. @returns the root that is active then */
async function rotated(more: Record<string, unknown> = {}): Promise<string> {
  const { status, text } = await call(ROTATE, more);
  assert.equal(status, 200, text);
  return (JSON.parse(text) as Outcome).ActiveRootID;
}

/** Expects a refusal, with which nothing changes. */
async function refused(body: unknown, status: number, text: RegExp): Promise<void> {
  const { document } = test.backend;
  const answer = await call(ROLLBACK, body);
  assert.equal(answer.status, status, answer.text);
  assert.match(answer.text, text);
  assert.equal(test.backend.document, document);
}

describe("PUT /v1/connect/ca/rollback", () => {
  it("PUT /v1/connect/ca/rollback answers the active root and the new ModifyIndex, and takes the ID in capitals", async () => {
    const first = activeId();
    const second = await rotated();
    const { status, text, headers } = await call(ROLLBACK, { To: first.toUpperCase() });
    assert.equal(status, 200, text);
    const { ActiveRootID, ModifyIndex } = JSON.parse(text) as Outcome;
    assert.deepEqual([ActiveRootID, activeId()], [first, first]);
    assert.equal(headers.get("X-Meshca-Abandoned-Roots"), null);
    const listing = JSON.parse((await call("/v1/connect/ca/roots", undefined, "GET")).text) as {
      Roots: { ID: string; Active: boolean }[];
    };
    assert.deepEqual(
      new Map(listing.Roots.map(({ ID, Active }) => [ID, Active])),
      new Map([
        [first, true],
        [second, false],
      ]),
    );
    const read = JSON.parse((await call(CONFIGURATION, undefined, "GET")).text) as Outcome;
    assert.equal(read.ModifyIndex, ModifyIndex);
    // What was read changes nothing.
    const { document } = test.backend;
    assert.equal((await call(CONFIGURATION, read)).status, 200);
    assert.equal(test.backend.document, document);
  });

  it("PUT /v1/connect/ca/rollback compares ModifyIndex", async () => {
    const first = activeId();
    await rotated();
    const index = test.manager.require().state.config.modifyIndex;
    await refused({ To: first, ModifyIndex: index - 1 }, 409, /^ModifyIndex did not match/);
    assert.equal((await call(ROLLBACK, { To: first, ModifyIndex: index })).status, 200);
    await refused({ To: first, ModifyIndex: index }, 409, /^ModifyIndex did not match/);
  });

  it("PUT /v1/connect/ca/rollback refuses what is not the ID of a root with 400, and does not repeat it", async () => {
    const form = /^Cannot roll back: To must be the ID of the retired root, 20 octets in hex/;
    for (const To of ["", "first", activeId().slice(3), `${activeId()}:00`])
      await refused({ To }, 400, form);
    await refused({}, 400, form);
    await refused(
      { To: 3 },
      400,
      /cannot unmarshal number into Go struct field .*To of type string/,
    );
    await refused([], 400, /cannot unmarshal array/);
    await refused(undefined, 400, /./);
  });

  it("PUT /v1/connect/ca/rollback answers 404 for a root that is not listed, and 409 for the active and an abandoned one", async () => {
    const first = activeId();
    await refused({ To: Array(20).fill("ab").join(":") }, 404, /is listed/);
    await refused({ To: first }, 409, /is active already$/);
    for (let i = 0; i < 6; i++) {
      test.clock.advance(1000);
      await rotated();
    }
    test.clock.advance(1000);
    await rotated({ ForceWithoutCrossSigning: true });
    await refused({ To: first }, 409, /^Cannot roll back: root \S+ was abandoned by a forced/);
  });
});
