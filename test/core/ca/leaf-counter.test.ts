/**
 * How many leaves live under which root, as several replicas over one store count them, with one that
 * ends, crashes, loses answers, or does not count.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { CertificateAuthority } from "../../../src/core/ca/ca.ts";
import type { RootLeaves } from "../../../src/core/ca/leaf-summary.ts";
import { removableAt } from "../../../src/core/ca/root-removal.ts";
import { DEFAULT_POLICY } from "../../../src/core/ca/timing-and-limits.ts";
import { StoreError } from "../../../src/core/errors.ts";
import type { LeafCountStore } from "../../../src/core/ports/leaf-counts.ts";
import type { Log, LogFields } from "../../../src/core/ports/log.ts";
import { createSealer } from "../../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../../src/seal/kek.ts";
import { MemoryLeafCounts, SealedLeafCounts } from "../../../src/store/leaf-counts.ts";
import { MemoryBackend } from "../../../src/store/memory/store.ts";
import { createCodec } from "../../../src/store/state-document.ts";
import { pair } from "../../datacenters/pair.ts";
import {
  configuration,
  confirmOver,
  createTestCa,
  type FlatCaOptions,
  opensslCsr,
  silentLog,
  type TestCa,
} from "../../fakes/ca.ts";
import { createFakeClock, type FakeClock } from "../../fakes/clock.ts";
import { BOOTSTRAP, HOUR, TRUST_DOMAIN, webCsr } from "./harness.ts";

const MINUTE = 60_000;
const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };
/** Of CAs that have one sealer each, and so cannot share a store. */
const codec = (sealer: TestCa["sealer"], datacenter: string | null = null) =>
  new SealedLeafCounts({ sealer, datacenter, readsUnbound: datacenter !== "dc2" });

interface Shared {
  readonly backend: MemoryBackend;
  readonly clock: FakeClock;
  readonly kek: string;
}

function shared(): Shared {
  const clock = createFakeClock();
  return { backend: new MemoryBackend(clock), clock, kek: makeKek() };
}

interface TestReplica extends TestCa {
  readonly logged: readonly (readonly [message: string, fields: LogFields])[];
  sign(leaves?: number): Promise<void>;
  counted(): Promise<readonly (readonly [status: string, leaves: number])[]>;
}

/** A replica that counts, over the shared store. */
async function replica(
  { backend, clock, kek }: Shared,
  id: string,
  more: Omit<Partial<FlatCaOptions>, "clock"> & { counts?: LeafCountStore; kek?: string } = {},
): Promise<TestReplica> {
  const { counts, kek: ownKek = kek, ...options } = more;
  const sealer = createSealer(await readKeks(ownKek));
  const store = counts ?? backend.open(createCodec(sealer), id).leaves;
  const logged: [string, LogFields][] = [];
  const log: Log = { ...silentLog, warn: (message, fields = {}) => logged.push([message, fields]) };
  const ca = await createTestCa({
    ...{ backend, clock, sealer, log, self: { id, address: `${id}:8500` }, started: false },
    bootstrap: BOOTSTRAP,
    leafCounts: { store, codec: codec(sealer) },
    ...options,
  });
  await ca.manager.tick();
  await ca.manager.refresh();
  await ca.manager.heartbeat();
  return {
    ...ca,
    logged,
    async sign(leaves = 1) {
      for (let i = 0; i < leaves; i++) await ca.manager.sign(webCsr());
    },
    async counted() {
      await ca.manager.heartbeat();
      return ca.manager.leaves.roots.map(({ status, leaves }) => [status, leaves] as const);
    },
  };
}

const first = ({ leaves }: CertificateAuthority): RootLeaves => {
  const [root] = leaves.roots;
  if (root === undefined) throw new Error("No leaf is counted");
  return root;
};

