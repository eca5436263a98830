/**
 * docs/recovery.md shows what its commands print: bun test/docs/recovery-page.ts writes it.
 * @module
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { BUILD_MS, noOwnVault } from "../vault/server.ts";
import { outputs, outputsOnPage, withoutValues } from "./recovery-page.ts";

describe("docs/recovery.md, whose outputs bun test/docs/recovery-page.ts writes", () => {
  let made: ReadonlyMap<string, string>;
  const page = outputsOnPage();
  // It builds Vault if no test did before.
  before(
    async () => {
      made = await outputs();
    },
    { timeout: BUILD_MS },
  );

  it("has every output, and no other", () => {
    const names = [...made.keys(), ...(noOwnVault === false ? [] : ["vault"])];
    assert.deepEqual(new Set(page.keys()), new Set(names));
  });

  for (const [name, text] of page)
    it(`has the output ${name} as it is printed`, {
      skip: name === "vault" && noOwnVault,
    }, () => {
      assert.equal(withoutValues(text), withoutValues(made.get(name) ?? ""));
    });
});
