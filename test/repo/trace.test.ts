/**
 * How many source files a request enters, which bounds what one has to read to follow it.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { before, describe, it } from "node:test";
import { ROOT } from "../fixtures/root.ts";

/** The most files, by what the tracer calls the request. */
const MOST: readonly (readonly [request: string, files: number])[] = [
  ["A CSR", 25],
  ["A change of LeafCertTTL", 38],
];

let traces: readonly string[];

before(
  () => {
    const printed = execFileSync("node_modules/.bin/node", ["bench/trace.ts"], {
      cwd: ROOT,
      encoding: "utf8",
    });
    traces = printed.trim().split("\n\n");
  },
  { timeout: 60_000 },
);

describe("bench/trace.ts", () => {
  for (const [request, most] of MOST)
    it(`${request} enters at most ${most} files`, () => {
      const trace = traces.find((text) => text.startsWith(`${request} enters `)) ?? "";
      const files = trace.split("\n").slice(1);
      assert.ok(files.length > 10, `No trace of ${request} among ${traces.join("\n\n")}`);
      assert.ok(files.length <= most, `${trace}\nAt most ${most} files are allowed`);
    });
});