describe("leaf counts", () => {
  it("are of all replicas, by root, issuer and the hour of expiry, before anything is written", async () => {
    const all = shared();
    const [a, b] = [await replica(all, "a"), await replica(all, "b")];
    await a.sign(2);
    await b.sign(3);
    for (const one of [a, b]) await one.manager.heartbeat();
    assert.deepEqual(await a.counted(), [["active", 5]]);
    assert.deepEqual(await b.counted(), [["active", 5]]);
    const { id } = a.manager.require().active;
    // 72 h after 12:00, less what NotBefore is dated back.
    const until = new Date("2026-06-04T12:00:00Z");
    assert.deepEqual(a.manager.leaves, {
      ...{ isCounting: true, completeSince: new Date(a.clock.now()), isLowerBound: true },
      roots: [
        {
          ...{ id, status: "active", leaves: 5, until, removableAt: null, overdue: 0 },
          issuers: [{ id, leaves: 5, until }],
        },
      ],
    });
  });

  it("are complete from the first write on, if that is of a replica that saw the first root come up", async () => {
    const all = shared();
    const a = await replica(all, "a");
    await a.sign();
    assert.equal(await a.manager.saveLeafCounts(), true);
    const { completeSince, isLowerBound } = a.manager.leaves;
    assert.deepEqual([completeSince, isLowerBound], [null, false]);
  });

  it("stay the same while replicas write them, one after the other and at the same time", async () => {
    const all = shared();
    const replicas = [await replica(all, "a"), await replica(all, "b"), await replica(all, "c")];
    for (const one of replicas) await one.manager.heartbeat();
    for (let round = 1; round <= 3; round++) {
      for (const one of replicas) await one.sign(round);
      const saved = await Promise.all(replicas.map(({ manager }) => manager.saveLeafCounts()));
      assert.ok(saved.every(Boolean));
      for (const one of replicas) await one.manager.heartbeat();
      const sum = 3 * ((round * (round + 1)) / 2);
      for (const one of replicas) assert.deepEqual(await one.counted(), [["active", sum]]);
    }
    // Each write has taken from memory what it wrote.
    for (const one of replicas) {
      await one.manager.saveLeafCounts();
      assert.deepEqual(await one.counted(), [["active", 18]]);
    }
  });

  it("are of the leaves that this datacenter signed, under the root of the primary, and not of an intermediate for another one", async () => {
    const sealers = [await readKeks(makeKek()), await readKeks(makeKek())].map((keks) =>
      createSealer(keks),
    ) as [TestCa["sealer"], TestCa["sealer"]];
    const [one, two] = sealers.map((sealer, i) => ({
      ...{ sealer, self: { id: `dc${i + 1}`, address: "a:1" } },
      leafCounts: { store: new MemoryLeafCounts(), codec: codec(sealer, `dc${i + 1}`) },
    }));
    const both = await pair({ one: { ...one, bootstrap: BOOTSTRAP }, two: { ...two } });
    assert.ok(both.primary.signed > 0);
    const { id } = both.one.manager.require().active;
    const csr = webCsr();
    await assert.rejects(both.one.manager.sign("no CSR"));
    assert.deepEqual(both.one.manager.leaves.roots, []);
    await both.one.manager.sign(csr);
    await both.two.manager.sign(
      opensslCsr(`URI:spiffe://${TRUST_DOMAIN}/ns/default/dc/dc2/svc/web`).csr,
    );
    for (const { manager } of [both.one, both.two]) {
      await manager.heartbeat();
      assert.equal(await manager.saveLeafCounts(), true);
      assert.deepEqual([first(manager).id, first(manager).leaves], [id, 1]);
    }
    const issuer = both.two.manager.require().provider?.issuer.id;
    assert.notEqual(issuer, id);
    assert.deepEqual(
      [first(both.one.manager), first(both.two.manager)].map(({ issuers }) => issuers[0]?.id),
      [id, issuer],
    );
  });

  it("end with the hour of expiry", async () => {
    const all = shared();
    const a = await replica(all, "a");
    all.clock.advance(59 * MINUTE);
    await a.sign();
    await a.manager.configure(configuration({ LeafCertTTL: "1h" }));
    await a.sign(2);
    await a.manager.saveLeafCounts();
    assert.deepEqual(await a.counted(), [["active", 3]]);
    all.clock.advance(HOUR);
    assert.deepEqual(await a.counted(), [["active", 3]], "13:59 is in the hour of their expiry");
    all.clock.advance(MINUTE);
    assert.deepEqual(await a.counted(), [["active", 1]]);
    all.clock.advance(71 * HOUR);
    assert.deepEqual(await a.counted(), []);
  });

  it("name the issuer below a root, and each root that still has leaves", async () => {
    const all = shared();
    const a = await replica(all, "a");
    await a.sign(2);
    const old = a.manager.require().active.id;
    await a.manager.rotate(NOW);
    await a.sign();
    assert.deepEqual(await a.counted(), [
      ["active", 1],
      ["retired", 2],
    ]);
    const { roots } = a.manager.leaves;
    assert.deepEqual(
      roots.map(({ id, issuers }) => [id, issuers.map((issuer) => issuer.id)]),
      [
        [a.manager.require().active.id, [a.manager.require().active.id]],
        [old, [old]],
      ],
    );
    const entry = a.manager.require().state.roots.find(({ id }) => id === old);
    assert.deepEqual(roots[1]?.removableAt, entry && removableAt(entry, DEFAULT_POLICY));
  });
});

