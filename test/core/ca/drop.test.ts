/**
 * Dropping a root whose key others may know: what goes with it, what takes its place, who still takes
 * leaves that its thief signs, and what is refused.
 * @module
 */
import assert from "node:assert/strict";
import { before, beforeEach, describe, it } from "node:test";
import type { CertificateAuthority } from "../../../src/core/ca/ca.ts";
import type { DropRequest } from "../../../src/core/ca/plan-drop.ts";
import { isOwnLeaf } from "../../../src/core/ca/renewal-check.ts";
import type { CaError } from "../../../src/core/errors.ts";
import { readPem } from "../../../src/core/pem.ts";
import { activeRoot, type CaState } from "../../../src/core/state.ts";
import { pemOf } from "../../../src/core/x509/certificate.ts";
import { couldHaveIssued, sameAuthority } from "../../../src/core/x509/chain.ts";
import { createCodec } from "../../../src/store/state-document.ts";
import {
  configuration,
  confirmOver,
  createTestCa,
  silentLog,
  type TestCa,
} from "../../fakes/ca.ts";
import { createFakeClock } from "../../fakes/clock.ts";
import { startVerifiers } from "../../verifiers/x509/verifiers.ts";
import { forgeLeaf } from "./abandoned.ts";
import {
  BOOTSTRAP,
  HOUR,
  readChain,
  requireRefused,
  requireSigning,
  type SuppliedRoot,
  suppliedRoot,
  webCsr,
  withoutCrossSigning,
} from "./harness.ts";

const byText = (a: string, b: string) => (a < b ? -1 : 1);

const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };
let csr: string;
let ca: TestCa;
let manager: CertificateAuthority;

before(() => {
  csr = webCsr();
});
beforeEach(async () => {
  ca = await createTestCa({ bootstrap: BOOTSTRAP });
  ({ manager } = ca);
});

const stateOf = (): CaState => manager.require().state;
const activeId = () => activeRoot(stateOf()).id;
const idsOf = () => stateOf().roots.map(({ id }) => id);
const signs = () => requireSigning(manager, csr, ca.clock.now());
const asking = (id: string, more: Partial<DropRequest> = {}): DropRequest => ({
  ...{ id, newRoot: false, alsoThrough: false },
  ...{ forceWithoutCrossSigning: false, modifyIndex: null },
  ...more,
});
const drop = (id: string, more: Partial<DropRequest> = {}) => manager.drop(asking(id, more));
const coded = (code: string, text: RegExp) => (error: CaError) => {
  assert.equal(error.code, code, error.message);
  assert.match(error.message, text);
};
/** Rotates some times. @returns the IDs of all roots, the oldest first. */
async function rotated(times: number): Promise<string[]> {
  const ids = [activeId()];
  for (let i = 0; i < times; i++) {
    // Which of two roots was retired later decides their order in the chain.
    ca.clock.advance(1000);
    await manager.rotate(NOW);
    ids.push(activeId());
  }
  return ids;
}

/** That nothing of a root is left but the record that it was dropped. */
function requireGone(before: CaState, id: string): void {
  const state = stateOf();
  const root = before.roots.find((entry) => entry.id === id) ?? assert.fail();
  assert.ok(!idsOf().includes(id), "it is listed");
  assert.ok(state.provider.retired[id] === undefined, "its key is kept");
  for (const { intermediates } of state.roots)
    for (const certificate of intermediates) {
      assert.ok(!couldHaveIssued(root.certificate, certificate), "a certificate by it is left");
      assert.ok(!sameAuthority(root.certificate, certificate), "a certificate for it is left");
    }
  assert.equal(state.index, before.index + 1, "one commit");
  assert.deepEqual([state.schema, state.dropped[0]?.id], [8, id]);
  assert.equal(state.dropped[0]?.notAfter.getTime(), root.certificate.notAfter.getTime());
}

