/**
 * The table of verifiers in docs/rotation.md.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { verifiersPage } from "./verifiers-page.ts";

describe("docs/rotation.md", () => {
  it("has the limits of verifiers as they are: bun test/docs/verifiers-page.ts writes it", () => {
    const { is, must } = verifiersPage();
    assert.equal(is, must);
  });
});
