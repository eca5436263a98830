/**
 * The next due step, as a function of only the state and the time.
 * @module
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { lookFor, nextStep } from "../../../src/core/ca/schedule.ts";
import { DEFAULT_POLICY as POLICY } from "../../../src/core/ca/timing-and-limits.ts";
import { changeConfig, prune } from "../../../src/core/ca/transitions.ts";
import { trusted } from "../../../src/core/deletion-time.ts";
import { activeRoot, type CaState } from "../../../src/core/state.ts";
import { configuration, confirmOver, createTestCa } from "../../fakes/ca.ts";
import { HOUR } from "./harness.ts";
import { at, CONFIG, commitId, firstState, makeRoot, type PoolRoot, rotated } from "./pool.ts";

let pool: PoolRoot[];
let a: PoolRoot;
let b: PoolRoot;
let short: PoolRoot;
const due = (state: CaState | null, now: Date) => nextStep(state, POLICY, trusted(now));
const turn = (state: CaState, to: PoolRoot, hours: number, ttlHours = 1) =>
  rotated(state, pool, { to, now: at(hours), leafTtlMs: ttlHours * HOUR });
/** Freezes all that can be reached; octets cannot be frozen. */
function deeplyFrozen<T>(value: T): T {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return value;
  for (const inner of Object.values(value)) deeplyFrozen(inner);
  return Object.freeze(value);
}

const after = (date: Date) => new Date(date.getTime() + 1);

before(async () => {
  [a, b, short] = [await makeRoot(87_600), await makeRoot(87_600), await makeRoot(100)];
  pool = [a, b, short];
});

describe("nextStep()", () => {
  it("nextStep() bootstraps if there is no state", () => {
    assert.deepEqual(due(null, at(0)), { kind: "bootstrap" });
  });

  it("nextStep() waits for nothing if there was only ever one root", () => {
    assert.deepEqual(due(firstState(a, HOUR), at(0)), { kind: "wait", until: null });
    assert.deepEqual(due(firstState(a, HOUR), at(1_000_000)), { kind: "wait", until: null });
  });

  it("nextStep() prunes a root once every leaf of it must have expired", async () => {
    const state = await turn(firstState(a, 72 * HOUR), b, 0);
    assert.deepEqual(due(state, at(144)), { kind: "wait", until: after(at(144)) });
    assert.deepEqual(due(state, after(at(144))), { kind: "prune" });
  });

  it("nextStep() goes by the largest LeafCertTTL that was in force, though a smaller one is now", async () => {
    let state = firstState(a, HOUR);
    state = changeConfig(state, commitId(), { config: CONFIG, provider: {}, leafTtlMs: 10 * HOUR });
    state = changeConfig(state, commitId(), { config: CONFIG, provider: {}, leafTtlMs: HOUR });
    state = await turn(state, b, 0);
    assert.equal(due(state, at(20)).kind, "wait");
    assert.equal(due(state, after(at(20))).kind, "prune");
  });

  it("nextStep() is due exactly at the announced instant, and has nothing to do after that step", async () => {
    let state = await turn(await turn(firstState(a, 72 * HOUR), short, 0, 5), b, 0, 9);
    let steps = 0;
    for (let step = due(state, at(0)); step.kind === "wait" && step.until !== null; ) {
      const { until } = step;
      assert.equal(due(state, new Date(until.getTime() - 1)).kind, "wait");
      assert.equal(due(state, until).kind, "prune", `nothing is due at ${until.toISOString()}`);
      state = prune(state, commitId(), POLICY, trusted(until));
      steps++;
      step = due(state, until);
    }
    assert.equal(state.roots.length, 1);
    assert.deepEqual(activeRoot(state).intermediates, []);
    assert.ok(steps >= 2);
  });

  it("nextStep() prunes a cross-signed certificate once it has expired", async () => {
    const state = await turn(firstState(short, 72 * HOUR), a, 0, 72);
    const { notAfter } = short.certificate;
    assert.deepEqual(due(state, at(0)), { kind: "wait", until: after(notAfter) });
    assert.deepEqual(due(state, after(notAfter)), { kind: "prune" });
  });

  it("nextStep() does not mutate a state, whatever is due", async () => {
    const state = deeplyFrozen(
      await turn(await turn(firstState(a, 72 * HOUR), short, 0, 5), b, 0, 9),
    );
    const copy = structuredClone(state);
    const kinds = new Set<string>();
    for (const hours of [0, 3, 50, 144, 145, 1000, 100_000]) {
      // A write into what is frozen throws.
      kinds.add(due(state, at(hours)).kind);
      kinds.add(
        nextStep(state, POLICY, trusted(at(hours)), { collectAt: at(1), rotateAt: null }).kind,
      );
      lookFor(state, POLICY, { collectAt: at(1), rotateAt: null });
      // What octets hold cannot be frozen.
      assert.deepEqual(structuredClone(state), copy, `${hours} hours on`);
    }
    assert.ok(kinds.has("wait") && kinds.has("prune"), [...kinds].join());
  });

  it("nextStep() counts an absent LeafCertTTL as 72 hours", async () => {
    const { manager, clock } = await createTestCa({
      bootstrap: {
        clusterId: null,
        trustDomain: null,
        provider: "consul",
        config: null,
        forceWithoutCrossSigning: false,
      },
    });
    await manager.configure(configuration({ PrivateKeyBits: 384 }));
    clock.advance(144 * HOUR);
    assert.equal((await manager.tick()).kind, "wait");
    assert.equal(manager.require().state.roots.length, 2);
    clock.advance(1);
    await confirmOver({ manager, clock });
    assert.equal((await manager.tick()).kind, "prune");
    assert.equal(manager.require().state.roots.length, 1);
  });
});
