/**
 * Rotations: by key type, concurrent, back to a listed root, by force, at the expiry of a
 * root, and their limits.
 * @module
 */
import assert from "node:assert/strict";
import { before, beforeEach, describe, it } from "node:test";
import { equal } from "../../../src/core/bytes.ts";
import type { CertificateAuthority } from "../../../src/core/ca/ca.ts";
import { chainBytes, chainLength, rootsBytes } from "../../../src/core/ca/chain-size.ts";
import { DEFAULT_POLICY } from "../../../src/core/ca/timing-and-limits.ts";
import { type CaError, ConflictError } from "../../../src/core/errors.ts";
import { activeRoot, type CaState } from "../../../src/core/state.ts";
import { configuration, createTestCa, type TestCa } from "../../fakes/ca.ts";
import {
  BOOTSTRAP,
  HOUR,
  replica,
  requireRefused,
  requireSigning,
  suppliedRoot,
  webCsr,
  withoutCrossSigning,
} from "./harness.ts";

const CROSS_SIGNING =
  "The current CA Provider does not support cross-signing. You can try again with ForceWithoutCrossSigningSet but this may cause disruption - see documentation for more.";
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

const stateOf = (of: CertificateAuthority = manager): CaState => of.require().state;
const indexOf = (state: CaState) => BigInt(state.config.modifyIndex);
const activeId = (of: CertificateAuthority = manager) => activeRoot(stateOf(of)).id;
const signs = (of: CertificateAuthority = manager) => requireSigning(of, csr, ca.clock.now());
const coded = (code: string, text?: RegExp) => (error: CaError) => {
  assert.equal(error.code, code, error.message);
  if (text !== undefined) assert.match(error.message, text);
};
const mismatch = (error: unknown) => {
  assert.ok(error instanceof ConflictError);
  assert.equal(error.code, "index_mismatch");
  return true;
};

describe("configure() with another kind of key", () => {
  it("configure() rotates for each change of key type or size, and leaves verify under every root", {
    timeout: 60_000,
  }, async () => {
    const kinds = [
      { PrivateKeyType: "ec", PrivateKeyBits: 384 },
      { PrivateKeyType: "rsa", PrivateKeyBits: 2048 },
      { PrivateKeyType: "ec", PrivateKeyBits: 521 },
      { PrivateKeyType: "ec", PrivateKeyBits: 256 },
      { PrivateKeyType: "rsa", PrivateKeyBits: 4096 },
      { PrivateKeyType: "ec", PrivateKeyBits: 256 },
    ];
    for (const [i, kind] of kinds.entries()) {
      assert.equal(await manager.configure(configuration(kind)), true);
      const { key } = activeRoot(stateOf()).certificate;
      assert.deepEqual([key.type, key.bits], [kind.PrivateKeyType, kind.PrivateKeyBits]);
      assert.equal(stateOf().roots.length, i + 2);
      await signs();
    }
  });

  it("rotate() works again and again after an RSA CA was changed to an EC one", async () => {
    await manager.configure(configuration({ PrivateKeyType: "rsa", PrivateKeyBits: 2048 }));
    await manager.configure(configuration({ PrivateKeyType: "ec", PrivateKeyBits: 256 }));
    for (let i = 0; i < 3; i++) {
      await manager.rotate(NOW);
      await signs();
    }
    assert.equal(stateOf().roots.length, 6);
  });
});

describe("rotate()", () => {
  it("rotate() makes a new root with the stored configuration", async () => {
    const [id, { config }] = [activeId(), stateOf()];
    const snapshot = await manager.rotate(NOW);
    assert.equal(snapshot, manager.snapshot);
    assert.notEqual(activeId(), id);
    assert.deepEqual(stateOf().config.config, config.config);
    assert.equal(stateOf().config.modifyIndex, config.modifyIndex + 1);
    await signs();
  });

  it("rotate() does not rotate twice when a client repeats it with the same ModifyIndex", async () => {
    const modifyIndex = indexOf(stateOf());
    await manager.rotate({ ...NOW, modifyIndex });
    const { document } = ca.backend;
    const other = await replica(ca, "other");
    for (const replica of [manager, other])
      await assert.rejects(replica.rotate({ ...NOW, modifyIndex }), mismatch);
    assert.equal(ca.backend.document, document);
    assert.equal(stateOf().roots.length, 2);
  });

  it("rotate() is refused with the remedy if root or key were supplied", async () => {
    const { cert, key } = suppliedRoot();
    await manager.configure(configuration({ PrivateKey: key, RootCert: cert }));
    await requireRefused(
      ca,
      csr,
      (to) => to.rotate(NOW),
      coded(
        "config_invalid",
        /^Cannot rotate: the root was supplied by an operator\. Supply a new PrivateKey and RootCert in the CA configuration/,
      ),
    );
    await manager.configure(configuration({ PrivateKey: suppliedRoot().key }));
    await requireRefused(
      ca,
      csr,
      (to) => to.rotate(NOW),
      coded(
        "config_invalid",
        /^Cannot rotate: the root's key was supplied by an operator\. Supply a new PrivateKey in the CA configuration/,
      ),
    );
  });

  it("a leaf signed before a rotation verifies under the new listing, and one signed after it under the old", async () => {
    const old = await signs();
    const { certificate } = activeRoot(stateOf());
    await manager.rotate(NOW);
    const listed = stateOf().roots.map(({ id }) => id);
    assert.ok(listed.includes(certificate.id));
    assert.deepEqual(old.authorityKeyId, certificate.subjectKeyId);
    const leaf = await signs();
    assert.deepEqual(leaf.authorityKeyId, activeRoot(stateOf()).certificate.subjectKeyId);
  });
});

