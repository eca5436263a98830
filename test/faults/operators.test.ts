/**
 * Two operators change the configuration at once, through any replicas.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe } from "node:test";
import { noRedis, type RedisServer, startRedis } from "../redis/server.ts";
import { createMesh } from "./mesh.ts";
import { itWithSeeds } from "./seeds.ts";

describe("two operators", { skip: noRedis }, () => {
  let redis: RedisServer | undefined;
  before(async () => {
    redis = await startRedis();
  });
  after(() => redis?.stop());

  itWithSeeds(
    "of changes that compare the index at most one succeeds, and no other change is lost",
    async (choices) => {
      const mesh = await createMesh([redis as RedisServer]);
      try {
        await Promise.all([1, 2, 3].map(() => mesh.start()));
        const operators = [mesh.client(), mesh.client()];
        const readers = [mesh.client(), mesh.client()];
        for (let round = 0; round < 5; round++) {
          const index = (await mesh.stored())?.config.modifyIndex ?? 0;
          const compared = Promise.all(
            operators.map((operator) => operator.configure(choices.pick(mesh.awake), index)),
          );
          await Promise.all(readers.map((reader) => reader.sign(choices.pick(mesh.awake))));
          const made = (await compared).filter(({ outcome }) => outcome === "made").length;
          assert.ok(made <= 1, (await compared).map(({ answer }) => answer).join());
          await Promise.all(
            operators.map((operator) =>
              choices.pick([operator.configure, operator.rotate])(choices.pick(mesh.awake)),
            ),
          );
          await mesh.traffic(choices.pick);
        }
        await mesh.settle();
        await mesh.prove();
      } finally {
        await mesh.close();
      }
    },
  );
});
