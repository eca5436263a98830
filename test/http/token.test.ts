/**
 * The token of a request, and how two secrets are compared.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { bearerOf, sameSecret } from "../../src/http/request-token.ts";

describe("sameSecret()", () => {
  const cases: readonly (readonly [string, string, boolean])[] = [
    ["secret", "secret", true],
    ["", "", true],
    ["secret", "secres", false],
    ["secret", "Secret", false],
    ["secrets", "secret", false],
    ["secret", "secrets", false],
    // The shorter one, again and again, is not the longer one.
    ["ab", "abab", false],
    ["abab", "ab", false],
    ["a", "aaaa", false],
    ["", "secret", false],
    ["", "\0", false],
    ["\0", "", false],
    ["secret", "", false],
  ];
  for (const [a, b, same] of cases)
    it(`sameSecret(${JSON.stringify(a)}, ${JSON.stringify(b)}) is ${same}`, () =>
      assert.equal(sameSecret(a, b), same));
});

describe("bearerOf()", () => {
  const cases: readonly (readonly [string | null, string | null])[] = [
    [null, null],
    ["Bearer x", "x"],
    ["bearer  x ", "x"],
    ["BEARER x", "x"],
    ["Bearer", null],
    ["Bearer ", null],
    ["Basic x", null],
    ["Bearerx", null],
  ];
  for (const [header, token] of cases)
    it(`bearerOf(${JSON.stringify(header)}) is ${JSON.stringify(token)}`, () =>
      assert.equal(bearerOf(header), token));
});