describe("going back", () => {
  it("configure() with a supplied root that is still listed makes that one entry active again", async () => {
    const [one, two] = [suppliedRoot(), suppliedRoot()];
    await manager.configure(configuration({ PrivateKey: one.key, RootCert: one.cert }));
    const id = activeId();
    const row = activeRoot(stateOf());
    await manager.configure(configuration({ PrivateKey: two.key, RootCert: two.cert }));
    const twoId = activeId();
    await manager.configure(configuration({ PrivateKey: one.key, RootCert: one.cert }));
    assert.equal(activeId(), id);
    assert.equal(stateOf().roots.length, 3);
    assert.equal(activeRoot(stateOf()).createIndex, row.createIndex);
    assert.ok(!(id in stateOf().provider.retired));
    const { certificate, intermediates } = activeRoot(stateOf());
    assert.ok(
      !intermediates.some(({ issuer }) => equal(issuer, certificate.subject)),
      "the root certified itself",
    );
    await signs();
    await manager.configure(configuration({ PrivateKey: two.key, RootCert: two.cert }));
    assert.equal(activeId(), twoId);
    assert.equal(stateOf().roots.length, 3);
    await signs();
  });

  it("configure() takes another certificate for the stored key, and leaves verify under both", async () => {
    const first = suppliedRoot({ name: "kept", to: "20270101000000Z" });
    const second = suppliedRoot({ name: "kept", key: first.key });
    const third = suppliedRoot({ name: "renamed", key: first.key });
    await manager.configure(configuration({ PrivateKey: first.key, RootCert: first.cert }));
    for (const { cert } of [second, third]) {
      await manager.configure(configuration({ PrivateKey: "hidden", RootCert: cert }));
      await signs();
    }
    assert.equal(stateOf().roots.length, 4);
    const other = await replica(ca, "other");
    await other.refresh();
    await signs(other);
  });
});

describe("force", () => {
  beforeEach(async () => {
    ca = await createTestCa({ bootstrap: BOOTSTRAP, providers: withoutCrossSigning });
    ({ manager } = ca);
  });

  it("configure() and rotate() are refused with Consul's text, which names the old root, if it cannot cross-sign", async () => {
    for (const work of [
      (to: CertificateAuthority) => to.configure(configuration({ PrivateKeyBits: 384 })),
      (to: CertificateAuthority) => to.rotate(NOW),
    ])
      await requireRefused(ca, csr, work, (error) => {
        coded("config_invalid")(error);
        assert.ok(error.message.startsWith(CROSS_SIGNING), error.message);
        assert.ok(error.message.includes(activeId()));
      });
  });

  it("configure() with force abandons the old root and deletes its key at once", async () => {
    const id = activeId();
    const sealed = stateOf().provider.active.key ?? "?";
    assert.ok((ca.backend.document ?? "").includes(sealed));
    await manager.configure(
      configuration({ PrivateKeyBits: 384 }, { forceWithoutCrossSigning: true }),
    );
    assert.ok(!(ca.backend.document ?? "").includes(sealed), "the old key is still stored");
    assert.equal(stateOf().roots.find((root) => root.id === id)?.abandoned, true);
    assert.deepEqual(stateOf().provider.retired, {});
    assert.deepEqual(activeRoot(stateOf()).intermediates, []);
    assert.equal(stateOf().config.forceWithoutCrossSigning, true);
    await signs();
  });

  it("configure() does not take force over from an earlier change", async () => {
    await manager.rotate({ ...NOW, forceWithoutCrossSigning: true });
    await requireRefused(
      ca,
      csr,
      (to) => to.rotate(NOW),
      coded("config_invalid", /does not support cross-signing/),
    );
  });

  it("configure() needs neither force nor cross-signing for a TTL", async () => {
    assert.equal(await manager.configure(configuration({ LeafCertTTL: "5h" })), true);
    await signs();
  });

  it("rotate() with force keeps the chain to every root that can cross-sign", async () => {
    const able = await replica(ca, "able", {
      providers: (await import("../../../providers/index.ts")).providers,
    });
    await able.rotate({ ...NOW, forceWithoutCrossSigning: true });
    assert.equal(
      stateOf(able).roots.some(({ abandoned }) => abandoned),
      false,
    );
    assert.equal(Object.keys(stateOf(able).provider.retired).length, 1);
    await signs(able);
  });
});

