/**
 * Backups that are restored: with a chain that is longer than the bound, and with roots that the CA
 * has pruned since.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { chainLength } from "../../../src/core/ca/chain-size.ts";
import { DEFAULT_POLICY } from "../../../src/core/ca/timing-and-limits.ts";
import type { TestCa } from "../../fakes/ca.ts";
import { confirmOver, createTestCa } from "../../fakes/ca.ts";
import { BOOTSTRAP, HOUR, replica, requireSigning, webCsr } from "./harness.ts";

const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };
const ids = ({ manager }: TestCa) => manager.require().state.roots.map(({ id }) => id);

describe("a backup with a chain that is longer than the bound", () => {
  it("is restored into an empty store, and over the CA it was made from, and only a rotation is refused", async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP });
    for (let i = 0; i < 4; i++) await ca.manager.rotate(NOW);
    const backup = ca.manager.require();
    const policy = { ...DEFAULT_POLICY, maxChainLength: 3 };
    const empty = await createTestCa({
      started: false,
      bootstrap: BOOTSTRAP,
      policy,
      sealer: ca.sealer,
    });
    const strict = await replica(ca, "strict", { policy });
    await strict.refresh();
    for (const [manager, clock] of [
      [empty.manager, empty.clock],
      [strict, ca.clock],
    ] as const) {
      await manager.restore(backup.state, { forceWithoutCrossSigning: false });
      const { active, state } = manager.require();
      assert.equal(active.id, backup.active.id);
      assert.equal(chainLength(active.intermediates), 5);
      assert.ok(state.roots.every(({ abandoned }) => !abandoned));
      await requireSigning(manager, webCsr(), clock.now());
      await assert.rejects(manager.rotate(NOW), { code: "budget_exceeded" });
    }
  });

  it("is refused if restoring it rotates to another root", async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP });
    for (let i = 0; i < 3; i++) await ca.manager.rotate(NOW);
    const backup = ca.manager.require();
    await ca.manager.rotate(NOW);
    const strict = await replica(ca, "strict", {
      policy: { ...DEFAULT_POLICY, maxChainLength: 3 },
    });
    await strict.refresh();
    await assert.rejects(strict.restore(backup.state, { forceWithoutCrossSigning: false }), {
      code: "budget_exceeded",
    });
  });
});

describe("a backup with a root that was pruned since", () => {
  it("does not publish that root again, not even until the next tick", async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP });
    const first = ca.manager.require().active.id;
    await ca.manager.rotate(NOW);
    const backup = ca.manager.require();
    ca.clock.advance(2 * 72 * HOUR + 1);
    await confirmOver(ca);
    assert.equal((await ca.manager.tick()).kind, "prune");
    await ca.manager.rotate(NOW);
    await ca.manager.restore(backup.state, { forceWithoutCrossSigning: false });
    assert.equal(ca.manager.require().active.id, backup.active.id);
    assert.deepEqual(
      ids(ca).filter((id) => id === first),
      [],
    );
    assert.equal(ids(ca).length, 2);
    await requireSigning(ca.manager, webCsr(), ca.clock.now());
  });
});
