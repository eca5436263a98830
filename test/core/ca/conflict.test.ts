/**
 * A store that lost writes: what stops, what goes on, and how an operator resolves it.
 * @module
 */
import assert from "node:assert/strict";
import { before, beforeEach, describe, it } from "node:test";
import type { CertificateAuthority } from "../../../src/core/ca/ca.ts";
import { rollbackOf } from "../../../src/core/ca/replica.ts";
import { ConflictError, StoreError } from "../../../src/core/errors.ts";
import type { LastSeen } from "../../../src/core/ports/last-seen.ts";
import type { Stored } from "../../../src/core/ports/store.ts";
import { activeRoot, type CaState } from "../../../src/core/state.ts";
import type { Certificate } from "../../../src/core/x509/certificate.ts";
import { findPath } from "../../../src/core/x509/chain.ts";
import { HINTS } from "../../../src/http/hints.ts";
import { createCodec } from "../../../src/store/state-document.ts";
import { configuration, createTestCa, silentLog, type TestCa } from "../../fakes/ca.ts";
import { overriding } from "../../fixtures/overriding.ts";
import { BOOTSTRAP, readChain, replica, requireSigning, rootsInUse, webCsr } from "./harness.ts";

const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };
const KEEP = (keep: "snapshot" | "stored") => ({ keep, forceWithoutCrossSigning: false });

let csr: string;
let ca: TestCa;
let one: CertificateAuthority;
let two: CertificateAuthority;

const stopped = (error: unknown) => error instanceof StoreError && error.code === "state_regressed";
const active = (manager: CertificateAuthority) => manager.require().active.id;
const ids = (manager: CertificateAuthority) => manager.require().state.roots.map(({ id }) => id);

/** The store as it was: later commits are lost. */
function lose(document: string | null): void {
  ca.backend.document = document;
}

before(() => {
  csr = webCsr();
});
beforeEach(async () => {
  ca = await createTestCa({ bootstrap: BOOTSTRAP });
  one = ca.manager;
  two = await replica(ca, "two");
  await two.refresh();
});

async function leafOf(
  manager: CertificateAuthority,
): Promise<{ leaf: Certificate; intermediates: Certificate[] }> {
  return readChain((await manager.sign(csr)).certificatePem);
}

/** A leaf verifies for a peer that trusts some roots, any one of which is enough. */
async function verifies(
  { leaf, intermediates }: Awaited<ReturnType<typeof leafOf>>,
  roots: readonly Certificate[],
): Promise<boolean> {
  const paths = await Promise.all(
    roots.map((root) => findPath(leaf, intermediates, root, ca.clock.now())),
  );
  return paths.some((path) => path !== null);
}