describe("an expired root", () => {
  it("rotate() and configure() need neither cross-signature nor force once the old root has expired", async () => {
    for (const work of [
      (of: CertificateAuthority) => of.configure(configuration({ PrivateKeyBits: 384 })),
      (of: CertificateAuthority) => of.rotate(NOW),
      (of: CertificateAuthority) => {
        const { cert, key } = suppliedRoot();
        return of.configure(configuration({ PrivateKey: key, RootCert: cert }));
      },
    ]) {
      const config = { LeafCertTTL: "1h", IntermediateCertTTL: "10h", RootCertTTL: "10h" };
      const short = await createTestCa({
        bootstrap: { ...BOOTSTRAP, config },
        providers: withoutCrossSigning,
      });
      short.clock.advance(10 * HOUR);
      await assert.rejects(
        short.manager.sign(csr),
        /^NotReadyError: root expired: certificate expired, expiration date:/,
      );
      await work(short.manager);
      const { state } = short.manager.require();
      assert.equal(state.roots.length, 2);
      assert.deepEqual(activeRoot(state).intermediates, []);
      assert.equal(
        state.roots.some(({ abandoned }) => abandoned),
        false,
      );
      await requireSigning(short.manager, csr, short.clock.now());
    }
  });
});

describe("the chain size", () => {
  const withinBudget = (state: CaState) => {
    assert.ok(chainBytes(activeRoot(state).intermediates) <= DEFAULT_POLICY.maxChainBytes);
    assert.ok(rootsBytes(state.roots) <= DEFAULT_POLICY.maxRootsBytes);
  };

  it("rotate() is refused once a leaf's chain would have too many certificates, until the time it names", {
    timeout: 60_000,
  }, async () => {
    for (let i = 0; i < 6; i++) {
      ca.clock.advance(HOUR);
      await manager.rotate(NOW);
      assert.equal(chainLength(activeRoot(stateOf()).intermediates), i + 2);
    }
    const oldest = stateOf().roots.toSorted(
      (a, b) => Number(a.rotatedOutAt ?? Infinity) - Number(b.rotatedOutAt ?? Infinity),
    )[0];
    assert.ok(oldest !== undefined);
    // Retired five hours ago; 144 h after that it is pruned, once looks of 9 h have found that due.
    const from = new Date(ca.clock.now().getTime() + (2 * 72 + 9 - 5) * HOUR + 1);
    const says = new RegExp(
      `^Cannot rotate: the chain of a leaf would have 8 certificates, and at most 7 are allowed\\. The rotation is possible from ${from.toISOString()} on, when an old root is pruned\\. ForceWithoutCrossSigning rotates now and abandons root ${oldest.id}: a client without a newer root then rejects every new leaf$`,
    );
    const other = await replica(ca, "configured");
    await other.refresh();
    await requireRefused(ca, csr, (to) => to.rotate(NOW), coded("budget_exceeded", says));
    await requireRefused(
      ca,
      csr,
      (to) => to.configure(configuration({ PrivateKeyBits: 384 })),
      coded("budget_exceeded", says),
    );
    // A change without a rotation is not refused.
    assert.equal(await manager.configure(configuration({ LeafCertTTL: "71h" })), true);
    ca.clock.advance((2 * 72 - 5) * HOUR + 1);
    assert.equal((await manager.tick()).kind, "wait");
    await requireRefused(ca, csr, (to) => to.rotate(NOW), coded("budget_exceeded"));
    ca.clock.advance(9 * HOUR);
    assert.equal((await manager.tick()).kind, "prune");
    await manager.rotate(NOW);
    assert.equal(chainLength(activeRoot(stateOf()).intermediates), 7);
    await signs();
  });

  it("rotate() with force abandons the root at the end of the chain that its refusal named, and only that", {
    timeout: 60_000,
  }, async () => {
    for (let i = 0; i < 6; i++) {
      ca.clock.advance(HOUR);
      await manager.rotate(NOW);
    }
    const named = await manager.rotate(NOW).then(
      () => assert.fail(),
      (error: CaError) => /abandons root ([0-9a-f:]+):/.exec(error.message)?.[1],
    );
    await manager.rotate({ ...NOW, forceWithoutCrossSigning: true });
    const { roots, provider } = stateOf();
    assert.deepEqual(
      roots.filter(({ abandoned }) => abandoned).map(({ id }) => id),
      [named],
    );
    assert.equal(provider.retired[named ?? ""], undefined);
    assert.equal(chainLength(activeRoot(stateOf()).intermediates), 7);
    await signs();
  });

  it("a stored chain that is longer than the bound signs on, and is kept by every change without a rotation", {
    timeout: 60_000,
  }, async () => {
    for (let i = 0; i < 5; i++) await manager.rotate(NOW);
    const strict = await replica(ca, "strict", {
      policy: { ...DEFAULT_POLICY, maxChainLength: 3 },
    });
    await strict.refresh();
    assert.equal(strict.obstacle(), null);
    await requireSigning(strict, csr, ca.clock.now());
    assert.equal(await strict.configure(configuration({ LeafCertTTL: "71h" })), true);
    await assert.rejects(strict.rotate(NOW), {
      code: "budget_exceeded",
      message: /would have 7 certificates, and at most 3 are allowed/,
    });
    await requireSigning(strict, csr, ca.clock.now());
    await strict.rotate({ ...NOW, forceWithoutCrossSigning: true });
    assert.equal(chainLength(activeRoot(stateOf(strict)).intermediates), 3);
    await requireSigning(strict, csr, ca.clock.now());
  });

  it("chainLength() counts the leaf", () => {
    assert.equal(chainLength([]), 1);
  });

  it("rotate() is refused once one more root would be too large for TLS clients, until the time it names", {
    timeout: 60_000,
  }, async () => {
    ca = await createTestCa({
      bootstrap: BOOTSTRAP,
      policy: { ...DEFAULT_POLICY, maxChainLength: 32 },
    });
    ({ manager } = ca);
    let refusal: CaError | null = null;
    for (let i = 0; i < 30 && refusal === null; i++) {
      try {
        await manager.rotate(NOW);
        withinBudget(stateOf());
      } catch (error) {
        assert.ok(error instanceof ConflictError);
        refusal = error;
      }
    }
    assert.ok(refusal !== null, "30 rotations fit");
    assert.equal(refusal.code, "budget_exceeded");
    const { roots } = stateOf();
    assert.ok(roots.length > 5);
    const wait = refusal.retryAfterMs ?? 0;
    assert.equal(wait, 153 * HOUR + 1);
    assert.ok(refusal.message.includes(new Date(ca.clock.now().getTime() + wait).toISOString()));
    await requireRefused(ca, csr, (to) => to.rotate(NOW), coded("budget_exceeded"));
    await manager.configure(configuration({ LeafCertTTL: "5h" }));
    ca.clock.advance(wait - 9 * HOUR);
    assert.equal((await manager.tick()).kind, "wait");
    ca.clock.advance(9 * HOUR);
    assert.equal((await manager.tick()).kind, "prune");
    await manager.rotate(NOW);
    await signs();
  });

  it("rotate() with force is not refused: it abandons the oldest roots, and the chain stays within its limits", {
    timeout: 60_000,
  }, async () => {
    ca = await createTestCa({
      bootstrap: BOOTSTRAP,
      policy: { ...DEFAULT_POLICY, maxChainLength: 32 },
    });
    ({ manager } = ca);
    for (let i = 0; i < 30; i++) {
      ca.clock.advance(1000);
      await manager.rotate({ ...NOW, forceWithoutCrossSigning: true });
      assert.ok(chainBytes(activeRoot(stateOf()).intermediates) <= DEFAULT_POLICY.maxChainBytes);
      await signs();
    }
    const retired = stateOf()
      .roots.filter(({ status }) => status === "retired")
      .toSorted((a, b) => Number(a.rotatedOutAt) - Number(b.rotatedOutAt));
    const left = retired.map(({ abandoned }) => abandoned);
    assert.ok(left.includes(true) && left.includes(false));
    assert.ok(left.lastIndexOf(true) < left.indexOf(false), "not the oldest were left");
    for (const { id, abandoned } of retired)
      assert.equal(id in stateOf().provider.retired, !abandoned);
  });
});
