/**
 * `meshca rollback` against a real server: asks, goes back, and says what is refused.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { meshca, meshcaOnTerminal, plain } from "./run.ts";

const OPTIONS = { timeout: 120_000 };
const TOKEN = "11111111-2222-4333-8444-555555555555";

describe("meshca rollback", () => {
  let server: ServerProcess;
  let environment: Record<string, string>;
  before(async () => {
    server = await startServer({
      MESHCA_STORE: "memory:",
      MESHCA_ACL: "deny",
      MESHCA_INITIAL_MANAGEMENT_TOKEN: TOKEN,
    });
    environment = { CONSUL_HTTP_ADDR: server.url, CONSUL_HTTP_TOKEN: TOKEN };
  });
  after(() => server.stop());

  const run = (...args: string[]) => meshca(args, environment);
  const active = async () =>
    (JSON.parse((await run("roots", "--json")).stdout) as { ActiveRootID: string }).ActiveRootID;

  it("asks first, goes back and forth, and prints the outcome", OPTIONS, async () => {
    const first = await active();
    assert.equal((await run("rotate", "--yes")).code, 0);
    const second = await active();
    const silent = await run("rollback", first);
    assert.equal(silent.code, 64);
    assert.match(silent.stderr, /^Cannot ask without a terminal, nothing was changed; give --yes/);
    const no = await meshcaOnTerminal(["rollback", first], environment, {
      columns: 300,
      type: [["[y/N]", "n\r"]],
    });
    assert.equal(no.code, 1, no.screen);
    assert.match(
      plain(no.screen),
      new RegExp(`Go back from the root ${second} of \\S+ to ${first} at ${server.url}\\?`),
    );
    assert.equal(await active(), second);
    const yes = await meshcaOnTerminal(["rollback", first], environment, {
      columns: 300,
      type: [["[y/N]", "y\r"]],
    });
    assert.equal(yes.code, 0, yes.screen);
    assert.match(plain(yes.screen), new RegExp(`The active root is ${first}`));
    assert.equal(await active(), first);
    const json = await run("connect", "ca", "rollback", second, "--yes", "--json");
    assert.equal(json.code, 0, json.stderr);
    const { activeRootId, modifyIndex, abandonedRoots } = JSON.parse(json.stdout) as {
      activeRootId: string;
      modifyIndex: number;
      abandonedRoots: string[];
    };
    assert.deepEqual([activeRootId, abandonedRoots], [second, []]);
    const stale = await run("rollback", first, "--yes", "--modify-index", `${modifyIndex - 1}`);
    assert.equal(stale.code, 75, stale.stderr);
    assert.match(stale.stderr, /ModifyIndex did not match existing/);
    const done = await run("rollback", first, "--yes", "--modify-index", `${modifyIndex}`);
    assert.deepEqual([done.code, done.stdout], [0, `The active root is ${first}\n`]);
  });

  it("says what is refused, with the exit code of the reason", OPTIONS, async () => {
    const present = await active();
    const again = await run("rollback", present, "--yes");
    assert.equal(again.code, 75, again.stderr);
    assert.match(again.stderr, /Cannot roll back: root \S+ is active already/);
    const unknown = await run("rollback", Array(20).fill("ab").join(":"), "--yes");
    assert.notEqual(unknown.code, 0);
    assert.match(unknown.stderr, /Cannot roll back: no root "ab:\S+" is listed/);
    const odd = await run("rollback", "first", "--yes");
    assert.notEqual(odd.code, 0);
    assert.match(odd.stderr, /To must be the ID of the retired root/);
    const missing = await run("rollback", "--yes");
    assert.equal(missing.code, 64);
    const anonymous = await meshca(["rollback", present, "--yes"], {
      CONSUL_HTTP_ADDR: server.url,
    });
    assert.equal(anonymous.code, 77);
    assert.match(anonymous.stderr, /operator:write|Permission denied/);
    assert.equal(await active(), present);
  });
});
