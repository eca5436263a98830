/**
 * Rollback in a mesh of several datacenters: the others follow it, only the primary one does it, and
 * not while a root is prepared.
 * @module
 */
import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import { Mesh } from "./mesh-in-one.ts";

const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };
const TRANSITION = { name: "ConflictError", code: "transition_invalid" };

describe("a rollback with several datacenters", () => {
  let mesh: Mesh;
  beforeEach(async () => {
    mesh = new Mesh();
    for (const name of ["dc1", "dc2", "dc3"]) await mesh.add(name, name === "dc1" ? null : "dc1");
    mesh.of("dc1").lists.add("dc2").add("dc3");
  });

  const caOf = (name: string) => mesh.of(name).ca;
  const activeOf = (name: string) => caOf(name).require().active.id;
  const promote = (name: string, soakMs: number) =>
    caOf(name).promote({ ...NOW, root: { kind: "new", soakMs } });

  /** Expects a refusal with which nothing changes. */
  async function refused(name: string, to: string, message: string | RegExp): Promise<void> {
    const { commitId } = caOf(name).require().state;
    await assert.rejects(caOf(name).rollBack({ ...NOW, to }), { ...TRANSITION, message });
    assert.equal(caOf(name).require().state.commitId, commitId);
  }

  it("is followed by the secondaries, and leaves of all verify at each moment", async () => {
    const first = activeOf("dc1");
    await caOf("dc1").rotate(NOW);
    await mesh.settle();
    const second = activeOf("dc1");
    for (const to of [first, second, first]) {
      await caOf("dc1").rollBack({ ...NOW, to });
      await mesh.requireTrust();
      await mesh.settle();
      assert.deepEqual(["dc1", "dc2", "dc3"].map(activeOf), [to, to, to]);
      await mesh.requireTrust();
    }
  });

  it("is refused in a secondary datacenter, which names the primary one", async () => {
    const first = activeOf("dc1");
    await caOf("dc1").rotate(NOW);
    await mesh.settle();
    await refused(
      "dc2",
      first,
      "Cannot roll back: this datacenter follows dc1 and has no root of its own; roll back in dc1",
    );
  });

  it("is refused while a root is prepared, to that root and to another", async () => {
    await caOf("dc1").rotate(NOW);
    await mesh.settle();
    for (const other of ["dc2", "dc3"]) mesh.of(other).cut.add("dc1");
    await promote("dc2", 3_600_000);
    const { provider, roots } = caOf("dc2").require().state;
    const retired = roots.find(({ status }) => status === "retired")?.id ?? "";
    for (const to of [provider.prepared?.rootId ?? "", retired])
      await refused(
        "dc2",
        to,
        /^Cannot change the CA: root \S+ is prepared and becomes active at \S+; wait until then$/,
      );
  });

  it("is refused if another datacenter is the primary one, also to a root whose key is there", async () => {
    const first = activeOf("dc1");
    await caOf("dc1").rotate(NOW);
    await mesh.settle();
    for (const other of ["dc2", "dc3"]) mesh.of(other).cut.add("dc1");
    await promote("dc2", 0);
    await mesh.settle();
    await mesh.settle();
    // The roots of dc1 are published in dc2, which has never had their keys.
    await assert.rejects(caOf("dc2").rollBack({ ...NOW, to: first }), (error: Error) => {
      assert.match(error.message, /^Cannot roll back: root \S+ (?:was abandoned|has no key here)/);
      return true;
    });
    for (const other of ["dc2", "dc3"]) mesh.of(other).cut.delete("dc1");
    await mesh.settle();
    await refused(
      "dc1",
      first,
      /^Cannot roll back: datacenter dc2 is the primary one by promotion 1/,
    );
  });
});
