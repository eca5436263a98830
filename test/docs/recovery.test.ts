/**
 * docs/recovery.md shows what its commands print: bun test/docs/recovery-page.ts writes it.
 * @module
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { outputs, outputsOnPage, withoutValues } from "./recovery-page.ts";

describe("docs/recovery.md", () => {
  let made: ReadonlyMap<string, string>;
  const page = outputsOnPage();
  before(async () => {
    made = await outputs();
  });

  it("has every output, and no other", () => {
    assert.deepEqual(new Set(page.keys()), new Set(made.keys()));
  });

  for (const [name, text] of page)
    it(`has the output ${name} as it is printed`, () => {
      assert.equal(withoutValues(text), withoutValues(made.get(name) ?? ""));
    });
});