describe("a store that lost writes", () => {
  it("refresh() stops all changes, everywhere, and every replica goes on signing", async () => {
    const before = ca.backend.document;
    await one.rotate(NOW);
    lose(before);
    await one.refresh();
    assert.equal(one.status.stopped, "it is at index 1, index 2 was seen");
    assert.equal(one.require().state.index, 2);
    await two.refresh();
    assert.match(two.status.stopped ?? "", /another replica/);
    for (const manager of [one, two]) {
      await assert.rejects(manager.rotate(NOW), stopped);
      await assert.rejects(manager.configure(configuration({ LeafCertTTL: "9h" })), stopped);
      await assert.rejects(manager.rewrap(), stopped);
      assert.equal((await manager.tick()).kind, "wait");
      assert.equal(manager.obstacle(), null);
      await requireSigning(manager, csr, ca.clock.now());
    }
    assert.equal(ca.backend.document, before);
    const conflict = await two.conflict();
    assert.deepEqual(
      [conflict?.snapshot.state.index, conflict?.stored.state?.index, conflict?.by],
      [2, 1, "test"],
    );
  });

  it("refresh() logs an alarm; the alarm, refusals and the status end with the hint of the edge", async () => {
    const alarms: string[] = [];
    const before = ca.backend.document;
    const three = await replica(ca, "three", {
      log: { ...silentLog, error: (text) => void alarms.push(text) },
      hints: { ...HINTS, showConflict: "look there", resolveConflict: "decide there" },
    });
    await three.rotate(NOW);
    lose(before);
    await three.refresh();
    await three.refresh();
    assert.deepEqual(alarms, [
      "The store lost writes: leaves are signed under the last-seen state, and CA changes are stopped until an operator decides which state is kept; look there",
    ]);
    const reason = "it is at index 1, index 2 was seen";
    assert.equal(three.status.changeObstacle, `the store lost writes (${reason}); decide there`);
    await assert.rejects(three.rotate(NOW), {
      code: "state_regressed",
      message: `Cannot change the CA: the store lost writes (${reason}), and an operator has to decide which state is kept; look there`,
    });
  });

  it("refresh() notices another state under the same index, and a state with other ancestors", async () => {
    const before = ca.backend.document;
    await one.rotate(NOW);
    lose(before);
    await two.rotate(NOW);
    await one.refresh();
    assert.match(one.status.stopped ?? "", /^it holds another state under index 2/);

    const other = await createTestCa({ bootstrap: BOOTSTRAP, sealer: ca.sealer, clock: ca.clock });
    const third = await replica(other, "third");
    await third.refresh();
    const first = other.backend.document;
    await other.manager.rotate(NOW);
    other.backend.document = first;
    await third.rotate(NOW);
    await third.rotate(NOW);
    await other.manager.refresh();
    assert.match(
      other.manager.status.stopped ?? "",
      /^the state at index 2 that was seen is no ancestor of the one at index 3$/,
    );
  });

  for (const keep of ["snapshot", "stored"] as const)
    it(`resolve() keeps the ${keep}, above every index seen, and the other side's root stays published until its leaves have expired`, async () => {
      const before = ca.backend.document;
      await one.configure(configuration({ PrivateKeyBits: 384 }));
      lose(before);
      await two.rotate(NOW);
      await two.rotate(NOW);
      await one.refresh();
      const [mine, theirs] = [active(one), active(two)];
      const seen = [one, two].map((manager) =>
        rootsInUse(manager.require().state, ca.clock.now()).map(({ certificate }) => certificate),
      );
      const leaves = [await leafOf(one), await leafOf(two)];

      await two.resolve(KEEP(keep));
      await one.refresh();
      for (const manager of [one, two]) {
        assert.equal(manager.status.stopped, null);
        assert.equal(manager.require().state.index, 4);
        assert.equal(active(manager), keep === "snapshot" ? mine : theirs);
        for (const id of [mine, theirs]) assert.ok(ids(manager).includes(id));
        // A new leaf verifies under each published root by itself.
        const leaf = {
          leaf: await requireSigning(manager, csr, ca.clock.now()),
          intermediates: (await leafOf(manager)).intermediates,
        };
        for (const roots of seen) assert.ok(await verifies(leaf, roots));
      }
      assert.equal(await one.conflict(), null);
      const published = rootsInUse(one.require().state, ca.clock.now()).map(
        ({ certificate }) => certificate,
      );
      for (const leaf of leaves) assert.ok(await verifies(leaf, published));
      assert.deepEqual(
        one.require().state.config.config,
        keep === "snapshot" ? { PrivateKeyBits: 384 } : BOOTSTRAP.config,
      );

      await one.rotate(NOW);
      await requireSigning(one, csr, ca.clock.now());
      ca.clock.advance(2 * 72 * 3_600_000 + 1);
      // The leader's lease was with one of the two.
      for (const manager of [one, two]) await manager.tick();
      ca.clock.advance(9 * 3_600_000);
      for (const manager of [one, two]) await manager.tick();
      await one.refresh();
      assert.equal(ids(one).length, 1);
    });

  for (const how of ["has passed", "seems over by a clock that is ahead for a moment"] as const)
    it(`resolve() ${how === "has passed" ? "leaves out" : "keeps"} the other side's retired root whose time ${how}`, async () => {
      const HOURS = 3_600_000;
      const before = ca.backend.document;
      await one.configure(configuration({ PrivateKeyBits: 384 }));
      lose(before);
      await two.rotate(NOW);
      const dead = active(two);
      await two.rotate(NOW);
      await one.refresh();
      const look = async () => {
        for (const manager of [one, two]) assert.equal((await manager.tick()).kind, "wait");
      };
      if (how === "has passed") ca.clock.advance(144 * HOURS + 1);
      else ca.clock.jump(700 * HOURS);
      await look();
      ca.clock.advance(how === "has passed" ? 9 * HOURS : 1000);
      await look();
      await one.resolve(KEEP("snapshot"));
      assert.equal(ids(one).includes(dead), how !== "has passed");
      await requireSigning(one, csr, ca.clock.now());
    });

  it("resolve() keeps an abandoned root abandoned, without its key", async () => {
    const before = ca.backend.document;
    const compromised = active(one);
    const { cert, key } = (await import("./harness.ts")).suppliedRoot();
    await one.configure(
      configuration({ PrivateKey: key, RootCert: cert }, { forceWithoutCrossSigning: true }),
    );
    lose(before);
    await one.refresh();
    await one.resolve(KEEP("snapshot"));
    const { state } = one.require();
    const root = state.roots.find(({ id }) => id === compromised);
    assert.equal(root?.status, "retired");
    assert.equal(state.provider.retired[compromised] === undefined, root?.abandoned);
    await requireSigning(one, csr, ca.clock.now());
  });

  it("resolve() restores the snapshot into an empty store, and refuses to keep the empty state", async () => {
    await one.rotate(NOW);
    await two.refresh();
    lose(null);
    await two.refresh();
    assert.equal(two.status.stopped, "it holds no state, index 2 was seen");
    await assert.rejects(
      one.resolve(KEEP("stored")),
      (error: unknown) => error instanceof ConflictError && error.code === "no_conflict",
    );
    await one.resolve(KEEP("snapshot"));
    await two.refresh();
    assert.deepEqual([two.require().state.index, two.status.stopped], [3, null]);
  });

  it("refresh() puts the highest term that any replica saw into the stop mark", async () => {
    const before = ca.backend.document;
    await one.rotate(NOW);
    await two.refresh();
    // A grant without a commit, unknown to the other replica.
    const { store } = ca.backend.open(createCodec(ca.sealer), "two");
    const forgetful = overriding(store, {
      read: async () => ({ ...(await store.read()), term: (await store.read()).term - 1 }),
    });
    const behind = await replica(ca, "behind", { store: forgetful });
    await behind.refresh();
    const seen = two.status.term;
    assert.equal(behind.status.term, seen - 1);
    lose(before);
    await behind.refresh();
    assert.equal((await store.stopMark())?.term, seen - 1);
    await two.refresh();
    assert.equal((await store.stopMark())?.term, seen);
  });

  it("resolve() refuses if there is no conflict", async () => {
    await assert.rejects(
      one.resolve(KEEP("snapshot")),
      (error: unknown) => error instanceof ConflictError && error.code === "no_conflict",
    );
  });

  it("start() uses the last-seen state, and never creates another CA in an emptied store", async () => {
    let kept: LastSeen | null = null;
    const lastSeen = {
      load: async () => kept,
      save: async (seen: LastSeen) => {
        kept = seen;
      },
    };
    const first = await replica(ca, "first", { lastSeen });
    await first.start();
    await first.rotate(NOW);
    lose(null);
    const again = await replica(ca, "again", { lastSeen });
    await again.start();
    assert.equal(again.status.stopped, "it holds no state, index 2 was seen");
    ca.clock.advance(31_000);
    assert.equal((await again.tick()).kind, "wait");
    assert.equal(ca.backend.document, null);
    await requireSigning(again, csr, ca.clock.now());
    const fresh = await replica(ca, "fresh");
    await fresh.start();
    // Neither as a follower nor, once the others have left, as the leader.
    for (let i = 0; i < 2; i++) {
      if (i > 0) ca.clock.advance(31_000);
      assert.equal((await fresh.tick()).kind, "wait");
    }
    assert.deepEqual([fresh.status.role, ca.backend.document], ["leader", null]);
  });

  it("follow() accepts states that skip some, and one that names no ancestors", async () => {
    for (let i = 0; i < 3; i++) await one.configure(configuration({ LeafCertTTL: `${20 + i}h` }));
    await two.refresh();
    assert.deepEqual([two.require().state.index, two.status.stopped], [4, null]);
  });
});

