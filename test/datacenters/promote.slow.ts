/**
 * A planned switch-over of the primary role, and back, and a failover to a new root, while services of
 * three datacenters call each other by mutual TLS all the time. Two minutes, most of which agents wait
 * until they renew.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { noRedis, until } from "../redis/server.ts";
import { type Mesh, startMesh } from "./mesh.ts";
import type { MeshDatacenter } from "./mesh-datacenter.ts";
import { DRILL_PLANS, Runbook } from "./runbook.ts";

const OPTIONS = { timeout: 300_000 };

describe("services of three datacenters that call each other, and the primary role", {
  skip: noRedis,
}, () => {
  let mesh: Mesh;
  let runbook: Runbook;
  before(async () => {
    mesh = await startMesh({ datacenters: DRILL_PLANS });
    runbook = new Runbook(mesh);
    await runbook.prepare();
  }, OPTIONS);
  after(() => mesh?.stop());

  it("the role is switched from dc1 to dc2, and back", OPTIONS, () =>
    runbook.passes("two switch-overs", async () => {
      const dc3 = mesh.datacenter("dc3");
      const both = [mesh.datacenter("dc1"), mesh.datacenter("dc2")] as const;
      for (const [i, [from, to]] of (
        [both, both.toReversed()] as [MeshDatacenter, MeshDatacenter][]
      ).entries()) {
        await runbook.addKek(to, from);
        const { Promotions, ActiveRootID } = await runbook.promote(
          ...([to, "--backup", await runbook.saveBackup(from)] as const),
        );
        assert.equal(Promotions, i + 1);
        assert.equal(ActiveRootID, (await from.roots()).ActiveRootID);
        runbook.lead(to);
        await runbook.repoint(dc3, to);
        await runbook.repoint(from, to);
        await from.restart();
        for (const each of [from, dc3]) await runbook.follows(each, to);
        await to.restart({ MESHCA_KEK: to.kek });
        await to.rotate();
        await mesh.followed(mesh.datacenters, to);
        await mesh.renewed();
      }
    }),
  );

  it(
    "dc1 is lost with its backup: dc3 is promoted with a new root, which dc2 takes up before it signs",
    OPTIONS,
    () =>
      runbook.passes("a failover to a new root", async () => {
        const [dc2, dc3] = [mesh.datacenter("dc2"), mesh.datacenter("dc3")];
        await mesh.lose("dc1");
        const { ActiveRootID, PreparedRootID, ActivateAt } = await runbook.promote(
          ...([dc3, "--new-root", "--soak", "20s"] as const),
        );
        assert.ok(PreparedRootID !== undefined && ActivateAt !== undefined);
        assert.equal((await dc3.roots()).ActiveRootID, ActiveRootID);
        runbook.lead(dc3);
        await runbook.repoint(dc2, dc3);
        await until(async () => (await dc2.roots()).Roots.some(({ ID }) => ID === PreparedRootID));
        for (const each of [dc2, dc3]) {
          const { Roots } = await each.roots();
          assert.deepEqual(
            Roots.filter(({ Prepared }) => Prepared === true).map(({ ID, Active }) => [ID, Active]),
            [[PreparedRootID, false]],
            each.name,
          );
        }
        assert.ok(
          Date.now() < Date.parse(ActivateAt),
          "the root was prepared for too short a time",
        );
        for (const each of [dc3, dc2]) await each.follows(PreparedRootID);
        await mesh.renewed([dc2, dc3]);
        for (const each of [dc2, dc3])
          assert.ok((await each.roots()).Roots.every(({ Prepared }) => Prepared !== true));
      }),
  );
});
