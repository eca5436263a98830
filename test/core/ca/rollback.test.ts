/**
 * Rollback: a retired root signs again at once, with its provider and key, and every other field of
 * the configuration stays.
 * @module
 */
import assert from "node:assert/strict";
import { before, beforeEach, describe, it } from "node:test";
import type { CertificateAuthority } from "../../../src/core/ca/ca.ts";
import { chainLength } from "../../../src/core/ca/chain-size.ts";
import { DEFAULT_POLICY } from "../../../src/core/ca/timing-and-limits.ts";
import { type CaError, SealError } from "../../../src/core/errors.ts";
import type { AuditRecord } from "../../../src/core/ports/audit.ts";
import type { Sealer } from "../../../src/core/ports/sealer.ts";
import { activeRoot, type CaState } from "../../../src/core/state.ts";
import {
  configuration,
  confirmOver,
  createTestCa,
  silentLog,
  type TestCa,
} from "../../fakes/ca.ts";
import { overriding } from "../../fixtures/overriding.ts";
import {
  BOOTSTRAP,
  HOUR,
  providersWith,
  readChain,
  replica,
  requireRefused,
  requireSigning,
  suppliedRoot,
  webCsr,
  withoutCrossSigning,
} from "./harness.ts";

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

const to = (id: string, modifyIndex: bigint | null = null) => ({ ...NOW, to: id, modifyIndex });
const stateOf = (of: CertificateAuthority = manager): CaState => of.require().state;
const activeId = (of: CertificateAuthority = manager) => activeRoot(stateOf(of)).id;
const signs = (of: CertificateAuthority = manager) => requireSigning(of, csr, ca.clock.now());
const entryOf = (id: string) => stateOf().roots.find((root) => root.id === id);
const configOf = () => stateOf().config.config;

/** Rotates by a change of the configuration. @returns the root that is active then */
async function rotatedTo(config: Record<string, unknown>): Promise<string> {
  ca.clock.advance(1000);
  assert.equal(await manager.configure(configuration(config)), true);
  return activeId();
}

async function rotated(): Promise<string> {
  ca.clock.advance(1000);
  await manager.rotate(NOW);
  return activeId();
}

/** Expects a rollback to be refused and nothing to have changed. */
const refused = (id: string, code: string, text: RegExp, modifyIndex: bigint | null = null) =>
  requireRefused(
    ca,
    csr,
    (of) => of.rollBack(to(id, modifyIndex)),
    (error: CaError) => {
      assert.equal(error.code, code, error.message);
      assert.match(error.message, text);
    },
  );

/** Sends the configuration back as it was read. */
async function requireSame(): Promise<void> {
  const { document } = ca.backend;
  assert.equal(await manager.configure(configuration({ ...configOf() })), false);
  assert.equal(ca.backend.document, document);
}

