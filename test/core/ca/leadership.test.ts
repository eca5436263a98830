/**
 * Leadership and how long it is valid, on a clock that the test moves.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Leadership } from "../../../src/core/ca/leadership.ts";
import { checkLeaseTimes, DEFAULT_POLICY } from "../../../src/core/ca/timing-and-limits.ts";
import { StoreError } from "../../../src/core/errors.ts";
import type { Leases } from "../../../src/core/ports/lease.ts";
import { createSealer } from "../../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../../src/seal/kek.ts";
import { MemoryBackend } from "../../../src/store/memory/store.ts";
import { createCodec } from "../../../src/store/state-document.ts";
import { createCa, createTestCa } from "../../fakes/ca.ts";
import { createFakeClock } from "../../fakes/clock.ts";
import { overriding } from "../../fixtures/overriding.ts";

async function setUp() {
  const clock = createFakeClock();
  const backend = new MemoryBackend(clock);
  const codec = createCodec(createSealer(await readKeks(makeKek())));
  const leases = (holder: string): Leases => backend.open(codec, holder).leases;
  return {
    clock,
    leases,
    leadership: (holder: string, of = leases(holder)) => new Leadership(of, clock, DEFAULT_POLICY),
  };
}

describe("Leadership", () => {
  it("lead() keeps one leader until it resigns or is absent for longer than the lease", async () => {
    const { clock, leadership } = await setUp();
    const [one, two] = [leadership("one"), leadership("two")];
    assert.deepEqual([await one.lead(), await two.lead()], [true, false]);
    clock.advance(10_000);
    assert.deepEqual([await one.lead(), await two.lead()], [true, false]);
    clock.advance(15_000);
    assert.deepEqual([await two.lead(), await one.lead()], [true, false]);
    assert.equal(one.lease, null);
    await two.resign();
    assert.equal(await one.lead(), true);
  });

  it("leadership ends at the renew deadline, before another replica can acquire the lease", async () => {
    const { clock, leases } = await setUp();
    let away = false;
    const inner = leases("one");
    const flaky: Leases = overriding(inner, {
      renew: async (...args) => {
        if (away) throw new StoreError("store_unavailable", "away");
        return inner.renew(...args);
      },
    });
    const one = new Leadership(flaky, clock, DEFAULT_POLICY);
    await one.lead();
    away = true;
    clock.advance(DEFAULT_POLICY.leaderRenewDeadlineMs);
    await assert.rejects(one.lead(), /away/);
    assert.notEqual(one.lease, null);
    clock.advance(1);
    assert.equal(one.lease, null);
    assert.equal(await leases("two").acquire("leader", 1), null, "another one could lead already");
    // A clock that was set back does not extend the lease.
    clock.advance(-20_000);
    assert.equal(one.lease, null);
  });
});

describe("checkLeaseTimes()", () => {
  it("checkLeaseTimes() accepts lease > renew deadline > retry x jitter only", async () => {
    checkLeaseTimes(DEFAULT_POLICY);
    const ca = await createTestCa({ started: false });
    for (const wrong of [
      { leaderLeaseMs: DEFAULT_POLICY.leaderRenewDeadlineMs },
      { leaderRenewDeadlineMs: DEFAULT_POLICY.leaderRetryMs * DEFAULT_POLICY.retryJitter },
      { leaderRetryMs: 9000 },
      { retryJitter: 0.5 },
    ]) {
      const policy = { ...DEFAULT_POLICY, ...wrong };
      assert.throws(() => checkLeaseTimes(policy), RangeError);
      const ports = ca.backend.open(createCodec(ca.sealer), "x");
      assert.throws(
        () => createCa({ ...ports, sealer: ca.sealer, clock: ca.clock, policy }),
        /^RangeError: The lease times must decrease/,
      );
    }
  });
});
