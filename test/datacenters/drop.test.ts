/**
 * Dropping a root in a mesh of several datacenters: the others stop publishing it as soon as they
 * follow, whatever leaves of theirs are under it, and a promotion does not bring it back.
 * @module
 */
import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import type { DropRequest } from "../../src/core/ca/plan-drop.ts";
import { isOwnLeaf } from "../../src/core/ca/renewal-check.ts";
import { couldHaveIssued, sameAuthority } from "../../src/core/x509/chain.ts";
import { Mesh } from "./mesh-in-one.ts";
import { pair } from "./pair.ts";

const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };
const MINUTE = 60_000;
const asking = (id: string, more: Partial<DropRequest> = {}): DropRequest => ({
  ...{ id, newRoot: false, alsoThrough: false },
  ...{ forceWithoutCrossSigning: false, modifyIndex: null },
  ...more,
});

describe("a dropped root in several datacenters", () => {
  let mesh: Mesh;
  beforeEach(async () => {
    mesh = new Mesh();
    for (const name of ["dc1", "dc2", "dc3"]) await mesh.add(name, name === "dc1" ? null : "dc1");
  });

  const activeOf = (name: string) => mesh.of(name).ca.require().active.id;
  const stateOf = (name: string) => mesh.of(name).ca.require().state;
  const idsOf = (name: string) => stateOf(name).roots.map(({ id }) => id);
  const drop = (name: string, id: string, more: Partial<DropRequest> = {}) =>
    mesh.of(name).ca.drop(asking(id, more));
  const lose = (name: string) => {
    for (const other of mesh.members.values()) if (other.name !== name) other.cut.add(name);
  };
  const find = (name: string) => {
    for (const other of mesh.members.values()) other.cut.delete(name);
  };
  const rotate = async () => {
    await mesh.of("dc1").ca.rotate(NOW);
    await mesh.settle();
  };
  const isOwn = (name: string, leaf: Parameters<typeof isOwnLeaf>[0]) =>
    isOwnLeaf(leaf, stateOf(name), mesh.clock.now());

  it("a retired one goes in the others at once, though leaves under it live there", async () => {
    const first = activeOf("dc1");
    const root = stateOf("dc1").roots[0]?.certificate ?? assert.fail();
    const old = await mesh.leafOf("dc2");
    await rotate();
    await rotate();
    assert.equal(idsOf("dc2").length, 3);
    assert.equal(await isOwn("dc2", old.leaf), true);
    await drop("dc1", first);
    await mesh.settle();
    for (const name of ["dc1", "dc2", "dc3"]) {
      const state = stateOf(name);
      assert.deepEqual(idsOf(name), idsOf("dc1"), name);
      assert.deepEqual([state.schema, state.dropped.map(({ id }) => id)], [8, [first]], name);
      for (const { intermediates } of state.roots)
        for (const certificate of intermediates)
          assert.ok(!couldHaveIssued(root, certificate) && !sameAuthority(root, certificate), name);
      assert.equal(mesh.of(name).ca.status.primary?.fault ?? null, null, name);
    }
    assert.ok(!idsOf("dc2").includes(first));
    assert.equal(await isOwn("dc2", old.leaf), false);
    await mesh.requireTrust();
    // Nothing more is to be followed.
    const { commitId } = stateOf("dc2");
    await mesh.settle();
    assert.equal(stateOf("dc2").commitId, commitId);
    await rotate();
    await mesh.requireTrust();
  });

  it("an active one is replaced in the others by an intermediate under the next, and who trusts it is named there, too", async () => {
    const first = activeOf("dc1");
    await rotate();
    const second = activeOf("dc1");
    await drop("dc1", second);
    await mesh.settle();
    for (const name of ["dc1", "dc2", "dc3"]) {
      assert.deepEqual([activeOf(name), idsOf(name)], [first, [first]], name);
      assert.deepEqual(
        mesh.of(name).ca.status.trustOfDropped.map(({ rootId, droppedId }) => [rootId, droppedId]),
        [[first, second]],
        name,
      );
    }
    await mesh.requireTrust();
    await drop("dc1", first, { newRoot: true });
    await mesh.settle();
    for (const name of ["dc1", "dc2", "dc3"]) {
      assert.deepEqual(idsOf(name), [activeOf("dc1")], name);
      assert.deepEqual(mesh.of(name).ca.status.trustOfDropped, [], name);
    }
    await mesh.requireTrust();
  });

  it("is dropped in the primary datacenter only", async () => {
    const { commitId } = stateOf("dc2");
    await assert.rejects(drop("dc2", activeOf("dc2"), { newRoot: true }), {
      ...{ name: "ConflictError", code: "transition_invalid" },
      message: "Cannot drop a root: this datacenter follows dc1 and has its roots; drop it in dc1",
    });
    assert.equal(stateOf("dc2").commitId, commitId);
  });

  it("is not dropped where another datacenter was promoted", async () => {
    const text = await mesh.of("dc1").codec.encode(stateOf("dc1"));
    lose("dc1");
    await mesh.of("dc2").restart([mesh.of("dc1").kek]);
    const backup = await mesh.of("dc2").codec.decodeAny(text);
    await mesh.of("dc2").ca.promote({ ...NOW, root: { kind: "backup", backup } });
    find("dc1");
    mesh.of("dc1").lists.add("dc2");
    mesh.clock.advance(11_000);
    const { commitId } = stateOf("dc1");
    await assert.rejects(drop("dc1", activeOf("dc1"), { newRoot: true }), {
      code: "transition_invalid",
      message: /^Cannot drop a root: datacenter dc2 is the primary one by promotion 1/,
    });
    assert.equal(stateOf("dc1").commitId, commitId);
  });

  it("is not brought back by a promotion with a backup from before, and refused as its active root", async () => {
    const first = activeOf("dc1");
    const before = await mesh.of("dc1").codec.encode(stateOf("dc1"));
    await rotate();
    const after = await mesh.of("dc1").codec.encode(stateOf("dc1"));
    await drop("dc1", first);
    await mesh.settle();
    lose("dc1");
    await mesh.of("dc2").restart([mesh.of("dc1").kek]);
    const promote = async (text: string, force: boolean) => {
      const backup = await mesh.of("dc2").codec.decodeAny(text);
      return mesh.of("dc2").ca.promote({
        ...{ forceWithoutCrossSigning: force, modifyIndex: null },
        root: { kind: "backup", backup },
      });
    };
    const { commitId } = stateOf("dc2");
    for (const force of [false, true])
      await assert.rejects(promote(before, force), { code: "root_dropped" });
    assert.equal(stateOf("dc2").commitId, commitId);
    await promote(after, false);
    assert.ok(!idsOf("dc2").includes(first));
    assert.deepEqual(Object.keys(stateOf("dc2").provider.retired), []);
    mesh.of("dc3").follows = "dc2";
    await mesh.settle();
    assert.deepEqual(idsOf("dc3"), idsOf("dc2"));
    assert.deepEqual(
      stateOf("dc3").dropped.map(({ id }) => id),
      [first],
    );
    await mesh.requireTrust(["dc2", "dc3"]);
  });

  it("a prepared root becomes active at once in place of a dropped one", async () => {
    lose("dc1");
    const lost = activeOf("dc2");
    await mesh.of("dc2").ca.promote({ ...NOW, root: { kind: "new", soakMs: 10 * MINUTE } });
    const { prepared } = stateOf("dc2").provider;
    const id = prepared?.rootId ?? assert.fail();
    const { commitId } = stateOf("dc2");
    await assert.rejects(drop("dc2", id), {
      code: "transition_invalid",
      message: /it is prepared, and the active root has no key here/,
    });
    await assert.rejects(drop("dc2", lost, { newRoot: true }), {
      code: "transition_invalid",
      message: /is prepared; without a new root it becomes active at once/,
    });
    assert.equal(stateOf("dc2").commitId, commitId);
    await drop("dc2", lost);
    assert.deepEqual([activeOf("dc2"), idsOf("dc2")], [id, [id]]);
    assert.equal(stateOf("dc2").provider.prepared, null);
    mesh.of("dc3").follows = "dc2";
    await mesh.settle();
    assert.deepEqual(idsOf("dc3"), [id]);
    await mesh.requireTrust(["dc2", "dc3"]);
  });

  it("a dropped prepared root is gone with its key, and another one is active in its place by force", async () => {
    lose("dc1");
    const lost = activeOf("dc2");
    await mesh.of("dc2").ca.promote({ ...NOW, root: { kind: "new", soakMs: 10 * MINUTE } });
    const id = stateOf("dc2").provider.prepared?.rootId ?? assert.fail();
    await drop("dc2", id, { newRoot: true, forceWithoutCrossSigning: true });
    assert.ok(!idsOf("dc2").includes(id) && ![id, lost].includes(activeOf("dc2")));
    assert.equal(stateOf("dc2").provider.prepared, null);
    await mesh.requireTrust(["dc2"]);
  });
});

