/**
 * Several datacenters at one Redis: each has its keys under a prefix with its name, and one that has
 * its state under the plain prefix goes on there.
 * @module
 */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import type { Settings } from "../../src/config/settings.ts";
import type { RedisUrl } from "../../src/config/store-url.ts";
import { makeKek } from "../../src/seal/kek.ts";
import { leafTtl, startReplica, type TestReplica } from "./replica.ts";
import { noRedis, type RedisServer, redisUrl, startCluster, startRedis, until } from "./server.ts";

const ROTATE = "/v1/connect/ca/rotate";
const DC1 = { datacenter: "dc1", primaryDatacenter: "dc1" };
const DC2 = { datacenter: "dc2", primaryDatacenter: "dc2" };

const trustDomainOf = ({ meshca }: TestReplica) => meshca.ca.require().state.trustDomain;
const indexOf = ({ meshca }: TestReplica) => meshca.ca.require().state.index;

/** Where nobody listens: a secondary goes on without its primary. */
const AWAY: Settings["primary"] = {
  datacenter: "dc9",
  servers: [new URL("https://127.0.0.1:1")],
  ...{ caPem: null, caPin: null, token: null, tokenFile: null },
};

describe("datacenters at one Redis", { skip: noRedis }, () => {
  let redis: RedisServer;
  const running: TestReplica[] = [];
  before(async () => {
    redis = await startRedis({ config: ["appendonly yes"] });
  });
  beforeEach(() => redis.admin.flushall());
  afterEach(async () => {
    for (const replica of running.splice(0)) await replica.close();
  });
  after(() => redis?.stop());

  /** A replica whose URL has no prefix. */
  async function start(
    settings: Partial<Settings>,
    more: Omit<Parameters<typeof startReplica>[0], "settings"> & { url?: Partial<RedisUrl> } = {},
  ): Promise<TestReplica> {
    const hasDatacenters = (settings.primaryDatacenter ?? null) !== null;
    const datacenterPrefix = hasDatacenters ? `meshca:${settings.datacenter}` : null;
    const store = redisUrl(redis.port, { datacenterPrefix, ...more.url });
    const replica = await startReplica({ ...more, settings: { store, ...settings } });
    running.push(replica);
    return replica;
  }
  async function stop(replica: TestReplica): Promise<void> {
    running.splice(running.indexOf(replica), 1);
    await replica.close();
  }
  /** The prefixes of all keys. */
  const prefixes = async () =>
    [...new Set((await redis.admin.keys("*")).map((key) => key.replace(/:[^}]*$/, "")))].toSorted(
      (a, b) => a.localeCompare(b),
    );
  const prefixOf = async (replica: TestReplica) => {
    const { status, text } = await replica.call("GET", "/v1/status/diagnosis");
    assert.equal(status, 200, text);
    return (JSON.parse(text) as { Store: { Value: { Prefix: string } } }).Store.Value.Prefix;
  };

  it("each has all of its keys under a prefix with its name, also after a restart", async () => {
    const [one, two] = [await start(DC1), await start(DC2)];
    assert.deepEqual(await prefixes(), ["{meshca:dc1}", "{meshca:dc2}"]);
    assert.notEqual(trustDomainOf(one), trustDomainOf(two));
    assert.deepEqual([await prefixOf(one), await prefixOf(two)], ["meshca:dc1", "meshca:dc2"]);
    const other = await start(DC2);
    assert.equal((await two.call("PUT", ROTATE)).status, 200);
    await until(() => indexOf(other) === indexOf(two));
    for (const replica of [two, other]) await stop(replica);
    const again = await start(DC2);
    assert.equal(trustDomainOf(again), trustDomainOf(two));
    assert.deepEqual(await prefixes(), ["{meshca:dc1}", "{meshca:dc2}"]);
  });

  it("the access control of each is under the same prefix", async () => {
    const acl = { acl: "deny", managementToken: "0123456789abcdef0123456789abcdef" } as const;
    await start({ ...DC1, ...acl });
    await until(async () => (await redis.admin.exists("{meshca:dc1}:access:records")) === 1);
    assert.deepEqual(await prefixes(), ["{meshca:dc1}"]);
  });

  it("one datacenter keeps the plain prefix, and a prefix in the URL is used as it is", async () => {
    await start({});
    await start(DC1, { url: { prefix: "mesh:a", datacenterPrefix: null } });
    assert.deepEqual(await prefixes(), ["{mesh:a}", "{meshca}"]);
  });

  it("does not change its prefix with its role", async () => {
    const primary = await start(DC1);
    await stop(primary);
    const secondary = await start({ ...DC1, primaryDatacenter: "dc9", primary: AWAY });
    assert.equal(trustDomainOf(secondary), trustDomainOf(primary));
    assert.deepEqual(await prefixes(), ["{meshca:dc1}"]);
  });

  it("goes on under the plain prefix where its state is, before and after it has its name", async () => {
    const single = await start({ datacenter: "dc1" });
    const [first, second] = [await start(DC1), await start(DC1)];
    for (const [at, changer] of [single, first, second].entries()) {
      assert.equal(
        (await changer.call("PUT", "/v1/connect/ca/configuration", leafTtl(`7${at}h`))).status,
        200,
      );
      await until(() =>
        [single, first, second].every((each) => indexOf(each) === indexOf(changer)),
      );
    }
    assert.equal(first.meshca.ca.require().state.datacenter, "dc1");
    for (const replica of [single, first, second]) await stop(replica);
    const named = await start(DC1);
    assert.equal(trustDomainOf(named), trustDomainOf(single));
    assert.equal(await prefixOf(named), "meshca");
    assert.deepEqual(await prefixes(), ["{meshca}"]);
    // Another one finds a state with the name of another one there.
    const two = await start(DC2);
    assert.notEqual(trustDomainOf(two), trustDomainOf(named));
    assert.deepEqual(await prefixes(), ["{meshca:dc2}", "{meshca}"]);
  });

  it("a state from before there were several gets the name without a change by an operator", async () => {
    await stop(await start({ datacenter: "dc1" }));
    const one = await start(DC1);
    await until(() => one.meshca.ca.require().state.datacenter === "dc1");
    assert.equal(indexOf(one), 2);
    const two = await start({ ...DC2, primaryDatacenter: "dc1", primary: AWAY });
    assert.equal(two.meshca.ca.snapshot, null);
    assert.equal(await prefixOf(two), "meshca:dc2");
  });

  it("a datacenter with other key-encryption keys does not take the plain state for its own", async () => {
    await start(DC1, { url: { datacenterPrefix: null } });
    await start({ ...DC2, kek: makeKek() });
    assert.deepEqual(await prefixes(), ["{meshca:dc2}", "{meshca}"]);
  });

  it("a state that is not authentic, or that the secondary never wrote, is refused and nothing created", async () => {
    await start({ datacenter: "dc1" });
    const before = await redis.admin.hgetall("{meshca}:state");
    await assert.rejects(
      start({ ...DC2, primaryDatacenter: "dc9", primary: AWAY }),
      /^StoreError: Cannot use the stored CA state: it names no datacenter, and this is dc2/,
    );
    await assert.rejects(
      start({ ...DC1, kek: makeKek() }),
      /Cannot verify a MAC of the stored state: key-encryption key "\w+" is not configured/,
    );
    const { document = "" } = before;
    const tampered = document.replace('"index":1,', '"index":77,');
    assert.notEqual(tampered, document);
    for (const replica of running.splice(0)) await replica.close();
    await redis.admin.hset("{meshca}:state", { document: tampered });
    await assert.rejects(start(DC1), /Cannot trust the stored CA state/);
    await redis.admin.hset("{meshca}:state", { document: "no JSON" });
    await assert.rejects(start(DC1), /Cannot trust the stored CA state: its document is not JSON/);
    await redis.admin.del("{meshca}:state");
    await redis.admin.lpush("{meshca}:state", "x");
    await assert.rejects(start(DC1), /A key under meshca's prefix in Redis has another type/);
    assert.deepEqual(await redis.admin.keys("{meshca:*"), []);
  });

  it("a stop mark without a state holds the prefix, too", async () => {
    const folder = new Map<string, string>();
    const seen = await start({ datacenter: "dc1" }, { folder });
    await redis.admin.del("{meshca}:state");
    await until(async () => (await redis.admin.exists("{meshca}:stop")) === 1);
    await stop(seen);
    const replica = await start(DC1);
    assert.notEqual(replica.meshca.ca.status.stopped, null);
    assert.deepEqual(await redis.admin.keys("{meshca:*"), []);
  });

  it("takes the state that a replica of an older version created after the prefix was decided", async () => {
    const replica = await start(DC1, { running: false });
    assert.equal(replica.meshca.ca.status.index, 0);
    await replica.meshca.ca.refresh();
    const older = await start({ datacenter: "dc1" });
    await replica.meshca.start();
    assert.equal(trustDomainOf(replica), trustDomainOf(older));
    assert.equal(await prefixOf(replica), "meshca");
    assert.deepEqual(await redis.admin.keys("{meshca:*:state"), []);
  });

  it("says so if the state is under both, and uses the one with the name", async () => {
    const own = await start(DC1);
    await stop(own);
    await start({ ...DC1 }, { url: { datacenterPrefix: null } });
    const replica = await start(DC1);
    assert.equal(trustDomainOf(replica), trustDomainOf(own));
    const line = replica.lines.find(({ level }) => level === "error");
    assert.match(
      line?.message ?? "",
      /^Redis has a CA state of this datacenter under two prefixes/,
    );
    assert.deepEqual(line?.fields, { used: "meshca:dc1", other: "meshca" });
  });

  it("replicas that find nothing stored any more agree on the prefix, and restore it there", async () => {
    await stop(await start({ datacenter: "dc1" }));
    const folder = new Map<string, string>();
    const replicas = [await start(DC1, { folder }), await start(DC1)];
    const trustDomain = trustDomainOf(replicas[0] ?? assert.fail());
    await redis.admin.flushall();
    await until(async () => (await redis.admin.exists("{meshca:dc1}:stop")) === 1);
    const restarted = await start(DC1, { folder: new Map(folder) });
    await until(() =>
      [...replicas, restarted].every(({ meshca }) => meshca.ca.status.stopped !== null),
    );
    const [first = assert.fail()] = replicas;
    await first.meshca.ca.resolve({ keep: "snapshot", forceWithoutCrossSigning: false });
    await until(() =>
      [...replicas, restarted].every(({ meshca }) => meshca.ca.status.stopped === null),
    );
    assert.equal(trustDomainOf(restarted), trustDomain);
    assert.deepEqual((await redis.admin.keys("*:state")).toSorted(), ["{meshca:dc1}:state"]);
  });

  it("a user that may use one of the prefixes only uses that one, or is told what to allow", async () => {
    const user = async (name: string, prefix: string) => {
      const rules = ["on", ">secret", `~{${prefix}}:*`, `&{${prefix}}:*`, "+@all"];
      await redis.admin.call("ACL", "SETUSER", name, "reset", ...rules);
      return { url: { username: name, password: "secret" } };
    };
    await assert.rejects(
      start(DC1, await user("plain", "meshca")),
      /allow it in the ACL of Redis: ~\{meshca:dc1\}:\* &\{meshca:dc1\}:\*/,
    );
    await start({ datacenter: "dc1" });
    const plain = await start(DC1, await user("plain", "meshca"));
    assert.equal(await prefixOf(plain), "meshca");
    const own = await start(DC2, await user("own", "meshca:dc2"));
    assert.equal(await prefixOf(own), "meshca:dc2");
  });
});

