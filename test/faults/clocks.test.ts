/**
 * Clocks an hour apart: a replica with a wrong clock neither signs nor changes; if all replicas
 * agree, the store's clock is the wrong one.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe } from "node:test";
import { noRedis, type RedisServer, startRedis, until } from "../redis/server.ts";
import { changeUntilMade, createMesh } from "./mesh.ts";
import type { ReplicaProcess } from "./replica-process.ts";
import { itWithSeeds } from "./seeds.ts";

const HOUR = 3_600_000;
/** The schedule decides, not the seed. */
const FIXED = { fixed: true };

describe("clocks an hour apart", { skip: noRedis }, () => {
  let redis: RedisServer | undefined;
  before(async () => {
    redis = await startRedis();
  });
  after(() => redis?.stop());

  itWithSeeds(
    "only the replica with the right clock signs and changes",
    async (choices) => {
      const mesh = await createMesh([redis as RedisServer]);
      try {
        const started = await Promise.all(
          [-HOUR, 0, HOUR].map((clockOffsetMs) => mesh.start({ clockOffsetMs })),
        );
        const [late, right, early] = started as [ReplicaProcess, ReplicaProcess, ReplicaProcess];
        const [one, two] = [mesh.client(), mesh.client()];
        for (let round = 0; round < 2; round++) {
          for (const replica of [late, early]) {
            assert.equal(await one.sign(replica), 503);
            assert.equal((await one.rotate(replica)).outcome, "refused");
            // It still serves the stored state.
            assert.notEqual(await two.roots(replica), null);
          }
          await one.sign(right);
          await changeUntilMade(mesh, () => two.rotate(right));
          await mesh.traffic(choices.pick);
        }
        await mesh.settle();
        await mesh.prove();
      } finally {
        await mesh.close();
      }
    },
    FIXED,
  );

  itWithSeeds(
    "if all replicas agree against Redis, they sign and change nothing",
    async (choices) => {
      const mesh = await createMesh([redis as RedisServer]);
      try {
        const first = await mesh.start();
        const client = mesh.client();
        await client.sign(first);
        await first.kill();
        const clockOffsetMs = choices.pick([-HOUR, HOUR]);
        const both = await Promise.all([1, 2].map(() => mesh.start({ clockOffsetMs })));
        for (const replica of both) {
          // The killed replica counts as alive for a while.
          await until(async () => (await client.sign(replica)) === 200);
          assert.equal((await client.rotate(replica)).outcome, "refused");
        }
        await mesh.prove();
      } finally {
        await mesh.close();
      }
    },
    FIXED,
  );
});
