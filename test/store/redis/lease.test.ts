/**
 * A lease whose grant got no response.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { StoreError } from "../../../src/core/errors.ts";
import { createSealer } from "../../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../../src/seal/kek.ts";
import { createCodec } from "../../../src/store/state-document.ts";
import { createProxy } from "../../faults/proxy.ts";
import { openTestRedis } from "../../fixtures/redis.ts";
import { noRedis, type RedisServer, redisUrl, startRedis, until } from "../../redis/server.ts";

describe("a lease in Redis whose grant got no response", { skip: noRedis }, () => {
  let redis: RedisServer;
  before(async () => {
    redis = await startRedis();
  });
  after(() => redis.stop());

  it("is granted again to the same caller, and to no other", async () => {
    const codec = createCodec(createSealer(await readKeks(makeKek())));
    const network = await createProxy(redis.port);
    const backend = await openTestRedis(redisUrl(redis.port));
    const far = await openTestRedis(redisUrl(network.port, { commandTimeoutMs: 2000 }));
    try {
      const [one, two] = [far.open(codec, "one").leases, backend.open(codec, "two").leases];
      // There in time, and back too late.
      network.delay(1500);
      await assert.rejects(one.acquire("operation", 60_000), StoreError);
      await until(
        async () => (await redis.admin.hget("{meshca}:lease:operation", "holder")) === "one",
      );
      assert.equal(await two.acquire("operation", 60_000), null);
      // Another start under the same name has no pending request.
      assert.equal(await backend.open(codec, "one").leases.acquire("operation", 60_000), null);
      network.delay(0);
      await until(() => one.holder("operation").then(Boolean, () => false));
      assert.deepEqual(await one.acquire("operation", 60_000), { name: "operation", term: 2 });
      assert.equal(await one.acquire("operation", 60_000), null);
    } finally {
      far.close();
      backend.close();
      network.close();
    }
  });
});
