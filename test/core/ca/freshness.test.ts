/**
 * How long a replica goes on by what it read last, and which comparisons of clocks it believes.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DEFAULT_POLICY } from "../../../src/core/ca/policy.ts";
import { createStanding } from "../../../src/core/ca/replica-health.ts";
import { createMemory } from "../../../src/core/ca/replica-memory.ts";
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
function standingOf(storeNow?: () => Promise<Date>) {
  const clock = createFakeClock();
  const memory = createMemory().standing;
  const replicas = { announce: async (self: Replica) => [self], leave: async () => undefined };
  return {
    clock,
    memory,
    standing: createStanding(
      { now: storeNow ?? (async () => clock.now()) },
      replicas,
      clock,
      POLICY,
      memory,
    ),
  };
}

describe("createStanding()", () => {
  it("isFresh() holds from the confirmation for so long, and not while the clock is behind the confirmation", () => {
    const { clock, standing } = standingOf();
    assert.equal(standing.isFresh(1000), false);
    standing.confirm(clock.now());
    assert.equal(standing.isFresh(1000), true);
    clock.advance(1000);
    assert.equal(standing.isFresh(1000), true);
    clock.advance(1);
    assert.equal(standing.isFresh(1000), false);
    standing.confirm(clock.now());
    // How long ago the confirmation was cannot be told any more.
    clock.jump(-1);
    assert.equal(standing.isFresh(1000), false);
    assert.equal(standing.signingObstacle(HOUR)?.code, "state_stale");
    standing.confirm(clock.now());
    assert.equal(standing.isFresh(1000), true);
    assert.equal(standing.signingObstacle(HOUR), null);
  });

  it("stalenessMs is not known while the clock is behind the confirmation", () => {
    const { clock, standing } = standingOf();
    assert.equal(standing.stalenessMs, null);
    clock.jump(7 * 24 * HOUR);
    standing.confirm(clock.now());
    clock.advance(2000);
    assert.equal(standing.stalenessMs, 2000);
    clock.jump(-7 * 24 * HOUR);
    assert.equal(standing.stalenessMs, null);
  });

  it("signingObstacle() goes by max_staleness, and by half a leaf's life if that is shorter", () => {
    const { clock, standing } = standingOf();
    standing.confirm(clock.now());
    clock.advance(60_000);
    assert.equal(standing.signingObstacle(HOUR), null);
    assert.equal(standing.signingObstacle(120_000), null);
    assert.equal(standing.signingObstacle(119_998)?.code, "state_stale");
    clock.advance(9 * 60_000 + 1);
    assert.equal(standing.signingObstacle(HOUR)?.code, "state_stale");
  });

  it("heartbeat() believes no comparison of clocks that took longer than the skew that it is to find", async () => {
    const { clock, memory, standing } = standingOf(async () => {
      const stored = new Date(clock.now().getTime() + HOUR);
      clock.advance(POLICY.maxClockSkewMs + 1);
      return stored;
    });
    await standing.heartbeat(SELF);
    assert.deepEqual(
      [standing.clockOffsetMs, memory.compared, standing.changeObstacle()],
      [0, false, null],
    );
  });

  it("heartbeat() believes no comparison during which the clock was set back", async () => {
    const { clock, memory, standing } = standingOf(async () => {
      clock.jump(-HOUR);
      return new Date(clock.now().getTime() + HOUR);
    });
    await standing.heartbeat(SELF);
    assert.deepEqual([standing.clockOffsetMs, memory.compared], [0, false]);
  });

  it("heartbeat() finds a store whose clock is ahead, and changes stop", async () => {
    const { clock, standing } = standingOf(async () => new Date(clock.now().getTime() + HOUR));
    await standing.heartbeat(SELF);
    assert.equal(standing.clockOffsetMs, HOUR);
    assert.equal(standing.changeObstacle()?.code, "clock_skewed");
  });
});