describe("an announcement", () => {
  it("counts no more once its replica has written it", async () => {
    const all = shared();
    const [a, b] = [await replica(all, "a"), await replica(all, "b")];
    await a.sign(2);
    for (const one of [a, b]) await one.manager.heartbeat();
    assert.equal(first(b.manager).leaves, 2);
    await a.manager.saveLeafCounts();
    // It reads the record, and has the heartbeat from before.
    await b.manager.saveLeafCounts();
    assert.equal(first(b.manager).leaves, 2);
  });
});

describe("a replica that ends", () => {
  it("leaves its last counts to the others, and nothing is missing", async () => {
    const all = shared();
    const [a, b] = [await replica(all, "a"), await replica(all, "b")];
    for (const one of [a, b]) await one.manager.heartbeat();
    for (const one of [a, b]) await one.manager.saveLeafCounts();
    await a.sign(4);
    await b.sign();
    await a.manager.close();
    assert.deepEqual(await b.counted(), [["active", 5]]);
    for (let minute = 0; minute < 5; minute++) {
      all.clock.advance(MINUTE);
      await b.manager.heartbeat();
      await b.manager.saveLeafCounts();
    }
    assert.deepEqual([await b.counted(), b.manager.leaves.isLowerBound], [[["active", 5]], false]);
    assert.deepEqual(b.logged, []);
  });

  it("goes on with its own counts when it starts again", async () => {
    const all = shared();
    const a = await replica(all, "a1");
    await a.sign(4);
    await a.manager.close();
    const again = await replica(all, "a2");
    await again.sign();
    assert.deepEqual(await again.counted(), [["active", 5]]);
    assert.equal(again.manager.leaves.isLowerBound, false);
  });

  it("without a last write makes the counts a lower bound, from the moment when that is noticed until the leaves from before have expired", async () => {
    const all = shared();
    const a = await replica(all, "a");
    await a.sign(4);
    await a.manager.saveLeafCounts();
    const lastWrite = all.clock.now().toISOString();
    // It signs once more, and crashes.
    await a.sign();
    const b = await replica(all, "b");
    const step = async (ms: number) => {
      all.clock.advance(ms);
      await b.manager.heartbeat();
      await b.manager.saveLeafCounts();
    };
    await step(DEFAULT_POLICY.replicaTtlMs + 1);
    await step(MINUTE - 1);
    assert.equal(b.manager.leaves.isLowerBound, false, "it may be cut off for a moment");
    await step(1);
    const noticed = all.clock.now();
    assert.deepEqual(
      [await b.counted(), b.manager.leaves.isLowerBound, b.manager.leaves.completeSince],
      [[["active", 4]], true, noticed],
    );
    assert.deepEqual(b.logged, [
      [
        "A replica ended without writing its last leaf counts: the counts are a lower bound until the leaves signed before now have expired",
        { replica: "a", lastWrite },
      ],
    ]);
    await step(71 * HOUR);
    assert.equal(b.manager.leaves.isLowerBound, true);
    await step(2 * HOUR);
    assert.equal(b.manager.leaves.isLowerBound, false);
    assert.equal(b.logged.length, 1);
  });

  it("and was only cut off adds what it signed when it is back", async () => {
    const all = shared();
    const [a, b] = [await replica(all, "a"), await replica(all, "b")];
    for (const one of [a, b]) await one.manager.heartbeat();
    await a.manager.saveLeafCounts();
    await a.sign(3);
    for (let i = 0; i < 3; i++) {
      all.clock.advance(MINUTE);
      await b.manager.heartbeat();
      await b.manager.saveLeafCounts();
    }
    assert.equal(b.logged.length, 1);
    await a.manager.heartbeat();
    await a.manager.saveLeafCounts();
    assert.deepEqual(await b.counted(), [["active", 3]]);
  });
});

