/**
 * Races of a replica with its own loops, late responses and other replicas: it never goes back to
 * an older state, reports lost writes wrongly, or trusts a clock or a snapshot for too long.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { CertificateAuthority } from "../../../src/core/ca/ca.ts";
import { DEFAULT_POLICY } from "../../../src/core/ca/timing-and-limits.ts";
import { CaError, StoreError } from "../../../src/core/errors.ts";
import { MemoryBackend } from "../../../src/store/memory/store.ts";
import { createCodec } from "../../../src/store/state-document.ts";
import { configuration, createTestCa } from "../../fakes/ca.ts";
import { createFakeClock } from "../../fakes/clock.ts";
import { overriding } from "../../fixtures/overriding.ts";
import { BOOTSTRAP, HOUR, replica, webCsr } from "./harness.ts";

const refusedAs = (code: string) => (error: unknown) => {
  assert.ok(error instanceof CaError);
  assert.equal(error.code, code, error.message);
  return true;
};

describe("a change that races with others", () => {
  it("configure() does not go back to its own state if another one is based on it already", async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP });
    const other = await replica(ca, "other");
    const { store, ...ports } = ca.backend.open(createCodec(ca.sealer), "slow");
    const slow: CertificateAuthority = await replica(ca, "slow", {
      ...ports,
      store: overriding(store, {
        // The response is late: the lease has expired; another change was made and read in between.
        async commit(next, expected) {
          await store.commit(next, expected);
          ca.clock.advance(DEFAULT_POLICY.operationLeaseMs);
          await other.configure(configuration({ LeafCertTTL: "6h" }));
          await slow.refresh();
        },
      }),
    });
    await slow.configure(configuration({ LeafCertTTL: "5h" }));
    assert.equal(slow.require().state.commitId, other.require().state.commitId);
  });

  it("configure() recognizes its own term if its loop has read that term in between", async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP });
    const { leases } = ca.backend.open(createCodec(ca.sealer), "reader");
    const reader: CertificateAuthority = await replica(ca, "reader", {
      leases: overriding(leases, {
        // The answer to a read that was sent behind it is handled first.
        async acquire(name, ttlMs) {
          const lease = await leases.acquire(name, ttlMs);
          if (name === "operation") await reader.refresh();
          return lease;
        },
      }),
    });
    assert.equal(await reader.configure(configuration({ LeafCertTTL: "5h" })), true);
    assert.equal(reader.status.stopped, null);
  });
});

describe("a store that was emptied", () => {
  it("tick() creates the first state if only the grant of a lease was lost", async () => {
    const ca = await createTestCa({ started: false });
    const [before, after] = [ca.backend, new MemoryBackend(ca.clock)].map((backend) =>
      backend.open(createCodec(ca.sealer), "first"),
    );
    assert.ok(before && after);
    let ports = before;
    const first = await replica(ca, "first", {
      store: overriding(before.store, {
        read: () => ports.store.read(),
        commit: (next, expected) => ports.store.commit(next, expected),
        async now() {
          if (ports === after) return after.store.now();
          // Redis has lost all its data here, and was started again.
          ports = after;
          throw new StoreError("store_unavailable", "Redis is away");
        },
      }),
      leases: {
        acquire: (...args) => ports.leases.acquire(...args),
        renew: (...args) => ports.leases.renew(...args),
        release: (...args) => ports.leases.release(...args),
        holder: (name) => ports.leases.holder(name),
      },
    });
    for (let term = 1; term < 5; term++) {
      const lease = await before.leases.acquire("operation", 1);
      if (lease !== null) await before.leases.release(lease);
    }
    await assert.rejects(first.tick(), refusedAs("store_unavailable"));
    await first.tick();
    assert.equal(first.require().state.index, 1);
    await first.configure(configuration({ LeafCertTTL: "5h" }));
    assert.equal(first.status.stopped, null);
  });
});

describe("the last-seen state", () => {
  it("is the newest state, whichever was to be written first", async () => {
    const ca = await createTestCa({ bootstrap: BOOTSTRAP });
    const { promise, resolve } = Promise.withResolvers<void>();
    let kept: number | null = null;
    const reader = await replica(ca, "reader", {
      lastSeen: {
        load: async () => null,
        async save({ state }) {
          // A MAC takes its time.
          if (state.index === 2) await promise;
          kept = state.index;
        },
      },
    });
    await reader.refresh();
    await ca.manager.configure(configuration({ LeafCertTTL: "5h" }));
    const slow = reader.refresh();
    await ca.manager.configure(configuration({ LeafCertTTL: "6h" }));
    const taken = new Promise<void>((take) =>
      reader.subscribe(({ state }) => state.index === 3 && take()),
    );
    const quick = reader.refresh();
    await taken;
    // All work without waiting is done.
    await new Promise((later) => setImmediate(later));
    resolve();
    await Promise.all([slow, quick]);
    assert.equal(kept, 3);
  });
});

describe("a clock that jumps", () => {
  it("tick() prunes nothing by a store's clock that jumped since it was last compared", async () => {
    const clock = createFakeClock();
    const backend = new MemoryBackend(clock);
    const ca = await createTestCa({ bootstrap: BOOTSTRAP, clock, backend });
    const { store } = backend.open(createCodec(ca.sealer), "test");
    let ahead = 0;
    const failedOver = await replica(ca, "test", {
      store: overriding(store, { now: async () => new Date(clock.now().getTime() + ahead) }),
    });
    await failedOver.heartbeat();
    await failedOver.rotate({ forceWithoutCrossSigning: false, modifyIndex: null });
    clock.advance(DEFAULT_POLICY.leaderLeaseMs);
    ahead = 1000 * HOUR;
    assert.equal((await failedOver.tick()).kind, "wait");
    clock.advance(9 * HOUR);
    await assert.rejects(failedOver.tick(), refusedAs("clock_skewed"));
    assert.equal(failedOver.require().state.roots.length, 2);
  });
});

describe("a replica that was suspended", () => {
  it("sign() refuses a request that it began before it was suspended", async () => {
    const ca = await createTestCa({
      bootstrap: BOOTSTRAP,
      policy: { ...DEFAULT_POLICY, maxStalenessMs: 300_000 },
    });
    const signing = ca.manager.sign(webCsr());
    ca.clock.advance(300_001);
    await assert.rejects(signing, refusedAs("state_stale"));
  });
});
