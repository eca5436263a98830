/**
 * A bad network between one replica and Redis: it delays, cuts, falls silent, loses notices, and
 * cuts the very answer of a commit.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe } from "node:test";
import { noRedis, type RedisServer, startRedis } from "../redis/server.ts";
import { changeUntil, changeUntilMade, createMesh, type Mesh } from "./mesh.ts";
import { createProxy, type Network } from "./proxy.ts";
import type { ReplicaProcess } from "./replica-process.ts";
import { itWithSeeds } from "./seeds.ts";

/** The schedule decides, not the seed. */
const FIXED = { fixed: true };

describe("a bad network", { skip: noRedis }, () => {
  let redis: RedisServer | undefined;
  before(async () => {
    redis = await startRedis();
  });
  after(() => redis?.stop());

  /** Three replicas, of which one reaches Redis through a proxy only. */
  const inMesh = async (
    work: (mesh: Mesh, far: ReplicaProcess, near: ReplicaProcess, proxy: Network) => Promise<void>,
    settleMs = 15_000,
  ) => {
    const server = redis as RedisServer;
    const proxy = await createProxy(server.port);
    const mesh = await createMesh([server]);
    try {
      const [far, near] = await Promise.all([
        mesh.start({ port: proxy.port, policy: { settleMs }, commandTimeoutMs: 1000 }),
        mesh.start(),
        mesh.start(),
      ]);
      await mesh.settle();
      await work(mesh, far, near, proxy);
      await mesh.settle();
      await mesh.prove();
    } finally {
      await mesh.close();
      proxy.close();
    }
  };

  itWithSeeds(
    "a commit whose response is cut off is found again",
    async (choices) =>
      inMesh(async (mesh, far, _near, proxy) => {
        const client = mesh.client();
        const ask = choices.pick([client.rotate, client.configure]);
        const { change } = await changeUntil(proxy.cutNextCommitAnswer, () => ask(far));
        assert.equal((await change).outcome, "made");
      }),
    FIXED,
  );

  itWithSeeds(
    "a commit whose response is cut off, and on which another change is based already, is found again",
    async () =>
      inMesh(async (mesh, far, near, proxy) => {
        const [one, two] = [mesh.client(), mesh.client()];
        const { change } = await changeUntil(proxy.cutNextCommitAnswer, () => one.rotate(far));
        // It waits in the first call by which it looks for the outcome.
        await far.arm({ scope: "any", port: "leases.release" });
        await changeUntilMade(mesh, () => two.configure(near));
        await mesh.settle();
        far.go();
        assert.equal((await change).outcome, "made");
        await mesh.traffic(() => far);
      }),
    FIXED,
  );

  itWithSeeds(
    "a commit whose response and connection are cut off is unknown, and the others go on",
    async () =>
      inMesh(async (mesh, far, near, proxy) => {
        const [one, two] = [mesh.client(), mesh.client()];
        const { change } = await changeUntil(proxy.cutNextCommitAnswer, () => one.rotate(far));
        proxy.lead(null);
        proxy.cut();
        assert.equal((await change).outcome, "unknown");
        await changeUntilMade(mesh, () => two.configure(near));
        await mesh.traffic(() => far);
        proxy.lead((redis as RedisServer).port);
      }, 1000),
    FIXED,
  );

  itWithSeeds(
    "silent connections are closed, and the replica recovers",
    async () =>
      inMesh(async (mesh, far, near, proxy) => {
        const [one, two] = [mesh.client(), mesh.client()];
        await mesh.traffic(() => far);
        proxy.silence(true);
        assert.notEqual((await one.configure(far)).outcome, "made");
        await changeUntilMade(mesh, () => two.rotate(near));
        // It signs from its snapshot, for a while.
        assert.equal(await one.sign(far), 200);
        proxy.silence(false);
        await changeUntilMade(mesh, () => one.configure(far));
      }),
    FIXED,
  );

  itWithSeeds(
    "a cut connection is opened again, for notices too",
    async () =>
      inMesh(async (mesh, _far, _near, proxy) => {
        await mesh.heard();
        proxy.lead(null);
        proxy.cut();
        await mesh.client().sign(mesh.awake[0] as ReplicaProcess);
        proxy.lead((redis as RedisServer).port);
        await mesh.heard();
      }),
    FIXED,
  );

  itWithSeeds(
    "lost notices only delay changes",
    async () =>
      inMesh(async (mesh, far, near, proxy) => {
        const client = mesh.client();
        proxy.dropNotices(true);
        await changeUntilMade(mesh, () => client.rotate(near));
        await mesh.traffic(() => far);
      }),
    FIXED,
  );

  itWithSeeds("random network faults at random times", async (choices) =>
    inMesh(async (mesh, _far, _near, proxy) => {
      const clients = [mesh.client(), mesh.client(), mesh.client()];
      const faults: readonly (() => void)[] = [
        () => proxy.delay(choices.below(80)),
        () => proxy.delay(0),
        () => proxy.cut(),
        () => void proxy.cutNextCommitAnswer(),
        () => proxy.silence(choices.below(2) === 0),
        () => proxy.dropNotices(choices.below(2) === 0),
      ];
      for (let step = 0; step < 6; step++) {
        choices.pick(faults)();
        const changes = clients.map((client) =>
          choices.pick([client.rotate, client.configure])(choices.pick(mesh.awake)),
        );
        await mesh.traffic(choices.pick);
        await Promise.all(changes);
      }
      proxy.delay(0);
      proxy.dropNotices(false);
      proxy.silence(false);
      const last = mesh.client();
      await changeUntilMade(mesh, last.configure);
    }),
  );
});