describe("writes of leaf counts", () => {
  /** A store that loses the answer, or the request, of the next write. */
  function lossy(inner: LeafCountStore) {
    const faults: ("answer" | "request" | "late")[] = [];
    const late: (() => Promise<boolean>)[] = [];
    const writes: string[] = [];
    const away = () => new StoreError("store_unavailable", "No answer");
    const store: LeafCountStore = {
      load: () => inner.load(),
      async save(text, expected) {
        const fault = faults.shift();
        if (fault === "late") late.push(() => inner.save(text, expected));
        if (fault === "late" || fault === "request") throw away();
        const saved = await inner.save(text, expected);
        if (saved) writes.push(text);
        if (fault === "answer") throw away();
        return saved;
      },
    };
    return { store, faults, late, writes };
  }

  const lossyReplica = async () => {
    const all = shared();
    const sealer = createSealer(await readKeks(all.kek));
    const lost = lossy(all.backend.open(createCodec(sealer), "a").leaves);
    return { all, lost, a: await replica(all, "a", { counts: lost.store }) };
  };

  for (const fault of ["answer", "request"] as const)
    it(`whose ${fault} is lost are made once`, async () => {
      const { all, lost, a } = await lossyReplica();
      await a.sign(2);
      lost.faults.push(fault);
      await assert.rejects(a.manager.saveLeafCounts(), { code: "store_unavailable" });
      await a.sign();
      assert.equal(await a.manager.saveLeafCounts(), true);
      assert.deepEqual(await a.counted(), [["active", 3]]);
      const b = await replica(all, "b");
      await a.manager.close();
      assert.deepEqual(await b.counted(), [["active", 3]]);
    });

  it("that arrive late are made once", async () => {
    for (const isBetween of [true, false]) {
      const { lost, a } = await lossyReplica();
      await a.sign(2);
      lost.faults.push("late");
      await assert.rejects(a.manager.saveLeafCounts(), { code: "store_unavailable" });
      await a.sign();
      if (isBetween) {
        // After the next write has read the record, and before it replaces it.
        const save = lost.store.save.bind(lost.store);
        lost.store.save = async (text, expected) => {
          lost.store.save = save;
          assert.equal(await lost.late[0]?.(), true);
          return save(text, expected);
        };
        assert.equal(await a.manager.saveLeafCounts(), true);
      } else {
        assert.equal(await a.manager.saveLeafCounts(), true);
        assert.equal(await lost.late[0]?.(), false);
      }
      assert.deepEqual(await a.counted(), [["active", 3]]);
      await a.manager.saveLeafCounts();
      assert.deepEqual(await a.counted(), [["active", 3]]);
    }
  });

  it("are left out while nothing is signed", async () => {
    const { lost, a, all } = await lossyReplica();
    await a.manager.saveLeafCounts();
    assert.equal(lost.writes.length, 1, "that it counts");
    for (let i = 0; i < 3; i++) {
      all.clock.advance(MINUTE);
      await a.manager.heartbeat();
      await a.manager.saveLeafCounts();
    }
    assert.equal(lost.writes.length, 1);
    await a.sign();
    await a.manager.saveLeafCounts();
    assert.equal(lost.writes.length, 2);
  });

  it("make no commit, and wake nobody", async () => {
    const all = shared();
    const a = await replica(all, "a");
    const { document } = all.backend;
    let snapshots = 0;
    a.manager.subscribe(() => snapshots++);
    await a.sign();
    await a.manager.saveLeafCounts();
    await a.manager.close();
    assert.equal(all.backend.document, document);
    assert.equal(snapshots, 0);
  });

  it("are not made while the clock is wrong, by which all hours could be over", async () => {
    const all = shared();
    const a = await replica(all, "a");
    await a.sign();
    await a.manager.saveLeafCounts();
    const clock = createFakeClock();
    clock.jump(100 * HOUR);
    const wrong = await replica({ ...all, clock }, "b");
    assert.equal(await wrong.manager.saveLeafCounts(), false);
    await wrong.manager.close();
    assert.deepEqual(await a.counted(), [["active", 1]]);
  });
});

