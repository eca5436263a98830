/**
 * Contract of every store, sentence by sentence of src/core/ports/store.ts.
 * @module
 */
import assert from "node:assert/strict";
import { afterEach, before, beforeEach, describe, it } from "node:test";
import { bootstrap, changeConfig, rotate } from "../../src/core/ca/transitions.ts";
import { ConflictError, NotReadyError, SealError, StoreError } from "../../src/core/errors.ts";
import type { Leases } from "../../src/core/ports/lease.ts";
import type { Sealer } from "../../src/core/ports/sealer.ts";
import type { Expected, Store } from "../../src/core/ports/store.ts";
import { type CaState, SCHEMA } from "../../src/core/state.ts";
import { createRoot, crossSign, generateCaKey } from "../../src/core/x509/authority.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import type { Ports } from "../../src/store/backend.ts";
import { type Codec, createCodec } from "../../src/store/state-document.ts";
import { createFakeClock, type FakeClock, systemRandom } from "../fakes/clock.ts";
import { clusterOf } from "../fakes/cluster.ts";

/** One place of storage, shared by all instances opened on it. */
export interface StoreBackend {
  open(codec: Codec, holder: string): Ports;
  /** The stored document as it is, or null. */
  document(): Promise<string | null> | string | null;
  /**
   * Replaces the stored document without the store. Instances opened before are not used again.
   */
  replace(document: string): Promise<unknown> | unknown;
  /** The store's clock. */
  time(): Promise<Date>;
  /** Lets leases and announcements become older by `ms`. */
  elapse(ms: number): Promise<unknown> | unknown;
  /** The precision at which elapsed time can be measured here, in milliseconds. */
  readonly grainMs: number;
  close(): Promise<unknown> | unknown;
}

/** How a suite gets a fresh backend, over a clock that it may use. */
export type MakeBackend = (clock: FakeClock) => Promise<StoreBackend> | StoreBackend;

/** Of leases. */
const TTL = 60_000;
const NOTHING = { index: 0, commitId: null };
const CLUSTER = "0f0f0f0f-1111-2222-3333-444444444444";

/** What `commit` expects when `state` is stored. */
export function expectedOf(state: CaState | null, term: number): Expected {
  return state === null
    ? { ...NOTHING, term }
    : { index: state.index, commitId: state.commitId, term };
}

/**
 * A state with two roots, a cross-signed certificate, odd instants and every kind of configuration
 * value.
 */
export async function exampleStates(): Promise<readonly [CaState, CaState, CaState]> {
  const now = new Date("2026-06-01T12:00:00.123Z");
  const options = { now, random: systemRandom };
  const [keyA, keyB] = [
    await generateCaKey({ type: "ec", bits: 256 }),
    await generateCaKey({ type: "ec", bits: 384 }),
  ];
  const rootOptions = {
    ...options,
    ...clusterOf(CLUSTER),
    provider: "consul",
    ttlMs: 87_600 * 3_600_000,
  };
  const [a, b] = [await createRoot(keyA, rootOptions), await createRoot(keyB, rootOptions)];
  const crossed = await crossSign(
    b,
    { certificate: a, privateKey: keyA.privateKey },
    { ...options, until: a.notAfter },
  );
  const config = {
    LeafCertTTL: "1h",
    PrivateKeyBits: 384,
    Deep: { list: [1, null, "é\u2028"], yes: true },
    Empty: "",
  };
  const newConfig = { provider: "consul", config: null, forceWithoutCrossSigning: false };
  const first = bootstrap(clusterOf(CLUSTER), "a".repeat(32), {
    config: newConfig,
    root: {
      name: "Root",
      certificate: a,
      issuerKeyId: keyA.info.spki.slice(0, 20),
      state: { key: "sealed:1:x:AAAA:BBBB" },
    },
    leafTtlMs: 3_600_000,
    now,
  });
  const second = rotate(first, "b".repeat(32), {
    config: { ...newConfig, config, forceWithoutCrossSigning: true },
    root: {
      name: "Root",
      certificate: b,
      issuerKeyId: keyB.info.spki.slice(0, 20),
      state: { key: "sealed:1:x:CCCC:DDDD" },
    },
    chain: [crossed],
    abandonedRoots: [],
    leafTtlMs: 3_600_000.5,
    now: new Date(now.getTime() + 1),
  });
  const third = changeConfig(second, "c".repeat(32), {
    config: newConfig,
    provider: second.provider.active,
    leafTtlMs: 7_200_000,
  });
  return [first, second, third];
}