describe("drop() of a retired root", () => {
  for (const place of [0, 1, 2])
    it(`drop() of root ${place + 1} of four leaves a chain to each of the others`, async () => {
      const ids = await rotated(3);
      const id = ids[place] ?? assert.fail();
      const old = stateOf();
      const outcome = await drop(id);
      assert.deepEqual([outcome.droppedRoots, outcome.left], [[id], []]);
      requireGone(old, id);
      assert.equal(activeId(), ids[3]);
      const { intermediates } = readChain((await manager.sign(csr)).certificatePem);
      assert.equal(intermediates.length, 2);
      await signs();
      // The next rotation and its prune do not bring it back.
      await manager.rotate(NOW);
      await signs();
      assert.ok(!idsOf().includes(id));
    });

  it("drop() ends the renewal of its leaves, and not that of others", async () => {
    const [first = ""] = await rotated(0);
    const { leaf: old } = readChain((await manager.sign(csr)).certificatePem);
    await rotated(1);
    const { leaf: young } = readChain((await manager.sign(csr)).certificatePem);
    const isOwn = (leaf: typeof old) => isOwnLeaf(leaf, stateOf(), ca.clock.now());
    assert.deepEqual([await isOwn(old), await isOwn(young)], [true, true]);
    await drop(first);
    assert.deepEqual([await isOwn(old), await isOwn(young)], [false, true]);
  });

  it("drop() of a root that was abandoned leaves the chain as it is", async () => {
    ca = await createTestCa({ bootstrap: BOOTSTRAP, providers: withoutCrossSigning });
    ({ manager } = ca);
    const first = activeId();
    await manager.rotate({ ...NOW, forceWithoutCrossSigning: true });
    const old = stateOf();
    await drop(first);
    requireGone(old, first);
    assert.equal(activeId(), old.roots.find(({ status }) => status === "active")?.id);
  });

  it("drop() is refused if the others cannot certify the active one, and abandons them by force", async () => {
    const ids = await rotated(3);
    const other = await createTestCa({
      bootstrap: BOOTSTRAP,
      ...{ backend: ca.backend, clock: ca.clock, sealer: ca.sealer, started: false },
      providers: withoutCrossSigning,
    });
    await other.manager.refresh();
    ca = other;
    ({ manager } = other);
    const id = ids[2] ?? assert.fail();
    await requireRefused(
      ca,
      csr,
      () => drop(id),
      coded("config_invalid", /does not support cross-signing/),
    );
    const old = stateOf();
    await drop(id, { forceWithoutCrossSigning: true });
    requireGone(old, id);
    assert.deepEqual(
      stateOf().roots.flatMap((root) => (root.abandoned ? [root.id] : [])),
      ids.slice(0, 2).toSorted(byText),
    );
    assert.deepEqual(Object.keys(stateOf().provider.retired), []);
    await signs();
  });

  it("the record of a dropped root goes once the root has expired, and the schema with it", async () => {
    const supplied = suppliedRoot({ from: "20260101000000Z", to: "20260401000000Z" });
    const clock = createFakeClock(new Date("2026-03-01T00:00:00Z"));
    ca = await createTestCa({ bootstrap: BOOTSTRAP, clock });
    ({ manager } = ca);
    await manager.configure(
      configuration({ PrivateKey: supplied.key, RootCert: supplied.cert, LeafCertTTL: "72h" }),
    );
    const id = activeId();
    await manager.configure(configuration({ LeafCertTTL: "72h" }));
    await drop(id);
    assert.equal(stateOf().schema, 8);
    clock.advance(40 * 24 * HOUR);
    for (let i = 0; i < 4; i++) {
      await confirmOver(ca);
      await manager.tick();
    }
    assert.deepEqual([stateOf().dropped, stateOf().schema < 8], [[], true]);
    await signs();
  });
});

