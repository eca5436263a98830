/**
 * The status of a replica whose store is unavailable, or refuses writes.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ConflictError, StoreError } from "../../../src/core/errors.ts";
import { createCodec } from "../../../src/store/state-document.ts";
import { configuration, createTestCa } from "../../fakes/ca.ts";
import { overriding } from "../../fixtures/overriding.ts";
import { BOOTSTRAP, replica } from "./harness.ts";

const FULL = 'Cannot use the SQLite file "/data/meshca.db": the disk is full';

describe("status", () => {
  /** A replica whose store can be read; writes fail with `state.reason`. */
  async function unwritable(state: { reason: string | null }) {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP });
    const written = async <T>(call: () => Promise<T>): Promise<T> => {
      if (state.reason !== null) throw new StoreError("store_unavailable", state.reason);
      return call();
    };
    const { leases, replicas } = ca.backend.open(createCodec(ca.sealer), "other");
    return replica(ca, "other", {
      leases: overriding(leases, { acquire: (...args) => written(() => leases.acquire(...args)) }),
      replicas: overriding(replicas, {
        announce: (...args) => written(() => replicas.announce(...args)),
      }),
    });
  }

  it("gives the failure of the last write as the reason why changes are refused, until a write succeeds", async () => {
    const state = { reason: null as string | null };
    const manager = await unwritable(state);
    await manager.start();
    assert.equal(manager.status.changeObstacle, null);
    state.reason = FULL;
    await assert.rejects(manager.configure(configuration({ PrivateKeyBits: 384 })), StoreError);
    assert.equal(manager.status.changeObstacle, `the last write to the store failed: ${FULL}`);
    // A successful read does not prove that writes succeed.
    await manager.refresh();
    assert.equal(manager.status.changeObstacle, `the last write to the store failed: ${FULL}`);
    assert.deepEqual([manager.status.storeAway, manager.obstacle()], [false, null]);
    state.reason = null;
    await manager.heartbeat();
    assert.equal(manager.status.changeObstacle, null);
  });

  it("gives it after a failed heartbeat too, before any change", async () => {
    const state = { reason: null as string | null };
    const manager = await unwritable(state);
    await manager.start();
    state.reason = FULL;
    await assert.rejects(manager.heartbeat(), StoreError);
    assert.equal(manager.status.changeObstacle, `the last write to the store failed: ${FULL}`);
  });

  it("does not treat a refused change as a failure of the store", async () => {
    const state = { reason: null as string | null };
    const manager = await unwritable(state);
    await manager.start();
    await assert.rejects(
      manager.configure({ ...configuration({ PrivateKeyBits: 384 }), modifyIndex: 77n }),
      ConflictError,
    );
    assert.equal(manager.status.changeObstacle, null);
  });
});
