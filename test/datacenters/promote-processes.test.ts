/**
 * The runbooks of a failover, step by step, with three datacenters as real processes whose services
 * call each other by mutual TLS all the time.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Status } from "../../src/cli/commands/status/types.ts";
import { plain } from "../cli/run.ts";
import { opensslCsr } from "../fakes/ca.ts";
import { noRedis, until } from "../redis/server.ts";
import { type Mesh, startMesh } from "./mesh.ts";
import type { MeshDatacenter } from "./mesh-datacenter.ts";
import { DRILL_PLANS, Runbook } from "./runbook.ts";
import { ask } from "./servers.ts";

const OPTIONS = { timeout: 300_000 };
const ROOT_ID = "(?:[0-9a-f]{2}:){19}[0-9a-f]{2}";

describe("the failover of a primary datacenter", { skip: noRedis }, () => {
  let mesh: Mesh;
  let runbook: Runbook;
  let dc1: MeshDatacenter;
  let dc2: MeshDatacenter;
  let dc3: MeshDatacenter;
  let backup: string;
  before(async () => {
    mesh = await startMesh({ datacenters: DRILL_PLANS });
    runbook = new Runbook(mesh);
    dc1 = mesh.datacenter("dc1");
    dc2 = mesh.datacenter("dc2");
    dc3 = mesh.datacenter("dc3");
    await runbook.prepare();
    backup = await runbook.saveBackup(dc1);
  }, OPTIONS);
  after(() => mesh?.stop());

  it("dc1 is killed; dc2 is promoted with its backup, and dc3 follows dc2", OPTIONS, () =>
    runbook.passes("a failover", async () => {
      const { ActiveRootID } = await dc1.roots();
      await dc1.kill();
      await runbook.addKek(dc2, dc1);
      const [asked, other] = dc2.servers;
      assert.ok(asked !== undefined && other !== undefined);
      const args = ["datacenter", "promote", "--backup", backup];
      const { code, screen } = await runbook.onTerminal(dc2, args, [["[y/N]", "y\r"]]);
      assert.equal(code, 0, screen);
      const shown = plain(screen);
      assert.match(
        shown,
        /Make the datacenter of \S+ the primary one of \S+, whose active root is/,
      );
      assert.match(
        shown,
        new RegExp(
          `^Promoted to the primary datacenter \\(promotion 1\\); the active root is ${ROOT_ID}$`,
          "m",
        ),
      );
      assert.ok(shown.includes(ActiveRootID), shown);
      // The other replica has the new role without a restart.
      await until(async () => !/^primary: /m.test(await dc2.readyz(other)));
      const leader = await dc2.leader();
      await dc2.stopServer(leader, "SIGKILL");
      await dc2.sign("web");
      runbook.lead(dc2);
      await runbook.repoint(dc3, dc2);
      await runbook.follows(dc3, dc2);
      const before = await dc3.activeRoot();
      // It may still record that it follows another one, and dc2 may still have no new leader.
      await until(
        async () => (await ask(dc3.server, "PUT", "/v1/connect/ca/rotate")).status === 200,
      );
      assert.notEqual((await dc3.activeRoot()).SigningKeyID, before.SigningKeyID);
      await dc2.startServer(leader);
    }),
  );

  it("the promoted dc2 restarts without the key of dc1, and rotates", OPTIONS, () =>
    runbook.passes("a rotation in dc2", async () => {
      await dc2.restart({ MESHCA_KEK: dc2.kek });
      for (const each of dc2.servers) assert.match(await dc2.readyz(each), /^ok\n/);
      await dc2.rotate();
      await mesh.followed([dc2, dc3], dc2);
      await mesh.renewed([dc2, dc3]);
    }),
  );

  it(
    "dc1 comes back with its old state: it says so, signs leaves and changes nothing",
    OPTIONS,
    () =>
      runbook.passes("the return of dc1", async () => {
        await dc1.startServer();
        await until(async () => /^other_primary: /m.test(await dc1.readyz()));
        const leads =
          /datacenter dc2 is the primary one by promotion 1, as a server of dc\d reports\. Configure this datacenter to follow dc2, or promote this one/;
        assert.match(await dc1.readyz(), leads);
        const status = JSON.parse((await runbook.run(dc1, "status", "--json")).stdout) as Status;
        assert.ok(
          status.problems.some(({ text }) => /dc2 is the primary one/.test(text)),
          JSON.stringify(status.problems),
        );
        const { stdout } = await runbook.run(dc1, "doctor", "--json");
        const { results } = JSON.parse(stdout) as {
          results: { id: string; findings: { severity: string; what: string }[] }[];
        };
        const found = results.find(({ id }) => id === "primary.other")?.findings;
        assert.deepEqual(
          found?.map(({ severity }) => severity),
          ["critical"],
        );
        assert.match(found?.[0]?.what ?? "", /^Datacenter dc2 is the primary one by promotion 1/);
        const { csr } = opensslCsr(`URI:spiffe://${(await dc1.roots()).TrustDomain}`);
        for (const [path, body] of [
          ["/v1/connect/ca/sign-intermediate", { CSR: csr }],
          ["/v1/connect/ca/rotate", null],
          ["/v1/connect/ca/configuration", { Provider: "consul", Config: { LeafCertTTL: "48h" } }],
        ] as const) {
          const { status: code, text } = await ask(dc1.server, "PUT", path, body);
          assert.equal(code, 409, `${path}: ${text}`);
          assert.match(text, leads);
        }
        await dc1.sign("web");
      }),
  );

  it("dc1 follows dc2 once it is configured to", OPTIONS, () =>
    runbook.passes("dc1 as a secondary", async () => {
      await runbook.repoint(dc1, dc2);
      await dc1.restart();
      await runbook.follows(dc1, dc2);
      await mesh.followed(mesh.datacenters, dc2);
    }),
  );

  it("dc2 is confirmed as the primary one, and is followed on", OPTIONS, () =>
    runbook.passes("a confirmation", async () => {
      const { ActiveRootID } = await dc2.roots();
      const confirmed = await runbook.promote(dc2);
      assert.deepEqual(
        [Object.keys(confirmed), confirmed.ActiveRootID, confirmed.Promotions],
        [["ActiveRootID", "ModifyIndex", "Promotions"], ActiveRootID, 2],
      );
      for (const each of [dc1, dc3]) await runbook.follows(each, dc2);
    }),
  );
});
