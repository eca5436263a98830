/**
 * The workflow of a release, by actionlint: its form, expressions and shell commands. It is not run.
 * @module
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { promisify } from "node:util";
import { builtFolder, sourceHash } from "../fixtures/build-cache.ts";
import { ROOT } from "../fixtures/root.ts";

const SOURCE = join(import.meta.dirname, "actionlint");
const FOLDER = join(ROOT, ".github/workflows");
const GO = {
  ...process.env,
  CGO_ENABLED: "0",
  GOTOOLCHAIN: "local",
  GOFLAGS: "-mod=readonly -buildvcs=false",
};
let actionlint = "";

before(
  async () => {
    const name = `actionlint-${sourceHash("1", SOURCE)}`;
    const folder = await builtFolder("servers", name, async (draft) => {
      const build = [
        "build",
        "-trimpath",
        "-o",
        `${draft}/`,
        "github.com/rhysd/actionlint/cmd/actionlint",
      ];
      await promisify(execFile)("go", build, { cwd: SOURCE, env: GO });
    });
    actionlint = join(folder, "actionlint");
  },
  { timeout: 300_000 },
);

describe("workflows", () => {
  for (const name of readdirSync(FOLDER)) {
    const text = readFileSync(join(FOLDER, name), "utf8");

    it(`${name} is well-formed`, { timeout: 60_000 }, async () => {
      const lint = promisify(execFile)(actionlint, ["-no-color", join(FOLDER, name)]);
      const { stdout } = await lint.catch((error: { stdout: string }) => assert.fail(error.stdout));
      assert.equal(stdout, "");
    });

    it(`${name} pins each action by a commit, and names its version`, () => {
      const uses = text.split("\n").filter((line) => /\buses:/.test(line));
      assert.ok(uses.length > 0);
      for (const line of uses)
        assert.match(line, /uses: [\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
    });

    it(`${name} gives no permission to all jobs, and keeps no credential of the clone`, () => {
      assert.match(text, /^permissions: \{\}$/m);
      const clones = text.match(/uses: actions\/checkout@/g)?.length;
      assert.equal(text.match(/persist-credentials: false/g)?.length, clones);
    });
  }
});
