/**
 * The ACL replica: which records it accepts from the store, which it refuses, and how it handles a
 * missing response.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createAclCache } from "../../src/acl/cache.ts";
import { ConflictError, NotReadyError, SealError, StoreError } from "../../src/core/errors.ts";
import type { RecordStore, StoredRecord } from "../../src/core/ports/record-store.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { passing } from "../fakes/clock.ts";
import { overriding } from "../fixtures/overriding.ts";
import { createTestAccess } from "./access.ts";

const codeOf = (type: new (...args: never[]) => Error, code: string) => (error: unknown) => {
  assert.ok(error instanceof type, String(error));
  assert.equal((error as Error & { code?: string }).code, code);
  return true;
};

/** Writes a record in the store, past the replica. */
async function tamper(
  store: RecordStore,
  record: StoredRecord,
  change: Partial<StoredRecord>,
): Promise<void> {
  const { kind, id, version, key, document } = { ...record, ...change };
  const there = (await store.read(null)).records.find(
    (other) => other.kind === kind && other.id === id,
  );
  if (there !== undefined)
    await store.write([{ kind, id, expected: there.version, next: null }], `gone-${id}`);
  for (let v = 0; v < version; v++)
    await store.write([{ kind, id, expected: v, next: { key, document } }], `tip-${id}-${v}`);
}