describe("counts that cannot be complete", () => {
  it("are a lower bound while a replica signs that does not count, and until its leaves have expired", async () => {
    const all = shared();
    const a = await replica(all, "a");
    await a.manager.saveLeafCounts();
    const worker = await replica(all, "w", { leafCounts: null });
    await worker.sign(3);
    assert.deepEqual(worker.manager.leaves, {
      ...{ isCounting: false, completeSince: null, isLowerBound: true, roots: [] },
    });
    await a.manager.heartbeat();
    await a.manager.saveLeafCounts();
    assert.deepEqual(
      [await a.counted(), a.manager.leaves.isLowerBound, a.manager.leaves.completeSince],
      [[], true, all.clock.now()],
    );
    const last = all.clock.now();
    all.clock.advance(DEFAULT_POLICY.replicaTtlMs + 1);
    await a.manager.heartbeat();
    await a.manager.saveLeafCounts();
    assert.deepEqual(a.manager.leaves.completeSince, last);
    all.clock.advance(73 * HOUR);
    assert.equal(a.manager.leaves.isLowerBound, false);
  });

  it("begin anew if the record is not authentic, and say so", async () => {
    const all = shared();
    const a = await replica(all, "a");
    await a.sign(2);
    await a.manager.saveLeafCounts();
    const { leaves } = all.backend.open(createCodec(a.sealer), "x");
    const text = await leaves.load();
    const { body, ...outer } = JSON.parse(text) as { body: string; mac: string };
    const forged = JSON.stringify({ ...outer, body: body.replace(/,2\]/, ",9]") });
    assert.notEqual(forged, text);
    assert.equal(await leaves.save(forged, text), true);
    const b = await replica(all, "b");
    assert.deepEqual(await b.counted(), []);
    await b.sign();
    await b.manager.saveLeafCounts();
    assert.deepEqual([await b.counted(), b.manager.leaves.isLowerBound], [[["active", 1]], true]);
    assert.deepEqual(b.logged, [
      [
        "The stored leaf counts cannot be used and are replaced: leaves signed before are not counted",
        { reason: "their MAC is invalid, or of another cluster or datacenter" },
      ],
    ]);
  });

  it("of a later version are left as they are", async () => {
    const all = shared();
    const a = await replica(all, "a");
    const { leaves } = all.backend.open(createCodec(a.sealer), "x");
    const later = JSON.stringify({ schema: 2, counts: "", mac: "" });
    assert.equal(await leaves.save(later, ""), true);
    await a.sign();
    for (let i = 0; i < 2; i++) assert.equal(await a.manager.saveLeafCounts(), true);
    assert.equal(await leaves.load(), later);
    assert.deepEqual(await a.counted(), [["active", 1]]);
    assert.equal(a.logged.length, 1);
    assert.match(a.logged[0]?.[0] ?? "", /^Cannot use the stored leaf counts: /);
  });

  it("go on under another key-encryption key, whose replica has the old one too", async () => {
    const all = shared();
    const next = makeKek();
    const a = await replica(all, "a");
    await a.sign(2);
    await a.manager.saveLeafCounts();
    const { leaves } = all.backend.open(createCodec(a.sealer), "x");
    const kekOf = async () =>
      (JSON.parse(await leaves.load()) as { mac: string }).mac.split(":")[0];
    assert.equal(await kekOf(), a.sealer.keks[0]);
    const b = await replica(all, "b", { kek: `${next},${all.kek}` });
    assert.deepEqual(await b.counted(), [["active", 2]]);
    await b.manager.saveLeafCounts();
    assert.equal(await kekOf(), b.sealer.keks[0]);
    const c = await replica(all, "c", { kek: `${all.kek},${next}` });
    await c.manager.saveLeafCounts();
    assert.equal(await kekOf(), c.sealer.keks[0]);
    await b.manager.heartbeat();
    await b.manager.saveLeafCounts();
    assert.equal(await kekOf(), b.sealer.keks[0], "also if it has written before");
    // A replica with the old one only leaves the record, as long as another has its key.
    await a.sign();
    await a.manager.heartbeat();
    await a.manager.saveLeafCounts();
    assert.equal(await kekOf(), b.sealer.keks[0]);
    assert.deepEqual(await b.counted(), [["active", 3]]);
  });
});

