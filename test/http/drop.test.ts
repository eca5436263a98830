/**
 * DELETE /v1/connect/ca/roots/:id: its body, its answer, and what it refuses.
 * @module
 */
import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import { createTestApp, type TestApp } from "../fixtures/app.ts";

const ROOTS = "/v1/connect/ca/roots";

interface Listing {
  readonly ActiveRootID: string;
  readonly Roots: readonly { readonly ID: string }[];
  readonly Dropped?: readonly {
    readonly ID: string;
    readonly KeyID: string;
    readonly NotAfter: string;
  }[];
}

describe("DELETE /v1/connect/ca/roots/:id", () => {
  let test: TestApp;
  let first: string;
  let second: string;
  beforeEach(async () => {
    test = await createTestApp();
    first = (await listing()).ActiveRootID;
    await test.fetch("/v1/connect/ca/rotate", { method: "PUT" });
    second = (await listing()).ActiveRootID;
  });
  const listing = async () => (await (await test.fetch(ROOTS)).json()) as Listing;
  const drop = async (id: string, body: unknown) => {
    const answer = await test.fetch(`${ROOTS}/${id}`, {
      ...{ method: "DELETE", body: JSON.stringify(body) },
    });
    return { status: answer.status, text: await answer.text() };
  };

  it("answers what was dropped, who still trusts it, and the index; the listing has it as dropped", async () => {
    const { notAfter } = test.manager.require().active.certificate;
    const { status, text } = await drop(second, { ID: second });
    assert.equal(status, 200, text);
    const [trust] = test.manager.status.trustOfDropped;
    const until = trust?.until.toISOString().replace(".000Z", "Z");
    assert.deepEqual(JSON.parse(text), {
      ActiveRootID: first,
      ModifyIndex: test.manager.require().state.config.modifyIndex,
      DroppedRootIDs: [second],
      TrustedThrough: [{ DroppedRootID: second, RootID: first, Until: until }],
      Left: [],
    });
    const { Roots, Dropped } = await listing();
    assert.deepEqual(
      Roots.map(({ ID }) => ID),
      [first],
    );
    const [record] = test.manager.require().state.dropped;
    assert.deepEqual(Dropped, [
      { ID: second, KeyID: record?.keyId, NotAfter: notAfter.toISOString().replace(".000Z", "Z") },
    ]);
  });

  it("a path with the colons of the ID encoded is the same", async () => {
    const { status } = await drop(encodeURIComponent(first), { ID: first });
    assert.equal(status, 200);
  });

  for (const [what, body, status, text] of [
    [
      "no body",
      undefined,
      400,
      /^Cannot drop a root: ID of the body must be that of the path, .*missing$/,
    ],
    ["another ID in the body", { ID: "00:11" }, 400, /must be that of the path.*"00:11"$/],
    ["another index", { ModifyIndex: 99 }, 409, /^ModifyIndex did not match existing$/],
    ["a field of another type", { NewRoot: "yes" }, 400, /NewRoot/],
  ] as const)
    it(`${what} is refused with ${status}, and changes nothing`, async () => {
      const before = test.backend.document;
      const sent = body === undefined ? {} : { ID: first, ...body };
      const refused = await drop(first, sent);
      assert.equal(refused.status, status, refused.text);
      assert.match(refused.text, text);
      assert.equal(test.backend.document, before);
    });

  it("an unknown root is 404, and the last usable one without NewRoot 409", async () => {
    await drop(first, { ID: first });
    const before = test.backend.document;
    const again = await drop(first, { ID: first });
    assert.deepEqual(
      [again.status, again.text],
      [404, `Cannot drop a root: no root ${JSON.stringify(first)} is listed`],
    );
    const last = await drop(second, { ID: second });
    assert.equal(last.status, 409);
    assert.match(last.text, /no other root has a key/);
    assert.equal(test.backend.document, before);
    assert.equal((await drop(second, { ID: second, NewRoot: true })).status, 200);
  });
});