describe("rollBack()", () => {
  it("rollBack() makes the retired root the active one again, with its key, and retires the other", async () => {
    const first = activeId();
    const { createIndex } = activeRoot(stateOf());
    const key = stateOf().provider.active.key;
    const second = await rotated();
    ca.clock.advance(HOUR);
    const { modifyIndex } = stateOf().config;
    const snapshot = await manager.rollBack(to(first, BigInt(modifyIndex)));
    assert.equal(snapshot, manager.snapshot);
    assert.equal(activeId(), first);
    assert.equal(stateOf().config.modifyIndex, modifyIndex + 1);
    assert.equal(stateOf().provider.active.key, key);
    assert.deepEqual(Object.keys(stateOf().provider.retired), [second]);
    const [revived, retired] = [entryOf(first), entryOf(second)];
    assert.deepEqual(
      [revived?.createIndex, revived?.since, revived?.rotatedOutAt],
      [createIndex, ca.clock.now(), null],
    );
    assert.deepEqual([retired?.status, retired?.rotatedOutAt], ["retired", ca.clock.now()]);
    const leaf = await signs();
    assert.deepEqual(leaf.authorityKeyId, revived?.certificate.subjectKeyId);
    await requireSame();
  });

  it("a leaf signed before, between and after verifies under each root that was published then, and under those of now", async () => {
    const first = activeId();
    const before = await signs();
    await rotated();
    const between = readChain((await manager.sign(csr)).certificatePem);
    await manager.rollBack(to(first));
    await signs();
    const keyIds = stateOf().roots.map(({ certificate }) => certificate.subjectKeyId);
    assert.equal(keyIds.length, 2);
    for (const { authorityKeyId } of [before, between.leaf])
      assert.ok(
        keyIds.some((id) => Buffer.from(id ?? "").equals(Buffer.from(authorityKeyId ?? ""))),
      );
  });

  it("rollBack() brings back the fields that decide the root, and leaves every other one as it is now", async () => {
    const { cert, key } = suppliedRoot();
    const first = await rotatedTo({ PrivateKey: key, RootCert: cert, LeafCertTTL: "72h" });
    const now = {
      LeafCertTTL: "50h",
      IntermediateCertTTL: "900h",
      RootCertTTL: "9000h",
      CSRMaxConcurrent: 3,
      RootAutoRotate: 0.9,
      ServiceDNSNames: ["{service}.example.com"],
    };
    // Names count in any spelling.
    const second = await rotatedTo({ ...now, privatekeytype: "ec", privatekeybits: 384 });
    await manager.rollBack(to(first));
    assert.deepEqual(configOf(), { ...now, PrivateKey: "hidden", RootCert: cert });
    assert.equal(manager.require().config.leafTtlMs, 50 * HOUR);
    await requireSame();
    assert.equal(
      await manager.configure(configuration({ ...now, PrivateKey: key, RootCert: cert })),
      false,
    );
    await signs();
    await manager.rollBack(to(second));
    assert.deepEqual(configOf(), { ...now, privatekeytype: "ec", privatekeybits: 384 });
    await requireSame();
    await signs();
  });

  it("rollBack() skips roots: the third one back is active, and leaves verify under all", async () => {
    const first = activeId();
    for (const PrivateKeyBits of [384, 521, 256]) await rotatedTo({ PrivateKeyBits });
    await manager.rollBack(to(first));
    assert.equal(activeId(), first);
    assert.equal(stateOf().roots.length, 4);
    await signs();
    const other = await replica(ca, "other");
    await other.refresh();
    await signs(other);
  });

  it("twenty rollbacks between two roots make no chain longer, and every root keeps its drain window", async () => {
    const roots = [activeId(), await rotated()] as const;
    for (let i = 0; i < 20; i++) {
      ca.clock.advance(10 * HOUR);
      await manager.tick();
      await manager.rollBack(to(roots[i % 2] as string));
      assert.equal(activeId(), roots[i % 2]);
      assert.equal(chainLength(activeRoot(stateOf()).intermediates), 2);
      assert.equal(stateOf().roots.length, 2);
      await signs();
    }
    // The retired one is removed once no leaf can need it; the active one stays.
    ca.clock.advance(144 * HOUR + 1);
    await confirmOver(ca);
    assert.equal((await manager.tick()).kind, "prune");
    assert.deepEqual(
      stateOf().roots.map(({ id }) => id),
      [roots[1]],
    );
    await signs();
  });

  it("a root that was rolled back to rotates, is retired and comes back like any other", async () => {
    const first = activeId();
    const second = await rotated();
    await manager.rollBack(to(first));
    const third = await rotated();
    await signs();
    await manager.rollBack(to(second));
    await signs();
    await manager.rollBack(to(third));
    await signs();
    assert.deepEqual(new Set(Object.keys(stateOf().provider.retired)), new Set([first, second]));
  });

  it("rollBack() is done once when a client repeats it with the same ModifyIndex", async () => {
    const first = activeId();
    const second = await rotated();
    const index = BigInt(stateOf().config.modifyIndex);
    await manager.rollBack(to(first, index));
    for (const id of [first, second])
      await refused(id, "index_mismatch", /^ModifyIndex did not match existing$/, index);
    assert.equal(activeId(), first);
  });

  it("rollBack() with force abandons the root that cannot certify the retired one", async () => {
    const first = activeId();
    const second = await rotated();
    const unable = await replica(ca, "unable", { providers: withoutCrossSigning });
    await unable.refresh();
    await unable.rollBack({ ...to(first), forceWithoutCrossSigning: true });
    assert.equal(activeId(unable), first);
    const { roots, provider } = stateOf(unable);
    assert.equal(roots.find(({ id }) => id === second)?.abandoned, true);
    assert.deepEqual(provider.retired, {});
    await signs(unable);
  });

  it("the audit log and the log name the change", async () => {
    const [records, lines]: [AuditRecord[], unknown[][]] = [[], []];
    ca = await createTestCa({
      bootstrap: BOOTSTRAP,
      audit: {
        record: (record: AuditRecord) => void records.push(record),
        beforeChange: async (record: AuditRecord) => void records.push(record),
      } as never,
      log: { ...silentLog, info: (...line: unknown[]) => void lines.push(line) },
    });
    ({ manager } = ca);
    const first = activeId();
    await rotated();
    await manager.rollBack(to(first));
    const { action, subject, outcome } = records.at(-1) as AuditRecord;
    assert.deepEqual([action, subject, outcome], ["rollback", first, "allowed"]);
    const [text, fields] = lines.at(-1) as [string, { change: string; root: string }];
    assert.equal(text, "CA changed: made a retired root the active one again");
    assert.deepEqual([fields.change, fields.root], ["rollback", first]);
  });
});

