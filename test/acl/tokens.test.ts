/**
 * Fields of tokens: ids, expiry, names.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  expiryOf,
  isExpired,
  isIdentityName,
  makeUuid,
  presentedSecret,
  requireNewId,
} from "../../src/acl/tokens.ts";
import { RequestError } from "../../src/core/errors.ts";
import { systemRandom } from "../fakes/clock.ts";

const NOW = new Date("2026-06-01T12:00:00Z");
const after = (ms: number) => new Date(NOW.getTime() + ms);
const refused = (expected: RegExp) => (error: unknown) => {
  assert.ok(error instanceof RequestError);
  assert.match(error.message, expected);
  return true;
};

describe("tokens", () => {
  it("makeUuid() returns a random UUID of version 4", () => {
    const made = new Set(Array.from({ length: 1000 }, () => makeUuid(systemRandom)));
    assert.equal(made.size, 1000);
    for (const uuid of made)
      assert.match(uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });

  it("requireNewId() accepts only UUIDs in lower case, of any version", () => {
    requireNewId("12345678-1234-1234-1234-123456789abc", "SecretID");
    for (const text of [
      "",
      "anonymous",
      "12345678-1234-1234-1234-123456789ABC",
      "12345678123412341234123456789abc",
      "12345678-1234-1234-1234-123456789abc\n",
    ])
      assert.throws(() => requireNewId(text, "SecretID"), /not a valid UUID/, text);
  });

  it("requireNewId() refuses a malformed or reserved id without quoting it", () => {
    requireNewId(makeUuid(systemRandom), "SecretID");
    for (const [id, expected] of [
      ["hunter2-hunter2", /^Invalid Token: SecretID - not a valid UUID$/],
      [
        "00000000-0000-0000-0000-000000000009",
        /^Invalid Token: SecretID - UUIDs with the prefix "00000000-0000-0000-0000-0000000000" are reserved$/,
      ],
    ] as const)
      assert.throws(
        () => requireNewId(id, "SecretID"),
        (error) => refused(expected)(error) && !(error as Error).message.includes(id),
      );
  });

  it("expiryOf() returns the expiry of a token, or null if it does not expire", () => {
    assert.equal(expiryOf(null, null, NOW), null);
    assert.equal(expiryOf(0, null, NOW), null);
    assert.deepEqual(expiryOf(60_000, null, NOW), after(60_000));
    assert.deepEqual(expiryOf(null, after(3_600_000), NOW), after(3_600_000));
    assert.deepEqual(expiryOf(24 * 3_600_000, null, NOW), after(24 * 3_600_000));
  });

  const bad: readonly [what: string, ttlMs: number | null, time: Date | null, expected: RegExp][] =
    [
      ["a negative one", -1000, null, /Token Expiration TTL '-1s' should be > 0/],
      ["both forms", 60_000, after(60_000), /cannot both be set/],
      ["one in the past", null, after(-1), /ExpirationTime cannot be before CreateTime/],
      [
        "one that is too soon",
        59_999,
        null,
        /cannot be less than 1m0s in the future \(was 59\.999s\)/,
      ],
      [
        "one that is too far",
        null,
        after(24 * 3_600_000 + 1000),
        /cannot be more than 24h0m0s in the future \(was 24h0m1s\)/,
      ],
    ];
  for (const [what, ttlMs, time, expected] of bad)
    it(`expiryOf() refuses ${what}`, () => {
      assert.throws(() => expiryOf(ttlMs, time, NOW), refused(expected));
    });

  it("isExpired() is true from the instant of expiry on", () => {
    assert.equal(isExpired(null, NOW), false);
    assert.equal(isExpired(after(1), NOW), false);
    assert.equal(isExpired(after(0), NOW), true);
  });

  it("isIdentityName() accepts only the names that Consul accepts", () => {
    for (const name of ["a", "web", "web-1", "a_b", "0", "a".repeat(256)])
      assert.ok(isIdentityName(name), name);
    for (const name of [
      "",
      "Web",
      "-a",
      "a-",
      "_a",
      "a.b",
      "a/b",
      "*",
      "a b",
      "a\n",
      "a".repeat(257),
    ])
      assert.ok(!isIdentityName(name), name);
  });

  it("presentedSecret() returns the anonymous secret for a missing one, and null for one that is too long", () => {
    assert.equal(presentedSecret(null), "anonymous");
    assert.equal(presentedSecret(""), "anonymous");
    assert.equal(presentedSecret("x".repeat(128)), "x".repeat(128));
    assert.equal(presentedSecret("x".repeat(129)), null);
  });
});
