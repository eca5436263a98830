/**
 * Services of three datacenters that call each other by mutual TLS all the time, with certificates
 * that agents keep: no handshake fails while the primary rotates, a datacenter is cut off from it and
 * comes back, the leader of one is killed, and intermediates are renewed. Two minutes, most of
 * which agents wait until they renew.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { checkLine } from "../faults/check.ts";
import type { Monitor } from "../faults/monitor.ts";
import { noRedis } from "../redis/server.ts";
import { checkMesh } from "./check.ts";
import { MeshRecorder } from "./history.ts";
import { type Mesh, startMesh } from "./mesh.ts";
import type { MeshDatacenter } from "./mesh-datacenter.ts";

const OPTIONS = { timeout: 300_000 };

describe("services of three datacenters that call each other", { skip: noRedis }, () => {
  let mesh: Mesh;
  let monitor: Monitor;
  let stopWatching: () => Promise<void>;
  const recorder = new MeshRecorder();
  let dc1: MeshDatacenter;
  let dc2: MeshDatacenter;
  let dc3: MeshDatacenter;
  before(async () => {
    mesh = await startMesh();
    dc1 = mesh.datacenter("dc1");
    dc2 = mesh.datacenter("dc2");
    dc3 = mesh.datacenter("dc3");
    monitor = await dc2.monitor();
    stopWatching = recorder.watch(mesh.datacenters);
  }, OPTIONS);
  after(async () => {
    await stopWatching?.();
    monitor?.close();
    await mesh?.stop();
  });

  async function passes(what: string, work: () => Promise<void>): Promise<void> {
    const began = performance.now();
    const { handshakes } = await mesh.during(work);
    const seconds = Math.round((performance.now() - began) / 1000);
    console.log(`${what}: ${handshakes} handshakes in ${seconds} s, 0 failed`);
  }

  it("through a rotation in the primary", OPTIONS, () =>
    passes("a rotation", async () => {
      await dc1.rotate();
      await mesh.followed();
      await mesh.renewed();
    }),
  );

  it("while dc3 is cut off from the primary through a rotation, and comes back", OPTIONS, () =>
    passes("a partition", async () => {
      dc3.cutOff();
      await dc1.rotate();
      await mesh.followed([dc1, dc2]);
      await mesh.renewed([dc1, dc2]);
      assert.notEqual((await dc3.roots()).ActiveRootID, (await dc1.roots()).ActiveRootID);
      assert.match(await dc3.readyz(), /^primary: dc1, .*cannot be reached/m);
      dc3.reconnect();
      await mesh.followed();
      await mesh.renewed();
    }),
  );

  it(
    "while the leader of dc2 is killed and started again, and intermediates are renewed",
    OPTIONS,
    () =>
      passes("a killed leader and renewals of intermediates", async () => {
        const leader = await dc2.leader();
        await dc2.stopServer(leader, "SIGKILL");
        await dc1.rotate();
        // Before the agents renew, so that they do it under the new intermediate.
        for (const each of [dc3, dc2]) {
          await mesh.followed([each]);
          const before = await each.activeRoot();
          await each.rotate();
          const { SigningKeyID, ID } = await each.activeRoot();
          assert.equal(ID, before.ID);
          assert.notEqual(SigningKeyID, before.SigningKeyID);
        }
        await dc2.startServer(leader);
        await mesh.followed();
        await mesh.renewed();
      }),
  );

  it("and no invariant is broken by what was published and signed", OPTIONS, async () => {
    await stopWatching();
    const { reads, leaves } = recorder;
    for (const { name } of mesh.datacenters)
      assert.ok(leaves.filter(({ datacenter }) => datacenter === name).length > 20, name);
    console.log(`${reads.length} listings and ${leaves.length} leaves recorded`);
    assert.deepEqual((await checkMesh(recorder)).slice(0, 5), []);
    const line = await monitor.line();
    // Three rotations that it followed, and a renewed intermediate.
    assert.ok(line.events.filter(({ kind }) => kind === "write").length >= 4);
    assert.deepEqual(checkLine(line), []);
  });
});
