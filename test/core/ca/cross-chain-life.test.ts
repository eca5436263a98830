/**
 * The validity of a cross-signed certificate: as long as a peer can need it, and not as long as
 * the two roots.
 * @module
 */

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { crossChainOf } from "../../../src/core/ca/cross-chain.ts";
import { pruneAt } from "../../../src/core/ca/root-removal.ts";
import { DEFAULT_POLICY } from "../../../src/core/ca/timing-and-limits.ts";
import type { RootEntry } from "../../../src/core/state.ts";
import { findPath } from "../../../src/core/x509/chain.ts";
import { createCodec } from "../../../src/store/state-document.ts";
import { configuration, createTestCa, type TestCa } from "../../fakes/ca.ts";
import {
  BOOTSTRAP,
  HOUR,
  providersWith,
  readChain,
  requireSigning,
  suppliedRoot,
  webCsr,
} from "./harness.ts";

const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };
const csr = webCsr();
const roots = ({ manager }: TestCa) => manager.require().state.roots;
const retired = (ca: TestCa) =>
  roots(ca).find(({ status }) => status === "retired") ?? assert.fail();
const crossings = (ca: TestCa) => crossChainOf(ca.manager.require().active);
const signs = (ca: TestCa) => requireSigning(ca.manager, csr, ca.clock.now());

/** Runs all due steps. @returns their names */
async function settle({ manager }: TestCa): Promise<string[]> {
  const done: string[] = [];
  for (let i = 0; i < 20; i++) {
    const { kind } = await manager.tick();
    if (kind === "wait") return done;
    done.push(kind);
  }
  return done;
}

/** Lets time pass while the leader looks at the clock. */
async function pass(ca: TestCa, hours: number): Promise<string[]> {
  const done: string[] = [];
  for (let i = 0; i < hours; i++) {
    ca.clock.advance(HOUR);
    done.push(...(await settle(ca)));
  }
  return done;
}

/** Commits that each root had a larger LeafCertTTL, so that it is pruned later. */
async function neededForLonger(
  { manager, backend, sealer }: TestCa,
  leafTtlMaxMs: number,
): Promise<void> {
  const { store, leases } = backend.open(createCodec(sealer), "other");
  const lease = (await leases.acquire("operation", 30_000)) ?? assert.fail();
  const { state } = manager.require();
  const changed = state.roots.map((root) => ({ ...root, leafTtlMaxMs }));
  const next = {
    ...state,
    index: state.index + 1,
    commitId: "a".repeat(32),
    ancestors: [state.commitId],
    roots: changed,
  };
  await store.commit(next, { index: state.index, commitId: state.commitId, term: lease.term });
  await leases.release(lease);
  await manager.refresh();
}