describe("drop() of the active root", () => {
  it("drop() makes the root active that was retired last, with its configuration", async () => {
    const ids = [activeId()];
    ca.clock.advance(1000);
    await manager.configure(
      configuration({ PrivateKeyType: "ec", PrivateKeyBits: 384, LeafCertTTL: "72h" }),
    );
    ids.push(activeId());
    ca.clock.advance(1000);
    await manager.configure(
      configuration({ PrivateKeyType: "ec", PrivateKeyBits: 256, LeafCertTTL: "48h" }),
    );
    const [, second = "", third = ""] = [...ids, activeId()];
    const old = stateOf();
    await drop(third);
    requireGone(old, third);
    assert.equal(activeId(), second);
    const { config } = stateOf().config;
    assert.deepEqual([config?.PrivateKeyBits, config?.LeafCertTTL], [384, "48h"]);
    await signs();
    // What is read of the configuration then, and sent again, changes nothing.
    assert.equal(await manager.configure(configuration({ ...config })), false);
    await manager.rotate(NOW);
    await signs();
  });

  it("drop() of the only root needs a new one, which nothing certifies", async () => {
    const id = activeId();
    await requireRefused(
      ca,
      csr,
      () => drop(id),
      coded("transition_invalid", /no other root has a key.*"NewRoot": true/),
    );
    const old = stateOf();
    await drop(id, { newRoot: true });
    requireGone(old, id);
    assert.equal(idsOf().length, 1);
    assert.deepEqual(activeRoot(stateOf()).intermediates, []);
    await signs();
  });

  it("drop() with a new root has the roots that stay certify it", async () => {
    const [first, second = ""] = await rotated(1);
    await drop(second, { newRoot: true });
    assert.equal(idsOf().length, 2);
    assert.ok(![first, second].includes(activeId()));
    assert.equal(activeRoot(stateOf()).intermediates.length, 1);
    await signs();
  });

  it("a supplied root goes with a new one only after the configuration names another", async () => {
    const supplied = suppliedRoot();
    const first = activeId();
    await manager.configure(configuration({ PrivateKey: supplied.key, RootCert: supplied.cert }));
    const id = activeId();
    await requireRefused(
      ca,
      csr,
      () => drop(id, { newRoot: true }),
      coded("transition_invalid", /no new root can be made in its place .*supplied by an operator/),
    );
    const old = stateOf();
    await drop(id);
    requireGone(old, id);
    assert.equal(activeId(), first);
    await requireRefused(
      ca,
      csr,
      () => manager.configure(configuration({ PrivateKey: supplied.key, RootCert: supplied.cert })),
      coded("root_dropped", /^Cannot rotate: root .* was dropped/),
    );
    // Another certificate for the same key is no other root.
    await requireRefused(
      ca,
      csr,
      () =>
        manager.configure(
          configuration({
            PrivateKey: supplied.key,
            RootCert: suppliedRoot({ key: supplied.key, name: "again" }).cert,
          }),
        ),
      coded("root_dropped", /has the same key/),
    );
  });

  it("roots of one key are dropped together", async () => {
    const supplied = suppliedRoot();
    const again = suppliedRoot({ key: supplied.key, name: "again" });
    await manager.configure(configuration({ PrivateKey: supplied.key, RootCert: supplied.cert }));
    const first = activeId();
    await manager.configure(configuration({ PrivateKey: again.key, RootCert: again.cert }));
    const { droppedRoots } = await drop(first);
    assert.equal(droppedRoots.length, 2);
    assert.equal(idsOf().length, 1);
    await signs();
  });
});

describe("drop() is refused, and changes nothing", () => {
  it("drop() of a root that is not listed", () =>
    requireRefused(ca, csr, () => drop("00:11"), coded("not_found", /no root "00:11" is listed/)));

  it("drop() under another index", async () => {
    const [first = ""] = await rotated(1);
    await requireRefused(
      ca,
      csr,
      () => drop(first, { modifyIndex: 99n }),
      coded("index_mismatch", /ModifyIndex did not match existing/),
    );
    await drop(first, { modifyIndex: BigInt(stateOf().config.modifyIndex) });
  });

  it("drop() while a live replica reads no schema with dropped roots", async () => {
    const [first = ""] = await rotated(1);
    await ca.backend.open(createCodec(ca.sealer), "old").replicas.announce(
      {
        ...{ id: "old", address: "10.0.0.2:8500", keks: ca.sealer.keks },
        ...{ schema: 7, index: 1, clockOffsetMs: 0 },
      },
      60_000,
    );
    await requireRefused(
      ca,
      csr,
      () => drop(first),
      coded("replica_behind", /needs schema 8.*10\.0\.0\.2:8500/),
    );
  });

  it("a backup in which a dropped root is active is not restored, and one in which it is retired does not bring it back", async () => {
    const backup1 = stateOf();
    const [first = "", second] = await rotated(1);
    const backup2 = stateOf();
    await drop(first);
    const restore = (backup: CaState, force = false) =>
      manager.restore(backup, { forceWithoutCrossSigning: force });
    for (const force of [false, true])
      await requireRefused(
        ca,
        csr,
        () => restore(backup1, force),
        coded("root_dropped", /^Cannot make a root active again: root .* was dropped/),
      );
    await restore(backup2);
    assert.deepEqual(idsOf(), [second]);
    assert.deepEqual(
      [stateOf().dropped.map(({ id }) => id), Object.keys(stateOf().provider.retired)],
      [[first], []],
    );
    await signs();
  });
});

