/**
 * Steps that fail are retried with backoff, and what an aborted change created outside is rolled
 * back only if nothing can use it.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Maintenance, RetriedStep } from "../../../src/core/ca/maintenance.ts";
import { ConfigError, ProviderError } from "../../../src/core/errors.ts";
import { HINTS } from "../../../src/http/hints.ts";
import { configuration, createTestCa, silentLog } from "../../fakes/ca.ts";
import { createFakeClock } from "../../fakes/clock.ts";
import { BOOTSTRAP, providersWith } from "./harness.ts";

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
const away = () => Promise.reject(new ProviderError("provider_unavailable", "Vault is away"));

describe("RetriedStep", () => {
  it("is due again 2, 4, 8 seconds and so on up to 256 after each failure in a row, and 2 after a success", async () => {
    const clock = createFakeClock();
    const step = new RetriedStep(clock);
    let fails = true;
    const tried: number[] = [];
    const second = async () => {
      if (step.isDue) {
        tried.push(clock.now().getTime());
        await step.run(fails ? away : async () => undefined).catch(() => undefined);
      }
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

  it("has the last reason and the first instant of its failures until it succeeds", async () => {
    const clock = createFakeClock();
    const step = new RetriedStep(clock);
    const since = clock.now();
    await assert.rejects(step.run(away), /Vault is away/);
    clock.advance(MINUTE);
    await assert.rejects(
      step.run(() => Promise.reject(new TypeError("secret"))),
      /secret/,
    );
    assert.deepEqual(step.fault, { reason: "TypeError", code: "internal", since });
    await step.run(async () => undefined);
    assert.equal(step.fault, null);
  });
});

describe("Maintenance", () => {
  it("waits no longer because the clock was days ahead, neither to retry nor to inspect", async () => {
    const clock = createFakeClock();
    const maintenance = new Maintenance({ clock, log: silentLog, hints: HINTS }, MINUTE);
    const due = () => [maintenance.renewal.isDue, maintenance.inspectionDue];
    clock.jump(7 * DAY);
    assert.deepEqual(due(), [true, true]);
    await maintenance.renewal.run(away).catch(() => undefined);
    await maintenance.inspect(async () => undefined);
    assert.deepEqual(due(), [false, false]);
    clock.jump(-7 * DAY);
    assert.deepEqual(due(), [true, true]);
  });

  it("delays no step because another one failed, and logs a failure once for each reason", async () => {
    const clock = createFakeClock();
    const warnings: unknown[] = [];
    const log = { ...silentLog, warn: (...warning: unknown[]) => void warnings.push(warning) };
    const maintenance = new Maintenance({ clock, log, hints: HINTS }, MINUTE);
    await assert.rejects(maintenance.renewal.run(away), /Vault is away/);
    const { crossSigning, collection } = maintenance;
    const cross = (work: () => Promise<unknown>) =>
      maintenance.attempt(crossSigning, "Failed", work);
    assert.equal(await cross(away), false);
    clock.advance(2000);
    assert.equal(await cross(away), false);
    assert.deepEqual(warnings, [["Failed", { reason: "Vault is away" }]]);
    assert.equal(await cross(async () => assert.fail("It is not due")), false);
    assert.equal(await maintenance.attempt(collection, "Failed", async () => undefined), true);
  });

  it("ends the note about a replaced root with the words of the edge", () => {
    const clock = createFakeClock();
    const hints = { ...HINTS, followRoot: "force follows it" };
    const maintenance = new Maintenance({ clock, log: silentLog, hints }, MINUTE);
    const since = clock.now().toISOString();
    maintenance.setRefusedRoot(new ConfigError("it cannot be cross-signed"));
    assert.deepEqual(maintenance.health(null).notes, [
      `another root took the active one's place outside and is not followed since ${since}: it cannot be cross-signed; force follows it`,
    ]);
    maintenance.setRefusedRoot(null);
    assert.deepEqual(maintenance.health(null).notes, []);
  });
});

describe("the rollback of an aborted change", () => {
  for (const changed of [false, true])
    it(`is retried ${changed ? "no more if the CA was changed since, which may use what was created" : "until it succeeds"}`, async () => {
      let breaks = false;
      let mayRollBack = false;
      let tried = 0;
      let rolledBack = 0;
      const providers = providersWith((type) => ({
        ...type,
        async prepare(config, request, context) {
          if (!breaks) return type.prepare(config, request, context);
          request.onRollback(async () => {
            tried++;
            if (!mayRollBack) return away();
            rolledBack++;
          });
          throw new ProviderError("provider_rejected", "it cannot be created");
        },
      }));
      const { manager, clock } = await createTestCa({ bootstrap: BOOTSTRAP, providers });
      breaks = true;
      await assert.rejects(
        manager.configure(configuration({ PrivateKeyBits: 384 })),
        ProviderError,
      );
      assert.deepEqual([tried, rolledBack], [1, 0]);
      breaks = false;
      await manager.tick();
      assert.deepEqual([tried, rolledBack], [2, 0]);
      if (changed) await manager.configure(configuration({ LeafCertTTL: "5h" }));
      mayRollBack = true;
      for (let i = 0; i < 3; i++) {
        clock.advance(5000);
        await manager.tick();
      }
      assert.deepEqual([tried, rolledBack], changed ? [2, 0] : [3, 1]);
    });
});
