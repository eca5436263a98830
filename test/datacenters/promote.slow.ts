/**
 * A planned switch-over of the primary role, and back, while services of three datacenters call each
 * other by mutual TLS all the time. A minute, most of which agents wait until they renew.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { noRedis } from "../redis/server.ts";
import { type Mesh, startMesh } from "./mesh.ts";
import type { MeshDatacenter } from "./mesh-datacenter.ts";
import { DRILL_PLANS, Runbook } from "./runbook.ts";

const OPTIONS = { timeout: 300_000 };

describe("a planned switch-over", { skip: noRedis }, () => {
  let mesh: Mesh;
  let runbook: Runbook;
  before(async () => {
    mesh = await startMesh({ datacenters: DRILL_PLANS });
    runbook = new Runbook(mesh);
    await runbook.prepare();
  }, OPTIONS);
  after(() => mesh?.stop());

  it("from dc1 to dc2, and back, without a failed handshake", OPTIONS, () =>
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
});
