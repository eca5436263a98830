/**
 * `meshca doctor` against servers on Redis: settings that lose the CA, a Redis that is away or lost
 * its writes, clocks and key-encryption keys of replicas.
 * @module
 */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { makeKek } from "../../src/seal/kek.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { ROOT } from "../fixtures/root.ts";
import { noRedis, type RedisServer, startRedis, startSentinels, until } from "../redis/server.ts";
import { doctor } from "./doctor.ts";
import { meshca } from "./run.ts";

const OPTIONS = { timeout: 180_000 };
const KEK = makeKek();

const serverOn = (store: string, more: Readonly<Record<string, string>> = {}) =>
  startServer({ MESHCA_STORE: store, MESHCA_KEK: KEK, ...more });
const at = ({ url }: ServerProcess) => ({ MESHCA_HTTP_ADDR: url });

describe("meshca doctor and settings of Redis", { skip: noRedis }, () => {
  let redis: RedisServer;
  let server: ServerProcess;
  before(async () => {
    redis = await startRedis({ config: ["appendonly yes", "repl-diskless-sync-delay 0"] });
    server = await serverOn(`redis://127.0.0.1:${redis.port}`);
  });
  after(async () => {
    await server.stop();
    await redis.stop();
  });

  it(
    "finds nothing wrong with one that has an append-only file and evicts nothing",
    OPTIONS,
    async () => {
      const found = await doctor(at(server));
      for (const id of [
        "store.reachable",
        "store.eviction",
        "store.durability",
        "store.memory",
        "kek.use",
        "clock.store",
        "ca.conflict",
        "ca.changes",
      ] as const)
        assert.equal(found.of(id).outcome, "ok", id);
      assert.equal(found.of("store.replication").outcome, "skipped");
      assert.equal(found.finding("ca.replicas").what, "One replica serves this CA");
    },
  );

  it("store.eviction", OPTIONS, async () => {
    await redis.admin.config("SET", "maxmemory-policy", "allkeys-lru");
    const { severity, what } = (await doctor(at(server))).finding("store.eviction");
    await redis.admin.config("SET", "maxmemory-policy", "noeviction");
    assert.equal(severity, "critical");
    assert.match(what, /its maxmemory-policy is allkeys-lru$/);
  });

  it("store.memory", OPTIONS, async () => {
    const [, used] = /^used_memory:(\d+)/m.exec(await redis.admin.info("memory")) ?? [];
    await redis.admin.config("SET", "maxmemory", String(Math.floor(Number(used) * 1.15)));
    const { what } = (await doctor(at(server))).finding("store.memory");
    assert.match(what, /^Redis uses \d\d % of maxmemory$/);
    await redis.admin.config("SET", "maxmemory", "1gb");
    assert.match((await doctor(at(server))).of("store.memory").detail, /^\d % of maxmemory$/);
    await redis.admin.config("SET", "maxmemory", "0");
  });

  it("store.durability: no append-only file, a snapshot that failed", OPTIONS, async () => {
    await redis.admin.config("SET", "appendonly", "no");
    const { what, fix } = (await doctor(at(server))).finding("store.durability");
    assert.equal(what, "Redis has no append-only file");
    assert.match(fix, /appendonly yes/);
    rmSync(redis.folder, { recursive: true, force: true });
    await redis.admin.bgsave();
    await until(async () =>
      /rdb_last_bgsave_status:err/.test(await redis.admin.info("persistence")),
    );
    const { findings } = (await doctor(at(server))).of("store.durability");
    assert.deepEqual(
      findings.map(({ severity, what: text }) => [severity, text]),
      [
        ["warning", "Redis has no append-only file"],
        ["critical", "Redis failed to save its last snapshot"],
      ],
    );
  });
});

