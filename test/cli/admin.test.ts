/**
 * `meshca deny`, `kek`, `backup` and `conflict` against a real server.
 * @module
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { meshca, meshcaOnTerminal, plain } from "./run.ts";

const TOKEN = "2b9f1c6e-7d4a-4a51-9a0e-3f6d8c1b2a90";
const OPTIONS = { timeout: 120_000 };

describe("commands of an operator", () => {
  let server: ServerProcess;
  let folder: string;
  let environment: Readonly<Record<string, string>>;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "meshca-admin-"));
    server = await startServer({ MESHCA_ACL: "deny", MESHCA_INITIAL_MANAGEMENT_TOKEN: TOKEN });
    environment = { MESHCA_HTTP_ADDR: server.url, MESHCA_HTTP_TOKEN: TOKEN };
  });
  after(async () => {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  const run = (...args: readonly string[]) => meshca(args, environment);

  it("deny adds, lists and removes entries", OPTIONS, async () => {
    assert.equal((await run("deny", "list")).stdout, "Nothing is denied\n");
    const id = `spiffe://${server.trustDomain}/ns/default/dc/dc1/svc/web`;
    const unsure = await run("deny", "add", "-spiffe-id", id);
    assert.deepEqual([unsure.code, unsure.stdout], [64, ""]);
    assert.match(unsure.stderr, /give --yes/);
    const added = await run("deny", "add", "-spiffe-id", id, "-reason", "stolen", "--yes", "-json");
    assert.equal(added.code, 0, added.stderr);
    const { ID } = JSON.parse(added.stdout) as { ID: string };
    const sign = ["sign", "--service", "web", "--key-out", join(folder, "k.pem")];
    const denied = await run(...sign);
    assert.equal(denied.code, 77);
    assert.match(denied.stderr, /denylist/);
    const listed = await run("deny", "list");
    assert.match(listed.stdout, new RegExp(`${ID}.*${id}.*stolen`, "s"));
    const { screen } = await meshcaOnTerminal(["deny", "list"], environment, { columns: 40 });
    assert.match(plain(screen), new RegExp(`ID: +${ID}\\n`));
    const missing = await run("deny", "remove", "none", "--yes");
    assert.deepEqual([missing.code, missing.stderr], [65, 'The denylist has no entry "none"\n']);
    assert.equal((await run("deny", "remove", ID, "--yes")).stdout, `Removed ${ID}\n`);
    assert.equal((await run("deny", "list", "-json")).stdout, "[]\n");
    for (const args of [[], ["-serial", "1", "-key-id", "2"]]) {
      const { code, stderr } = await run("deny", "add", ...args, "--yes");
      assert.deepEqual([code, stderr], [64, "Give one of --spiffe-id, --key-id and --serial\n"]);
    }
  });

  it("kek shows the keys in use, and encrypts again", OPTIONS, async () => {
    for (const name of ["status", "rewrap"]) {
      const { code, stdout, stderr } = await run("kek", name);
      assert.deepEqual([code, stderr], [0, ""]);
      assert.match(stdout, /^current {3}(\S+)\nin use {4}\1\nreplica {3}\S+: \1\n$/);
    }
    const { Current, InUse } = JSON.parse((await run("kek", "status", "--json")).stdout) as {
      Current: string;
      InUse: string[];
    };
    assert.deepEqual(InUse, [Current]);
  });

  it("backup saves a private file, and restores it", OPTIONS, async () => {
    const file = join(folder, "meshca.backup");
    assert.equal((await run("backup", "save", file)).stdout, `Saved ${file}\n`);
    assert.equal(statSync(file).mode & 0o777, 0o600);
    const again = await run("backup", "save", file);
    assert.equal(again.code, 73);
    assert.match(again.stderr, /exists and is not overwritten/);
    const text = readFileSync(file, "utf8");
    assert.equal((await run("backup", "save", "-")).stdout, text);
    const rotated = JSON.parse((await run("rotate", "--yes", "--json")).stdout) as {
      activeRootId: string;
    };
    const asked = await meshcaOnTerminal(["backup", "restore", file], environment, {
      columns: 200,
      type: [["[y/N]", "n\r"]],
    });
    assert.match(plain(asked.screen), new RegExp(`whose active root is ${rotated.activeRootId},`));
    assert.match(plain(asked.screen), /Nothing was changed/);
    const restored = await run("backup", "restore", file, "--yes");
    assert.equal(restored.code, 0, restored.stderr);
    assert.match(restored.stdout, /^Restored; the active root is [0-9a-f:]{59}\n$/);
    assert.ok(!restored.stdout.includes(rotated.activeRootId));
    const bad = await meshca(["backup", "restore", "-", "--yes"], environment, "not a backup");
    assert.equal(bad.code, 65);
    assert.match(bad.stderr, /Cannot read backup/);
  });

  it("conflict says that there is none", OPTIONS, async () => {
    const shown = await run("conflict", "show");
    assert.deepEqual([shown.code, shown.stdout], [0, "There is no conflict\n"]);
    const resolved = await run("conflict", "resolve", "stored", "--yes");
    assert.deepEqual([resolved.code, resolved.stderr], [65, "There is no conflict to resolve\n"]);
    const odd = await run("conflict", "resolve", "both", "--yes");
    assert.deepEqual([odd.code, odd.stderr], [64, '"both" is neither snapshot nor stored\n']);
  });

  it("needs the right", OPTIONS, async () => {
    for (const args of [
      ["deny", "list"],
      ["kek", "status"],
      ["backup", "save", "-"],
      ["conflict", "show"],
    ]) {
      const { code, stderr } = await meshca(args, { MESHCA_HTTP_ADDR: server.url });
      assert.equal(code, 77, args.join(" "));
      assert.match(stderr, /operator:(?:read|write)|Permission denied/);
    }
  });
});
