/**
 * Sentinel promotes a replica that lacks acknowledged writes: every CA replica that saw them
 * notices and reports it, and nothing is changed until an operator keeps one of the two states.
 * Leaves are signed throughout.
 * @module
 */
import assert from "node:assert/strict";
import { describe } from "node:test";
import { loseMaster, noRedis, type RedisServer, startSentinels, until } from "../redis/server.ts";
import { changeUntilMade, createMesh, type Mesh } from "./mesh.ts";
import { type Choices, itWithSeeds } from "./seeds.ts";

/**
 * On a busy machine nothing fails over by itself, and no sentinel repairs the copy before it is to
 * take over.
 */
const PATIENT = { downAfterMs: 3000, failoverTimeoutMs: 60_000 };

describe("a failover that loses writes", { skip: noRedis }, () => {
  /** A mesh of three replicas on a master that is about to fail, and its copy. */
  const inMesh = async (
    work: (mesh: Mesh, copy: RedisServer, failOver: () => Promise<void>) => Promise<void>,
  ) => {
    const group = await startSentinels([], PATIENT);
    const [master, copy] = group.servers as [RedisServer, RedisServer];
    const mesh = await createMesh([master, copy], group.url);
    try {
      await Promise.all([1, 2, 3].map(() => mesh.start()));
      await mesh.settle();
      await until(async () => (await mesh.stored(copy))?.index === 1);
      await work(mesh, copy, async () => {
        assert.equal(await group.master(), master);
        assert.equal((await mesh.stored(copy))?.index, 1);
        master.kill("SIGKILL");
        await until(
          async () =>
            (await group.master()) === copy &&
            /role:master/.test(await copy.admin.info("replication")),
        );
        await mesh.monitors[1]?.attach();
      });
      await mesh.settle(copy);
      await mesh.heard([copy]);
      await mesh.prove({ lossy: true, server: copy });
    } finally {
      await mesh.close();
      await group.stop();
    }
  };

  /** Waits for the report, sees that nothing is changed, and decides. */
  const decide = async (mesh: Mesh, copy: RedisServer, choices: Choices) => {
    const operator = mesh.client();
    await until(async () =>
      (await Promise.all(mesh.awake.map(operator.conflict))).every((conflict) => conflict === true),
    );
    for (const replica of mesh.awake) {
      assert.equal((await operator.configure(replica)).outcome, "refused");
      assert.equal(await operator.sign(replica), 200);
    }
    await mesh.traffic(choices.pick);
    const keep = choices.pick(["snapshot", "stored"] as const);
    await until(() => operator.resolve(choices.pick(mesh.awake), keep));
    await changeUntilMade(mesh, operator.configure);
    await mesh.settle(copy);
  };

  itWithSeeds("a lost write seen by every replica is noticed at once", async (choices) =>
    inMesh(async (mesh, copy, failOver) => {
      const client = mesh.client();
      await mesh.traffic(choices.pick);
      await loseMaster(copy);
      await changeUntilMade(mesh, choices.pick([client.rotate, client.configure]));
      await mesh.settle();
      await mesh.traffic(choices.pick);
      await failOver();
      await decide(mesh, copy, choices);
    }),
  );

  itWithSeeds("a lost write seen by one replica is noticed when it restarts", async (choices) =>
    inMesh(async (mesh, copy, failOver) => {
      const [client, other] = [mesh.client(), mesh.client()];
      const witness = choices.pick(mesh.awake);
      const rest = mesh.awake.filter((replica) => replica !== witness);
      await mesh.traffic(choices.pick);
      for (const replica of rest) replica.pause();
      await loseMaster(copy);
      await changeUntilMade(mesh, client.rotate);
      await client.sign(witness);
      await witness.kill();
      await failOver();
      // The other two never saw it, and create another state under the same index.
      for (const replica of rest) replica.wake();
      await changeUntilMade(mesh, other.rotate);
      await mesh.startAgain(witness);
      await decide(mesh, copy, choices);
    }),
  );
});
