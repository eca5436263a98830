/**
 * When a token of Vault is renewed, and how: the pure half of the token's state machine.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Held } from "../../../providers/vault/token-api.ts";
import { isCut, nextRenewal } from "../../../providers/vault/token-renewer.ts";

const leased = (expiresAt: number, renewable = true) =>
  ({ kind: "leased", token: "t", renewable, expiresAt, leaseMs: 60_000 }) as const satisfies Held;

describe("nextRenewal()", () => {
  it("is never for a token that does not expire", () => {
    for (const renewable of [true, false])
      assert.equal(nextRenewal({ kind: "permanent", token: "t", renewable }, 0, 0.5), null);
  });

  it("is after two thirds of what is left, and by a random part of a tenth earlier", () => {
    assert.deepEqual(nextRenewal(leased(61_000), 1000, 0), { at: 41_000, by: "renew" });
    assert.deepEqual(nextRenewal(leased(61_000), 1000, 0.5), { at: 39_000, by: "renew" });
  });

  it("is at once for a lease that is over, also by a clock that was set back", () => {
    assert.equal(nextRenewal(leased(500), 1000, 0.9)?.at, 1000);
  });

  it("replaces a token that is not renewable", () => {
    assert.equal(nextRenewal(leased(61_000, false), 1000, 0)?.by, "replace");
  });
});

describe("isCut()", () => {
  it("finds a renewal that the token's maximum life cut to less than half", () => {
    assert.equal(isCut(leased(0), leased(31_000), 1000), false);
    assert.equal(isCut(leased(0), leased(30_999), 1000), true);
  });
});
