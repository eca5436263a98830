/**
 * Which runtimes meshca starts on, and its error on the others.
 * @module
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, it } from "node:test";
import { runtimeOf } from "../../src/entry/runtime.ts";
import { ROOT } from "../fixtures/root.ts";

describe("runtimeOf", () => {
  it("runtimeOf() recognizes Bun, Deno and Node by their versions", () => {
    assert.equal(runtimeOf({ bun: "1.3.0", node: "24.3.0" }), "bun");
    assert.equal(runtimeOf({ deno: "2.9.0", node: "24.2.0" }), "deno");
    assert.equal(runtimeOf({ node: "24.0.0" }), "node");
    assert.equal(runtimeOf({ node: "26.1.0" }), "node");
  });

  for (const [versions, message] of [
    [
      { bun: "1.2.99", node: "24.3.0" },
      "Cannot run on Bun 1.2.99: it must be Bun 1.3 or newer; npm start brings Bun 1.4.5",
    ],
    [
      { deno: "2.8.3", node: "24.2.0" },
      "Cannot run on Deno 2.8.3: it must be Deno 2.9 or newer; npm run start:deno brings Deno 2.9.6",
    ],
    [
      { node: "22.19.0" },
      "Cannot run on Node 22.19.0: it must be Node 24.0 or newer; npm run start:node brings Node 24.21.0",
    ],
  ] as const)
    it(`runtimeOf() refuses ${message.slice("Cannot run on ".length, message.indexOf(":"))}, and names the way to get a newer one`, () => {
      assert.throws(() => runtimeOf(versions), { name: "ConfigError", message });
    });

  it("meshca on a Node that does not run TypeScript exits with 78 and an error", () => {
    const { status, stdout, stderr } = spawnSync(
      "node_modules/.bin/node",
      ["--no-strip-types", "bin/meshca-node.mjs", "serve"],
      {
        cwd: ROOT,
        encoding: "utf8",
      },
    );
    assert.deepEqual([status, stdout], [78, ""]);
    assert.match(
      stderr,
      /^Cannot run on Node 24\.\d+\.\d+: it must be Node 24\.0 or newer; npm run start:node brings Node 24\.21\.0\n$/,
    );
  });

  it("the error names the installed version", async () => {
    const { default: manifest } = await import("../../package.json", { with: { type: "json" } });
    const { default: runtime } = await import("../../bin/runtime/package.json", {
      with: { type: "json" },
    });
    const { node, deno } = manifest.devDependencies;
    for (const versions of [{ bun: "0" }, { deno: "0" }, { node: "0" }])
      assert.throws(
        () => runtimeOf(versions),
        (error: Error) =>
          error.message.endsWith(
            `${"bun" in versions ? runtime.dependencies.bun : "deno" in versions ? deno : node}`,
          ),
      );
  });
});