describe("a rollback that is refused changes nothing", () => {
  it("a root that is not listed", async () => {
    const unknown = Array.from({ length: 20 }, () => "ab").join(":");
    await refused(unknown, "not_found", /^Cannot roll back: no root "ab:.*" is listed\./);
    const first = activeId();
    await rotated();
    ca.clock.advance(144 * HOUR + 1);
    await confirmOver(ca);
    assert.equal((await manager.tick()).kind, "prune");
    await refused(first, "not_found", /is listed\. A root that no leaf needs is removed/);
  });

  it("the active root", async () => {
    await refused(
      activeId(),
      "transition_invalid",
      /^Cannot roll back: root \S+ is active already$/,
    );
  });

  it("another ModifyIndex", async () => {
    const first = activeId();
    await rotated();
    await refused(first, "index_mismatch", /^ModifyIndex did not match existing$/, 1n);
  });

  it("an abandoned root", async () => {
    ca = await createTestCa({ bootstrap: BOOTSTRAP, providers: withoutCrossSigning });
    ({ manager } = ca);
    const first = activeId();
    await manager.rotate({ ...NOW, forceWithoutCrossSigning: true });
    await refused(
      first,
      "root_abandoned",
      /^Cannot roll back: root \S+ was abandoned by a forced rotation, and its key destroyed$/,
    );
  });

  it("a root that expired", async () => {
    const config = { LeafCertTTL: "10h", IntermediateCertTTL: "30h", RootCertTTL: "30h" };
    ca = await createTestCa({ bootstrap: { ...BOOTSTRAP, config } });
    ({ manager } = ca);
    const first = activeId();
    ca.clock.advance(20 * HOUR);
    await manager.configure(configuration({ PrivateKeyBits: 384 }));
    ca.clock.advance(10 * HOUR);
    await refused(first, "transition_invalid", /^Cannot roll back: root \S+ expired on \d{4}-/);
  });

  it("a root whose key cannot be decrypted", async () => {
    const first = activeId();
    const { key } = stateOf().provider.active;
    await rotated();
    const broken: Sealer = overriding(ca.sealer, {
      async openKey(sealed, ...rest) {
        if (sealed === key) throw new SealError("kek_unknown", "its key-encryption key is gone");
        return ca.sealer.openKey(sealed, ...rest);
      },
    });
    const other = await replica(ca, "other", { sealer: broken });
    await other.refresh();
    const { document } = ca.backend;
    await assert.rejects(other.rollBack(to(first)), { code: "kek_unknown" });
    assert.equal(ca.backend.document, document);
    await signs();
  });

  it("a chain that would be too long", async () => {
    const first = activeId();
    for (let i = 0; i < 5; i++) await rotated();
    const strict = await replica(ca, "strict", {
      policy: { ...DEFAULT_POLICY, maxChainLength: 3 },
    });
    await strict.refresh();
    const { document } = ca.backend;
    await assert.rejects(strict.rollBack(to(first)), {
      code: "budget_exceeded",
      message: /^Cannot rotate: the chain of a leaf would have 6 certificates/,
    });
    assert.equal(ca.backend.document, document);
  });

  it("a present root that cannot certify the retired one", async () => {
    const first = activeId();
    await rotated();
    const unable = await replica(ca, "unable", { providers: withoutCrossSigning });
    await unable.refresh();
    const { document } = ca.backend;
    await assert.rejects(unable.rollBack(to(first)), {
      code: "config_invalid",
      message: /^The current CA Provider does not support cross-signing/,
    });
    assert.equal(ca.backend.document, document);
  });

  it("a root that RootAutoRotate would replace at once", async () => {
    const config = { LeafCertTTL: "10h", IntermediateCertTTL: "30h", RootCertTTL: "100h" };
    ca = await createTestCa({ bootstrap: { ...BOOTSTRAP, config } });
    ({ manager } = ca);
    const first = activeId();
    ca.clock.advance(50 * HOUR);
    await manager.rotate(NOW);
    await manager.configure(configuration({ ...config, RootAutoRotate: 0.5 }));
    await refused(
      first,
      "transition_invalid",
      /^Cannot roll back: RootAutoRotate would replace root \S+ at once, since \d{4}-/,
    );
    await manager.configure(configuration({ ...config, RootAutoRotate: 0.8 }));
    await manager.rollBack(to(first));
    assert.equal((await manager.tick()).kind, "wait");
    assert.equal(activeId(), first);
    await signs();
  });

  it("a provider that prepares another root", async () => {
    const first = activeId();
    const second = await rotated();
    const certificate = activeRoot(stateOf()).certificate;
    const wrong = await replica(ca, "wrong", {
      providers: providersWith((type) => ({
        ...type,
        prepare: async () => ({ root: certificate, state: stateOf().provider.active }),
      })),
    });
    await wrong.refresh();
    await assert.rejects(wrong.rollBack(to(first)), {
      code: "invariant",
      message: /prepared another root/,
    });
    assert.equal(activeId(), second);
  });
});