describe("a listing with dropped roots", () => {
  it("that publishes one again, or as dropped too, is refused and leaves everything as it is", async () => {
    const { one, two, primary, settle } = await pair();
    await one.manager.rotate(NOW);
    await settle();
    const [before, first] = [one.manager.require().state, two.manager.require().state.roots];
    const retired = first.find(({ status }) => status === "retired") ?? assert.fail();
    const fault = () => two.manager.status.primary?.fault;
    primary.change.listing = (listing) => ({
      ...listing,
      dropped: [{ id: retired.id, keyId: "00", notAfter: retired.certificate.notAfter }],
    });
    const { commitId } = two.manager.require().state;
    await settle();
    assert.match(fault()?.reason ?? "", /publishes root .*, which it lists as dropped/);
    assert.equal(two.manager.require().state.commitId, commitId);

    primary.change = {};
    await one.manager.drop(asking(retired.id));
    await settle();
    assert.equal(fault() ?? null, null);
    // As after a restore of a backup on an empty store.
    primary.change.listing = (listing) => {
      const row = before.roots.find(({ id }) => id === retired.id) ?? assert.fail();
      const { name, certificate, intermediates } = row;
      return {
        ...listing,
        roots: [
          ...listing.roots,
          { name, certificate, intermediates, abandoned: false, prepared: false, lost: false },
        ],
        ...{ dropped: [], index: listing.index + 1 },
      };
    };
    await settle();
    assert.deepEqual(fault()?.code, "root_dropped");
    assert.match(fault()?.reason ?? "", /publishes a dropped root again.*drop it there/);
    assert.deepEqual(
      two.manager.require().state.roots.map(({ id }) => id),
      [one.manager.require().active.id],
    );
  });
});
