/**
 * A replica finds the new master whatever error its search for one met.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { createCodec } from "../../src/store/state-document.ts";
import { openTestRedis } from "../fixtures/redis.ts";
import { noRedis, type RedisServer, startSentinels, until } from "./server.ts";

describe("a connection through Sentinel", { skip: noRedis }, () => {
  it("comes back after a failover during its search for a master, with a sentinel that does not respond", async () => {
    const group = await startSentinels();
    const [master, copy] = group.servers as [RedisServer, RedisServer];
    const [silent, other] = group.sentinels as [RedisServer, RedisServer];
    const backend = await openTestRedis({ ...group.url, commandTimeoutMs: 3000 });
    try {
      const { store } = backend.open(createCodec(createSealer(await readKeks(makeKek()))), "test");
      const reads = () =>
        store.read().then(
          () => true,
          () => false,
        );
      assert.ok(await reads());
      // The one that was asked last is asked first.
      silent.kill("SIGSTOP");
      await master.admin.call("CLIENT", "KILL", "TYPE", "normal");
      await until(async () => !(await reads()));
      await other.admin.call("SENTINEL", "FAILOVER", "mesh");
      await until(async () => /role:master/.test(await copy.admin.info("replication")));
      await until(reads);
    } finally {
      silent.kill("SIGCONT");
      backend.close();
      await group.stop();
    }
  });
});
