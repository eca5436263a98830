/**
 * The set document: what a replica refuses of a store with foreign writes, or that lost writes, and
 * how an operator decides.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, it } from "node:test";
import { AclRecords } from "../../src/acl/admin.ts";
import { createAclCache } from "../../src/acl/cache.ts";
import type { AclReplica } from "../../src/acl/replica.ts";
import { ConflictError, NotReadyError, StoreError } from "../../src/core/errors.ts";
import type { AclLastSeenStore } from "../../src/core/ports/last-seen.ts";
import type { Log } from "../../src/core/ports/log.ts";
import type { Mark, RecordStore } from "../../src/core/ports/record-store.ts";
import type { Backend } from "../../src/store/backend.ts";
import { createCodec } from "../../src/store/state-document.ts";
import { createTestAccess } from "../acl/access.ts";
import { silentLog } from "../fakes/ca.ts";
import { passing, systemRandom } from "../fakes/clock.ts";
import { overriding } from "../fixtures/overriding.ts";
import { openTestRedis } from "../fixtures/redis.ts";
import { noRedis, type RedisServer, redisUrl, startRedis } from "./server.ts";

const codeOf = (type: new (...args: never[]) => Error, code: string) => (error: unknown) => {
  assert.ok(error instanceof type, String(error));
  assert.equal((error as Error & { code?: string }).code, code);
  return true;
};
const denied = (error: unknown) => error instanceof Error && error.message === "ACL not found";

/**
 * All that Redis holds of access control: the last write with its set document, records, keys, and
 * the log of writes.
 */
type Content = Readonly<
  Record<"access" | "records" | "keys" | "log", Readonly<Record<string, string>>>
>;
const KEYS = {
  access: "{meshca}:access",
  records: "{meshca}:access:records",
  keys: "{meshca}:access:keys",
  log: "{meshca}:access:log",
} as const;
const entries = Object.entries(KEYS) as [keyof Content, string][];

async function save(redis: RedisServer): Promise<Content> {
  return Object.fromEntries(
    await Promise.all(entries.map(async ([name, key]) => [name, await redis.admin.hgetall(key)])),
  ) as Content;
}

/** Replaces the stored content, as an attacker with write access to Redis can. */
async function put(redis: RedisServer, content: Content): Promise<void> {
  for (const [name, key] of entries) {
    await redis.admin.del(key);
    if (Object.keys(content[name]).length > 0) await redis.admin.hset(key, content[name]);
  }
}
const EMPTY: Content = { access: {}, records: {}, keys: {}, log: {} };
const pick = (fields: Readonly<Record<string, string>>, test: (name: string) => boolean) =>
  Object.fromEntries(Object.entries(fields).filter(([name]) => test(name)));
const isA = (kind: string) => (name: string) => name.startsWith(`${kind}/`);
const isNot = (kind: string) => (name: string) => !isA(kind)(name);

