/**
 * The shared store under the contracts: over one server, Sentinel and Cluster.
 * @module
 */
import { after, before, describe } from "node:test";
import type { Cluster, Redis } from "ioredis";
import type { RedisUrl } from "../../../src/config/store-url.ts";
import { systemClock, systemRandom } from "../../../src/entry/platform.ts";
import type { Backend } from "../../../src/store/backend.ts";
import { createClient } from "../../../src/store/redis/connection.ts";
import { redisKeys } from "../../../src/store/redis/keys.ts";
import { RequestRedis } from "../../../src/store/redis/request.ts";
import { describeBackups } from "../../contracts/backups.ts";
import { describeLeafCounts } from "../../contracts/leaf-counts.ts";
import { describeLeases } from "../../contracts/lease.ts";
import { describeLooks } from "../../contracts/looks.ts";
import { describeAccessStore } from "../../contracts/record-store.ts";
import { describeReplicas } from "../../contracts/replicas.ts";
import { describeStore, type MakeBackend } from "../../contracts/store.ts";
import { silentLog } from "../../fakes/ca.ts";
import { openTestRedis } from "../../fixtures/redis.ts";
import {
  noRedis,
  type RedisGroup,
  redisUrl,
  startCluster,
  startRedis,
  startSentinels,
} from "../../redis/server.ts";

let prefixes = 0;

/**
 * Resolves once a client is connected. The promise of ioredis's Cluster#connect() never settles if
 * its first CLUSTER INFO gets no answer in time: it connects again, which only the event says.
 */
async function connected(client: Redis | Cluster): Promise<void> {
  const ready = new Promise<void>((resolve) => client.once("ready", () => resolve()));
  client.on("error", () => undefined);
  client.connect().catch(() => undefined);
  await ready;
}

/** Backends with a prefix of their own, on servers that are up. */
function redisBackends(
  url: () => RedisUrl,
  open: (settings: RedisUrl) => Promise<Backend>,
): MakeBackend {
  return async () => {
    const settings = { ...url(), prefix: `test-${++prefixes}` };
    const keys = redisKeys(settings.prefix);
    const admin: Redis | Cluster = createClient(settings, systemRandom);
    await connected(admin);
    const backend = await open(settings);
    return {
      open: (codec, holder) => backend.open(codec, holder),
      document: () => admin.hget(keys.state, "document"),
      replace: (document) => admin.hset(keys.state, "document", document),
      time: async () => {
        const answer = await admin.eval(
          "local t = redis.call('TIME') return t[1] * 1000 + math.floor(t[2] / 1000)",
          1,
          keys.state,
        );
        return new Date(Number(answer));
      },
      // Time passes for what is kept by making it so much older.
      async elapse(ms) {
        for (const key of [keys.lease("leader"), keys.lease("operation")])
          if ((await admin.exists(key)) === 1) await admin.hincrby(key, "expires", -ms);
        for (const [id, text] of Object.entries(await admin.hgetall(keys.replicas)))
          await admin.hset(
            keys.replicas,
            id,
            text.replace(/^\d+/, (expires) => String(Number(expires) - ms)),
          );
      },
      // What a test may take from one step to the next.
      grainMs: 20_000,
      close() {
        backend.close();
        admin.disconnect();
      },
    };
  };
}

const kept = (settings: RedisUrl) => openTestRedis(settings);

function describeOn(
  name: string,
  start: () => Promise<{ url: RedisUrl; stop(): Promise<void> }>,
  open = kept,
): void {
  describe(name, { skip: noRedis }, () => {
    let group: { url: RedisUrl; stop(): Promise<void> } | undefined;
    before(async () => {
      group = await start();
    });
    after(() => group?.stop());
    const backends = redisBackends(() => (group as RedisGroup).url, open);
    describeStore(name, backends);
    describeLeases(name, backends);
    describeReplicas(name, backends);
    describeAccessStore(name, backends);
    describeLooks(name, backends);
    describeLeafCounts(name, backends);
    describeBackups(name, backends);
  });
}

describeOn("Redis", async () => {
  const server = await startRedis();
  return { url: redisUrl(server.port), stop: () => server.stop() };
});
describeOn(
  "Redis for one request",
  async () => {
    const server = await startRedis();
    return { url: redisUrl(server.port), stop: () => server.stop() };
  },
  async (settings) =>
    new RequestRedis({
      settings,
      clock: systemClock,
      random: systemRandom,
      log: silentLog,
      memory: { checked: false, prefix: null, known: null },
    }),
);
describeOn("Redis Sentinel", startSentinels);
describeOn("Redis Cluster", startCluster);
