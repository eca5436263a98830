/**
 * Redis is killed during a change and started again on its append-only file: nothing that
 * was acknowledged is lost, and every replica recovers by itself.
 * @module
 */
import assert from "node:assert/strict";
import { describe } from "node:test";
import { noRedis, startRedis } from "../redis/server.ts";
import { changeUntil, changeUntilMade, createMesh } from "./mesh.ts";
import { itWithSeeds } from "./seeds.ts";

describe("kill -9 of Redis", { skip: noRedis }, () => {
  itWithSeeds("a change goes on or is refused, and nothing is lost", async (choices) => {
    const redis = await startRedis({ config: ["appendonly yes", "appendfsync always"] });
    const mesh = await createMesh([redis]);
    try {
      await Promise.all([1, 2, 3].map(() => mesh.start()));
      const [one, two] = [mesh.client(), mesh.client()];
      for (let round = 0; round < 2; round++) {
        await changeUntilMade(mesh, two.configure);
        const target = choices.pick(mesh.awake);
        // The last one that counts is the commit.
        const at = {
          call: 1 + choices.below(6),
          moment: choices.pick(["before", "after"] as const),
        };
        const ask = choices.pick([one.rotate, one.configure]);
        const { change } = await changeUntil(
          () => target.arm(at),
          () => ask(target),
        );
        const together = choices.below(2) === 0;
        if (together) target.go();
        redis.kill("SIGKILL");
        if (!together) target.go();
        // Leaves are signed from the last snapshot.
        for (const replica of mesh.awake) assert.equal(await two.sign(replica), 200);
        await redis.restart();
        await mesh.monitors[0]?.attach();
        await change;
        await changeUntilMade(mesh, two.configure);
        await mesh.settle();
        await mesh.heard();
      }
      await mesh.prove();
    } finally {
      await mesh.close();
      await redis.stop();
    }
  });
});
