/**
 * Steps that fail are tried again, later each time, and what a failed change made outside is undone
 * only if nothing can use it.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createUpkeep, type UpkeepOptions } from "../../../src/core/ca/maintenance.ts";
import type { Operation, Operations } from "../../../src/core/ca/operation.ts";
import { DEFAULT_POLICY } from "../../../src/core/ca/policy.ts";
import type { Snapshot } from "../../../src/core/ca/snapshot.ts";
import { createTestCa, silentLog } from "../../fakes/ca.ts";
import { createFakeClock, type FakeClock } from "../../fakes/clock.ts";
import { BOOTSTRAP } from "./harness.ts";

const nothing = async () => undefined;

function upkeepOf(clock: FakeClock, overrides: Partial<UpkeepOptions>) {
  const unused = () => assert.fail("This is not asked for here");
  return createUpkeep({
    clock,
    log: silentLog,
    // Looks at what is outside are not what is tried here.
    policy: { ...DEFAULT_POLICY, inspectMs: Number.MAX_SAFE_INTEGER },
    operations: { hold: unused, run: unused } as unknown as Operations,
    snapshot: () => null,
    followRoot: nothing,
    renew: nothing,
    cross: async () => true,
    collect: nothing,
    ...overrides,
  });
}

describe("createUpkeep()", () => {
  it("step() tries a renewal that fails again after 2, 4, 8 seconds and so on up to 256, and after 2 once it succeeded", async () => {
    const clock = createFakeClock();
    let fails = true;
    const tried: number[] = [];
    const upkeep = upkeepOf(clock, {
      async renew() {
        tried.push(clock.now().getTime());
        if (fails) throw new Error("Vault is away");
      },
    });
    const second = async () => {
      await upkeep.step({ kind: "renew" }).catch(() => undefined);
      clock.advance(1000);
    };
    while (tried.length < 12) await second();
    const pauses = () => tried.slice(1).map((at, i) => (at - (tried[i] ?? 0)) / 1000);
    assert.deepEqual(pauses(), [2, 4, 8, 16, 32, 64, 128, 256, 256, 256, 256]);
    fails = false;
    while (tried.length < 13) await second();
    fails = true;
    while (tried.length < 15) await second();
    assert.deepEqual(pauses().slice(-3), [256, 1, 2]);
  });

  it("step() waits no longer because the clock was days ahead, neither to try again nor to look at what is outside", async () => {
    const clock = createFakeClock();
    const manager = (await createTestCa({ bootstrap: BOOTSTRAP })).manager;
    let [renewals, looks] = [0, 0];
    const external = { inspect: async () => void looks++ };
    const provider = { ...manager.require().provider, external };
    const upkeep = upkeepOf(clock, {
      policy: { ...DEFAULT_POLICY, inspectMs: 60_000 },
      snapshot: () => ({ ...manager.require(), provider }) as unknown as Snapshot,
      async renew() {
        renewals++;
        throw new Error("Vault is away");
      },
    });
    const step = async () => {
      await upkeep.step({ kind: "renew" }).catch(() => undefined);
      await upkeep.step({ kind: "wait", until: null });
    };
    clock.jump(7 * 86_400_000);
    await step();
    assert.deepEqual([renewals, looks], [1, 1]);
    await step();
    assert.deepEqual([renewals, looks], [1, 1], "nothing is due again at once");
    clock.jump(-7 * 86_400_000);
    await step();
    assert.deepEqual([renewals, looks], [2, 2]);
  });

  it("step() waits for nothing longer where what failed is something else", async () => {
    const clock = createFakeClock();
    let collected = 0;
    const upkeep = upkeepOf(clock, {
      renew: () => Promise.reject(new Error("Vault is away")),
      async collect() {
        collected++;
      },
    });
    await assert.rejects(upkeep.step({ kind: "renew" }), /Vault is away/);
    await upkeep.step({ kind: "collect" });
    assert.equal(collected, 1);
  });

  for (const changed of [false, true])
    it(`tidy() ${changed ? "leaves what a failed change made as it is if the CA was changed since" : "undoes what a failed change made"}`, async () => {
      const { manager, clock } = await createTestCa({ bootstrap: BOOTSTRAP });
      let snapshot: Snapshot = manager.require();
      const operation = {} as Operation;
      let mayUndo = false;
      const operations = {
        hold: async () => mayUndo,
        run: (_name: string, work: (operation: Operation) => Promise<unknown>) => work(operation),
      } as unknown as Operations;
      const upkeep = upkeepOf(clock, { operations, snapshot: () => snapshot });
      let undone = 0;
      const undo = async () => {
        undone++;
      };
      await upkeep.abandon([undo], snapshot.state.commitId, operation);
      assert.equal(undone, 0);
      mayUndo = true;
      if (changed) snapshot = { ...snapshot, state: { ...snapshot.state, commitId: "another" } };
      await upkeep.tidy();
      assert.equal(undone, changed ? 0 : 1);
      await upkeep.tidy();
      assert.equal(undone, changed ? 0 : 1);
    });
});