describe("rollbackOf()", () => {
  const state = (index: number, commitId: string, ancestors: readonly string[]): CaState => ({
    ...one.require().state,
    index,
    commitId,
    ancestors,
  });
  const stored = (of: CaState | null, term = 5): Stored => ({
    state: of,
    term,
    stopped: null,
    kek: "k",
  });
  const cases: readonly (readonly [string, () => CaState | null, () => Stored, boolean])[] = [
    ["nothing was seen", () => null, () => stored(null), false],
    [
      "the same state",
      () => state(3, "c", ["b", "a"]),
      () => stored(state(3, "c", ["b", "a"])),
      false,
    ],
    [
      "the next state",
      () => state(3, "c", ["b", "a"]),
      () => stored(state(4, "d", ["c", "b", "a"])),
      false,
    ],
    [
      "more states on than are named",
      () => state(3, "c", []),
      () => stored(state(90, "z", ["y", "x"])),
      false,
    ],
    [
      "a schema without ancestors",
      () => state(3, "c", ["b"]),
      () => stored(state(4, "d", [])),
      false,
    ],
    ["no state", () => state(1, "a", []), () => stored(null), true],
    ["a lower index", () => state(3, "c", ["b"]), () => stored(state(2, "b", ["a"])), true],
    ["another commit id", () => state(3, "c", ["b"]), () => stored(state(3, "x", ["b"])), true],
    [
      "other ancestors",
      () => state(3, "c", ["b", "a"]),
      () => stored(state(4, "d", ["x", "b", "a"])),
      true,
    ],
    ["a lower term", () => state(3, "c", []), () => stored(state(3, "c", []), 4), true],
  ];
  for (const [what, seen, is, lost] of cases)
    it(`rollbackOf() ${lost ? "finds a rollback" : "returns null"}: ${what}`, () =>
      assert.equal(rollbackOf({ state: seen(), term: 5 }, is()) !== null, lost));

  it("activeRoot() of every side stays one", () =>
    assert.equal(activeRoot(one.require().state).status, "active"));
});
