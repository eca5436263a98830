/**
 * Versions that meet at one Redis: an older meshca that is still alive, a Redis that is too old,
 * and copies that are to confirm a change.
 * @module
 */
import assert from "node:assert/strict";
import { createServer, connect as dial, type Socket } from "node:net";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { ACCESS_SCHEMA, SCHEMAS } from "../../src/core/state.ts";
import { systemRandom } from "../../src/entry/platform.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { createClient } from "../../src/store/redis/connection.ts";
import { redisKeys } from "../../src/store/redis/keys.ts";
import { createCodec } from "../../src/store/state-document.ts";
import { openTestRedis } from "../fixtures/redis.ts";
import { startReplica, type TestReplica } from "./replica.ts";
import { freePort, noRedis, type RedisServer, redisUrl, startRedis, until } from "./server.ts";

describe("versions at one Redis", { skip: noRedis }, () => {
  let redis: RedisServer;
  const open: TestReplica[] = [];
  const start = async (options: Omit<Parameters<typeof startReplica>[0], "port"> = {}) => {
    const replica = await startReplica({ port: redis.port, ...options });
    open.push(replica);
    return replica;
  };
  const schema = async () =>
    (JSON.parse((await redis.admin.hget("{meshca}:state", "document")) ?? "") as { schema: number })
      .schema;

  /** Has a replica stand among the living that reads a schema and no newer one. */
  const announceOlder = async ({ meshca }: TestReplica, schema: number) => {
    const older = { ...meshca.ca.status.live[0], id: "older", address: "127.0.0.1:1", schema };
    await redis.admin.hset(
      "{meshca}:replicas",
      "older",
      `${Date.now() + 50_000} 60000 ${JSON.stringify(older)}`,
    );
  };

  before(async () => {
    redis = await startRedis({ config: ["repl-diskless-sync-delay 0"] });
  });
  beforeEach(() => redis.admin.flushall());
  afterEach(async () => {
    for (const replica of open.splice(0)) await replica.close();
  });
  after(() => redis?.stop());

  for (const old of SCHEMAS.filter((each) => each <= ACCESS_SCHEMA))
    it(`schema ${old} is written for as long as a replica is alive that reads no newer one`, async () => {
      const replica = await start();
      assert.equal(await schema(), ACCESS_SCHEMA);
      await announceOlder(replica, old);
      assert.equal((await replica.call("PUT", "/v1/connect/ca/rotate")).status, 200);
      assert.equal(await schema(), old);
      const other = await start();
      assert.equal(other.meshca.ca.snapshot?.state.index, 2);
      // What the older schema does not hold is worked out again.
      const issuers = other.meshca.ca.snapshot?.state.roots.map(({ status, leafIssuers }) => [
        status,
        leafIssuers.length,
      ]);
      assert.deepEqual(issuers?.toSorted(), [
        ["active", 1],
        ["retired", 1],
      ]);
      await redis.admin.hdel("{meshca}:replicas", "older");
      assert.equal((await other.call("PUT", "/v1/connect/ca/rotate")).status, 200);
      assert.equal(await schema(), ACCESS_SCHEMA);
      await until(() => replica.meshca.ca.snapshot?.state.index === 3);
      assert.equal(replica.meshca.ca.status.stopped, null);
    });

  it("a Redis that is too old is refused, and says which it is", async () => {
    // A real one whose version is rewritten on the way, in as many octets.
    const port = await freePort();
    const sockets = new Set<Socket>();
    const proxy = createServer((client) => {
      const server = dial(redis.port, "127.0.0.1");
      for (const socket of [client, server]) sockets.add(socket.on("error", () => undefined));
      client.pipe(server);
      server.on("data", (bytes) =>
        client.write(
          Buffer.from(
            bytes.toString("latin1").replace("redis_version:7", "redis_version:6"),
            "latin1",
          ),
        ),
      );
      server.on("close", () => client.destroy());
      client.on("close", () => server.destroy());
    });
    await new Promise<void>((resolve) => proxy.listen(port, "127.0.0.1", resolve));
    try {
      await assert.rejects(
        startReplica({ port }),
        /^StoreError: Redis is too old: it is 6\.0\.15, meshca needs 7\.0 or newer \(MESHCA_STORE: 127\.0\.0\.1:\d+\)$/,
      );
    } finally {
      for (const socket of sockets) socket.destroy();
      proxy.close();
    }
  });

  it("a login token is used once, whether a replica of this version or of the one before is asked first", async () => {
    const settings = redisUrl(redis.port);
    const keys = redisKeys(settings.prefix);
    const backend = await openTestRedis(settings);
    const before = createClient(settings, systemRandom);
    try {
      await before.connect();
      const { access } = backend.open(createCodec(createSealer(await readKeks(makeKek()))), "new");
      // What the version before does.
      const claimBefore = async (id: string) =>
        (await before.set(keys.claim(id), "1", "PX", 60_000, "NX")) === "OK";
      assert.deepEqual(
        [await claimBefore("a"), await access.claim("a", 60_000, new Date(0))],
        [true, false],
      );
      assert.deepEqual(
        [await access.claim("b", 60_000, new Date(0)), await claimBefore("b")],
        [true, false],
      );
    } finally {
      before.disconnect();
      backend.close();
    }
  });

  it("a change waits for the Redis replicas that must acknowledge it, and logs if fewer did", async () => {
    const fewer = (replica: TestReplica) =>
      replica.lines.filter(
        ({ message }) => message === "Commit acknowledged by fewer Redis replicas than required",
      );
    const copy = await startRedis({ config: [`replicaof 127.0.0.1 ${redis.port}`] });
    try {
      await until(async () => /master_link_status:up/.test(await copy.admin.info("replication")));
      const replica = await start({
        settings: { store: redisUrl(redis.port, { waitReplicas: 1 }) },
      });
      assert.equal((await replica.call("PUT", "/v1/connect/ca/rotate")).status, 200);
      assert.deepEqual(fewer(replica), []);
      assert.equal((await copy.admin.hgetall("{meshca}:state")).index, "2");
      copy.kill("SIGSTOP");
      assert.equal((await replica.call("PUT", "/v1/connect/ca/rotate")).status, 200);
      assert.deepEqual(fewer(replica)[0]?.fields, { acknowledged: 0, required: 1 });
      copy.kill("SIGCONT");
    } finally {
      await copy.stop();
    }
  });
});
