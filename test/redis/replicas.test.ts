/**
 * Many replicas over one Redis: they are one CA, and what each does while Redis, its clock or its
 * peers are not as they should be.
 * @module
 */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { hex } from "../../src/core/bytes.ts";
import { systemClock } from "../../src/entry/platform.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { createCodec } from "../../src/store/state-document.ts";
import { createCa, opensslCsr } from "../fakes/ca.ts";
import { openTestRedis } from "../fixtures/redis.ts";
import { KEK, leafTtl, type ReplicaOptions, startReplica, type TestReplica } from "./replica.ts";
import { noRedis, type RedisServer, redisUrl, startRedis, until } from "./server.ts";

const ROOTS = "/v1/connect/ca/roots";
const ROTATE = "/v1/connect/ca/rotate";
const CONFIGURATION = "/v1/connect/ca/configuration";
const CONFLICT = "/v1/connect/ca/state-conflict";
const REWRAP = "/v1/connect/ca/rewrap";

describe("replicas over Redis", { skip: noRedis }, () => {
  let redis: RedisServer;
  const open: TestReplica[] = [];
  const start = async (options: Omit<ReplicaOptions, "port"> = {}): Promise<TestReplica> => {
    const replica = await startReplica({ port: redis.port, ...options });
    open.push(replica);
    return replica;
  };
  const sign = (replica: TestReplica) => {
    const { csr } = opensslCsr(
      `URI:spiffe://${replica.meshca.ca.require().state.clusterId}.consul/ns/default/dc/dc1/svc/web`,
    );
    return replica.call("PUT", "/v1/connect/ca/sign", csr);
  };
  const index = (replica: TestReplica) => replica.meshca.ca.snapshot?.state.index;

  before(async () => {
    redis = await startRedis();
  });
  beforeEach(() => redis.admin.flushall());
  afterEach(async () => {
    for (const replica of open.splice(0)) await replica.close();
  });
  after(() => redis?.stop());

  it("show one CA, take a change at any of them, and wake each other's watchers", async () => {
    const replicas = await Promise.all([start(), start(), start()]);
    const [a, b, c] = replicas as [TestReplica, TestReplica, TestReplica];
    const roots = await Promise.all(
      replicas.map(async (replica) => (await replica.call("GET", ROOTS)).text),
    );
    assert.equal(new Set(roots).size, 1);
    const watching = [a, c].map((replica) => replica.call("GET", `${ROOTS}?index=1&wait=30s`));
    assert.equal((await b.call("PUT", ROTATE)).status, 200);
    for (const answer of await Promise.all(watching))
      assert.equal(answer.headers.get("x-consul-index"), "2");
    for (const replica of replicas) assert.equal((await sign(replica)).status, 200);
    const peers = JSON.parse((await a.call("GET", "/v1/status/peers")).text) as string[];
    await until(
      async () =>
        (JSON.parse((await a.call("GET", "/v1/status/peers")).text) as string[]).length === 3,
    );
    const leader = JSON.parse((await a.call("GET", "/v1/status/leader")).text) as string;
    await until(
      () => replicas.filter(({ meshca }) => meshca.ca.status.role === "leader").length === 1,
    );
    assert.match(leader, /^127\.0\.0\.1:\d+$/);
    assert.ok(peers.length > 0);
  });

  it("answer a second change at another replica once the first has ended", async () => {
    const [a, b] = (await Promise.all([start(), start()])) as [TestReplica, TestReplica];
    const outcomes = await Promise.all([
      a.call("PUT", ROTATE),
      b.call("PUT", CONFIGURATION, leafTtl("71h")),
    ]);
    assert.deepEqual(
      outcomes.map(({ status }) => status),
      [200, 200],
    );
    await until(() => index(a) === 3 && index(b) === 3);
  });

  it("sign without asking Redis anything", async () => {
    const replica = await start({ running: false });
    await replica.meshca.ca.start();
    await replica.meshca.ca.tick();
    const calls = async () =>
      [...(await redis.admin.info("commandstats")).matchAll(/^cmdstat_(\S+?):calls=(\d+)/gm)]
        .filter(([, name]) => name !== "info")
        .map(([line]) => line)
        .join();
    const { csr } = opensslCsr(
      `URI:spiffe://${replica.meshca.ca.require().state.clusterId}.consul/ns/default/dc/dc1/svc/web`,
    );
    const before = await calls();
    for (let i = 0; i < 200; i++)
      assert.equal((await replica.call("PUT", "/v1/connect/ca/sign", csr)).status, 200);
    assert.equal(await calls(), before);
  });

  it("write nothing when the leader changes, a thousand times", async () => {
    const sealer = createSealer(await readKeks(KEK));
    const backend = await openTestRedis(redisUrl(redis.port));
    const leader = (name: string) => {
      const ports = backend.open(createCodec(sealer), name);
      return createCa({ ...ports, sealer, clock: systemClock, self: { id: name, address: name } });
    };
    const first = leader("first");
    await first.tick();
    const { commitId } = first.require().state;
    const writes = async () => (await redis.admin.hgetall("{meshca}:state")).commit;
    await first.close();
    for (let i = 0; i < 1000; i++) {
      const next = leader(`leader ${i}`);
      assert.equal((await next.tick()).kind, "wait");
      assert.equal(next.status.role, "leader");
      await next.close();
    }
    assert.equal(await writes(), commitId);
    assert.equal((await redis.admin.hget("{meshca}:lease:leader", "term")) ?? "", "1001");
    backend.close();
  });

  it("go on signing while Redis is unavailable, up to the staleness allowed, and refuse changes at once", async () => {
    const replica = await start({ settings: { maxStalenessMs: 60_000 } });
    const watching = replica.call("GET", `${ROOTS}?index=1&wait=500ms`);
    redis.kill("SIGKILL");
    await until(async () => (await replica.call("PUT", ROTATE)).status === 503);
    const refused = await replica.call("PUT", ROTATE);
    assert.match(refused.text, /^Redis is unavailable: /);
    assert.ok(Number(refused.headers.get("retry-after")) >= 1);
    assert.equal((await watching).status, 200);
    assert.equal((await sign(replica)).status, 200);
    assert.equal((await replica.call("GET", "/readyz")).status, 200);
    // An index that this replica has not reached: it answers its current state.
    assert.equal((await replica.call("GET", `${ROOTS}?index=99`)).status, 200);

    replica.clock.aheadMs = 61_000;
    const late = await sign(replica);
    assert.equal(late.status, 503);
    assert.match(late.text, /^Cannot sign leaf: the store has not answered for more than 60 s/);
    const ready = await replica.call("GET", "/readyz");
    assert.equal(ready.status, 503);
    assert.match(
      ready.text,
      /^Cannot sign: the store has not answered for more than 60 s.*\nrole: follower\n/,
    );
    const roots = await replica.call("GET", ROOTS);
    assert.deepEqual([roots.status, roots.headers.get("x-consul-knownleader")], [200, "false"]);
    assert.ok(Number(roots.headers.get("x-consul-lastcontact")) > 60_000);
    assert.match((await replica.call("GET", "/metrics")).text, /^meshca_staleness_seconds 6\d/m);

    replica.clock.aheadMs = 0;
    await redis.restart();
    // It came back empty: no replica makes another CA, and leaves are signed.
    await until(async () => replica.meshca.ca.status.stopped !== null);
    assert.equal((await sign(replica)).status, 200);
  });

  it("never make another CA on an emptied Redis, and restore the last-seen state on an operator's request", async () => {
    const folder = new Map<string, string>();
    const first = await start({ folder });
    assert.equal((await first.call("PUT", ROTATE)).status, 200);
    const before = (await first.call("GET", ROOTS)).text;
    await first.close();
    open.length = 0;
    await redis.admin.flushall();
    const again = await start({ folder });
    const other = await start();
    assert.equal(other.meshca.ca.snapshot, null);
    assert.equal((await again.call("GET", ROOTS)).text, before);
    assert.equal((await sign(again)).status, 200);
    assert.equal((await again.call("PUT", ROTATE)).status, 503);
    const conflict = JSON.parse((await again.call("GET", CONFLICT)).text) as Record<
      string,
      unknown
    >;
    assert.deepEqual(
      [conflict.Conflict, conflict.Stored, conflict.Reason],
      [true, null, "it holds no state, index 2 was seen"],
    );
    assert.equal((await again.call("PUT", CONFLICT, '{"Keep":"stored"}')).status, 409);
    assert.equal((await other.call("PUT", CONFLICT, '{"Keep":"snapshot"}')).status, 200);
    await until(() => index(again) === 3 && index(other) === 3);
    assert.equal((await again.call("GET", CONFLICT)).text, '{"Conflict":false}');
    assert.equal((await again.call("PUT", CONFLICT, '{"Keep":"snapshot"}')).status, 409);
    assert.equal((await again.call("PUT", ROTATE)).status, 200);
  });

  it("refuse to sign while their clock is off, and say by how much", async () => {
    const right = await start();
    const wrong = await start({ aheadMs: 45_000 });
    await until(() => wrong.meshca.ca.status.live.length === 2);
    const refused = await sign(wrong);
    assert.equal(refused.status, 503);
    assert.match(
      refused.text,
      /^Cannot sign leaf: the clock of this replica is 45 s ahead of the store's, more than the 30 s allowed; set the clock$/,
    );
    assert.match(
      (await wrong.call("PUT", ROTATE)).text,
      /^Cannot change the CA: the clock of this replica is 45 s ahead/,
    );
    assert.match(
      (await wrong.call("GET", "/readyz")).text,
      /^Cannot sign: the clock of this replica is 45 s ahead/,
    );
    assert.equal((await sign(right)).status, 200);
  });

  it("alarm and go on signing if they agree with each other against Redis, and change nothing", async () => {
    const [a, b] = [await start(), await start()];
    for (const { clock } of [a, b]) clock.aheadMs = -45_000;
    for (const { meshca } of [a, b]) await meshca.ca.heartbeat();
    await a.meshca.ca.heartbeat();
    for (const replica of [a, b]) {
      // The last answer of the store is from before the clock was set back.
      await replica.meshca.ca.refresh();
      assert.equal((await sign(replica)).status, 200);
      assert.match(
        (await replica.call("GET", "/readyz")).text,
        /^ok\n(.+\n)*alarm: the store's clock differs from the clocks of all replicas/,
      );
      assert.match((await replica.call("GET", "/metrics")).text, /^meshca_clock_alarm 1$/m);
      assert.match(
        (await replica.call("PUT", ROTATE)).text,
        /^Cannot change the CA: the clock of this replica is 45 s behind the store's/,
      );
    }
  });

  it("go on signing if Redis's clock went back, though a stopped replica's heartbeat is later", async () => {
    const [a, b] = [await start(), await start()];
    const dead = { ...a.meshca.ca.status.live[0], id: "dead", clockOffsetMs: 0 };
    // As by a clock that is an hour ahead of the one that is asked now.
    await redis.admin.hset(
      "{meshca}:replicas",
      "dead",
      `${Date.now() + 3_610_000} 10000 ${JSON.stringify(dead)}`,
    );
    for (const { clock } of [a, b]) clock.aheadMs = 45_000;
    // The first that compares its clock has no peer that agrees until the other has compared too.
    await a.meshca.ca.heartbeat();
    await a.meshca.ca.refresh();
    assert.equal((await sign(a)).status, 200);
    await b.meshca.ca.heartbeat();
    await a.meshca.ca.heartbeat();
    for (const replica of [a, b]) {
      await replica.meshca.ca.refresh();
      assert.equal((await sign(replica)).status, 200);
    }
  });

  it("log which state they refuse, once they have signed for max_staleness without the store", async () => {
    const replica = await start({ settings: { maxStalenessMs: 60_000 } });
    await redis.admin.hset("{meshca}:state", { commit: "f".repeat(32), document: "{}" });
    await assert.rejects(replica.meshca.ca.refresh(), /Cannot trust the stored CA state/);
    replica.clock.aheadMs = 61_000;
    const late = await sign(replica);
    assert.equal(late.status, 503);
    assert.match(
      late.text,
      /^Cannot sign leaf: the store's answers could not be used for more than 60 s \(Cannot trust the stored CA state: /,
    );
  });

  it("start with the new key only after a rewrap by another replica, once they were restarted with both", async () => {
    const next = makeKek();
    const folder = new Map<string, string>();
    const restart = async (before: TestReplica | null, kek: string) => {
      if (before !== null) {
        await before.close();
        open.splice(open.indexOf(before), 1);
      }
      return start({ folder, settings: { kek } });
    };
    const old = await restart(null, KEK);
    const both = await restart(old, `${next},${KEK}`);
    const other = await start({ settings: { kek: `${next},${KEK}` } });
    assert.equal((await other.call("PUT", REWRAP)).status, 200);
    await until(() => index(both) === 2);
    const fresh = await restart(both, next);
    assert.equal((await sign(fresh)).status, 200);
    // One that slept through it all gets the file's name.
    const asleep = new Map([
      [
        "seen-redis.json",
        JSON.stringify({
          term: 1,
          document: (await redis.admin.hget("{meshca}:state", "document")) ?? "",
        }),
      ],
    ]);
    const named =
      /^SealError: Cannot read the last-seen state in seen-redis\.json: .* is not configured\. Add the key-encryption key, or remove the file to trust the store as it is$/;
    await assert.rejects(start({ folder: asleep, settings: { kek: KEK } }), named);
  });

  it("do not sign with a copy of Redis and other keys", async () => {
    await start();
    const id = KEK.split(":")[0];
    await assert.rejects(
      start({ settings: { kek: makeKek() } }),
      new RegExp(`key-encryption key "${id}" is not configured`),
    );
    await assert.rejects(
      start({ settings: { kek: `${id}:${makeKek().split(":")[1]}` } }),
      /the MAC of its document is invalid/,
    );
    const document = (await redis.admin.hget("{meshca}:state", "document")) ?? "";
    const key = hex(new TextEncoder().encode("PRIVATE KEY"));
    assert.ok(!document.includes("PRIVATE KEY") && !document.includes(key));
  });

  it("encrypt everything again while they run, once every one of them has the new key", async () => {
    const next = makeKek();
    const [oldId, newId] = [KEK, next].map((text) => text.split(":")[0] ?? "") as [string, string];
    const behind = await start();
    const ahead = await start({ settings: { kek: `${next},${KEK}` } });
    assert.equal((await behind.call("PUT", ROTATE)).status, 200);
    await until(() => index(ahead) === 2);
    const refused = await ahead.call("PUT", REWRAP);
    assert.equal(refused.status, 503);
    assert.match(
      refused.text,
      new RegExp(
        `^Cannot change the CA: replica 127\\.0\\.0\\.1:\\d+ does not have key-encryption key "${newId}"`,
      ),
    );
    assert.equal((await ahead.call("PUT", ROTATE)).status, 503);
    await behind.close();
    open.splice(open.indexOf(behind), 1);
    const both = await start({ settings: { kek: `${KEK},${next}` } });
    const done = JSON.parse((await ahead.call("PUT", REWRAP)).text) as {
      Current: string;
      InUse: string[];
    };
    assert.deepEqual([done.Current, done.InUse], [newId, [newId]]);
    await until(() => index(both) === 3);
    for (const replica of [ahead, both]) assert.equal((await sign(replica)).status, 200);
    // A replica that lacks it fails to start, with the key's name.
    await assert.rejects(start(), new RegExp(`"${newId}" is not configured`));
    const fresh = await start({ settings: { kek: next } });
    assert.equal((await fresh.call("PUT", ROTATE)).status, 200);
    assert.equal(
      (await both.call("PUT", ROTATE)).status,
      503,
      "replica fresh does not have the old key",
    );
    assert.ok(oldId !== newId);
  });

  it("fail to start with the name of a missing key in use, though the state's own is given", async () => {
    const next = makeKek();
    const first = await start({ settings: { kek: `${next},${KEK}` } });
    await first.close();
    open.length = 0;
    await redis.admin.flushall();
    const old = await start();
    await old.close();
    open.length = 0;
    const mixed = await start({ settings: { kek: `${next},${KEK}` } });
    assert.equal((await mixed.call("PUT", CONFIGURATION, leafTtl("71h"))).status, 200);
    await mixed.close();
    open.length = 0;
    const id = KEK.split(":")[0];
    await assert.rejects(
      start({ settings: { kek: next } }),
      new RegExp(`^SealError: Cannot start: .*key-encryption key "${id}"`),
    );
  });
});