describe("AclReplica", () => {
  it("start() creates one ACL key for concurrently starting replicas", async () => {
    const access = await createTestAccess();
    const replicas = await Promise.all([
      access.addReplica(),
      access.addReplica(),
      access.addReplica(),
    ]);
    const hashes = await Promise.all(
      [access.replica, ...replicas].map((replica) => replica.hashSecret("secret")),
    );
    assert.equal(new Set(hashes).size, 1);
    assert.equal((await access.store.read(null)).records.length, 1);
  });

  it("follow() applies what another replica created, changed and deleted", async () => {
    const access = await createTestAccess();
    const other = await access.addReplica();
    const follow = () => other.follow(AbortSignal.timeout(60_000));
    const { token } = await access.addToken({ description: "one" });
    await follow();
    assert.deepEqual(
      other.tokens.get(token.accessorId),
      access.replica.tokens.get(token.accessorId),
    );
    const entry = access.replica.tokens.get(token.accessorId);
    assert.ok(entry !== undefined);
    const draft = { kind: "token", id: token.accessorId, replaces: entry } as const;
    await access.replica.write([
      { ...draft, content: { ...token, description: "two" }, key: entry.hash },
    ]);
    await follow();
    assert.equal(other.tokens.get(token.accessorId)?.value.description, "two");
    const second = access.replica.tokens.get(token.accessorId);
    assert.ok(second !== undefined);
    await access.replica.write([{ ...draft, replaces: second, content: null }]);
    await follow();
    assert.equal(other.tokens.size, 0);
    assert.equal(other.tokensByHash.size, 0);
  });

  it("a read that began earlier but ends later does not bring back a record that was deleted concurrently", async () => {
    const access = await createTestAccess();
    const memory = createAclCache();
    let hold: Promise<void> = Promise.resolve();
    let asked = () => {};
    const slow: RecordStore = overriding(access.store, {
      async read(since) {
        const answer = await access.store.read(since);
        asked();
        await hold;
        return answer;
      },
    });
    const [late, prompt] = [
      await access.addReplica({ cache: memory, store: slow }),
      await access.addReplica({ cache: memory }),
    ];
    const { token } = await access.addToken();
    let release = () => {};
    hold = new Promise((resolve) => {
      release = resolve;
    });
    const reading = new Promise<void>((resolve) => {
      asked = resolve;
    });
    const refreshed = late.refresh();
    await reading;
    const entry = access.replica.tokens.get(token.accessorId);
    assert.ok(entry !== undefined);
    await access.replica.write([
      { kind: "token", id: token.accessorId, replaces: entry, content: null },
    ]);
    access.clock.advance(1);
    await prompt.refresh();
    release();
    await refreshed;
    assert.equal(late.tokens.size, 0);
    assert.equal(memory.mark?.index, access.replica.index);
  });

  it("refreshIfStale() reads the store only if the last read is older than allowed", async () => {
    const access = await createTestAccess();
    let reads = 0;
    const counted: RecordStore = overriding(access.store, {
      read: (since) => access.store.read(since).finally(() => reads++),
    });
    const replica = await access.addReplica({ store: counted });
    reads = 0;
    await replica.refreshIfStale(1000);
    access.clock.advance(1000);
    await replica.refreshIfStale(1000);
    assert.equal(reads, 0);
    access.clock.advance(1);
    await replica.refreshIfStale(1000);
    assert.equal(reads, 1);
    // If the clock was set back, the age of the records is unknown.
    access.clock.advance(-5000);
    await replica.refreshIfStale(1000);
    assert.equal(reads, 2);
  });

  it("write() refuses a record that was changed concurrently, and has read the change then", async () => {
    const access = await createTestAccess();
    const other = await access.addReplica();
    const policy = await access.addPolicy('operator = "read"');
    await other.refresh();
    const replaces = access.replica.policies.get(policy.id);
    assert.ok(replaces !== undefined);
    const draft = { kind: "policy", id: policy.id, key: policy.name, replaces } as const;
    await access.replica.write([{ ...draft, content: { ...policy, description: "ours" } }]);
    await assert.rejects(
      other.write([{ ...draft, content: { ...policy, description: "theirs" } }]),
      codeOf(ConflictError, "index_mismatch"),
    );
    assert.equal(other.policies.get(policy.id)?.value.description, "ours");
  });

  it("write() refuses a policy with the name of another one", async () => {
    const access = await createTestAccess();
    await access.addPolicy("", { name: "ops" });
    await assert.rejects(
      access.addPolicy("", { name: "ops" }),
      codeOf(ConflictError, "name_taken"),
    );
  });

  const forgeries: readonly [
    what: string,
    change: (token: StoredRecord, other: StoredRecord) => Partial<StoredRecord>,
  ][] = [
    ["without a document", () => ({ document: "" })],
    ["that is no JSON", () => ({ document: "{" })],
    ["with another hash of a secret", () => ({ key: "0".repeat(64) })],
    ["without a hash", () => ({ key: null })],
    ["under another accessor", () => ({ id: "12345678-1234-1234-1234-123456789abc" })],
    ["as a policy", () => ({ kind: "policy" })],
    ["with another one's document", (_, other) => ({ document: other.document })],
    ["at another version", () => ({ version: 2 })],
    ["with another body", ({ document }) => ({ document: document.replace("plain", "extra") })],
    [
      "without its MAC",
      ({ document }) => ({ document: document.replace(/"mac":"[^"]*"/, '"mac":""') }),
    ],
  ];
  for (const [what, change] of forgeries)
    it(`refresh() leaves out a record ${what}, and keeps the others`, async () => {
      const access = await createTestAccess();
      const { token } = await access.addToken({ description: "plain" });
      const { token: kept } = await access.addToken();
      const records = (await access.store.read(null)).records;
      const [one, two] = [token, kept].map(({ accessorId }) =>
        records.find(({ id }) => id === accessorId),
      );
      assert.ok(one !== undefined && two !== undefined);
      await access.store.write([{ kind: "token", id: one.id, expected: 1, next: null }], "away");
      await tamper(access.store, one, change(one, two));
      for (const replica of [access.replica, await access.addReplica()]) {
        await replica.refresh();
        assert.deepEqual([...replica.tokens.keys()], [kept.accessorId]);
        assert.equal(replica.policies.size, 0);
        assert.equal(replica.faulty.size, 1);
      }
    });

  it("refresh() keeps the records in force if the store has lost the ACL key", async () => {
    const access = await createTestAccess();
    const { token } = await access.addToken();
    const key = (await access.store.read(null)).records.find(({ kind }) => kind === "access-key");
    assert.ok(key !== undefined);
    await access.store.write(
      [{ kind: "access-key", id: key.id, expected: key.version, next: null }],
      "gone",
    );
    await assert.rejects(access.replica.refresh(), codeOf(StoreError, "state_corrupt"));
    await assert.rejects(access.addReplica(), codeOf(StoreError, "state_corrupt"));
    assert.ok(access.replica.tokens.has(token.accessorId));
  });

  it("start() refuses records whose key belongs to another cluster or key-encryption key", async () => {
    const access = await createTestAccess();
    await assert.rejects(
      access.addReplica({ sealer: createSealer(await readKeks(makeKek())) }),
      codeOf(SealError, "kek_unknown"),
    );
  });

  it("start() refuses an otherwise valid ACL whose key is not the one that the CA document names", async () => {
    const keks = makeKek();
    const [ours, theirs] = [await createTestAccess({ keks }), await createTestAccess({ keks })];
    const { secret } = await theirs.addToken();
    for (const access of [ours, theirs]) await access.require();
    const replica = await ours.addReplica({ store: theirs.store });
    assert.deepEqual(
      [replica.state.loaded, replica.state.stopped, replica.tokens.size],
      [false, "the ACL key is not the one that the CA document names", 0],
    );
    const same = await theirs.addReplica();
    assert.deepEqual(
      [same.state.loaded, same.state.stopped, same.tokensByHash.has(await same.hashSecret(secret))],
      [true, null, true],
    );
  });

  it("rewrap() changes one record and no token, and the old key-encryption key is no longer needed", async () => {
    const [old, fresh] = [makeKek(), makeKek()];
    const access = await createTestAccess({ keks: old });
    const { secret, token } = await access.addToken();
    const both = await access.addReplica({
      sealer: createSealer(await readKeks(`${fresh},${old}`)),
    });
    const before = (await access.store.read(null)).index;
    assert.equal(both.kek, old.split(":")[0]);
    assert.equal(await both.rewrap(), true);
    assert.equal(await both.rewrap(), false);
    assert.equal(both.kek, fresh.split(":")[0]);
    assert.equal((await access.store.read(null)).index, before + 1);
    const later = await access.addReplica({ sealer: createSealer(await readKeks(fresh)) });
    assert.equal(
      later.tokensByHash.get(await later.hashSecret(secret))?.value.accessorId,
      token.accessorId,
    );
  });

  it("no record contains a secret or the ACL key in the clear", async () => {
    const access = await createTestAccess();
    const { secret } = await access.addToken();
    const text = JSON.stringify((await access.store.read(null)).records);
    assert.ok(!text.includes(secret) && !text.includes(secret.replaceAll("-", "")));
  });

  describe("a write without a response", () => {
    const lost = async (made: boolean, failures: number) => {
      const access = await createTestAccess();
      let left = 0;
      const away = () => new StoreError("store_unavailable", "away");
      const store: RecordStore = overriding(access.store, {
        async write(changes, tip) {
          if (made) await access.store.write(changes, tip);
          left = failures;
          throw away();
        },
        async read(since) {
          if (left-- > 0) throw away();
          return access.store.read(since);
        },
      });
      const replica = await access.addReplica({ store });
      const write = replica.write([
        { kind: "bootstrap", id: "bootstrap", replaces: null, content: { accessorId: "a" } },
      ]);
      return { replica, write: passing(access.clock, write) };
    };

    it("write() succeeds if the record is stored when the store responds again", async () => {
      for (const failures of [0, 2]) {
        const { replica, write } = await lost(true, failures);
        await write;
        assert.equal(replica.bootstrap?.value.accessorId, "a");
      }
    });

    it("write() waits for a store that becomes unavailable right after its response", async () => {
      const access = await createTestAccess();
      let left = 0;
      const store: RecordStore = overriding(access.store, {
        async write(changes, tip) {
          left = 2;
          return access.store.write(changes, tip);
        },
        async read(since) {
          if (left-- > 0) throw new StoreError("store_unavailable", "away");
          return access.store.read(since);
        },
      });
      const replica = await access.addReplica({ store });
      await passing(
        access.clock,
        replica.write([
          { kind: "bootstrap", id: "bootstrap", replaces: null, content: { accessorId: "a" } },
        ]),
      );
      assert.equal(replica.bootstrap?.value.accessorId, "a");
    });

    it("write() fails with outcome_unknown if the record is missing or the store stays unavailable", async () => {
      for (const [made, failures] of [
        [false, 0],
        [true, 100],
      ] as const)
        await assert.rejects(
          (await lost(made, failures)).write,
          codeOf(NotReadyError, "outcome_unknown"),
        );
    });
  });
});
