/**
 * Promotions against a datacenter that lies, roots that flip, old backups and clocks that are behind:
 * nobody makes another promotion impossible, takes the lead back, or loses what was signed.
 * @module
 */
import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import type { PromotionRoot } from "../../src/core/ca/plan-promotion.ts";
import { requireOwnLeaf } from "../../src/core/ca/renewal-check.ts";
import type { Certificate } from "../../src/core/x509/certificate.ts";
import { DEFAULT_BOOTSTRAP } from "../fakes/ca.ts";
import { Mesh } from "./mesh-in-one.ts";

const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };
const MINUTE = 60_000;
const TRANSITION = { name: "ConflictError", code: "transition_invalid" };
/** The highest number that a server can say. */
const HIGHEST = 999_999_999_999_999;

describe("a promotion among hostile datacenters", () => {
  let mesh: Mesh;
  beforeEach(async () => {
    mesh = new Mesh();
    for (const name of ["dc1", "dc2", "dc3"]) await mesh.add(name, name === "dc1" ? null : "dc1");
    mesh.of("dc1").lists.add("dc2").add("dc3");
  });

  const activeOf = (name: string) => mesh.of(name).ca.require().active.id;
  const stateOf = (name: string) => mesh.of(name).ca.require().state;
  const faultOf = (name: string) => mesh.of(name).ca.status.primary?.fault?.reason ?? null;
  const lose = (name: string) => {
    for (const other of mesh.members.values()) if (other.name !== name) other.cut.add(name);
  };
  const find = (name: string) => {
    for (const other of mesh.members.values()) other.cut.delete(name);
  };
  const promote = (name: string, root: PromotionRoot, force = false) =>
    mesh.of(name).ca.promote({ root, forceWithoutCrossSigning: force, modifyIndex: null });
  async function backupOf(name: string, reader: string): Promise<PromotionRoot> {
    const text = await mesh.of(name).codec.encode(stateOf(name));
    await mesh.of(reader).restart([mesh.of(name).kek]);
    return { kind: "backup", backup: await mesh.of(reader).codec.decodeAny(text) };
  }
  /** Lets a datacenter say another number of promotions. */
  const claim = (name: string, promotions: number, datacenter = name) => {
    mesh.of(name).answer = (listing) => ({
      ...listing,
      primacy: { datacenter, promotions, leafTtlMs: null },
    });
  };

  it("is not used up by a secondary that says an impossible number", async () => {
    claim("dc3", HIGHEST);
    await mesh.settle();
    assert.equal(mesh.of("dc1").ca.status.otherPrimary, null);
    await mesh.of("dc1").ca.rotate(NOW);
    await promote("dc1", { kind: "own" });
    assert.equal(stateOf("dc1").promotions, 1);
    // One that may be true is believed, and a promotion is above it.
    claim("dc3", 1000);
    await mesh.settle();
    assert.equal(mesh.of("dc1").ca.status.otherPrimary?.promotions, 1000);
    await promote("dc1", { kind: "own" });
    assert.equal(stateOf("dc1").promotions, 1001);
    await mesh.settle();
    assert.deepEqual([stateOf("dc2").promotions, faultOf("dc2")], [1001, null]);
  });

  it("is not used up by the primary either", async () => {
    const before = stateOf("dc2").commitId;
    claim("dc1", HIGHEST);
    await mesh.settle();
    assert.equal(
      faultOf("dc2"),
      `Cannot follow datacenter dc1: it reports promotion ${HIGHEST} as the last one, and this datacenter has seen promotion 0: no mesh has so many. Find out who runs its servers`,
    );
    assert.equal(stateOf("dc2").commitId, before);
    await promote("dc2", await backupOf("dc1", "dc2"));
    assert.equal(stateOf("dc2").promotions, 1);
  });

  it("does not keep a secondary from signing by the primary's LeafCertTTL", async () => {
    mesh.of("dc1").answer = (listing) => ({
      ...listing,
      primacy: { datacenter: "dc1", promotions: 0, leafTtlMs: 0 },
    });
    await mesh.settle();
    assert.equal(stateOf("dc2").primary?.leafTtlMs, 0);
    const { leaf } = await mesh.leafOf("dc2");
    assert.equal(leaf.notAfter.getTime() - leaf.notBefore.getTime(), 60 * MINUTE);
  });

  describe("leaves that were signed before renew by their own key", () => {
    const requireRenewable = async (name: string, leaf: Certificate) =>
      requireOwnLeaf(leaf, stateOf(name), mesh.clock.now());

    it("after a promotion with a backup and the demotion of the former primary", async () => {
      const [one, two] = [await mesh.leafOf("dc1"), await mesh.leafOf("dc2")];
      await promote("dc2", await backupOf("dc1", "dc2"));
      for (const name of ["dc1", "dc3"]) mesh.of(name).follows = "dc2";
      await mesh.of("dc1").restart();
      await mesh.settle();
      assert.equal(stateOf("dc1").primary?.datacenter, "dc2");
      await requireRenewable("dc1", one.leaf);
      await requireRenewable("dc2", two.leaf);
    });

    it("unless the primary abandoned their root, since a key may be stolen", async () => {
      const { leaf } = await mesh.leafOf("dc2");
      const root = activeOf("dc1");
      await mesh.of("dc1").ca.rotate(NOW);
      await mesh.settle();
      await requireRenewable("dc2", leaf);
      const list = (lost: boolean) => {
        mesh.of("dc1").answer = (listing) => ({
          ...listing,
          roots: listing.roots.map((each) =>
            each.certificate.id === root ? { ...each, abandoned: true, lost } : each,
          ),
        });
      };
      // Once it was, it cannot be a lost one.
      for (const lost of [false, true]) {
        list(lost);
        await mesh.settle();
        await assert.rejects(requireRenewable("dc2", leaf), { name: "DeniedError" });
      }
    });

    it("after a promotion with a new root, before and after it is active", async () => {
      const one = await mesh.leafOf("dc1");
      const [two, three] = [await mesh.leafOf("dc2"), await mesh.leafOf("dc3")];
      lose("dc1");
      await promote("dc2", { kind: "new", soakMs: 10 * MINUTE });
      mesh.of("dc3").follows = "dc2";
      for (let i = 0; i < 2; i++) {
        await mesh.settle(6 * MINUTE);
        await requireRenewable("dc2", two.leaf);
        await requireRenewable("dc3", three.leaf);
      }
      assert.equal(stateOf("dc2").provider.prepared, null);
      // A leaf that the lost key itself signed may be of somebody else who has it now.
      find("dc1");
      mesh.of("dc1").follows = "dc2";
      await mesh.of("dc1").restart();
      await mesh.settle();
      assert.deepEqual([activeOf("dc1"), activeOf("dc3")], [activeOf("dc2"), activeOf("dc2")]);
      await assert.rejects(requireRenewable("dc1", one.leaf), {
        name: "DeniedError",
        message: /or its root was abandoned$/,
      });
    });
  });

  it("is above that of its backup, which this datacenter may not have followed", async () => {
    await mesh.settle();
    mesh.of("dc1").cut.add("dc2");
    await promote("dc1", { kind: "own" });
    await promote("dc1", { kind: "own" });
    await promote("dc2", await backupOf("dc1", "dc2"));
    assert.equal(stateOf("dc2").promotions, 3);
  });

  it("takes over no garbage of the lost primary, which that one deletes if it comes back", async () => {
    await mesh.of("dc1").ca.rotate(NOW);
    await mesh.settle();
    const root = await backupOf("dc1", "dc2");
    assert.equal(root.kind, "backup");
    const { backup } = root as Extract<PromotionRoot, { kind: "backup" }>;
    const [id = "", record] = Object.entries(backup.provider.retired)[0] ?? [];
    assert.ok(record !== undefined);
    const retired = { ...backup.provider.retired, "left:1": record };
    await promote("dc2", {
      kind: "backup",
      backup: { ...backup, provider: { ...backup.provider, retired } },
    });
    assert.deepEqual(Object.keys(stateOf("dc2").provider.retired), [id]);
  });

  it("does not wait for its new root once the present intermediate has expired", async () => {
    const short = new Mesh();
    const config = { ...DEFAULT_BOOTSTRAP.config, LeafCertTTL: "1h", IntermediateCertTTL: "24h" };
    const bootstrap = { ...DEFAULT_BOOTSTRAP, config };
    await short.add("dc1", null, { bootstrap });
    const { ca, cut } = await short.add("dc2", "dc1", { bootstrap });
    cut.add("dc1");
    const root = { kind: "new", soakMs: 7 * 24 * 60 * MINUTE } as const;
    await ca.promote({ root, ...NOW });
    const { prepared } = ca.require().state.provider;
    const end = ca.require().provider?.issuer.notAfter ?? assert.fail("no issuer");
    await short.settle(end.getTime() - short.clock.now().getTime() - MINUTE);
    assert.notEqual(ca.require().active.id, prepared?.rootId);
    await short.settle(2 * MINUTE);
    assert.equal(ca.require().active.id, prepared?.rootId);
    await short.requireTrust(["dc2"]);
  });

  it("goes on with a backup from within another promotion, whose root becomes active later", async () => {
    lose("dc1");
    await promote("dc2", { kind: "new", soakMs: 10 * MINUTE });
    mesh.of("dc3").follows = "dc2";
    await mesh.settle(MINUTE);
    const root = await backupOf("dc2", "dc3");
    const prepared = stateOf("dc2").provider.prepared?.rootId;
    lose("dc2");
    await promote("dc3", root);
    assert.deepEqual([stateOf("dc3").promotions, stateOf("dc3").primary], [2, null]);
    assert.notEqual(activeOf("dc3"), prepared);
    await mesh.requireTrust(["dc3"]);
    await mesh.settle(10 * MINUTE);
    assert.equal(activeOf("dc3"), prepared);
    await mesh.requireTrust(["dc3"]);
  });

  it("is not one of a datacenter of another trust domain", async () => {
    mesh.of("dc3").answer = (listing) => ({
      ...listing,
      trustDomain: "other.consul",
      primacy: { datacenter: "dc3", promotions: 5, leafTtlMs: null },
    });
    await mesh.settle();
    assert.equal(mesh.of("dc1").ca.status.otherPrimary, null);
    await promote("dc1", { kind: "own" });
    assert.equal(stateOf("dc1").promotions, 1);
  });

  it("is refused with a backup of a former primary that is not the one that is followed", async () => {
    const old = await backupOf("dc1", "dc3");
    await promote("dc2", await backupOf("dc1", "dc2"));
    mesh.of("dc3").follows = "dc2";
    await mesh.settle();
    await assert.rejects(promote("dc3", old), {
      ...TRANSITION,
      message: "Cannot promote: the backup is of datacenter dc1, and this datacenter follows dc2",
    });
  });

  it("of two datacenters with one number leaves the others where they are", async () => {
    const [two, three] = [await backupOf("dc1", "dc2"), await backupOf("dc1", "dc3")];
    await mesh.add("dc4", "dc1");
    lose("dc1");
    await promote("dc2", two);
    await promote("dc3", three);
    mesh.of("dc4").follows = "dc2";
    await mesh.settle();
    const { commitId } = stateOf("dc4");
    mesh.of("dc4").follows = "dc3";
    await mesh.settle();
    assert.equal(
      faultOf("dc4"),
      "Cannot follow datacenter dc3: datacenter dc2 is the primary one, too, by promotion 1; promote the one that is to remain",
    );
    assert.equal(stateOf("dc4").commitId, commitId);
  });

  it("that was once made is not taken back by a primary with the same number", async () => {
    await promote("dc2", await backupOf("dc1", "dc2"));
    mesh.of("dc1").lists.clear();
    claim("dc1", 1);
    await mesh.settle();
    assert.equal(stateOf("dc2").primary, null);
  });

  it("is final once the settings name the promoted datacenter, also without a restart", async () => {
    const backup = await backupOf("dc1", "dc2");
    lose("dc1");
    await promote("dc2", backup);
    mesh.of("dc2").follows = null;
    find("dc1");
    mesh.of("dc1").lists.clear();
    claim("dc1", 7);
    await mesh.settle();
    assert.deepEqual([stateOf("dc2").primary, stateOf("dc2").promotions], [null, 1]);
    await mesh.of("dc2").ca.rotate(NOW);
  });

  it("is followed when the root that it prepared is prepared again, by a backup from before it signed", async () => {
    lose("dc1");
    await promote("dc2", { kind: "new", soakMs: 10 * MINUTE });
    mesh.of("dc3").follows = "dc2";
    await mesh.settle(MINUTE);
    const backup = stateOf("dc2");
    const prepared = backup.provider.prepared?.rootId ?? assert.fail("nothing is prepared");
    await mesh.settle(10 * MINUTE);
    assert.equal(activeOf("dc3"), prepared);
    const { leaf, chain } = await mesh.leafOf("dc3");
    const restore = (force: boolean) =>
      mesh.of("dc2").ca.restore(backup, { forceWithoutCrossSigning: force });
    await assert.rejects(restore(false), { code: "root_abandoned" });
    await restore(true);
    // Before dc2 makes it active again, dc3 stays under it.
    await mesh.tick("dc3");
    assert.equal(activeOf("dc3"), prepared);
    assert.match(faultOf("dc3") ?? "", /^Cannot change the CA: root \S+ is prepared/);
    await mesh.requireTrusted(leaf, chain, "dc3", "dc3");
    await mesh.settle();
    assert.deepEqual([activeOf("dc2"), activeOf("dc3")], [prepared, prepared]);
    await mesh.requireTrust(["dc2", "dc3"]);
  });

  it("does not forget which intermediates were signed, whatever backup is restored", async () => {
    const { state } = mesh.of("dc1").ca.require();
    const backup = { ...state, intermediates: [] };
    await mesh.of("dc3").ca.rotate(NOW);
    const signed = stateOf("dc1").intermediates.map(({ serial }) => serial);
    assert.equal(signed.length, 3);
    await mesh.of("dc1").ca.restore(backup, { forceWithoutCrossSigning: false });
    assert.deepEqual(
      stateOf("dc1").intermediates.map(({ serial }) => serial),
      signed,
    );
    await mesh.of("dc1").ca.restore(state, { forceWithoutCrossSigning: false });
    assert.deepEqual(
      stateOf("dc1")
        .intermediates.map(({ serial }) => serial)
        .toSorted(),
      signed.toSorted(),
    );
  });

  it("is not taken back by an older backup of the primary or of one that follows it", async () => {
    const [one, two] = [stateOf("dc1"), stateOf("dc2")];
    await promote("dc1", { kind: "own" });
    await mesh.settle();
    assert.equal(stateOf("dc2").promotions, 1);
    for (const [name, backup] of [
      ["dc1", one],
      ["dc2", two],
    ] as const) {
      await mesh.of(name).ca.restore(backup, { forceWithoutCrossSigning: false });
      assert.equal(stateOf(name).promotions, 1, name);
    }
    await mesh.settle();
    for (const name of ["dc2", "dc3"]) assert.equal(faultOf(name), null, name);
    await mesh.requireTrust();
  });

  it("of another datacenter is still followed after a restore of one that follows", async () => {
    const old = stateOf("dc3");
    await promote("dc2", await backupOf("dc1", "dc2"));
    mesh.of("dc3").follows = "dc2";
    await mesh.settle();
    await mesh.of("dc3").ca.restore(old, { forceWithoutCrossSigning: false });
    assert.equal(stateOf("dc3").primary?.datacenter, "dc2");
    await mesh.settle();
    assert.equal(faultOf("dc3"), null);
    mesh.of("dc3").follows = "dc1";
    await mesh.settle();
    assert.match(faultOf("dc3") ?? "", /another datacenter was promoted after it/);
    await assert.rejects(mesh.of("dc3").ca.rotate(NOW), TRANSITION);
  });
});
