/**
 * The master of a Cluster that holds the CA dies in the middle of a change, and its copy takes its
 * place.
 * @module
 */
import assert from "node:assert/strict";
import { describe } from "node:test";
import { noRedis, type RedisServer, startCluster, until } from "../redis/server.ts";
import { changeUntil, createMesh } from "./mesh.ts";
import { itWithSeeds } from "./seeds.ts";

describe("a master of a Cluster", { skip: noRedis }, () => {
  itWithSeeds("its place is taken, and the replicas go on", async (choices) => {
    const group = await startCluster();
    const master = await group.master();
    const copy = await copyOf(master, group.servers);
    // Otherwise it would only redirect to its master.
    await copy.admin.call("READONLY");
    const mesh = await createMesh([master, copy], group.url);
    try {
      await Promise.all([1, 2, 3].map(() => mesh.start()));
      const [one, two] = [mesh.client(), mesh.client()];
      await mesh.traffic(choices.pick);
      const target = choices.pick(mesh.awake);
      const at = { call: 1 + choices.below(6), moment: choices.pick(["before", "after"] as const) };
      const { change } = await changeUntil(
        () => target.arm(at),
        () => one.rotate(target),
      );
      target.go();
      master.kill("SIGKILL");
      for (const replica of mesh.awake) assert.equal(await two.sign(replica), 200);
      await until(async () => /role:master/.test(await copy.admin.info("replication")));
      await change;
      await until(async () => {
        const replica = choices.pick(mesh.awake);
        // The copy may not have got what was acknowledged last.
        if ((await two.conflict(replica)) === true) await two.resolve(replica, "snapshot");
        return (await two.configure(replica)).outcome === "made";
      });
      await mesh.settle(copy);
      await mesh.heard(group.servers.filter((server) => server !== master));
      await mesh.prove({ lossy: true, server: copy });
    } finally {
      await mesh.close();
      await group.stop();
    }
  });
});

async function copyOf(master: RedisServer, servers: readonly RedisServer[]): Promise<RedisServer> {
  for (const server of servers)
    if (
      new RegExp(`^master_port:${master.port}\\r?$`, "m").test(
        await server.admin.info("replication"),
      )
    )
      return server;
  throw new Error("The master has no copy");
}
