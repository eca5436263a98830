/**
 * `meshca drop-root` against a real server: what it asks, what it sends and what it prints.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { meshca, meshcaOnTerminal, plain } from "./run.ts";

const byText = (a: string, b: string) => (a < b ? -1 : 1);

const OPTIONS = { timeout: 120_000 };

describe("meshca drop-root", () => {
  let server: ServerProcess;
  let environment: Readonly<Record<string, string>>;
  before(async () => {
    server = await startServer();
    environment = { MESHCA_HTTP_ADDR: server.url };
  });
  after(() => server.stop());
  const run = (...args: readonly string[]) => meshca(args, environment);
  const roots = async () =>
    JSON.parse((await run("roots", "--json")).stdout) as {
      readonly ActiveRootID: string;
      readonly Roots: readonly { readonly ID: string }[];
    };
  const rotate = async () =>
    (JSON.parse((await run("rotate", "--yes", "--json")).stdout) as { activeRootId: string })
      .activeRootId;

  it(
    "asks for the ID once more: another answer, Ctrl-C and no terminal change nothing",
    OPTIONS,
    async () => {
      const first = (await roots()).ActiveRootID;
      await rotate();
      const before = await roots();
      const silent = await run("drop-root", first);
      assert.equal(silent.code, 64);
      assert.match(silent.stderr, /nothing was changed; give --yes/);
      for (const [keys, code] of [
        ["y\r", 1],
        [`${first}0\r`, 1],
        ["\u0003", 130],
      ] as const) {
        const no = await meshcaOnTerminal(["drop-root", first], environment, {
          type: [["Type its ID", keys]],
        });
        assert.equal(no.code, code, no.screen);
        assert.match(plain(no.screen), /[Nn]othing was changed/);
      }
      assert.deepEqual(await roots(), before);
      const yes = await meshcaOnTerminal(["drop-root", first], environment, {
        ...{ columns: 200, type: [["Type its ID", `${first}\r`]] },
      });
      assert.equal(yes.code, 0, yes.screen);
      assert.match(plain(yes.screen), new RegExp(`Leaves under the retired root ${first} of`));
      assert.match(plain(yes.screen), new RegExp(`Dropped root ${first}`));
      assert.deepEqual(
        (await roots()).Roots.map(({ ID }) => ID),
        [before.ActiveRootID],
      );
    },
  );

  it(
    "names the roots through which a dropped one is trusted, and drops these too",
    OPTIONS,
    async () => {
      const [first, second] = [(await roots()).ActiveRootID, await rotate()];
      const dropped = await run("connect", "ca", "drop-root", second, "--yes");
      assert.equal(dropped.code, 0, dropped.stderr);
      const lines = dropped.stdout.trimEnd().split("\n");
      assert.equal(lines.length, 4, dropped.stdout);
      assert.equal(lines[0], `Dropped root ${second}`);
      assert.match(
        lines[1] ?? "",
        new RegExp(
          `^Root ${second} is trusted until \\d{4}-\\S+Z by all who trust root ${first}, which certified it$`,
        ),
      );
      assert.equal(lines[3], `The active root is ${first}`);
      const ready = await (await fetch(`${server.url}/readyz`)).text();
      assert.match(
        ready,
        new RegExp(
          `^dropped_root: ${second} is trusted until \\S+ by all who trust root ${first},`,
          "m",
        ),
      );
      const metrics = await (await fetch(`${server.url}/metrics`)).text();
      const seconds = /^meshca_dropped_root_trusted_seconds (\d+)/m.exec(metrics)?.[1];
      assert.ok(Number(seconds) > 3600, String(seconds));

      const refused = await run("drop-root", first, "--yes");
      assert.equal(refused.code, 75);
      assert.match(refused.stderr, /no other root has a key/);
      const json = await run("drop-root", first, "--yes", "--new-root", "--json");
      assert.equal(json.code, 0, json.stderr);
      const outcome = JSON.parse(json.stdout) as Record<string, unknown>;
      const { ActiveRootID, Roots } = await roots();
      assert.deepEqual(
        [outcome.DroppedRootIDs, outcome.TrustedThrough, outcome.Left, outcome.ActiveRootID],
        [[first], [], [], ActiveRootID],
      );
      assert.deepEqual(
        Roots.map(({ ID }) => ID),
        [ActiveRootID],
      );
      const third = await rotate();
      const both = await run("drop-root", third, "--yes", "--also-through", "--json");
      assert.equal(both.code, 0, both.stderr);
      const { DroppedRootIDs } = JSON.parse(both.stdout) as { DroppedRootIDs: string[] };
      assert.deepEqual(DroppedRootIDs.toSorted(byText), [third, ActiveRootID].toSorted(byText));
      assert.doesNotMatch(await (await fetch(`${server.url}/readyz`)).text(), /^dropped_root/m);
    },
  );

  it("refuses another index, an unknown root and several roots", OPTIONS, async () => {
    const before = await roots();
    const id = before.ActiveRootID;
    const stale = await run("drop-root", id, "--yes", "--new-root", "-modify-index", "1");
    assert.equal(stale.code, 75);
    assert.match(stale.stderr, /ModifyIndex did not match existing/);
    const unknown = await run("drop-root", "00:11", "--yes");
    assert.deepEqual([unknown.code, unknown.stderr], [65, 'No root "00:11" is listed\n']);
    for (const args of [[], [id, id]])
      assert.equal((await run("drop-root", ...args, "--yes")).code, 64);
    assert.deepEqual(await roots(), before);
  });
});