describe("datacenters at one Redis Cluster", { skip: noRedis }, () => {
  it("have their keys in a slot each, and one goes on under the plain prefix", {
    timeout: 120_000,
  }, async () => {
    const cluster = await startCluster();
    const running: TestReplica[] = [];
    const start = async (settings: Partial<Settings>, datacenterPrefix: string | null) => {
      const store = { ...cluster.url, datacenterPrefix };
      const replica = await startReplica({ settings: { store, ...settings } });
      running.push(replica);
      return replica;
    };
    try {
      const single = await start({ datacenter: "dc1" }, null);
      const one = await start(DC1, "meshca:dc1");
      assert.equal(trustDomainOf(one), trustDomainOf(single));
      assert.equal((await one.call("PUT", ROTATE)).status, 200);
      const two = await start(DC2, "meshca:dc2");
      assert.notEqual(trustDomainOf(two), trustDomainOf(one));
      for (const replica of [one, two])
        assert.equal((await replica.call("PUT", ROTATE)).status, 200);
      await until(() => indexOf(single) === indexOf(one));
      const keys = (await Promise.all(cluster.servers.map(({ admin }) => admin.keys("*")))).flat();
      const of = (prefix: string) => keys.filter((key) => key.startsWith(`{${prefix}}:`));
      assert.ok(of("meshca").includes("{meshca}:state"));
      assert.ok(of("meshca:dc2").includes("{meshca:dc2}:state"));
      assert.deepEqual(of("meshca:dc1"), []);
    } finally {
      for (const replica of running) await replica.close();
      await cluster.stop();
    }
  });
});