const refusedWith = (code: string) => (error: unknown) => {
  assert.ok(
    error instanceof ConflictError ||
      error instanceof NotReadyError ||
      error instanceof StoreError ||
      error instanceof SealError,
  );
  assert.equal(error.code, code);
  return true;
};

/** Runs the contract on fresh backends. */
export function describeStore(name: string, makeBackend: MakeBackend): void {
  describe(`${name} store`, () => {
    let states: readonly [CaState, CaState, CaState];
    let sealer: Sealer;
    let codec: Codec;
    let clock: FakeClock;
    let backend: StoreBackend;
    let store: Store;
    let leases: Leases;

    before(async () => {
      states = await exampleStates();
      sealer = createSealer(await readKeks(makeKek()));
      codec = createCodec(sealer);
    });
    beforeEach(async () => {
      clock = createFakeClock();
      backend = await makeBackend(clock);
      ({ store, leases } = backend.open(codec, "one"));
    });
    afterEach(() => backend.close());

    const term = async (): Promise<number> => {
      const lease = await leases.acquire("operation", TTL);
      assert.ok(lease !== null);
      return lease.term;
    };
    /** Commits the first `count` example states under one term. */
    const commitStates = async (count: number): Promise<number> => {
      const granted = await term();
      for (let i = 0; i < count; i++)
        await store.commit(states[i] as CaState, expectedOf(states[i - 1] ?? null, granted));
      return granted;
    };

    it("read() returns null if no state was ever stored", async () => {
      assert.equal((await store.read()).state, null);
      assert.equal(await backend.document(), null);
    });

    it("read() returns the committed state with its roots, dates, certificates and configuration", async () => {
      const granted = await term();
      for (const [i, state] of states.entries()) {
        await store.commit(state, expectedOf(states[i - 1] ?? null, granted));
        assert.deepEqual((await store.read()).state, state);
        assert.deepEqual((await backend.open(codec, "two").store.read()).state, state);
      }
    });

    it("commit() stores no certificate, name or configuration that was not in the state", async () => {
      const granted = await commitStates(2);
      await store.commit(states[2], expectedOf(states[1], granted));
      assert.ok(
        !((await backend.document()) ?? "").includes("Deep"),
        "the replaced state is still there",
      );
    });

    it("commit() refuses a state when another index is stored, and stores nothing", async () => {
      const granted = await commitStates(1);
      for (const index of [0, 2]) {
        const wrong = { index, commitId: states[0].commitId, term: granted };
        await assert.rejects(store.commit(states[1], wrong), refusedWith("index_mismatch"));
      }
      assert.deepEqual((await store.read()).state, states[0]);
    });

    it("commit() refuses a state when another commit id is stored under the same index", async () => {
      const granted = await commitStates(1);
      for (const commitId of ["f".repeat(32), null]) {
        const wrong = { index: 1, commitId, term: granted };
        await assert.rejects(store.commit(states[1], wrong), refusedWith("index_mismatch"));
      }
      assert.deepEqual((await store.read()).state, states[0]);
    });

    it("commit() refuses a second first state", async () => {
      const granted = await commitStates(1);
      const other = { ...states[0], commitId: "e".repeat(32) };
      await assert.rejects(
        store.commit(other, { ...NOTHING, term: granted }),
        refusedWith("index_mismatch"),
      );
      assert.deepEqual((await store.read()).state, states[0]);
    });

    it("commit() refuses a first state that expects another one", async () => {
      await assert.rejects(
        store.commit(states[1], expectedOf(states[0], await term())),
        refusedWith("index_mismatch"),
      );
      assert.equal((await store.read()).state, null);
    });

    it("commit() refuses a term below the highest granted, even if that lease was released or has expired", async () => {
      const first = await leases.acquire("operation", TTL);
      assert.ok(first !== null);
      await backend.elapse(TTL);
      const second = await backend.open(codec, "two").leases.acquire("operation", TTL);
      assert.ok(second !== null);
      const stale = expectedOf(null, first.term);
      await assert.rejects(store.commit(states[0], stale), refusedWith("lease_lost"));
      await backend.open(codec, "two").leases.release(second);
      await assert.rejects(store.commit(states[0], stale), refusedWith("lease_lost"));
      await backend.elapse(10 * TTL);
      await assert.rejects(store.commit(states[0], stale), refusedWith("lease_lost"));
      assert.equal((await store.read()).state, null);
      await store.commit(states[0], expectedOf(null, second.term));
    });

    it("commit() accepts a write of the highest term after its lease has expired, until another term is granted", async () => {
      const granted = await term();
      await backend.elapse(5 * TTL);
      await store.commit(states[0], expectedOf(null, granted));
      assert.deepEqual((await store.read()).state, states[0]);
    });

    it("commit() does not compare with the term of the lease leader", async () => {
      const granted = await term();
      for (let i = 0; i < 3; i++) {
        assert.ok((await leases.acquire("leader", TTL)) !== null);
        await backend.elapse(TTL);
      }
      await store.commit(states[0], expectedOf(null, granted));
    });

    it("commit() succeeds for exactly one of many concurrent writers", async () => {
      const granted = await commitStates(1);
      const next = states[1];
      const rivals = Array.from({ length: 8 }, (_, i) => ({
        ...next,
        commitId: String(i).repeat(32),
      }));
      const outcomes = await Promise.allSettled(
        rivals.map((rival, i) =>
          backend.open(codec, `holder ${i}`).store.commit(rival, expectedOf(states[0], granted)),
        ),
      );
      const winners = rivals.filter((_, i) => outcomes[i]?.status === "fulfilled");
      assert.equal(winners.length, 1);
      assert.deepEqual((await store.read()).state, winners[0]);
      for (const outcome of outcomes)
        if (outcome.status === "rejected") refusedWith("index_mismatch")(outcome.reason);
    });

    it("commit() refuses a term that this store never granted or has lost", async () => {
      const granted = await commitStates(1);
      await assert.rejects(
        store.commit(states[1], expectedOf(states[0], granted + 1)),
        refusedWith("state_regressed"),
      );
      assert.deepEqual((await store.read()).state, states[0]);
    });

    it("read() returns the highest term granted for operation, and the key-encryption key of the MAC", async () => {
      assert.deepEqual(await store.read(), { state: null, term: 0, stopped: null, kek: null });
      const granted = await commitStates(1);
      await leases.acquire("leader", TTL);
      assert.deepEqual(await store.read(), {
        state: states[0],
        term: granted,
        stopped: null,
        kek: sealer.keks[0],
      });
      await backend.elapse(TTL);
      const next = await backend.open(codec, "two").leases.acquire("operation", TTL);
      assert.equal((await store.read()).term, next?.term);
    });

    it("stop() refuses every commit until one resolves the mark", async () => {
      const granted = await commitStates(1);
      assert.equal(await store.stopMark(), null);
      const before = await backend.time();
      await store.stop({
        state: states[1],
        term: granted,
        reason: "it forgot",
        by: "one",
        found: states[0].commitId,
      });
      const other = backend.open(codec, "two").store;
      assert.equal((await other.read()).stopped, states[1].commitId);
      const mark = await other.stopMark();
      assert.ok(mark !== null && mark.at >= before && mark.at <= (await backend.time()));
      assert.deepEqual(
        { ...mark, at: null },
        { state: states[1], term: granted, reason: "it forgot", by: "one", at: null },
      );
      for (const from of [store, other]) {
        await assert.rejects(
          from.commit(states[1], expectedOf(states[0], granted)),
          refusedWith("state_regressed"),
        );
        const wrong = { ...expectedOf(states[0], granted), resolves: states[0].commitId };
        await assert.rejects(from.commit(states[2], wrong), refusedWith("state_regressed"));
      }
      assert.deepEqual((await store.read()).state, states[0]);
      await store.commit(states[2], {
        ...expectedOf(states[0], granted),
        resolves: states[1].commitId,
      });
      assert.deepEqual(await other.read(), {
        state: states[2],
        term: granted,
        stopped: null,
        kek: sealer.keks[0],
      });
      assert.equal(await store.stopMark(), null);
      const again = { ...expectedOf(states[2], granted), resolves: states[1].commitId };
      await assert.rejects(store.commit(states[1], again), refusedWith("state_regressed"));
    });

    it("stop() keeps the state with the higher index and the higher term, and resolving raises the term to it", async () => {
      const granted = await commitStates(1);
      await store.stop({
        state: states[2],
        term: granted,
        reason: "first",
        by: "one",
        found: states[0].commitId,
      });
      await store.stop({
        state: states[1],
        term: granted + 7,
        reason: "second",
        by: "two",
        found: states[0].commitId,
      });
      const mark = await store.stopMark();
      assert.deepEqual(
        [mark?.state.index, mark?.reason, mark?.term],
        [states[2].index, "first", granted + 7],
      );
      await store.commit(states[1], {
        ...expectedOf(states[0], granted),
        resolves: states[2].commitId,
      });
      assert.equal((await store.read()).term, granted + 7);
      const next = await leases.acquire("operation", TTL);
      assert.equal(next?.term, granted + 8);
    });

    it("stop() sets no mark if the stored state is not the one that was found to lack writes", async () => {
      const granted = await commitStates(2);
      for (const found of [states[0].commitId, null])
        await store.stop({
          state: states[2],
          term: granted,
          reason: "it forgot",
          by: "one",
          found,
        });
      assert.equal(await store.stopMark(), null);
      await store.stop({
        state: states[2],
        term: granted,
        reason: "it forgot",
        by: "one",
        found: states[1].commitId,
      });
      assert.equal((await store.read()).stopped, states[2].commitId);
    });

    it("watch() wakes all waiting callers when a stop mark is set", async () => {
      const granted = await commitStates(1);
      const waiting = backend
        .open(codec, "two")
        .store.watch(states[0].commitId, new AbortController().signal);
      await store.stop({
        state: states[1],
        term: granted,
        reason: "it forgot",
        by: "one",
        found: states[0].commitId,
      });
      await waiting;
    });

    it("read() returns a state of the previous schema unchanged, and commit() writes it", async () => {
      const granted = await term();
      const old: CaState = { ...states[0], schema: 1 };
      await store.commit(old, expectedOf(null, granted));
      assert.equal((JSON.parse((await backend.document()) ?? "") as { schema: number }).schema, 1);
      const reopened = backend.open(codec, "two").store;
      assert.deepEqual((await reopened.read()).state, old);
      await reopened.commit(states[1], expectedOf(old, granted));
      assert.deepEqual((await reopened.read()).state, states[1]);
    });

    it("watch() resolves at once if the caller is behind", async () => {
      await commitStates(2);
      const never = new AbortController().signal;
      await store.watch(null, never);
      await store.watch(states[0].commitId, never);
    });

    it("watch() wakes all waiting callers when another holder commits", async () => {
      const granted = await term();
      const never = new AbortController().signal;
      const other = backend.open(codec, "two").store;
      const waiting = [
        store.watch(null, never),
        store.watch(null, never),
        other.watch(null, never),
      ];
      await store.commit(states[0], expectedOf(null, granted));
      await Promise.all(waiting);
      const next = store.watch(states[0].commitId, never);
      await other.commit(states[1], expectedOf(states[0], granted));
      await next;
    });

    it("watch() does not resolve while nothing changes", async () => {
      await commitStates(1);
      const stop = new AbortController();
      let woken = false;
      const waiting = store.watch(states[0].commitId, stop.signal).then(() => {
        woken = true;
      });
      await store.read();
      await assert.rejects(store.commit(states[1], { ...NOTHING, term: 1 }));
      assert.equal(woken, false);
      stop.abort();
      await waiting;
    });

    it("watch() resolves when its signal aborts, or has aborted", async () => {
      const stop = new AbortController();
      const waiting = store.watch(null, stop.signal);
      stop.abort();
      await waiting;
      await store.watch(null, stop.signal);
    });

    it("now() is the store's clock", async () => {
      for (let i = 0; i < 2; i++) {
        const [before, now, after] = [
          await backend.time(),
          await store.now(),
          await backend.time(),
        ];
        assert.ok(
          before <= now && now <= after,
          `${before.toISOString()} <= ${now.toISOString()} <= ${after.toISOString()}`,
        );
        clock.advance(1234);
      }
    });

    it("read() refuses a document with a wrong MAC, whichever part was changed, and leaves it unchanged", async () => {
      await commitStates(2);
      const original = JSON.parse((await backend.document()) ?? "") as Record<string, unknown>;
      const body = original.body as string;
      const mac = original.mac as string;
      const forged: Record<string, unknown>[] = [
        { clusterId: "0f0f0f0f-1111-2222-3333-444444444445" },
        { commitId: "d".repeat(32) },
        { index: 3 },
        { body: body.replace('"retired"', '"active"') },
        { body: body.replace('"forcedOut":false', '"forcedOut":true') },
        { body: `${body} ` },
        { mac: mac.replace(/.{4}$/, "AAA=") },
        { mac: `${mac.split(":")[0]}:` },
        { mac: undefined },
        { extra: 1 },
        { body: null },
        { schema: 0 },
        { schema: "1" },
      ];
      for (const change of forged) {
        const document = JSON.stringify({ ...original, ...change });
        await backend.replace(document);
        const reopened = backend.open(codec, "one").store;
        await assert.rejects(
          reopened.read(),
          refusedWith("state_corrupt"),
          JSON.stringify(Object.keys(change)),
        );
        assert.equal(await backend.document(), document);
      }
      for (const text of ["", "{", "null", "[]", '"x"', "\u0000"]) {
        await backend.replace(text);
        await assert.rejects(
          backend.open(codec, "one").store.read(),
          refusedWith("state_corrupt"),
          JSON.stringify(text),
        );
        const document = await backend.document();
        // Deno's node:sqlite returns a text up to its first NUL.
        if (process.versions.deno === undefined || document !== text.split("\0")[0])
          assert.equal(document, text);
      }
      await backend.replace(JSON.stringify(original));
      assert.deepEqual((await backend.open(codec, "one").store.read()).state, states[1]);
    });

    it("read() refuses a document that another key-encryption key authenticates", async () => {
      await commitStates(1);
      const document = await backend.document();
      const other = createCodec(createSealer(await readKeks(makeKek())));
      await assert.rejects(backend.open(other, "two").store.read(), refusedWith("kek_unknown"));
      assert.equal(await backend.document(), document);
    });

    it("read() refuses a document of a newer schema and leaves it unchanged", async () => {
      await commitStates(1);
      const document = JSON.stringify({ schema: SCHEMA + 1, anything: "else" });
      await backend.replace(document);
      await assert.rejects(backend.open(codec, "one").store.read(), refusedWith("schema_unknown"));
      assert.equal(await backend.document(), document);
    });

    it("read() of an instance that is opened later returns the stored state", async () => {
      await commitStates(1);
      assert.deepEqual((await backend.open(codec, "two").store.read()).state, states[0]);
    });
  });
}