describe("a thief of a dropped root's key", () => {
  it("is trusted through the roots that certified it, which are named until when, and through none once these are dropped, too", async () => {
    const start = new Date();
    const log: string[] = [];
    ca = await createTestCa({
      bootstrap: BOOTSTRAP,
      clock: createFakeClock(start),
      log: { ...silentLog, info: (_, fields) => void log.push(JSON.stringify(fields)) },
    });
    ({ manager } = ca);
    const started = startVerifiers(["OpenSSL", "Go"]);
    const { verifiers } = started;
    try {
      const [oldest = "", second = ""] = await rotated(1);
      const stolen: SuppliedRoot = suppliedRoot();
      await manager.configure(configuration({ PrivateKey: stolen.key, RootCert: stolen.cert }));
      const { active, state } = manager.require();
      // As the thief reads them from the listing.
      const sent = readPem(active.intermediates.map(pemOf).join("")).map(({ bytes }) => bytes);
      assert.equal(sent.length, 2);
      await manager.configure(configuration({}));
      const successor = activeId();
      // openssl dates a leaf by the machine's clock, to the second.
      ca.clock.advance(60_000);
      const [forged] = readPem(forgeLeaf(stolen, "web").cert);
      const takenBy = async (roots: readonly string[], at: Date) => {
        const taken: string[] = [];
        for (const id of roots) {
          const root = state.roots.concat(manager.require().state.roots).find((r) => r.id === id);
          const question = {
            leaf: forged?.bytes ?? assert.fail(),
            ...{ chain: sent, roots: [root?.certificate.der ?? assert.fail()], at },
          };
          const reasons = await Promise.all(verifiers.map((each) => each.verify(question)));
          const isTaken = reasons.map((reason) => reason === null);
          assert.equal(new Set(isTaken).size, 1, `OpenSSL and Go agree: ${reasons}`);
          if (isTaken[0] === true) taken.push(id);
        }
        return taken.toSorted(byText);
      };
      const soon = new Date(start.getTime() + 120_000);
      const { trust } = await drop(active.id);
      const named = trust.map(({ rootId }) => rootId).toSorted(byText);
      assert.deepEqual(named, [oldest, second].toSorted(byText));
      assert.deepEqual(await takenBy(idsOf(), soon), named);
      assert.deepEqual(manager.status.trustOfDropped, trust);
      assert.ok(log.some((line) => line.includes(`"droppedRoots":["${active.id}"]`)));
      assert.ok(!log.join().includes("PRIVATE"));
      for (const { until } of trust)
        assert.ok(
          sent.length > 0 && until > soon && until.getTime() < start.getTime() + 400 * HOUR,
          "until the certificates expire",
        );

      // The root that is active now is not among them, and stays.
      const more = await drop(second, { alsoThrough: true });
      assert.deepEqual(more.droppedRoots.toSorted(byText), named);
      assert.deepEqual([activeId(), idsOf()], [successor, [successor]]);
      assert.deepEqual(manager.status.trustOfDropped, []);
      assert.deepEqual(await takenBy(idsOf(), soon), []);
      await signs();
    } finally {
      started.close();
    }
  });

  it("drop() with AlsoThrough drops all that certified the active root, and makes a new one in the same commit", async () => {
    const ids = await rotated(2);
    const old = stateOf();
    const { droppedRoots, trust } = await drop(ids[2] ?? "", { alsoThrough: true });
    assert.deepEqual([droppedRoots.toSorted(byText), trust], [ids.toSorted(byText), []]);
    assert.equal(stateOf().index, old.index + 1);
    assert.equal(idsOf().length, 1);
    assert.deepEqual(manager.status.trustOfDropped, []);
    await signs();
  });

  it("a root that certifies a named one later is named, too", async () => {
    const [first = "", second = ""] = await rotated(1);
    await drop(second);
    assert.equal(activeId(), first);
    assert.deepEqual(
      manager.status.trustOfDropped.map(({ rootId }) => rootId),
      [first],
    );
    await manager.rotate(NOW);
    const third = activeId();
    assert.deepEqual(
      manager.status.trustOfDropped.map(({ rootId }) => rootId),
      [first],
    );
    // Back to the first one, which the third certifies then.
    ca.clock.advance(1000);
    const record = stateOf().provider.retired[first] ?? assert.fail();
    assert.ok(record.state.key);
    await drop(third);
    assert.equal(activeId(), first);
    const [trust] = manager.status.trustOfDropped;
    assert.deepEqual([trust?.rootId, trust?.droppedId], [first, third]);
  });
});
