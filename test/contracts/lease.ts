/**
 * Contract of every implementation of leases, sentence by sentence of src/core/ports/lease.ts.
 * @module
 */
import assert from "node:assert/strict";
import { afterEach, before, beforeEach, describe, it } from "node:test";
import type { Lease, LeaseName, Leases } from "../../src/core/ports/lease.ts";
import { createSealer } from "../../src/seal/envelope.ts";
import { makeKek, readKeks } from "../../src/seal/kek.ts";
import { type Codec, createCodec } from "../../src/store/state-document.ts";
import { createFakeClock } from "../fakes/clock.ts";
import type { MakeBackend, StoreBackend } from "./store.ts";

const TTL = 60_000;
const NAMES: readonly LeaseName[] = ["leader", "operation"];

/** Runs the contract on fresh backends. */
export function describeLeases(name: string, makeBackend: MakeBackend): void {
  describe(`${name} leases`, () => {
    let codec: Codec;
    let backend: StoreBackend;
    let one: Leases;
    let two: Leases;

    before(async () => {
      codec = createCodec(createSealer(await readKeks(makeKek())));
    });
    beforeEach(async () => {
      backend = await makeBackend(createFakeClock());
      one = backend.open(codec, "one").leases;
      two = backend.open(codec, "two").leases;
    });
    afterEach(() => backend.close());

    const granted = async (leases: Leases, lease: LeaseName = "operation"): Promise<Lease> => {
      const got = await leases.acquire(lease, TTL);
      assert.ok(got !== null, "the lease should be free");
      assert.equal(got.name, lease);
      return got;
    };

    it("acquire() grants a free lease and returns null while another holder has it", async () => {
      for (const lease of NAMES) {
        await granted(one, lease);
        assert.equal(await two.acquire(lease, TTL), null);
      }
    });

    it("acquire() returns null to a holder that has it already", async () => {
      await granted(one);
      assert.equal(await one.acquire("operation", TTL), null);
      assert.equal(await backend.open(codec, "one").leases.acquire("operation", TTL), null);
    });

    it("acquire() keeps the two leases independent", async () => {
      await granted(one, "leader");
      await granted(two, "operation");
      assert.equal(await one.holder("leader"), "one");
      assert.equal(await one.holder("operation"), "two");
    });

    it("acquire() grants an expired lease, from the instant of expiry by the store's clock", async () => {
      await granted(one);
      await backend.elapse(TTL - backend.grainMs);
      assert.equal(await two.acquire("operation", TTL), null);
      await backend.elapse(backend.grainMs);
      await granted(two);
    });

    it("acquire() grants a lease granted by a clock days ahead, and the former holder loses it", async () => {
      for (const lease of NAMES) {
        const before = await granted(one, lease);
        await backend.elapse(-7 * 86_400_000);
        const next = await granted(two, lease);
        assert.ok(next.term > before.term);
        assert.equal(await one.renew(before, TTL), false);
        assert.equal(await one.acquire(lease, TTL), null);
        await two.release(next);
      }
    });

    it("acquire() leaves a lease with its holder if the clock went back by less than its TTL", async () => {
      const lease = await granted(one);
      await backend.elapse(-TTL + backend.grainMs);
      assert.equal(await two.acquire("operation", TTL), null);
      assert.equal(await one.renew(lease, TTL), true);
    });

    it("acquire() succeeds for exactly one of many concurrent callers", async () => {
      const all = Array.from({ length: 8 }, (_, i) => backend.open(codec, `holder ${i}`).leases);
      const got = await Promise.all(all.map((leases) => leases.acquire("operation", TTL)));
      assert.equal(got.filter((lease) => lease !== null).length, 1);
    });

    it("acquire() returns terms that only grow, after release and after expiry", async () => {
      const terms: number[] = [];
      for (let i = 0; i < 6; i++) {
        const leases = i % 3 === 0 ? two : one;
        const lease = await granted(leases);
        terms.push(lease.term);
        if (i % 2 === 0) await leases.release(lease);
        else await backend.elapse(TTL);
      }
      for (const [i, term] of terms.entries())
        assert.ok(i === 0 ? term > 0 : term > (terms[i - 1] ?? 0), `terms: ${terms.join()}`);
    });

    it("renew() extends the lease of its holder, counted from now", async () => {
      const lease = await granted(one);
      await backend.elapse(TTL - backend.grainMs);
      assert.equal(await one.renew(lease, TTL), true);
      await backend.elapse(TTL - backend.grainMs);
      assert.equal(await two.acquire("operation", TTL), null);
      await backend.elapse(backend.grainMs);
      const next = await granted(two);
      assert.ok(next.term > lease.term);
    });

    it("renew() is false for another holder, whatever term it names", async () => {
      const lease = await granted(one);
      assert.equal(await two.renew(lease, 10 * TTL), false);
      assert.equal(await two.renew({ ...lease, term: lease.term + 1 }, 10 * TTL), false);
      await backend.elapse(TTL);
      await granted(two);
    });

    it("renew() is false after expiry, after release, and under a former term", async () => {
      const first = await granted(one);
      await backend.elapse(TTL);
      assert.equal(await one.renew(first, TTL), false);
      const second = await granted(one);
      assert.equal(await one.renew(first, TTL), false);
      await one.release(second);
      assert.equal(await one.renew(second, TTL), false);
      assert.equal(await one.holder("operation"), null);
    });

    it("release() frees the lease at once", async () => {
      const lease = await granted(one);
      await one.release(lease);
      assert.equal(await one.holder("operation"), null);
      await granted(two);
    });

    it("release() does nothing for another holder or under a former term", async () => {
      const first = await granted(one);
      await two.release(first);
      assert.equal(await two.holder("operation"), "one");
      await backend.elapse(TTL);
      const second = await granted(one);
      await one.release(first);
      assert.equal(await one.renew(second, TTL), true);
      await backend.elapse(TTL);
      await granted(two);
      await one.release(second);
      assert.equal(await one.holder("operation"), "two");
    });

    it("release() is idempotent", async () => {
      const lease = await granted(one);
      await one.release(lease);
      await one.release(lease);
      await granted(two);
    });

    it("holder() names the holder of the lease, until it expires", async () => {
      assert.equal(await one.holder("leader"), null);
      await granted(one, "leader");
      assert.equal(await one.holder("leader"), "one");
      assert.equal(await two.holder("leader"), "one");
      await backend.elapse(TTL);
      assert.equal(await two.holder("leader"), null);
    });
  });
}
