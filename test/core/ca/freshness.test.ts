/**
 * For how long the last confirmed snapshot counts as fresh, and which comparisons of clocks count.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ReplicaHealth } from "../../../src/core/ca/replica-health.ts";
import { createReplicaMemory } from "../../../src/core/ca/replica-memory.ts";
import { DEFAULT_POLICY } from "../../../src/core/ca/timing-and-limits.ts";
import type { Replica } from "../../../src/core/ports/replicas.ts";
import { createFakeClock } from "../../fakes/clock.ts";
import { HOUR } from "./harness.ts";

const SELF: Replica = {
  id: "one",
  address: "one:1",
  keks: [],
  schema: 3,
  index: 1,
  clockOffsetMs: 0,
};
const POLICY = { ...DEFAULT_POLICY, maxStalenessMs: 10 * 60_000, maxClockSkewMs: 30_000 };

/** @param storeNow answers the question for the store's clock. */
function healthOf(storeNow?: () => Promise<Date>) {
  const clock = createFakeClock();
  const memory = createReplicaMemory().health;
  const replicas = { announce: async (self: Replica) => [self], leave: async () => undefined };
  const store = { now: storeNow ?? (async () => clock.now()) };
  return {
    clock,
    memory,
    health: new ReplicaHealth({ store, replicas, clock }, POLICY, memory),
  };
}

describe("ReplicaHealth", () => {
  it("isFresh() is true for the given span from the confirmation, and false while the clock is behind it", () => {
    const { clock, health } = healthOf();
    assert.equal(health.isFresh(1000), false);
    health.markFresh(clock.now());
    assert.equal(health.isFresh(1000), true);
    clock.advance(1000);
    assert.equal(health.isFresh(1000), true);
    clock.advance(1);
    assert.equal(health.isFresh(1000), false);
    health.markFresh(clock.now());
    // The age of the confirmation is no longer known.
    clock.jump(-1);
    assert.equal(health.isFresh(1000), false);
    assert.equal(health.signingObstacle(HOUR)?.code, "state_stale");
    health.markFresh(clock.now());
    assert.equal(health.isFresh(1000), true);
    assert.equal(health.signingObstacle(HOUR), null);
  });

  it("stalenessMs is not known while the clock is behind the confirmation", () => {
    const { clock, health } = healthOf();
    assert.equal(health.stalenessMs, null);
    clock.jump(7 * 24 * HOUR);
    health.markFresh(clock.now());
    clock.advance(2000);
    assert.equal(health.stalenessMs, 2000);
    clock.jump(-7 * 24 * HOUR);
    assert.equal(health.stalenessMs, null);
  });

  it("signingObstacle() goes by max_staleness, and by half a leaf's life if that is shorter", () => {
    const { clock, health } = healthOf();
    health.markFresh(clock.now());
    clock.advance(60_000);
    assert.equal(health.signingObstacle(HOUR), null);
    assert.equal(health.signingObstacle(120_000), null);
    assert.equal(health.signingObstacle(119_998)?.code, "state_stale");
    clock.advance(9 * 60_000 + 1);
    assert.equal(health.signingObstacle(HOUR)?.code, "state_stale");
  });

  it("heartbeat() ignores a comparison of clocks that took longer than the skew to detect", async () => {
    const { clock, memory, health } = healthOf(async () => {
      const stored = new Date(clock.now().getTime() + HOUR);
      clock.advance(POLICY.maxClockSkewMs + 1);
      return stored;
    });
    await health.heartbeat(SELF);
    assert.deepEqual(
      [health.clockOffsetMs, memory.compared, health.changeObstacle()],
      [0, false, null],
    );
  });

  it("heartbeat() ignores a comparison during which the clock was set back", async () => {
    const { clock, memory, health } = healthOf(async () => {
      clock.jump(-HOUR);
      return new Date(clock.now().getTime() + HOUR);
    });
    await health.heartbeat(SELF);
    assert.deepEqual([health.clockOffsetMs, memory.compared], [0, false]);
  });

  it("heartbeat() finds a store whose clock is ahead, and changes stop", async () => {
    const { clock, health } = healthOf(async () => new Date(clock.now().getTime() + HOUR));
    await health.heartbeat(SELF);
    assert.equal(health.clockOffsetMs, HOUR);
    assert.equal(health.changeObstacle()?.code, "clock_skewed");
  });
});
