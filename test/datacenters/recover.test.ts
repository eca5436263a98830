/**
 * `meshca recover` with several datacenters: a secondary names the primary, and follows its new root.
 * @module
 */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { meshca } from "../cli/run.ts";
import { makeDataDir, type ServerProcess } from "../fixtures/process.ts";
import { pinIn } from "../recovery/expired.ts";
import { until } from "../redis/server.ts";
import { call, type Datacenters, MANAGEMENT, startDatacenters } from "./servers.ts";

describe("meshca recover with several datacenters", () => {
  let all: Datacenters;
  let folder: string;
  let dataDir: string;
  before(async () => {
    all = await startDatacenters();
    folder = mkdtempSync(join(tmpdir(), "meshca-recover-"));
    dataDir = makeDataDir();
  });
  after(async () => {
    await all.stop();
    for (const name of [folder, dataDir]) rmSync(name, { recursive: true, force: true });
  });

  const recover = (server: ServerProcess) => {
    const args = ["recover", "--yes", "--replace-valid-root", "--http-addr", server.url];
    const environment = {
      MESHCA_HTTP_TOKEN: MANAGEMENT,
      MESHCA_SERVER_PIN: pinIn(server.dataDir),
    };
    return meshca(args, environment, "", undefined, folder);
  };
  const activeOf = async (server: ServerProcess): Promise<string> =>
    JSON.parse(await call(server, "GET", "/v1/connect/ca/roots")).ActiveRootID;

  it("is refused by a secondary, which follows the primary", { timeout: 240_000 }, async () => {
    const secondary = await all.start("dc2", { MESHCA_DATA_DIR: dataDir });
    await until(() => secondary.stdout().includes('"message":"Ready"'));
    const before = await activeOf(secondary);
    const refused = await recover(secondary);
    assert.equal(refused.code, 65, refused.stderr);
    assert.match(
      refused.stderr,
      /is of a secondary datacenter, which follows the root of the primary datacenter dc1; run meshca recover there\./,
    );
    assert.deepEqual(readdirSync(folder), []);

    const done = await recover(all.primary);
    assert.deepEqual([done.code, done.stderr], [0, ""]);
    const active = await activeOf(all.primary);
    assert.notEqual(active, before);
    await until(async () => (await activeOf(secondary)) === active);
  });
});
