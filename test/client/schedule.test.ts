/**
 * When a leaf is renewed, and when a failed request is repeated.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { renewalMoment, retryDelayMs } from "../../src/client/schedule.ts";

const T0 = Date.parse("2026-06-01T12:00:00Z");
const at = (ms: number) => new Date(T0 + ms);
const [MINUTE, HOUR] = [60_000, 3_600_000];
const life = (ms: number) => ({ notBefore: at(0), notAfter: at(ms) });

describe("the moment of a renewal", () => {
  for (const [what, ms, hint, now, fraction, expected] of [
    ["the earliest is 60 % of the life", 10 * HOUR, null, 0, 0, 6 * HOUR],
    ["the middle is 75 %", 10 * HOUR, null, 0, 0.5, 7.5 * HOUR],
    ["a life of one minute has the same window", MINUTE, null, 0, 0.5, 45_000],
    ["a life of five minutes has the same window", 5 * MINUTE, null, 0, 0, 3 * MINUTE],
    ["in the window: from now on", 10 * HOUR, null, 8 * HOUR, 0, 8 * HOUR],
    ["in the window: before 90 %", 10 * HOUR, null, 8 * HOUR, 0.5, 8.5 * HOUR],
    ["after the window: now", 10 * HOUR, null, 9.5 * HOUR, 0.5, 9.5 * HOUR],
    ["after the end: now", 10 * HOUR, null, 11 * HOUR, 0.5, 11 * HOUR],
    ["the server's hint wins", 10 * HOUR, 6.2 * HOUR, 0, 0.9, 6.2 * HOUR],
    ["a hint that has passed: now", 10 * HOUR, 6 * HOUR, 7 * HOUR, 0.9, 7 * HOUR],
    ["a hint before the leaf is not followed", 10 * HOUR, -1, 0, 0.5, 7.5 * HOUR],
    ["a hint at the end is not followed", 10 * HOUR, 9.6 * HOUR, 0, 0.5, 7.5 * HOUR],
    ["a hint after the end is not followed", 10 * HOUR, 20 * HOUR, 0, 0.5, 7.5 * HOUR],
  ] as const)
    it(what, () => {
      const renewAfter = hint === null ? null : at(hint);
      assert.equal(renewalMoment(life(ms), renewAfter, at(now), fraction).getTime() - T0, expected);
    });

  it("a hint that is no date is not followed", () => {
    assert.equal(
      renewalMoment(life(HOUR), new Date(Number.NaN), at(0), 0).getTime() - T0,
      36 * MINUTE,
    );
  });

  it("is never before now, and before 90 % of any life that has not come so far", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 60_000, max: 90 * 24 * HOUR }),
        fc.double({ min: 0, max: 1.2, noNaN: true }),
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        (ms, part, fraction) => {
          const now = at(Math.floor(ms * part));
          const moment = renewalMoment(life(ms), null, now, fraction).getTime();
          assert.ok(moment >= now.getTime());
          if (part < 0.9) assert.ok(moment <= T0 + ms * 0.9 && moment >= T0 + ms * 0.6 - 1);
          else assert.equal(moment, now.getTime());
        },
      ),
    );
  });
});

describe("the delay before a retry", () => {
  for (const [what, failures, left, after, fraction, expected] of [
    ["first: up to a second", 1, HOUR, undefined, 0.5, 500],
    ["doubles", 4, HOUR, undefined, 0.5, 4000],
    ["is a minute at most", 20, 24 * HOUR, undefined, 0.999, 59_940],
    ["without a leaf five seconds at most", 20, 0, undefined, 0.999, 4995],
    ["is never none", 1, HOUR, undefined, 0, 250],
    ["is an eighth of what is left at most", 20, 80_000, undefined, 0.999, 9990],
    ["follows Retry-After", 1, HOUR, 30_000, 0, 30_000],
    ["spreads those who got the same Retry-After", 1, HOUR, 30_000, 0.5, 30_500],
    ["follows Retry-After without a leaf", 1, 0, 30_000, 0, 30_000],
    ["shortens a Retry-After that the leaf would not outlive", 1, 40_000, 90_000, 0, 20_000],
    ["keeps its own delay if that is longer", 7, HOUR, 1000, 0.9, 54_000],
  ] as const)
    it(what, () => {
      assert.equal(retryDelayMs(failures, left, after, fraction), expected);
    });

  it("leaves time for another attempt before the leaf expires, and a bounded number of them", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 10_000, max: 24 * HOUR }),
        fc.option(fc.integer({ min: 0, max: 300_000 }), { nil: undefined }),
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        (life, after, fraction) => {
          let left = life;
          let failures = 0;
          while (left > 2000) {
            const delay = retryDelayMs(++failures, left, after, fraction);
            assert.ok(delay >= 250 && delay < left, `${delay} of ${left}`);
            left -= delay;
          }
          // A minute each at most, then ever shorter ones, and the shortest at the end.
          assert.ok(failures <= life / 250);
        },
      ),
    );
  });
});