describe("meshca doctor and replicas of Redis", { skip: noRedis }, () => {
  it("store.replication: fewer replicas than wait requires, and enough", OPTIONS, async () => {
    const redis = await startRedis({ config: ["repl-diskless-sync-delay 0"] });
    const server = await serverOn(`redis://127.0.0.1:${redis.port}?wait=1`);
    const { what } = (await doctor(at(server))).finding("store.replication");
    assert.match(what, /^Redis has 0 replicas, and 1 should acknowledge each change/);
    const copy = await startRedis({ config: [`replicaof 127.0.0.1 ${redis.port}`] });
    await until(async () => /connected_slaves:1/.test(await redis.admin.info("replication")));
    assert.equal((await doctor(at(server))).of("store.replication").outcome, "ok");
    await server.stop();
    await copy.stop();
    await redis.stop();
  });

  it(
    "store.replication: Sentinel that may lose changes, and one that may not",
    OPTIONS,
    async () => {
      const group = await startSentinels();
      const nodes = group.sentinels.map(({ port }) => `127.0.0.1:${port}`).join(",");
      const one = await serverOn(`redis+sentinel://${nodes}/mesh`);
      const { findings } = (await doctor(at(one))).of("store.replication");
      await one.stop();
      assert.deepEqual(
        findings.map(({ fix }) => fix.split(" ").slice(0, 4).join(" ")),
        ["Add wait=1 to the", "redis-cli CONFIG SET min-replicas-to-write"],
      );
      const master = await group.master();
      await master.admin.config("SET", "min-replicas-to-write", "1");
      const other = await serverOn(`redis+sentinel://${nodes}/mesh?wait=1`);
      assert.equal((await doctor(at(other))).of("store.replication").outcome, "ok");
      await other.stop();
      await group.stop();
    },
  );
});

describe("meshca doctor and a Redis that is away, or lost its writes", { skip: noRedis }, () => {
  it("store.reachable, ca.changes: away, and back", OPTIONS, async () => {
    const redis = await startRedis({ config: ["appendonly yes"] });
    const server = await serverOn(`redis://127.0.0.1:${redis.port}`);
    redis.kill("SIGKILL");
    await until(async () => (await doctor(at(server))).of("ca.changes").outcome === "found");
    const found = await doctor(at(server));
    assert.equal(found.finding("store.reachable").severity, "critical");
    assert.match(found.finding("ca.changes").what, /^The CA cannot be changed: /);
    // What Redis has is not known, and not ok.
    for (const id of [
      "store.eviction",
      "store.durability",
      "store.memory",
      "store.replication",
      "backup.age",
    ] as const)
      assert.equal(found.of(id).outcome, "unchecked", id);
    assert.equal(found.of("ca.signing").outcome, "ok");
    await redis.restart();
    await until(async () => (await doctor(at(server))).of("store.reachable").outcome === "ok");
    await server.stop();
    await redis.stop();
  });

  it("ca.conflict: it lost everything", OPTIONS, async () => {
    const redis = await startRedis();
    const server = await serverOn(`redis://127.0.0.1:${redis.port}`);
    await redis.admin.flushall();
    await until(async () => (await doctor(at(server))).of("ca.conflict").outcome === "found");
    const { severity, fix } = (await doctor(at(server))).finding("ca.conflict");
    assert.deepEqual(
      [severity, fix],
      ["critical", "meshca conflict show, then meshca conflict resolve"],
    );
    await server.stop();
    await redis.stop();
  });

  it("clock.store: the clock of the replica", OPTIONS, async () => {
    const redis = await startRedis();
    const shifted = [
      process.execPath,
      "--preload",
      join(ROOT, "test/recovery/shifted-clock.ts"),
    ] as const;
    const server = await startServer(
      {
        MESHCA_STORE: `redis://127.0.0.1:${redis.port}`,
        ...{ MESHCA_KEK: KEK, TEST_CLOCK_SHIFT_MS: "-3000" },
      },
      [],
      shifted,
    );
    await until(async () => (await doctor(at(server))).of("clock.store").outcome === "found");
    const { what, fix } = (await doctor(at(server))).finding("clock.store");
    assert.match(what, /clock/);
    assert.match(fix, /timedatectl set-ntp true/);
    await server.stop();
    await redis.stop();
  });

  it(
    "kek.use, ca.replicas: an old key in use, a replica without the new one",
    OPTIONS,
    async () => {
      const redis = await startRedis();
      const store = `redis://127.0.0.1:${redis.port}`;
      await (await serverOn(store)).stop();
      const next = makeKek();
      const first = await serverOn(store, { MESHCA_KEK: `${next},${KEK}` });
      const [id] = KEK.split(":");
      const old = (await doctor(at(first))).finding("kek.use");
      assert.equal(old.fix, "meshca kek rewrap");
      assert.ok(old.what.includes(`still encrypted with ${id}`), old.what);
      const second = await serverOn(store);
      await until(async () => (await doctor(at(first))).of("ca.replicas").outcome === "ok");
      const { findings } = (await doctor(at(first))).of("kek.use");
      assert.match(
        findings[0]?.what ?? "",
        new RegExp(`^Replica 127.0.0.1:${second.port} does not have`),
      );
      await second.stop();
      await until(async () => (await meshca(["kek", "rewrap"], at(first))).code === 0);
      assert.equal((await doctor(at(first))).of("kek.use").outcome, "ok");
      await first.stop();
      await redis.stop();
    },
  );
});
