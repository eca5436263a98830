/**
 * RootAutoRotate: the root is rotated by itself once its share of life is over, once, and never one
 * that somebody else made.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ConfigError } from "../../../src/core/errors.ts";
import { configuration, createTestCa, DEFAULT_BOOTSTRAP, type TestCa } from "../../fakes/ca.ts";
import { CLUSTER, providersWith, replica, suppliedRoot, webCsr } from "./harness.ts";

const DAY = 86_400_000;
/** The life of a root by default. */
const LIFE_MS = 3650 * DAY;
const AUTO = { ...DEFAULT_BOOTSTRAP, clusterId: CLUSTER, config: { RootAutoRotate: 0.8 } };

/** Lets time pass in steps, with the ticks of a leader. */
async function pass({ manager, clock }: TestCa, ms: number, steps = 1): Promise<void> {
  for (let i = 0; i < steps; i++) {
    clock.advance(ms / steps);
    await manager.heartbeat();
    for (let tick = 0; tick < 3; tick++) await manager.tick();
  }
}

const active = ({ manager }: TestCa) => manager.require().active.id;

describe("RootAutoRotate", () => {
  it("rotates once its share of the root's life is over, and again for the next root", async () => {
    const ca = await createTestCa({ bootstrap: AUTO });
    const roots = [active(ca)];
    for (let i = 0; i < 2; i++) {
      await pass(ca, 0.8 * LIFE_MS - DAY, 4);
      assert.equal(active(ca), roots.at(-1));
      // The end of the share is confirmed by looks at the clock over an eighth of a leaf's life.
      await pass(ca, 2 * DAY, 12);
      assert.notEqual(active(ca), roots.at(-1));
      roots.push(active(ca));
      await ca.manager.sign(webCsr());
      // Not a second time.
      await pass(ca, 20 * DAY, 20);
      assert.equal(active(ca), roots.at(-1));
      ca.clock.advance(-21 * DAY);
    }
  });

  it("never happens without the field, or with 0", async () => {
    for (const config of [{}, { RootAutoRotate: 0 }]) {
      const ca = await createTestCa({ bootstrap: { ...AUTO, config } });
      const before = active(ca);
      await pass(ca, 0.99 * LIFE_MS, 50);
      assert.equal(active(ca), before);
    }
  });

  it("is not caused by a clock that was ahead for a moment", async () => {
    const ca = await createTestCa({ bootstrap: AUTO });
    const before = active(ca);
    ca.clock.advance(0.85 * LIFE_MS);
    await ca.manager.heartbeat();
    await ca.manager.tick();
    ca.clock.advance(-0.85 * LIFE_MS);
    await pass(ca, DAY, 24);
    assert.equal(active(ca), before);
  });

  it("happens once with several replicas", async () => {
    const ca = await createTestCa({ bootstrap: AUTO });
    const other = await replica(ca, "other", { bootstrap: AUTO });
    await other.refresh();
    ca.clock.advance(0.8 * LIFE_MS);
    for (let i = 0; i < 12; i++) {
      for (const manager of [ca.manager, other]) {
        await manager.heartbeat();
        await manager.tick().catch(() => undefined);
      }
      ca.clock.advance(3 * 3_600_000);
    }
    assert.equal(ca.manager.require().state.roots.length, 2);
  });

  it("is retried with a pause after a failure, which is shown", async () => {
    let fails = true;
    const types = providersWith((type) => ({
      ...type,
      prepare(...given) {
        if (given[1].fresh && fails) throw new ConfigError("the disk of the key is full");
        return type.prepare(...given);
      },
    }));
    const ca = await createTestCa({ bootstrap: AUTO, providers: types });
    const before = active(ca);
    await pass(ca, 0.8 * LIFE_MS);
    await pass(ca, 2 * DAY, 12);
    assert.equal(active(ca), before);
    assert.match(
      ca.manager.status.notes.join("\n"),
      /^the root cannot be rotated as RootAutoRotate requires since \S+: the disk of the key is full; rotate it with meshca rotate /m,
    );
    await ca.manager.sign(webCsr());
    fails = false;
    await pass(ca, DAY, 4);
    assert.notEqual(active(ca), before);
    assert.deepEqual(ca.manager.status.notes, []);
  });

  it("leaves a root alone that an operator supplied", async () => {
    const ca = await createTestCa({ bootstrap: { ...AUTO, config: {} } });
    const { cert, key } = suppliedRoot();
    await ca.manager.configure(
      configuration({ PrivateKey: key, RootCert: cert, RootAutoRotate: 0.8 }),
    );
    const before = active(ca);
    const { notAfter } = ca.manager.require().active.certificate;
    await pass(ca, notAfter.getTime() - ca.clock.now().getTime() - DAY, 20);
    assert.equal(active(ca), before);
    assert.deepEqual(ca.manager.status.notes, []);
  });

  it("is shown in the configuration as it was set, only if it was, and needs schema 6", async () => {
    const ca = await createTestCa();
    assert.equal("RootAutoRotate" in (ca.manager.require().state.config.config ?? {}), false);
    assert.equal(ca.manager.require().state.schema, 3);
    await ca.manager.configure(configuration({ RootAutoRotate: "0.5" }));
    const { config, schema } = ca.manager.require().state;
    assert.deepEqual([config.config?.RootAutoRotate, schema], ["0.5", 6]);
    await ca.manager.configure(configuration({}));
    assert.equal(ca.manager.require().state.schema, 3);
  });

  for (const value of [-0.1, 1, 1.5, 0.05, "1", true])
    it(`refuses ${JSON.stringify(value)}`, async () => {
      const ca = await createTestCa();
      await assert.rejects(
        ca.manager.configure(configuration({ RootAutoRotate: value })),
        /RootAutoRotate must be the share of the root's life after which it is rotated, from 0\.1 to below 1 such as 0\.8, or 0 for never/,
      );
    });

  it("refuses what is no number, in Consul's words", async () => {
    const ca = await createTestCa();
    for (const value of ["often", "NaN", {}, "Infinity"])
      await assert.rejects(
        ca.manager.configure(configuration({ RootAutoRotate: value })),
        /'?RootAutoRotate'?/,
      );
  });
});
