/**
 * How a replica adopts the stored state: changes of others, tampering, a key that cannot be
 * decrypted, a new key-encryption key.
 * @module
 */
import assert from "node:assert/strict";
import { before, beforeEach, describe, it } from "node:test";
import type { CertificateAuthority } from "../../../src/core/ca/ca.ts";
import { createReplicaMemory } from "../../../src/core/ca/replica-memory.ts";
import { DEFAULT_POLICY, type Policy } from "../../../src/core/ca/timing-and-limits.ts";
import { NotReadyError, ProviderError } from "../../../src/core/errors.ts";
import type { CaState } from "../../../src/core/state.ts";
import { createSealer } from "../../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../../src/seal/kek.ts";
import { configuration, createTestCa, type TestCa } from "../../fakes/ca.ts";
import { BOOTSTRAP, providersWith, replica, requireSigning, visible, webCsr } from "./harness.ts";

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

const stateOf = (of: CertificateAuthority = manager): CaState => of.require().state;

describe("follow()", () => {
  it("follow() adopts a change of another replica, and notifies every subscriber", async () => {
    const other = await replica(ca, "other");
    await other.refresh();
    const heard: string[] = [];
    const stop = other.subscribe(({ state }) => heard.push(state.commitId));
    const following = other.follow(new AbortController().signal);
    await manager.configure(configuration({ PrivateKeyBits: 384 }));
    await following;
    assert.deepEqual(heard, [stateOf().commitId]);
    stop();
    await manager.configure(configuration({ PrivateKeyBits: 521 }));
    await other.follow(new AbortController().signal);
    assert.equal(heard.length, 1);
    await requireSigning(other, csr, ca.clock.now());
  });
});

describe("refreshIfStale()", () => {
  const policy: Policy = { ...DEFAULT_POLICY, maxStalenessMs: 300_000, maxAgeMs: 1000 };

  it("refreshIfStale() reads the store only if the snapshot is too old, and signs under the state it read", async () => {
    const other = await replica(ca, "other", { policy });
    await other.start();
    await manager.configure(configuration({ PrivateKeyBits: 384 }));
    ca.clock.advance(1000);
    await other.refreshIfStale();
    assert.notEqual(stateOf(other).commitId, stateOf().commitId);
    ca.clock.advance(1);
    await other.refreshIfStale();
    assert.equal(stateOf(other).commitId, stateOf().commitId);
    await requireSigning(other, csr, ca.clock.now());
  });

  it("refreshIfStale() notifies subscribers of a state that another instance with the same memory adopted", async () => {
    const memory = createReplicaMemory();
    const one = await replica(ca, "one", { policy, memory });
    await one.start();
    const two = await replica(ca, "two", { policy, memory });
    const heard: string[] = [];
    one.subscribe(({ state }) => heard.push(state.commitId));
    for (const age of [0, 2000]) {
      const { commitId } = await two
        .rotate({ forceWithoutCrossSigning: false, modifyIndex: null })
        .then(({ state }) => state);
      ca.clock.advance(age);
      await one.refreshIfStale();
      assert.equal(heard.at(-1), commitId);
    }
    assert.equal(heard.length, 2);
  });

  it("the staleness limit for reads is not allowed above the one for signing", async () => {
    for (const wrong of [{ maxStalenessMs: 500 }, { maxStalenessMs: null }])
      await assert.rejects(replica(ca, "other", { policy: { ...policy, ...wrong } }), RangeError);
  });
});

describe("refresh()", () => {
  it("refresh() keeps signing under the last good state if the stored one was tampered with", async () => {
    const state = stateOf();
    const { document } = ca.backend;
    ca.backend.document = (document ?? "").replace('\\"forcedOut\\":false', '\\"forcedOut\\":true');
    assert.notEqual(ca.backend.document, document);
    await assert.rejects(manager.refresh(), /the MAC of its document is invalid/);
    assert.equal(stateOf(), state);
    // It can still sign, so it is ready.
    assert.equal(manager.obstacle(), null);
    await requireSigning(manager, csr, ca.clock.now());
    await assert.rejects(
      manager.configure(configuration({ LeafCertTTL: "5h" })),
      /the MAC of its document is invalid/,
    );
    ca.backend.document = document;
    await manager.refresh();
    assert.equal(manager.obstacle(), null);
  });

  it("refresh() decrypts the key again after a transient failure", async () => {
    let away = true;
    const flaky = providersWith((type) => ({
      ...type,
      open: async (...opening) => {
        if (away) throw new ProviderError("provider_unavailable", "away");
        return type.open(...opening);
      },
    }));
    const other = await replica(ca, "other", { providers: flaky });
    await other.refresh();
    assert.match(other.obstacle() ?? "", /the signing key of the CA cannot be opened/);
    await assert.rejects(
      other.sign(csr),
      (error: unknown) => error instanceof NotReadyError && error.code === "ca_uninitialized",
    );
    away = false;
    await other.refresh();
    await requireSigning(other, csr, ca.clock.now());
  });
});

describe("a new key-encryption key", () => {
  it("rewrap() encrypts every key again, once, and the old key-encryption key is no longer needed", async () => {
    const [old, next] = [makeKek(), makeKek()];
    const first = await createTestCa({
      bootstrap: BOOTSTRAP,
      sealer: createSealer(await readKeks(old)),
    });
    await first.manager.configure(configuration({ PrivateKeyBits: 384 }));
    const before = visible(stateOf(first.manager));
    await first.manager.close();
    const both = await replica(first, "both", {
      sealer: createSealer(await readKeks(`${next},${old}`)),
    });
    await both.refresh();
    assert.equal(await both.rewrap(), true);
    await requireSigning(both, csr, first.clock.now());
    assert.equal(await both.rewrap(), false);
    await both.close();
    const fresh = await replica(first, "fresh", { sealer: createSealer(await readKeks(next)) });
    await fresh.refresh();
    assert.deepEqual(visible(stateOf(fresh)), before);
    await requireSigning(fresh, csr, first.clock.now());
    await fresh.rotate({ forceWithoutCrossSigning: false, modifyIndex: null });
    await requireSigning(fresh, csr, first.clock.now());
    const lost = await replica(first, "lost", { sealer: createSealer(await readKeks(old)) });
    await assert.rejects(lost.refresh(), /is not configured/);
  });
});
