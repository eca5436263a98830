/**
 * A Cluster, or all Sentinels, away at the start: what was opened all the same connects as soon as
 * they answer.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createSealer } from "../../src/seal/envelope.ts";
import { readKeks } from "../../src/seal/kek.ts";
import { createCodec } from "../../src/store/state-document.ts";
import { openTestRedis } from "../fixtures/redis.ts";
import { KEK } from "./replica.ts";
import {
  noRedis,
  type RedisGroup,
  type RedisServer,
  startCluster,
  startSentinels,
  until,
} from "./server.ts";

/** Opens a group whose servers were killed, and starts them again. */
async function comesBack(group: RedisGroup, killed: readonly RedisServer[]): Promise<void> {
  for (const server of killed) server.kill("SIGKILL");
  const settings = { ...group.url, connectTimeoutMs: 500 };
  const backend = await openTestRedis(settings, { keepConnecting: true });
  try {
    const { store } = backend.open(createCodec(createSealer(await readKeks(KEK))), "test");
    await assert.rejects(store.now(), { code: "store_unavailable" });
    for (const server of killed) await server.restart();
    await until(() =>
      store.now().then(
        () => true,
        () => false,
      ),
    );
  } finally {
    backend.close();
  }
}

describe("a Redis of several servers that is away at the start", { skip: noRedis }, () => {
  it("is connected to once the Cluster answers", { timeout: 90_000 }, async () => {
    const cluster = await startCluster();
    try {
      await comesBack(cluster, cluster.servers);
    } finally {
      await cluster.stop();
    }
  });

  it("is connected to once the Sentinels answer", { timeout: 90_000 }, async () => {
    const group = await startSentinels();
    try {
      await comesBack(group, group.sentinels);
    } finally {
      await group.stop();
    }
  });
});
