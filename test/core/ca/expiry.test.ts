/**
 * Which certificates expire, and when an operator is warned.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  type Expiring,
  ExpiryWatch,
  expiringOf,
  warningDays,
} from "../../../src/core/ca/expiry.ts";
import { createTestCa } from "../../fakes/ca.ts";

const DAY = 86_400_000;
const at = (day: number) => new Date(day * DAY);
const expiring = (life: number, more: Partial<Expiring> = {}): Expiring => ({
  ...{ what: "root", id: "a", notBefore: at(0), notAfter: at(life) },
  ...more,
});

describe("warningDays()", () => {
  const cases: readonly (readonly [
    what: string,
    life: number,
    day: number,
    days: number | null,
  ])[] = [
    ["a root with years to go", 3650, 0, null],
    ["a root 31 days before its end", 3650, 3619, null],
    ["a root 30 days before its end", 3650, 3620, 30],
    ["a root 8 days before its end", 3650, 3642, 30],
    ["a root 7 days before its end", 3650, 3643, 7],
    ["a root a day before its end", 3650, 3649, 1],
    ["a root at its end", 3650, 3650, 0],
    ["a root after its end", 3650, 4000, 0],
    ["a certificate of 90 days that is renewed with 31 days left", 90, 59, null],
    ["a new certificate of 3 days", 3, 0, null],
    ["a certificate of 3 days that was not renewed at half of its life", 3, 1.6, 7],
    ["a certificate of 3 days on its last day", 3, 2.5, 1],
    ["a certificate whose time has not begun", 3, -10, null],
  ];
  for (const [what, life, day, days] of cases)
    it(`warningDays() is ${days} for ${what}`, () =>
      assert.equal(warningDays(expiring(life), at(day)), days));
});

describe("ExpiryWatch", () => {
  it("warns once at each threshold, however often it checks, and again for another certificate", () => {
    const watch = new ExpiryWatch();
    const look = (day: number, one = expiring(3650)) =>
      watch.check([one], at(day)).map(({ days }) => days);
    assert.deepEqual(
      [look(3000), look(3621), look(3622), look(3643), look(3644)],
      [[], [30], [], [7], []],
    );
    // A process suspended past a threshold warns of the nearest only; a clock that goes back
    // warns of nothing.
    assert.deepEqual([look(3649.5), look(3643), look(3651), look(3652)], [[1], [], [0], []]);
    assert.deepEqual(look(3651, expiring(3650, { id: "b" })), [0]);
  });

  it("warns of a root that issues leaves itself once, not as an issuer too", () => {
    const both = [expiring(3650), expiring(3650, { what: "issuer" })];
    assert.deepEqual(
      new ExpiryWatch().check(both, at(3649)).map(({ what }) => what),
      ["root"],
    );
    const other = [expiring(3650), expiring(3650, { what: "issuer", id: "b" })];
    assert.deepEqual(
      new ExpiryWatch().check(other, at(3649)).map(({ what }) => what),
      ["root", "issuer"],
    );
  });
});

describe("expiringOf()", () => {
  it("expiringOf() names root, issuer and the server's certificate, and no fallback certificate", async () => {
    const { manager } = await createTestCa();
    const server = { notBefore: at(0), notAfter: at(3), fingerprint: "AA", fallback: null };
    const names = (certificate: typeof server | null) =>
      expiringOf(manager.snapshot, certificate).map(({ what }) => what);
    assert.deepEqual(names(server), ["root", "issuer", "server certificate"]);
    assert.deepEqual(names(null), ["root", "issuer"]);
    assert.deepEqual(
      expiringOf(null, { ...server, fallback: "why" }).map(({ what }) => what),
      [],
    );
  });
});