describe("the life of a cross-signed certificate", () => {
  it("expires one largest leaf life after the root that issued it is pruned, although both roots live for ten years", async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP });
    await ca.manager.configure(configuration({ LeafCertTTL: "10h" }));
    await ca.manager.rotate(NOW);
    for (const [expected, by] of [[1, retired(ca)]] as const)
      assert.equal(crossings(ca).length, expected, by.id);
    const end = (by: RootEntry) =>
      Math.floor((pruneAt(by, DEFAULT_POLICY).getTime() + by.leafTtlMaxMs) / 1000) * 1000;
    // It signed with 72h before.
    assert.equal(retired(ca).leafTtlMaxMs, 72 * HOUR);
    assert.equal(crossings(ca)[0]?.notAfter.getTime(), end(retired(ca)));
    await ca.manager.rotate(NOW);
    for (const certificate of crossings(ca))
      assert.ok(certificate.notAfter.getTime() <= ca.clock.now().getTime() + 3 * 72 * HOUR);
    await signs(ca);
  });

  it("shortens no leaf, and outlasts every leaf that was signed while it was needed", async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP });
    await ca.manager.rotate(NOW);
    const old = retired(ca);
    ca.clock.advance(2 * 72 * HOUR - HOUR);
    const { leaf, intermediates } = readChain((await ca.manager.sign(csr)).certificatePem);
    assert.equal(leaf.notAfter.getTime() - leaf.notBefore.getTime(), 72 * HOUR);
    assert.ok(intermediates.every(({ notAfter }) => notAfter >= leaf.notAfter));
    assert.notEqual(await findPath(leaf, intermediates, old.certificate, leaf.notAfter), null);
  });

  it("a thief of the new root's key is trusted through it no longer", async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP });
    await ca.manager.rotate(NOW);
    const [crossed] = crossings(ca);
    const { leaf } = readChain((await ca.manager.sign(csr)).certificatePem);
    const later = new Date(ca.clock.now().getTime() + 3 * 72 * HOUR + HOUR);
    const forged = { ...leaf, notAfter: new Date(later.getTime() + HOUR) };
    assert.notEqual(
      await findPath(leaf, [crossed ?? assert.fail()], retired(ca).certificate, ca.clock.now()),
      null,
    );
    assert.equal(
      await findPath(forged, [crossed ?? assert.fail()], retired(ca).certificate, later),
      null,
    );
  });

  it("is pruned with its root and not issued again, in every later rotation", {
    timeout: 60_000,
  }, async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP });
    await ca.manager.configure(configuration({ LeafCertTTL: "10h" }));
    await ca.manager.rotate(NOW);
    assert.deepEqual(await pass(ca, 2 * 72 + 10), ["prune"]);
    assert.equal(roots(ca).length, 1);
    assert.deepEqual(crossings(ca), []);
    await ca.manager.rotate(NOW);
    assert.equal(crossings(ca)[0]?.notAfter.getTime(), ca.clock.now().getTime() + 30 * HOUR);
    // By the largest leaf life that the two roots had, which confirms what looks find.
    assert.deepEqual(await pass(ca, 72), ["prune"]);
    assert.equal(roots(ca).length, 1);
    await signs(ca);
  });

  it("is issued again by a tick if the root that issued it is needed for longer, for that long", async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP });
    await ca.manager.rotate(NOW);
    await ca.manager.rotate(NOW);
    const before = crossings(ca);
    const index = roots(ca)[0]?.modifyIndex ?? 0;
    assert.deepEqual(await settle(ca), []);
    await neededForLonger(ca, 200 * HOUR);
    assert.deepEqual(await settle(ca), ["cross"]);
    assert.deepEqual(
      crossings(ca).map(({ notAfter }) => notAfter.getTime()),
      before.map(() => ca.clock.now().getTime() + 600 * HOUR),
    );
    assert.ok((roots(ca)[0]?.modifyIndex ?? 0) > index);
    await signs(ca);
    await pass(ca, 3 * 72 + 1);
    assert.equal(roots(ca).length, 3);
    await signs(ca);
  });

  it("is not requested again once the active root itself has expired", async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP });
    const { cert, key } = suppliedRoot({ to: "20260605000000Z" });
    await ca.manager.configure(configuration({ RootCert: cert, PrivateKey: key }));
    assert.deepEqual(await pass(ca, 5 * 24), ["prune"]);
    assert.deepEqual(crossings(ca), []);
    assert.deepEqual(ca.manager.status.notes, []);
  });

  it("a failure to issue it again delays no other step, and is logged with its reason", async () => {
    let broken = false;
    const providers = providersWith((type) => ({
      ...type,
      async open(...opening) {
        const provider = await type.open(...opening);
        return broken ? { ...provider, crossSigner: null } : provider;
      },
    }));
    const ca = await createTestCa({ bootstrap: BOOTSTRAP, providers });
    await ca.manager.rotate(NOW);
    // By a key that is opened from now on.
    broken = true;
    const before = crossings(ca);
    await neededForLonger(ca, 200 * HOUR);
    assert.deepEqual(await settle(ca), []);
    const why =
      /^a cross-signed certificate of a retired root cannot be renewed since .*does not support cross-signing/;
    assert.match(ca.manager.status.notes.join(), why);
    assert.deepEqual(crossings(ca), before);
    await signs(ca);
    broken = false;
    assert.deepEqual(await pass(ca, 1), ["cross"]);
    assert.deepEqual(ca.manager.status.notes, []);
    await signs(ca);
  });
});
