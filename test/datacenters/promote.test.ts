/**
 * Promotion of a secondary datacenter: with a backup of the lost primary, with a new root, and as a
 * planned switch-over; the old primary that comes back, and what is refused.
 * @module
 */
import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import type { PromotionRoot } from "../../src/core/ca/plan-promotion.ts";
import type { Log } from "../../src/core/ports/log.ts";
import { findPath } from "../../src/core/x509/chain.ts";
import { configuration, silentLog } from "../fakes/ca.ts";
import { Mesh } from "./mesh-in-one.ts";

const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };
const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
const TRANSITION = { name: "ConflictError", code: "transition_invalid" };

describe("a promotion", () => {
  let mesh: Mesh;
  beforeEach(async () => {
    mesh = new Mesh();
    for (const name of ["dc1", "dc2", "dc3"]) await mesh.add(name, name === "dc1" ? null : "dc1");
    mesh.of("dc1").lists.add("dc2").add("dc3");
  });

  const activeOf = (name: string) => mesh.of(name).ca.require().active.id;
  const stateOf = (name: string) => mesh.of(name).ca.require().state;
  const backupOf = (name: string) => mesh.of(name).codec.encode(stateOf(name));
  /** dc1 is lost for all. */
  const lose = (name: string) => {
    for (const other of mesh.members.values()) if (other.name !== name) other.cut.add(name);
  };
  const find = (name: string) => {
    for (const other of mesh.members.values()) other.cut.delete(name);
  };
  const promote = (name: string, root: PromotionRoot, force = false) =>
    mesh.of(name).ca.promote({ root, forceWithoutCrossSigning: force, modifyIndex: null });
  /** A backup as the server of a datacenter reads it, that has the key of another one. */
  async function withBackup(name: string, text: string, from = "dc1"): Promise<PromotionRoot> {
    await mesh.of(name).restart([mesh.of(from).kek]);
    return { kind: "backup", backup: await mesh.of(name).codec.decodeAny(text) };
  }

  describe("with a backup", () => {
    it("takes over the root: leaves, intermediates and rotations go on, and the others follow", async () => {
      const root = activeOf("dc1");
      const text = await backupOf("dc1");
      const old = await Promise.all(["dc1", "dc2", "dc3"].map((name) => mesh.leafOf(name)));
      lose("dc1");
      const before = stateOf("dc2");
      await promote("dc2", await withBackup("dc2", text));
      const state = stateOf("dc2");
      assert.deepEqual(
        [state.datacenter, state.primary, state.promotions, state.schema, activeOf("dc2")],
        ["dc2", null, 1, 7, root],
      );
      assert.ok(state.index > before.index);
      assert.ok(state.ancestors.includes(before.commitId), "rollback detection");
      assert.equal(mesh.of("dc2").ca.isSecondary, false);
      assert.equal(mesh.of("dc2").ca.status.primary, null);
      // Leaves of the former intermediate renew by themselves.
      assert.equal(state.roots[0]?.leafIssuers.length, 2);
      await mesh.requireTrust(["dc2", "dc3"]);

      // dc3 is told where the primary is, and asks it for its next intermediate.
      mesh.of("dc3").follows = "dc2";
      await mesh.settle();
      assert.deepEqual(
        [
          stateOf("dc3").primary?.datacenter,
          stateOf("dc3").promotions,
          mesh.of("dc3").ca.status.primary?.fault,
        ],
        ["dc2", 1, null],
      );
      await mesh.of("dc3").ca.rotate(NOW);
      await mesh.requireTrust(["dc2", "dc3"]);
      await mesh.of("dc2").ca.rotate(NOW);
      await mesh.settle();
      assert.notEqual(activeOf("dc2"), root);
      assert.equal(activeOf("dc3"), activeOf("dc2"));
      await mesh.requireTrust(["dc2", "dc3"]);
      for (const [i, { leaf, chain }] of old.entries())
        for (const verifier of ["dc2", "dc3"])
          await mesh.requireTrusted(leaf, chain, `dc${i + 1}`, verifier);
    });

    it("needs the key of the primary once: all is encrypted for this datacenter under its own key", async () => {
      const text = await backupOf("dc1");
      lose("dc1");
      await promote("dc2", await withBackup("dc2", text));
      await mesh.of("dc2").restart();
      await mesh.of("dc2").ca.rotate(NOW);
      await mesh.requireTrust(["dc2"]);
      // Without the key a backup is refused, and nothing changes.
      const { commitId } = stateOf("dc3");
      await assert.rejects(mesh.of("dc3").codec.decodeAny(text), {
        name: "SealError",
        code: "kek_unknown",
      });
      assert.equal(stateOf("dc3").commitId, commitId);
    });

    it("keeps roots that the backup does not know, and rotates away from an older one", async () => {
      const text = await backupOf("dc1");
      await mesh.of("dc1").ca.rotate(NOW);
      await mesh.settle();
      const newer = activeOf("dc2");
      lose("dc1");
      const root = await withBackup("dc2", text);
      // The key of the newer root is lost, so that it cannot certify the older one.
      await assert.rejects(promote("dc2", root), { name: "ConfigError" });
      assert.equal(activeOf("dc2"), newer);
      await promote("dc2", root, true);
      const { roots } = stateOf("dc2");
      const row = roots.find(({ id }) => id === newer);
      assert.deepEqual([row?.status, row?.abandoned], ["retired", true]);
      await mesh.requireTrust(["dc2", "dc3"]);
    });

    it("gets a number above that of each datacenter that it reaches", async () => {
      const text = await backupOf("dc1");
      lose("dc1");
      await promote("dc2", await withBackup("dc2", text));
      mesh.of("dc3").lists.add("dc2");
      await promote("dc3", await withBackup("dc3", text));
      assert.deepEqual([stateOf("dc2").promotions, stateOf("dc3").promotions], [1, 2]);
    });

    it("is refused if the configuration has another ModifyIndex", async () => {
      const root = await withBackup("dc2", await backupOf("dc1"));
      const { modifyIndex } = stateOf("dc2").config;
      const promoteAt = (index: number) =>
        mesh.of("dc2").ca.promote({ ...NOW, root, modifyIndex: BigInt(index) });
      await assert.rejects(promoteAt(modifyIndex + 1), { code: "index_mismatch" });
      assert.notEqual(stateOf("dc2").primary, null);
      await promoteAt(modifyIndex);
      assert.equal(stateOf("dc2").primary, null);
    });

    it("is refused with a backup of a secondary, or of another datacenter than the primary", async () => {
      const text = await backupOf("dc3");
      await assert.rejects(promote("dc2", await withBackup("dc2", text, "dc3")), {
        ...TRANSITION,
        message:
          "Cannot promote: the backup is of the secondary datacenter dc3, which has no root; give a backup of the primary datacenter",
      });
      const other = new Mesh();
      const foreign = await other.add("dc1", null);
      await mesh.of("dc2").restart([foreign.kek]);
      const backup = await mesh
        .of("dc2")
        .codec.decodeAny(await foreign.codec.encode(foreign.ca.require().state));
      await assert.rejects(promote("dc2", { kind: "backup", backup }), { code: "cluster_differs" });
      assert.equal(stateOf("dc2").promotions, 0);
      // As a plain restore it is refused by its datacenter.
      const own = await backupOf("dc1");
      await mesh.of("dc2").restart([mesh.of("dc1").kek]);
      await assert.rejects(mesh.of("dc2").codec.decode(own), {
        name: "StoreError",
        code: "datacenter_differs",
      });
    });
  });

  describe("with a new root", () => {
    const NEW: PromotionRoot = { kind: "new", soakMs: 10 * MINUTE };

    it("publishes it first, and signs by it when clients have had time to read it", async () => {
      const old = activeOf("dc2");
      const oldLeaves = await Promise.all(["dc2", "dc3"].map((name) => mesh.leafOf(name)));
      lose("dc1");
      await promote("dc2", NEW);
      const { prepared } = stateOf("dc2").provider;
      assert.equal(activeOf("dc2"), old);
      assert.equal(
        stateOf("dc2").roots.find(({ id }) => id === prepared?.rootId)?.status,
        "prepared",
      );
      await mesh.requireTrust(["dc2", "dc3"]);
      // What needs the lost root, or would part the two, waits.
      for (const change of [
        () => mesh.of("dc2").ca.rotate(NOW),
        () => mesh.of("dc2").ca.configure(configuration({ LeafCertTTL: "2h" })),
      ])
        await assert.rejects(change(), {
          ...TRANSITION,
          message: /^Cannot change the CA: root \S+ is prepared and becomes active at \S+; wait/,
        });

      mesh.of("dc3").follows = "dc2";
      await mesh.settle(MINUTE);
      assert.equal(mesh.of("dc3").ca.status.primary?.fault, null);
      assert.equal(
        stateOf("dc3").roots.find(({ id }) => id === prepared?.rootId)?.status,
        "prepared",
      );
      await mesh.requireTrust(["dc2", "dc3"]);

      // A leaf under the new root is trusted in a datacenter that has not followed it yet.
      mesh.of("dc3").cut.add("dc2");
      await mesh.settle(10 * MINUTE);
      assert.equal(activeOf("dc2"), prepared?.rootId);
      assert.equal(activeOf("dc3"), old);
      assert.equal(stateOf("dc2").provider.prepared, null);
      await mesh.requireTrust(["dc2", "dc3"]);
      mesh.of("dc3").cut.clear();
      mesh.of("dc3").cut.add("dc1");
      await mesh.settle(MINUTE);
      assert.equal(activeOf("dc3"), prepared?.rootId);
      await mesh.requireTrust(["dc2", "dc3"]);
      for (const { leaf, chain } of oldLeaves)
        for (const verifier of ["dc2", "dc3"])
          await mesh.requireTrusted(leaf, chain, "before", verifier);

      // The lost root is removed like any other.
      for (let i = 0; i < 12; i++) await mesh.settle(DAY);
      for (const name of ["dc2", "dc3"])
        assert.deepEqual(
          stateOf(name).roots.map(({ id }) => id),
          [prepared?.rootId],
          name,
        );
      await mesh.requireTrust(["dc2", "dc3"]);
    });

    it("survives a restart while the root is prepared, and is not waited for once nothing can sign", async () => {
      lose("dc1");
      await promote("dc2", { kind: "new", soakMs: 7 * DAY });
      await mesh.of("dc2").restart();
      const { prepared } = stateOf("dc2").provider;
      assert.ok(prepared !== null);
      const issuer = mesh.of("dc2").ca.require().provider?.issuer ?? assert.fail("no issuer");
      mesh.clock.advance(issuer.notAfter.getTime() - mesh.clock.now().getTime() + MINUTE);
      await mesh.settle();
      assert.equal(activeOf("dc2"), prepared.rootId);
    });

    it("is refused in a primary datacenter, and twice", async () => {
      await assert.rejects(promote("dc1", NEW), {
        ...TRANSITION,
        message: /^Cannot promote with a new root: this datacenter is a primary one/,
      });
      lose("dc1");
      await promote("dc2", NEW);
      await assert.rejects(promote("dc2", NEW), { ...TRANSITION, message: /is prepared/ });
      assert.equal(stateOf("dc2").promotions, 1);
    });
  });

  describe("and the old primary", () => {
    it("sees that another one leads: it signs leaves, and neither an intermediate nor another root", async () => {
      const text = await backupOf("dc1");
      lose("dc1");
      await promote("dc2", await withBackup("dc2", text));
      find("dc1");
      await mesh.settle();
      assert.deepEqual(mesh.of("dc1").ca.status.otherPrimary, {
        by: "dc2",
        trustDomain: stateOf("dc1").trustDomain,
        datacenter: "dc2",
        promotions: 1,
        leafTtlMs: 72 * 60 * MINUTE,
      });
      const leads =
        "datacenter dc2 is the primary one by promotion 1, as a server of dc2 reports. Configure this datacenter to follow dc2, or promote this one if it is to remain the primary";
      await assert.rejects(mesh.of("dc1").ca.rotate(NOW), {
        ...TRANSITION,
        message: `Cannot rotate: ${leads}`,
      });
      // dc3 still asks dc1, which refuses; dc3 keeps what it has and says why.
      const before = stateOf("dc3").commitId;
      await assert.rejects(mesh.of("dc3").ca.rotate(NOW), {
        ...TRANSITION,
        message: `Cannot sign intermediate: ${leads}`,
      });
      assert.equal(stateOf("dc3").commitId, before);
      await mesh.requireTrust();
    });

    it("remembers it while the promoted one cannot be reached, until it is no longer configured", async () => {
      const text = await backupOf("dc1");
      lose("dc1");
      await promote("dc2", await withBackup("dc2", text));
      find("dc1");
      await mesh.settle();
      mesh.of("dc1").cut.add("dc2");
      await mesh.settle();
      assert.equal(mesh.of("dc1").ca.status.otherPrimary?.datacenter, "dc2");
      await assert.rejects(mesh.of("dc1").ca.rotate(NOW), TRANSITION);
      await assert.rejects(mesh.of("dc3").ca.rotate(NOW), TRANSITION);
      mesh.of("dc1").lists.delete("dc2");
      await mesh.settle();
      assert.equal(mesh.of("dc1").ca.status.otherPrimary, null);
      await mesh.of("dc1").ca.rotate(NOW);
    });

    it("knows it also after a restart while the promoted one cannot be reached, until that one follows", async () => {
      const text = await backupOf("dc1");
      await promote("dc2", await withBackup("dc2", text));
      await mesh.settle();
      assert.deepEqual(stateOf("dc1").otherPrimary, {
        ...{ datacenter: "dc2", promotions: 1 },
        by: "dc2",
      });
      assert.match(
        mesh.of("dc1").ca.status.changeObstacle ?? "",
        /^datacenter dc2 is the primary one by promotion 1, as a server of dc2 reports\. /,
      );
      mesh.of("dc1").cut.add("dc2");
      await mesh.of("dc1").restart();
      await assert.rejects(mesh.of("dc1").ca.rotate(NOW), TRANSITION);
      await mesh.settle();
      assert.equal(mesh.of("dc1").ca.status.otherPrimary?.datacenter, "dc2");
      await promote("dc1", { kind: "own" });
      assert.equal(stateOf("dc1").promotions, 2);
      await mesh.settle();
      assert.equal(stateOf("dc1").otherPrimary, null);
      await mesh.of("dc1").ca.rotate(NOW);
    });

    it("notices it at once, without waiting for the next look", async () => {
      await mesh.settle();
      const text = await backupOf("dc1");
      await promote("dc2", await withBackup("dc2", text));
      mesh.clock.advance(11_000);
      await assert.rejects(mesh.of("dc1").ca.rotate(NOW), TRANSITION);
    });

    it("follows once it is configured to, in a planned switch-over, and can take over again", async () => {
      const text = await backupOf("dc1");
      await promote("dc2", await withBackup("dc2", text));
      mesh.of("dc3").follows = "dc2";
      mesh.of("dc1").follows = "dc2";
      await mesh.settle();
      await mesh.requireTrust();
      await mesh.of("dc1").restart();
      await mesh.settle();
      assert.deepEqual(
        [mesh.of("dc1").ca.isSecondary, stateOf("dc1").primary?.datacenter, activeOf("dc1")],
        [true, "dc2", activeOf("dc2")],
      );
      assert.deepEqual(Object.keys(stateOf("dc1").provider.retired), []);
      await mesh.requireTrust();
      await mesh.of("dc2").ca.rotate(NOW);
      await mesh.settle();
      await mesh.requireTrust();

      // Back again.
      const back = await backupOf("dc2");
      await promote("dc1", await withBackup("dc1", back, "dc2"));
      assert.equal(stateOf("dc1").promotions, 2);
      for (const name of ["dc2", "dc3"]) mesh.of(name).follows = "dc1";
      await mesh.settle();
      for (const name of ["dc2", "dc3"])
        assert.deepEqual(
          [stateOf(name).primary?.datacenter, stateOf(name).promotions, activeOf(name)],
          ["dc1", 2, activeOf("dc1")],
          name,
        );
      await mesh.requireTrust();
    });

    it("logs that it follows, also if the root is the one that it had", async () => {
      const changes: unknown[] = [];
      const info: Log["info"] = (_, fields) => void changes.push(fields?.change);
      mesh = new Mesh();
      await mesh.add("dc1", null, { log: { ...silentLog, info } });
      await mesh.add("dc2", "dc1");
      const text = await backupOf("dc1");
      await promote("dc2", await withBackup("dc2", text));
      mesh.of("dc1").follows = "dc2";
      changes.splice(0);
      await mesh.of("dc1").restart();
      await mesh.settle();
      await mesh.of("dc1").ca.rotate(NOW);
      assert.deepEqual(
        changes.filter((change) => change !== undefined),
        ["follow", "renew"],
      );
    });

    it("certifies the new root for its own clients when it follows after a promotion with one", async () => {
      lose("dc1");
      await promote("dc2", { kind: "new", soakMs: MINUTE });
      mesh.of("dc3").follows = "dc2";
      await mesh.settle(2 * MINUTE);
      const former = stateOf("dc1").roots[0]?.certificate ?? assert.fail("no root");
      find("dc1");
      mesh.of("dc1").follows = "dc2";
      await mesh.of("dc1").restart();
      await mesh.settle();
      assert.equal(activeOf("dc1"), activeOf("dc2"));
      await mesh.requireTrust();
      // A client of dc1 that has the former root only.
      const requireFormer = async () => {
        const { leaf, chain } = await mesh.leafOf("dc1");
        assert.equal(chain.length, 2);
        assert.notEqual(await findPath(leaf, chain, former, mesh.clock.now()), null);
      };
      await requireFormer();
      // Also under its next intermediate, and until the former root is removed.
      await mesh.settle();
      await mesh.of("dc1").ca.rotate(NOW);
      await requireFormer();
      for (let i = 0; i < 12; i++) await mesh.settle(DAY);
      assert.deepEqual(
        stateOf("dc1").roots.map(({ id }) => id),
        [activeOf("dc2")],
      );
      assert.equal((await mesh.leafOf("dc1")).chain.length, 1);
    });

    it("does not take the lead back from a promoted one whose settings still name it", async () => {
      const text = await backupOf("dc1");
      lose("dc1");
      await promote("dc2", await withBackup("dc2", text));
      find("dc1");
      await mesh.of("dc2").restart();
      await mesh.settle();
      assert.deepEqual([stateOf("dc2").primary, mesh.of("dc2").ca.isSecondary], [null, false]);
      // A secondary that has followed dc2 does not go back either.
      mesh.of("dc3").follows = "dc2";
      await mesh.settle();
      mesh.of("dc3").follows = "dc1";
      await mesh.settle();
      assert.match(
        mesh.of("dc3").ca.status.primary?.fault?.reason ?? "",
        /^Cannot follow datacenter dc1: another datacenter was promoted after it: this datacenter has seen promotion 1, and the last one that it knows is 0\./,
      );
      assert.equal(stateOf("dc3").primary?.datacenter, "dc2");
    });

    it("can be confirmed instead, and the promoted one follows it again", async () => {
      const text = await backupOf("dc1");
      lose("dc1");
      await promote("dc2", await withBackup("dc2", text));
      find("dc1");
      await mesh.settle();
      await promote("dc1", { kind: "own" });
      assert.equal(stateOf("dc1").promotions, 2);
      assert.equal(mesh.of("dc1").ca.status.otherPrimary?.datacenter, "dc2");
      await mesh.settle();
      assert.equal(mesh.of("dc1").ca.status.otherPrimary, null);
      assert.equal(stateOf("dc2").primary?.datacenter, "dc1");
      await mesh.of("dc1").ca.rotate(NOW);
      await mesh.settle();
      assert.equal(activeOf("dc3"), activeOf("dc1"));
      await mesh.requireTrust();
    });
  });

  it("is refused in a secondary datacenter without a root", async () => {
    await assert.rejects(promote("dc2", { kind: "own" }), {
      ...TRANSITION,
      message:
        "Cannot promote: this datacenter follows dc1 and has no root of its own; give a backup of dc1, or have a new root made",
    });
  });

  it("of two datacenters at once is seen by both and by those that follow", async () => {
    const text = await backupOf("dc1");
    const [two, three] = [await withBackup("dc2", text), await withBackup("dc3", text)];
    lose("dc1");
    mesh.of("dc2").cut.add("dc3");
    await promote("dc2", two);
    await promote("dc3", three);
    mesh.of("dc2").cut.delete("dc3");
    mesh.of("dc2").lists.add("dc3");
    mesh.of("dc3").lists.add("dc2");
    await mesh.settle();
    assert.equal(mesh.of("dc2").ca.status.otherPrimary?.datacenter, "dc3");
    assert.equal(mesh.of("dc3").ca.status.otherPrimary?.datacenter, "dc2");
    for (const name of ["dc2", "dc3"])
      await assert.rejects(mesh.of(name).ca.rotate(NOW), TRANSITION);
    await promote("dc3", { kind: "own" });
    await mesh.settle();
    assert.equal(mesh.of("dc3").ca.status.otherPrimary, null);
    assert.equal(mesh.of("dc2").ca.status.otherPrimary?.promotions, 2);
  });

  it("is the only way from a secondary's state to a primary: a start with other settings is refused", async () => {
    mesh.of("dc2").follows = null;
    await assert.rejects(mesh.of("dc2").restart(), {
      name: "StoreError",
      code: "datacenter_differs",
      message:
        "Cannot serve: the stored state follows the primary datacenter dc1, and the settings of this server name no other primary datacenter. Configure it to follow dc1, or promote this datacenter first",
    });
  });

  it("is refused by a secondary that is to follow a secondary", async () => {
    mesh.of("dc3").follows = "dc2";
    await mesh.settle();
    assert.match(
      mesh.of("dc3").ca.status.primary?.fault?.reason ?? "",
      /^Cannot follow datacenter dc2: it is not the primary datacenter, and follows dc1; set the name and the servers/,
    );
    const late = await mesh.add("dc4", "dc2");
    assert.equal(late.ca.snapshot, null);
    assert.match(late.ca.obstacle() ?? "", /it is not the primary datacenter, and follows dc1/);
  });
});