/** Takes a secret at a replica. */
async function knows(replica: AclReplica, secret: string): Promise<boolean> {
  return replica.tokensByHash.has(await replica.hashSecret(secret));
}
const remove = (replica: AclReplica, accessorId: string) => {
  const entry = replica.tokens.get(accessorId);
  assert.ok(entry !== undefined);
  return replica.write([{ kind: "token", id: accessorId, replaces: entry, content: null }]);
};
describe("the set document", { skip: noRedis }, () => {
  let redis: RedisServer;
  let backend: Backend;
  /** Access control over Redis, with the time in the test's hands. */
  const make = () => createTestAccess({ store: backend.open(codec, "test").access });
  const codec = createCodec({ mac: async () => "", verifyMac: async () => false });

  before(async () => {
    redis = await startRedis();
    const settings = redisUrl(redis.port);
    backend = await openTestRedis(settings);
  });
  beforeEach(() => redis.admin.flushall());
  after(async () => {
    backend?.close();
    await redis?.stop();
  });

  it("covers every write of every replica, and is not required before the CA document names it", async () => {
    const access = await createTestAccess();
    const other = await access.addReplica();
    const { token } = await access.addToken();
    await other.refresh();
    await remove(other, token.accessorId);
    await access.require();
    const { token: kept } = await access.addToken();
    await other.refresh();
    await remove(other, kept.accessorId);
    const fresh = await access.addReplica();
    for (const replica of [access.replica, other, fresh]) {
      await replica.refresh();
      assert.deepEqual(replica.state, {
        loaded: true,
        stopped: null,
        index: (await access.store.read(null)).index,
      });
    }
  });

  const changedSet = ({ access }: Content, then: Content) => {
    const set = JSON.parse(then.access.set ?? "") as object;
    return JSON.stringify({ ...set, index: Number(access.index), tip: access.tip });
  };
  const MAC = /the MAC over all records is invalid/;
  const attacks: readonly [
    what: string,
    reason: RegExp,
    forge: (now: Content, then: Content) => Content,
  ][] = [
    [
      "a deleted token is put back",
      MAC,
      (now, then) => ({ ...now, records: { ...then.records, ...now.records } }),
    ],
    [
      "a deleted token is put back and its tombstone taken away",
      MAC,
      (now, then) => ({
        ...now,
        records: pick({ ...then.records, ...now.records }, isNot("tombstone")),
      }),
    ],
    [
      "a policy is rolled back",
      MAC,
      (now, then) => ({
        ...now,
        records: { ...now.records, ...pick(then.records, isA("policy")) },
      }),
    ],
    [
      "a policy is removed",
      MAC,
      (now) => ({ ...now, records: pick(now.records, isNot("policy")) }),
    ],
    [
      "the bootstrap record is removed",
      MAC,
      (now) => ({ ...now, records: pick(now.records, isNot("bootstrap")) }),
    ],
    [
      "the index by which bootstrap is opened again is changed",
      MAC,
      (now) => ({
        ...now,
        records: {
          ...now.records,
          "bootstrap/bootstrap": (now.records["bootstrap/bootstrap"] ?? "").replace(
            /^(\d+ \d+) \d+/,
            "$1 77",
          ),
        },
      }),
    ],
    [
      "a record is malformed",
      /a record is malformed/,
      (now) => ({ ...now, records: { ...now.records, "token/x": "garbage" } }),
    ],
    [
      "a record is of no kind",
      /a record is malformed/,
      (now) => ({ ...now, records: { ...now.records, x: "1 1 1 \n{}" } }),
    ],
    [
      "the set document is removed",
      /the set document is missing/,
      (now) => ({ ...now, access: pick(now.access, (name) => name !== "set") }),
    ],
    [
      "the set document is garbage",
      /the set document is malformed/,
      (now) => ({ ...now, access: { ...now.access, set: "{" } }),
    ],
    [
      "an older set document is put next to the newer records",
      /the set document is of the write at index \d+, but the last write is at index/,
      (now, then) => ({ ...now, access: { ...now.access, set: then.access.set ?? "" } }),
    ],
    [
      "an older set document is made to be about the last write",
      MAC,
      (now, then) => ({ ...now, access: { ...now.access, set: changedSet(now, then) } }),
    ],
    [
      "all is taken away but the key",
      /the set document is missing/,
      (now) => ({
        ...EMPTY,
        access: pick(now.access, (name) => name !== "set"),
        records: pick(now.records, isA("access-key")),
      }),
    ],
    [
      "the key is taken away",
      /the ACL key is missing/,
      (now) => ({ ...now, records: pick(now.records, isNot("access-key")) }),
    ],
    ["all is taken away", /the store has no ACL records/, () => EMPTY],
    [
      "all is rolled back",
      /the store lost writes: the stored ACL is at index \d+, but index \d+ was seen/,
      (_now, then) => then,
    ],
    [
      "all is rolled back under the last index and tip",
      /the set document is of the write at index/,
      (now, then) => ({
        ...then,
        access: { ...then.access, index: now.access.index ?? "", tip: now.access.tip ?? "" },
      }),
    ],
  ];
  for (const [what, reason, forge] of attacks)
    it(`is refused whole if ${what}: the set in force stays, and changes stop`, async () => {
      const access = await make();
      const policy = await access.addPolicy('operator = "write"', { name: "ops" });
      await access.replica.write([
        { kind: "bootstrap", id: "bootstrap", replaces: null, content: { accessorId: "a" } },
      ]);
      await access.require();
      const { token, secret } = await access.addToken();
      const { secret: good } = await access.addToken();
      const then = await save(redis);
      const entry = access.replica.policies.get(policy.id);
      await access.replica.write([
        {
          kind: "policy",
          id: policy.id,
          key: "ops",
          replaces: entry ?? null,
          content: { ...policy, rules: "" },
        },
      ]);
      await remove(access.replica, token.accessorId);
      await put(redis, forge(await save(redis), then));
      // A running replica reads everything, as it does periodically.
      await access.replica.verify();
      assert.match(access.replica.state.stopped ?? "", reason);
      assert.equal(access.replica.state.loaded, true);
      assert.equal(await knows(access.replica, good), true);
      assert.equal(await knows(access.replica, secret), false);
      assert.equal(access.replica.policies.get(policy.id)?.value.rules, "");
      await assert.rejects(access.addToken(), codeOf(StoreError, "state_regressed"));
      await assert.rejects(
        access.replica.writeSetDocument(),
        codeOf(StoreError, "state_regressed"),
      );
      // One that starts has no set that it may take: also of the store that was rolled back, since
      // the other one said so.
      const fresh = await access.addReplica();
      assert.equal(fresh.state.loaded, false);
      assert.match(fresh.state.stopped ?? "", reason);
      await assert.rejects(fresh.hashSecret(secret), codeOf(NotReadyError, "state_stale"));
      await assert.rejects(fresh.write([]), codeOf(NotReadyError, "state_stale"));
      assert.throws(() => fresh.requireLoaded(), codeOf(NotReadyError, "state_stale"));
      // The operator keeps this replica's set, and all replicas accept it.
      await access.replica.resolve("snapshot");
      assert.equal(access.replica.state.stopped, null);
      await fresh.start();
      for (const replica of [access.replica, fresh, await access.addReplica()]) {
        assert.deepEqual([replica.state.loaded, replica.state.stopped], [true, null]);
        assert.equal(await knows(replica, good), true);
        assert.equal(await knows(replica, secret), false);
        assert.equal(replica.policies.get(policy.id)?.value.rules, "");
        assert.equal(replica.faulty.size, 0);
      }
      await access.addToken();
    });

  it("is refused by a replica that reads only changes as by one that reads everything", async () => {
    const access = await make();
    await access.require();
    const { token, secret } = await access.addToken();
    const old = (await access.store.read(null)).records.find(({ kind }) => kind === "token");
    assert.ok(old !== undefined);
    await remove(access.replica, token.accessorId);
    // As an older version of meshca would write it, or an attacker who replays its writes.
    await access.store.write(
      [{ kind: "token", id: old.id, expected: 0, next: { key: old.key, document: old.document } }],
      "by hand",
    );
    await access.replica.refresh();
    assert.match(
      access.replica.state.stopped ?? "",
      /the set document is of the write at index 4, but the last write is at index 5/,
    );
    assert.equal(await knows(access.replica, secret), false);
  });

  it("is in force again once it is valid again, and the log says whether changes are possible", async () => {
    const access = await make();
    await access.require();
    const infos: string[] = [];
    const log: Log = { ...silentLog, info: (message) => void infos.push(message) };
    const replica = await access.addReplica({ log });
    const valid = await save(redis);
    const emptied = { ...valid, records: {} };
    await put(redis, emptied);
    await replica.verify();
    // The records are put back, next to the stop mark that this replica has set.
    await put(redis, { ...valid, access: (await save(redis)).access });
    await replica.verify();
    assert.notEqual(replica.state.stopped, null);
    await put(redis, emptied);
    await replica.verify();
    await put(redis, valid);
    await replica.verify();
    assert.equal(replica.state.stopped, null);
    assert.deepEqual(infos, [
      "The stored ACL is trusted again and in force; ACL changes stay stopped until an operator decides with PUT /v1/acl/state-conflict",
      "The stored ACL is trusted again and in force; ACL changes are possible",
    ]);
  });

  it("is refused by a replica that saw writes which the store lost before it went on", async () => {
    const access = await make();
    await access.require();
    const { token } = await access.addToken();
    const other = await access.addReplica();
    const before = await save(redis);
    await remove(access.replica, token.accessorId);
    await put(redis, before);
    // The other one did not see the deletion, and continues.
    await other.refresh();
    for (let i = 0; i < 5; i++)
      await other.write([
        {
          kind: "policy",
          id: `p${i}`,
          key: `p${i}`,
          replaces: null,
          content: { id: `p${i}`, name: `p${i}`, description: "", rules: "", datacenters: [] },
        },
      ]);
    await access.replica.refresh();
    assert.match(
      access.replica.state.stopped ?? "",
      /the store lost writes: the stored set at index \d+ has another ancestor at index \d+ than the write that was seen/,
    );
    assert.equal(access.replica.tokens.size, 0);
    // It stops the other one, too.
    await other.refresh();
    assert.match(other.state.stopped ?? "", /store lost writes/);
    await assert.rejects(
      other.write([
        { kind: "bootstrap", id: "bootstrap", replaces: null, content: { accessorId: "a" } },
      ]),
      codeOf(StoreError, "state_regressed"),
    );
    // Keeping the stored records does not restore deleted ones.
    await access.replica.resolve("stored");
    for (const replica of [access.replica, other, await access.addReplica()]) {
      await replica.refresh();
      assert.deepEqual(
        [replica.state.stopped, replica.tokens.size, replica.policies.size],
        [null, 0, 5],
      );
    }
  });

  it("lets an operator keep the stored records, with lost denylist entries and without invalid ones", async () => {
    const access = await make();
    await access.require();
    const { secret } = await access.addToken();
    const before = await save(redis);
    const createTime = access.clock.now();
    const denial = {
      id: "d",
      kind: "serial",
      value: "aa",
      reason: "",
      createTime,
      expirationTime: new Date(createTime.getTime() + 60_000),
    } as const;
    await access.replica.write([{ kind: "denial", id: "d", replaces: null, content: denial }]);
    const [token] = Object.values(pick(before.records, isA("token")));
    await put(redis, { ...before, records: { ...before.records, "token/forged": token ?? "" } });
    await access.replica.verify();
    const conflict = await access.replica.conflict();
    assert.deepEqual(conflict?.differences, ["denial/d", "token/forged"]);
    assert.deepEqual(
      [conflict.snapshot?.authentic, conflict.stored?.authentic, conflict.stored?.faulty],
      [true, false, 1],
    );
    await access.replica.resolve("stored");
    const fresh = await access.addReplica();
    assert.deepEqual(
      [fresh.state.stopped, fresh.denylist.has("d"), fresh.tokens.size, await knows(fresh, secret)],
      [null, true, 1, true],
    );
  });

  it("is required for renewals, so that no replica renews without knowing the denylist", async () => {
    const access = await make();
    await access.require();
    const options = {
      clock: access.clock,
      random: systemRandom,
      keySets: { check: () => undefined },
      reviews: { check: () => undefined },
    };
    const leaves = {
      scope: () => ({ trustDomain: "x.consul", datacenter: "dc1" }),
      horizonMs: () => 60_000,
      intermediateEnd: () => null,
    };
    const subject = {
      spiffeId: "spiffe://x.consul/ns/default/dc/dc1/svc/web",
      keys: [],
      subjectKeyId: null,
      serial: null,
    };
    await redis.admin.hdel("{meshca}:access", "set");
    const fresh = new AclRecords({ ...options, leaves, replica: await access.addReplica() });
    assert.throws(() => fresh.denylist.entryOf(subject), codeOf(NotReadyError, "state_stale"));
    const running = new AclRecords({ ...options, leaves, replica: access.replica });
    assert.equal(running.denylist.entryOf(subject), null);
  });

  for (const [what, index] of [
    ["no number", "abc"],
    ["beyond all numbers", "99999999999999999999"],
    ["negative", "-5"],
  ] as const)
    it(`is corrected if the stored index is ${what}`, async () => {
      const access = await make();
      await access.require();
      const { secret } = await access.addToken();
      await redis.admin.hset("{meshca}:access", "index", index, "tip", "x");
      await access.replica.refresh();
      assert.notEqual(access.replica.state.stopped, null);
      await access.replica.resolve("snapshot");
      await access.addToken();
      const fresh = await access.addReplica();
      assert.deepEqual(
        [fresh.state.loaded, fresh.state.stopped, await knows(fresh, secret)],
        [true, null, true],
      );
    });

  it("lets an operator start an empty ACL only if no set is in force", async () => {
    const access = await make();
    await access.require();
    const { secret } = await access.addToken();
    await put(redis, EMPTY);
    await access.replica.verify();
    await assert.rejects(access.replica.resolve("nothing"), codeOf(ConflictError, "no_conflict"));
    const fresh = await access.addReplica();
    await assert.rejects(fresh.resolve("snapshot"), codeOf(ConflictError, "no_conflict"));
    await assert.rejects(fresh.resolve("stored"), codeOf(ConflictError, "no_conflict"));
    await fresh.resolve("nothing");
    await fresh.start();
    assert.deepEqual([fresh.state.loaded, fresh.state.stopped, fresh.tokens.size], [true, null, 0]);
    assert.equal(await knows(fresh, secret), false);
    await fresh.write([
      { kind: "bootstrap", id: "bootstrap", replaces: null, content: { accessorId: "a" } },
    ]);
    await assert.rejects(fresh.resolve("stored"), codeOf(ConflictError, "no_conflict"));
  });

  it("is compared with the last-seen state after a restart", async () => {
    const access = await make();
    await access.require();
    const then = await save(redis);
    await access.addToken();
    let kept: Mark | null = null;
    const lastSeen: AclLastSeenStore = {
      load: async () => kept,
      save: async (_clusterId, seen) => {
        kept = seen;
      },
    };
    await access.addReplica({ lastSeen });
    assert.equal((kept as Mark | null)?.index, access.replica.index);
    await put(redis, then);
    const restarted = await access.addReplica({ lastSeen });
    assert.equal(restarted.state.loaded, false);
    assert.match(restarted.state.stopped ?? "", /the store lost writes/);
  });

  it("stays in force while the stored set is refused, for any time", async () => {
    const access = await make();
    await access.require();
    const { secret } = await access.addToken({ policies: [] });
    const content = await save(redis);
    await put(redis, { ...content, access: { ...content.access, set: "x" } });
    for (let i = 0; i < 20; i++) {
      access.clock.advance(60_000);
      await access.replica.refresh();
    }
    assert.ok(access.clock.now().getTime() - access.replica.seenAt.getTime() <= 60_000);
    assert.ok(await access.authorizer.authorize(secret));
  });

  it("does not stay in force beyond the allowed staleness at a replica that is behind another one", async () => {
    const access = await make();
    await access.require();
    const { token } = await access.addToken();
    const [behind, then] = [await access.addReplica(), await save(redis)];
    await remove(access.replica, token.accessorId);
    await put(redis, then);
    await access.replica.refresh();
    const confirmed = access.clock.now().getTime();
    access.clock.advance(60_000);
    for (const replica of [access.replica, behind]) await replica.refresh();
    assert.match(behind.state.stopped ?? "", /the store lost writes/);
    assert.equal(behind.seenAt.getTime(), confirmed);
    assert.equal(access.replica.seenAt.getTime(), confirmed + 60_000);
  });

  it("keeps the tombstone of a deleted record until the record would have expired, and none of one that is created again", async () => {
    const access = await createTestAccess();
    await access.addToken();
    const { token: before } = await access.addToken();
    await remove(access.replica, before.accessorId);
    assert.equal(access.replica.tombstones.size, 0);
    await access.require();
    const end = new Date(access.clock.now().getTime() + 3_600_000);
    const { token } = await access.addToken({ expirationTime: end });
    const entry = access.replica.tokens.get(token.accessorId);
    await remove(access.replica, token.accessorId);
    const stone = { kind: "token", id: token.accessorId, version: 1, expirationTime: end };
    assert.deepEqual(access.replica.tombstones.get(`token.${token.accessorId}`)?.value, stone);
    assert.deepEqual(
      (await access.addReplica()).tombstones.get(`token.${token.accessorId}`)?.value,
      stone,
    );
    await access.replica.write([
      {
        kind: "token",
        id: token.accessorId,
        replaces: null,
        content: token,
        key: entry?.hash ?? "",
      },
    ]);
    assert.equal(access.replica.tombstones.size, 0);
    access.clock.advance(3_600_001);
    await remove(access.replica, token.accessorId);
    assert.equal(access.replica.tombstones.size, 0);
  });

  it("lets concurrent writes of many replicas all succeed", async () => {
    const access = await createTestAccess();
    await access.require();
    const replicas = await Promise.all(Array.from({ length: 6 }, () => access.addReplica()));
    const write = (replica: AclReplica, id: string) =>
      replica.write([
        {
          kind: "policy",
          id,
          key: id,
          replaces: null,
          content: { id, name: id, description: "", rules: "", datacenters: [] },
        },
      ]);
    await passing(
      access.clock,
      Promise.all(
        replicas.flatMap((replica, i) =>
          Array.from({ length: 5 }, (_, j) => write(replica, `p${i}-${j}`)),
        ),
      ),
    );
    const fresh = await access.addReplica();
    assert.deepEqual([fresh.policies.size, fresh.state.stopped], [30, null]);
  });

  it("gives each write of a batch its own outcome", async () => {
    const access = await createTestAccess();
    await access.require();
    const write = (id: string, name: string) =>
      access.replica.write([
        {
          kind: "policy",
          id,
          key: name,
          replaces: null,
          content: { id, name, description: "", rules: "", datacenters: [] },
        },
      ]);
    await write("taken", "taken");
    const before = access.replica.index;
    const outcomes = await Promise.allSettled([
      write("a", "a"),
      write("b", "b"),
      write("c", "taken"),
      write("d", "d"),
      write("d", "e"),
    ]);
    const codes = outcomes.map((outcome) =>
      outcome.status === "fulfilled" ? "done" : (outcome.reason as ConflictError).code,
    );
    assert.deepEqual(codes.slice(0, 3), ["done", "done", "name_taken"]);
    // Of two that make the same record either may come first: their documents are made at the same
    // time.
    assert.deepEqual(codes.slice(3).toSorted(), ["done", "index_mismatch"]);
    assert.deepEqual(new Set(access.replica.policies.keys()), new Set(["a", "b", "d", "taken"]));
    await Promise.all(Array.from({ length: 50 }, (_, i) => write(`p${i}`, `p${i}`)));
    assert.ok(access.replica.index - before <= 6, "they did not go together");
    assert.equal((await access.addReplica()).state.stopped, null);
  });

  it("refuses a write whose records were changed, however often the set moves", async () => {
    const access = await createTestAccess();
    await access.require();
    const other = await access.addReplica();
    const policy = await access.addPolicy("", { name: "ops" });
    await other.refresh();
    const entry = other.policies.get(policy.id) ?? null;
    await access.replica.write([
      {
        kind: "policy",
        id: policy.id,
        key: "ops",
        replaces: entry,
        content: { ...policy, description: "first" },
      },
    ]);
    await assert.rejects(
      other.write([
        {
          kind: "policy",
          id: policy.id,
          key: "ops",
          replaces: entry,
          content: { ...policy, description: "second" },
        },
      ]),
      codeOf(ConflictError, "index_mismatch"),
    );
    assert.equal(other.policies.get(policy.id)?.value.description, "first");
  });

  it("stays in force with a stop mark of an invalid MAC, which only stops changes", async () => {
    const access = await createTestAccess();
    await access.require();
    const { secret } = await access.addToken();
    await access.store.stop(
      JSON.stringify({ schema: 1, index: 999, tip: "x", reason: "", by: "", at: 0, mac: "" }),
      (await access.store.read(null)).tip,
    );
    const fresh = await access.addReplica();
    assert.deepEqual(
      [fresh.state.loaded, fresh.state.stopped, await knows(fresh, secret)],
      [true, "the stored stop mark has an invalid MAC", true],
    );
    await assert.rejects(access.addToken(), codeOf(StoreError, "state_regressed"));
    await access.replica.refresh();
    await access.replica.resolve("stored");
    await access.addToken();
  });

  it("is computed from the changes of a write, for any number of records", async () => {
    const access = await createTestAccess();
    await access.require();
    for (let i = 0; i < 3; i++) {
      const drafts = Array.from({ length: 1000 }, (_, j) => ({
        kind: "binding-rule" as const,
        id: `r${i}-${j}`,
        replaces: null,
        content: {
          id: `r${i}-${j}`,
          description: "",
          authMethod: "m",
          bindType: "service" as const,
          bindName: "x",
          selector: "",
        },
      }));
      await access.replica.write(drafts);
    }
    let [signed, read] = [0, 0];
    const sign = crypto.subtle.sign.bind(crypto.subtle);
    const store: RecordStore = overriding(access.store, {
      async read(since) {
        const changes = await access.store.read(since);
        read += changes.records.length;
        return changes;
      },
    });
    const other = await access.addReplica({ store, cache: createAclCache() });
    read = 0;
    crypto.subtle.sign = (...args: Parameters<typeof sign>) => {
      signed++;
      return sign(...args);
    };
    try {
      await other.write([
        {
          kind: "policy",
          id: "p",
          key: "p",
          replaces: null,
          content: { id: "p", name: "p", description: "", rules: "", datacenters: [] },
        },
      ]);
    } finally {
      crypto.subtle.sign = sign;
    }
    assert.equal(read, 1);
    assert.ok(signed <= 5, `${signed} MACs`);
  });

  it("does not accept the secret of a revoked token on any replica, whatever is written to the store", async () => {
    const access = await make();
    await access.require();
    const { token, secret } = await access.addToken();
    const saved = await save(redis);
    await remove(access.replica, token.accessorId);
    await put(redis, saved);
    await access.replica.refresh();
    await assert.rejects(async () => access.authorizer.authorize(secret), denied);
  });
});