describe("leaves that outlive their root", () => {
  it("are those of an hour that begins after the root can be pruned, also before it is", async () => {
    const all = shared();
    const a = await replica(all, "a");
    await a.sign(2);
    await a.manager.rotate(NOW);
    const old = first(a.manager);
    assert.deepEqual([old.status, old.leaves, old.overdue], ["retired", 2, 0]);
    const snapshot = a.manager.require();
    const [removable] = snapshot.state.roots
      .filter(({ status }) => status === "retired")
      .map((root) => removableAt(root, DEFAULT_POLICY));
    // Leaves of a replica that signed under the old root for too long.
    const { leaves } = all.backend.open(createCodec(a.sealer), "x");
    const at = (removable?.getTime() ?? 0) / HOUR;
    await leaves.save(
      await codec(a.sealer).encode(
        {
          ...{ since: 0, writers: {} },
          rows: [
            {
              root: old.id,
              issuer: "i",
              hours: [
                [at - 1, 3],
                [at, 5],
                [at + 1, 7],
                [at + 2, 2],
              ],
            },
          ],
        },
        snapshot.state.clusterId,
      ),
      await leaves.load(),
    );
    await a.manager.saveLeafCounts();
    assert.deepEqual([first(a.manager).leaves, first(a.manager).overdue], [19, 14]);
    // The prune goes by time. Of the hours that have begun no leaf is sure to live.
    all.clock.advance((at + 1.5) * HOUR - all.clock.now().getTime());
    assert.deepEqual([first(a.manager).leaves, first(a.manager).overdue], [9, 2]);
    await confirmOver(a);
    await a.manager.tick();
    assert.equal(a.manager.require().state.roots.length, 1);
    // The last of them have expired before the clock was confirmed: nothing is left to warn of.
    assert.deepEqual(a.manager.leaves.roots, []);
  });

  it("are all of a root that is not published any more", async () => {
    const all = shared();
    const a = await replica(all, "a");
    const { leaves } = all.backend.open(createCodec(a.sealer), "x");
    const hour = all.clock.now().getTime() / HOUR;
    const rows = [
      {
        root: "gone",
        issuer: "gone",
        hours: [
          [hour, 3],
          [hour + 1, 5],
        ] as const,
      },
    ];
    const record = { since: 0, writers: {}, rows };
    const { clusterId } = a.manager.require().state;
    await leaves.save(await codec(a.sealer).encode(record, clusterId), "");
    all.clock.advance(1);
    assert.deepEqual(await a.counted(), [["unpublished", 8]]);
    // The 3 may expire in this hour before now.
    assert.equal(first(a.manager).overdue, 5);
  });
});
