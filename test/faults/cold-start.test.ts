/**
 * Eight replicas start at once on an empty Redis: one CA comes of it, whoever of them dies on the way.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe } from "node:test";
import { noRedis, type RedisServer, startRedis } from "../redis/server.ts";
import { createMesh } from "./mesh.ts";
import { itWithSeeds } from "./seeds.ts";

describe("cold start", { skip: noRedis }, () => {
  let redis: RedisServer | undefined;
  before(async () => {
    redis = await startRedis();
  });
  after(() => redis?.stop());

  itWithSeeds("eight replicas on an empty Redis become one CA", async (choices) => {
    const mesh = await createMesh([redis as RedisServer]);
    try {
      await Promise.all(Array.from({ length: 8 }, () => mesh.start()));
      for (let i = 0; i < 3; i++) mesh.client();
      await mesh.settle();
      assert.equal((await mesh.stored())?.index, 1);
      await mesh.traffic(choices.pick);
      await mesh.prove();
    } finally {
      await mesh.close();
    }
  });
});
