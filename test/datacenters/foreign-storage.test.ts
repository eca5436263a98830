/**
 * Nothing that one datacenter stores is taken in another one, even with the same key-encryption key
 * and cluster id: each thing is put where the other one has its own.
 * @module
 */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { createSealer } from "../../src/seal/envelope.ts";
import { readKeks } from "../../src/seal/kek.ts";
import { AclLastSeenFile } from "../../src/store/last-seen-file.ts";
import { makeDataDir, runServer, startServer } from "../fixtures/process.ts";
import { KEK, startReplica, type TestReplica } from "../redis/replica.ts";
import { noRedis, type RedisServer, redisUrl, startRedis, until } from "../redis/server.ts";

const CLUSTER = "11111111-2222-4333-8444-555555555555";
const TOKENS = { dc1: "0123456789abcdef0123456789abcdef", dc2: "abcdef0123456789abcdef0123456789" };
type Name = keyof typeof TOKENS;

describe("what is stored in Redis and in the data folder", { skip: noRedis }, () => {
  let redis: RedisServer;
  let folders: Record<Name, Map<string, string>>;
  const running: TestReplica[] = [];

  before(async () => {
    redis = await startRedis({ config: ["appendonly yes"] });
  });
  after(() => redis?.stop());
  beforeEach(async () => {
    await redis.admin.flushall();
    folders = { dc1: new Map(), dc2: new Map() };
    for (const name of ["dc1", "dc2"] as const) {
      const { meshca } = await start(name);
      await until(() => meshca.ca.require().state.access !== null);
      await until(() => folders[name].has("seen-access-redis.json"));
    }
    await stop();
  });
  afterEach(() => stop());

  async function start(name: Name, isRunning = true): Promise<TestReplica> {
    const config = { clusterId: CLUSTER, trustDomain: null, provider: "consul", config: {} };
    const replica = await startReplica({
      folder: folders[name],
      running: isRunning,
      settings: {
        store: redisUrl(redis.port, { datacenterPrefix: `meshca:${name}` }),
        ...{ datacenter: name, primaryDatacenter: name, bootstrap: config },
        ...{ acl: "deny", managementToken: TOKENS[name] },
      },
    });
    running.push(replica);
    return replica;
  }
  async function stop(): Promise<void> {
    for (const replica of running.splice(0)) await replica.close();
  }
  /** Puts keys of dc1 in the place of those of dc2. */
  async function copyKeys(...names: readonly string[]): Promise<void> {
    for (const name of names)
      assert.equal(
        await redis.admin.copy(`{meshca:dc1}:${name}`, `{meshca:dc2}:${name}`, "REPLACE"),
        1,
        name,
      );
  }

  it("a state is refused", async () => {
    await copyKeys("state");
    folders.dc2.clear();
    await assert.rejects(start("dc2"), { code: "datacenter_differs" });
  });

  it("a stop mark is refused", async () => {
    await redis.admin.hset("{meshca:dc1}:stop", {
      ...(await redis.admin.hgetall("{meshca:dc1}:state")),
      ...{ reason: "lost", by: "127.0.0.1:1", at: "1" },
    });
    await copyKeys("stop");
    const { meshca } = await start("dc2");
    await assert.rejects(meshca.ca.conflict(), { code: "datacenter_differs" });
    await assert.rejects(meshca.ca.resolve({ keep: "snapshot", forceWithoutCrossSigning: false }), {
      code: "datacenter_differs",
    });
  });

  it("the last-seen state of the CA is refused", async () => {
    const name = "seen-redis.json";
    folders.dc2.set(name, folders.dc1.get(name) ?? assert.fail());
    await assert.rejects(start("dc2"), {
      code: "datacenter_differs",
      message: /^Cannot read the last-seen state in seen-redis\.json: .* is of datacenter dc1/,
    });
  });

  it("the last-seen write of access control is refused", async () => {
    const name = "seen-access-redis.json";
    folders.dc2.set(name, folders.dc1.get(name) ?? assert.fail());
    await assert.rejects(start("dc2"), {
      code: "state_corrupt",
      message:
        /^Cannot read the last-seen write of the ACL in seen-access-redis\.json: its MAC is invalid/,
    });
  });

  it("a last-seen write from before there were several datacenters is still read", async () => {
    const sealer = createSealer(await readKeks(KEK));
    let text: string | null = null;
    const file = {
      name: "seen",
      read: () => text,
      write: async (next: string) => {
        text = next;
      },
    };
    await new AclLastSeenFile(sealer, file).save(CLUSTER, { index: 7, tip: "t" });
    const mark = await new AclLastSeenFile(sealer, file, "dc1").load(CLUSTER);
    assert.deepEqual(mark, { index: 7, tip: "t" });
  });

  it("all records of access control are refused, also if the state records none", async () => {
    folders.dc2.clear();
    await copyKeys("access", "access:records", "access:keys", "access:log");
    const { call, meshca } = await start("dc2");
    const answer = await call("GET", "/v1/acl/tokens", undefined, TOKENS.dc1);
    assert.equal(answer.status, 503);
    assert.match(
      answer.text,
      /it was not encrypted as access-key current of this cluster and datacenter/,
    );
    assert.equal(meshca.ca.require().state.datacenter, "dc2");
  });

  it("a single record of access control is refused", async () => {
    const records = await redis.admin.hgetall("{meshca:dc1}:access:records");
    const [name = ""] = Object.keys(records).filter((each) => each.startsWith("token/"));
    await redis.admin.hset("{meshca:dc2}:access:records", name, records[name] ?? "");
    const { call } = await start("dc2");
    const answer = await call("GET", "/v1/acl/token/self", undefined, TOKENS.dc1);
    assert.equal(answer.status, 503);
    assert.match(answer.text, /^The ACL cannot be loaded: the MAC over all records is invalid/);
  });

  it("a backup is refused", async () => {
    const one = await start("dc1");
    const backup = await one.call("GET", "/v1/connect/ca/backup", undefined, TOKENS.dc1);
    assert.equal(backup.status, 200, backup.text);
    const two = await start("dc2");
    const before = two.meshca.ca.require().state.commitId;
    const put = await two.call("PUT", "/v1/connect/ca/backup", backup.text, TOKENS.dc2);
    assert.notEqual(put.status, 200);
    assert.match(put.text, /is of datacenter dc1, and this is dc2/);
    assert.equal(two.meshca.ca.require().state.commitId, before);
  });

  it("an encrypted key is refused", async () => {
    const { meshca } = await start("dc1");
    const { state, active } = meshca.ca.require();
    const [sealed = ""] = Object.values(state.provider.active).filter((text) =>
      text.startsWith("sealed:2:"),
    );
    const id = active.signingKeyId.replaceAll(":", "");
    const open = async (datacenter: string | null) =>
      createSealer(await readKeks(KEK), datacenter).openKey(
        sealed,
        { clusterId: state.clusterId, purpose: "ca-key", id },
        { name: "ECDSA", namedCurve: "P-256" },
      );
    await open("dc1");
    for (const other of ["dc2", null]) await assert.rejects(open(other), { code: "open_failed" });
  });
});

it("a data folder with SQLite of another datacenter is refused", { timeout: 60_000 }, async () => {
  const dataDir = makeDataDir();
  const environment = (name: string) => ({
    ...{ MESHCA_DATA_DIR: dataDir, MESHCA_DATACENTER: name, MESHCA_PRIMARY_DATACENTER: name },
  });
  try {
    await (await startServer(environment("dc1"))).stop();
    const { code, stdout, stderr } = await runServer(environment("dc2"));
    assert.notEqual(code, 0);
    assert.match(stdout + stderr, /is of datacenter dc1, and this is dc2/);
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
});
