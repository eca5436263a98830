/**
 * What a restored backup publishes of roots that the CA has pruned since.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { TestCa } from "../../fakes/ca.ts";
import { confirmOver, createTestCa } from "../../fakes/ca.ts";
import { BOOTSTRAP, HOUR, requireSigning, webCsr } from "./harness.ts";

const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };
const ids = ({ manager }: TestCa) => manager.require().state.roots.map(({ id }) => id);

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
