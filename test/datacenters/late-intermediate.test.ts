/**
 * A primary whose clock is hours behind signs intermediates that are past half of their life when they
 * arrive: they are taken, and renewed at a pace that does not use up what the primary records.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { issuerChainOf } from "../../src/core/ca/cross-chain.ts";
import { NOBODY } from "../../src/core/ports/audit.ts";
import { configuration, createTestCa, DEFAULT_BOOTSTRAP } from "../fakes/ca.ts";
import { createFakeClock } from "../fakes/clock.ts";
import { leafOf } from "./leaves.ts";
import { primaryOf } from "./pair.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const START = new Date("2026-06-01T12:00:00Z");

describe("an intermediate of a primary whose clock is behind", () => {
  /** A secondary, and its primary by an earlier clock. */
  async function skewed(hours: number) {
    const clocks = [new Date(START.getTime() - hours * HOUR), START].map((at) =>
      createFakeClock(at),
    );
    const [behind, clock] = clocks as [(typeof clocks)[0], (typeof clocks)[0]];
    const config = { ...DEFAULT_BOOTSTRAP.config, LeafCertTTL: "1h", IntermediateCertTTL: "24h" };
    const bootstrap = { ...DEFAULT_BOOTSTRAP, config };
    const one = await createTestCa({ clock: behind, hasDatacenters: true, bootstrap });
    const primary = primaryOf(one);
    primary.signIntermediate = (csr) => {
      primary.signed++;
      const caller = { ...NOBODY, accessor: "dc2" };
      return one.manager.signIntermediate({ csr, caller, permit: () => undefined });
    };
    const two = await createTestCa({
      ...{ clock, datacenter: "dc2", hasDatacenters: true, primary, bootstrap },
      started: false,
    });
    await two.manager.tick();
    /** Minute by minute. */
    const pass = async (ms: number) => {
      for (let passed = 0; passed < ms; passed += MINUTE) {
        for (const each of clocks) each.advance(MINUTE);
        for (const { manager } of [one, two]) await manager.heartbeat();
        for (let i = 0; i < 3; i++) await two.manager.tick();
      }
    };
    const issuerOf = () =>
      issuerChainOf(two.manager.require().active)[0] ?? assert.fail("no issuer");
    return { two, primary, pass, clock, issuerOf };
  }

  it("is renewed at half of what is left of its life", async () => {
    const { two, primary, pass, clock, issuerOf } = await skewed(13);
    const first = issuerOf();
    const leftMs = first.notAfter.getTime() - clock.now().getTime();
    assert.ok(leftMs < 11.1 * HOUR, "it is past half of its life");
    assert.deepEqual(
      two.manager.require().state.primary?.renewAt,
      new Date(clock.now().getTime() + leftMs / 2),
    );
    await pass(leftMs / 2 - 2 * MINUTE);
    assert.equal(primary.signed, 1);
    // What keeps the issuer keeps the date.
    await two.manager.configure(configuration({ ...DEFAULT_BOOTSTRAP.config, LeafCertTTL: "2h" }));
    assert.equal(issuerOf(), first);
    await pass(4 * MINUTE);
    assert.equal(primary.signed, 2);
    assert.notEqual(issuerOf(), first);
    await pass(24 * HOUR);
    assert.ok(primary.signed <= 8, `${primary.signed} were signed`);
    await leafOf({ ...two, name: "dc2" });
  });

  it("is renewed at half of its life if little of that was over", async () => {
    const { two, primary, pass } = await skewed(5);
    assert.equal(two.manager.require().state.primary?.renewAt, null);
    await pass(6 * HOUR);
    assert.equal(primary.signed, 1);
    await pass(HOUR);
    assert.equal(primary.signed, 2);
  });

  it("just before half of its life does not use up the records of the primary either", async () => {
    const { two, primary, pass } = await skewed(11.95);
    await pass(24 * HOUR);
    assert.ok(primary.signed <= 8, `${primary.signed} were signed`);
    assert.equal(two.manager.status.primary?.fault, null);
  });
});
