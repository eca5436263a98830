/**
 * SPIFFE IDs as URIs: the form, and how a segment is encoded.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { RequestError } from "../../../src/core/errors.ts";
import { requireSegment, splitSpiffeUri } from "../../../src/core/spiffe/id.ts";

const malformed = (message: string) => ({
  name: "RequestError",
  code: "spiffe_id_malformed",
  message,
});

describe("splitSpiffeUri()", () => {
  const read: readonly (readonly [
    uri: string,
    trustDomain: string,
    segments: readonly string[],
  ])[] = [
    ["spiffe://a.consul", "a.consul", []],
    ["spiffe://A.CONSUL", "a.consul", []],
    ["SPIFFE://a.consul/x", "a.consul", ["x"]],
    ["spiffe://a.consul/", "a.consul", [""]],
    ["spiffe://a.consul/x/", "a.consul", ["x", ""]],
    ["spiffe://a.consul//x", "a.consul", ["", "x"]],
    ["spiffe://a.consul/Ns/Dc", "a.consul", ["Ns", "Dc"]],
    ["spiffe://a_b-c.1/x", "a_b-c.1", ["x"]],
    ["spiffe://a.consul/!$&'()*+,;=:@~", "a.consul", ["!$&'()*+,;=:@~"]],
    [`spiffe://${"a".repeat(255)}/x`, "a".repeat(255), ["x"]],
    [`spiffe://a/${"x".repeat(2037)}`, "a", ["x".repeat(2037)]],
  ];
  for (const [uri, trustDomain, segments] of read)
    it(`splitSpiffeUri() reads ${uri.slice(0, 60)}`, () => {
      assert.deepEqual(splitSpiffeUri(uri), { trustDomain, segments });
    });

  for (const uri of [
    "",
    "https://a.consul/x",
    "a.consul/x",
    "//a.consul",
    " spiffe://a.consul",
    "spiff://a",
    "xspiffe://a",
  ])
    it(`splitSpiffeUri() refuses the scheme of ${JSON.stringify(uri)}`, () => {
      assert.throws(() => splitSpiffeUri(uri), malformed("SPIFFE ID must have 'spiffe' scheme"));
    });

  const unexpected: readonly (readonly [name: string, uri: string])[] = [
    ["no host", "spiffe://"],
    ["no host before a path", "spiffe:///ns/default"],
    ["no slashes", "spiffe:a.consul/x"],
    ["one slash", "spiffe:/a.consul/x"],
    ["user information", "spiffe://user@a.consul/x"],
    ["user information with a password", "spiffe://user:pass@a.consul/x"],
    ["a port", "spiffe://a.consul:8500/x"],
    ["an empty port", "spiffe://a.consul:/x"],
    ["a query", "spiffe://a.consul/x?y=z"],
    ["an empty query", "spiffe://a.consul/x?"],
    ["a query without a path", "spiffe://a.consul?y"],
    ["a fragment", "spiffe://a.consul/x#y"],
    ["an empty fragment", "spiffe://a.consul/x#"],
    ["an IPv6 host", "spiffe://[::1]/x"],
    ["an escape in the host", "spiffe://a%2Econsul/x"],
    ["a letter outside ASCII in the host", "spiffe://ä.consul/x"],
    ["a letter outside ASCII in the path", "spiffe://a.consul/ä"],
    ["a letter that lower-cases into ASCII", "spiffe://\u212a.consul/x"],
    ["a blank", "spiffe://a.consul/x y"],
    ["a final newline", "spiffe://a.consul/x\n"],
    ["a NUL", "spiffe://a.consul/x\u0000"],
    ["a backslash", "spiffe://a.consul\\x"],
    ["2049 characters", `spiffe://a/${"x".repeat(2038)}`],
  ];
  for (const [name, uri] of unexpected)
    it(`splitSpiffeUri() refuses ${name}`, () => {
      assert.throws(
        () => splitSpiffeUri(uri),
        malformed(`SPIFFE ID is not in the expected format: ${uri.slice(0, 2048)}`),
      );
    });
  it("splitSpiffeUri() refuses a trust domain of 256 characters", () => {
    assert.throws(
      () => splitSpiffeUri(`spiffe://${"a".repeat(256)}/x`),
      malformed("SPIFFE ID has a trust domain of more than 255 characters"),
    );
  });
  for (const path of ["/a%2Fb", "/%77eb", "/w%65b", "/%zz", "/%", "/x/%2e%2e", "/100%25"])
    it(`splitSpiffeUri() refuses the percent-encoding of ${path}`, () => {
      const uri = `spiffe://a.consul${path}`;
      assert.throws(
        () => splitSpiffeUri(uri),
        malformed(
          `SPIFFE ID must not be percent-encoded: ${uri}; a path segment has letters, digits, '.', '-' and '_'`,
        ),
      );
    });
  it("splitSpiffeUri() throws nothing but RequestError on any text", () => {
    const text = fc.oneof(
      fc.string({ unit: "binary" }),
      fc
        .string({ unit: fc.constantFrom(..."spiffe:/a.%2F?#@A[]\n") })
        .map((rest) => `spiffe://${rest}`),
    );
    fc.assert(
      fc.property(text, (uri) => {
        try {
          splitSpiffeUri(uri);
        } catch (error) {
          assert.ok(error instanceof RequestError);
        }
      }),
      { numRuns: 3000 },
    );
  });
  it("splitSpiffeUri() takes time in proportion to a path of many slashes", () => {
    assert.throws(() => splitSpiffeUri(`spiffe://a${"/".repeat(500_000)} `), RequestError);
  });
});

describe("requireSegment()", () => {
  for (const segment of ["web", "a", "Web-1", "a_b.c", "...", "-", "9", "x".repeat(2000)])
    it(`requireSegment() takes ${segment.slice(0, 20)}`, () => {
      assert.equal(requireSegment(segment, "service"), segment);
    });

  const CHARACTERS =
    "has a character that a SPIFFE ID cannot carry; only letters, digits, '.', '-' and '_' are allowed";
  const refused: readonly (readonly [segment: string, what: string, why: string])[] = [
    ["", "datacenter", "is empty, which a segment of a SPIFFE ID must not be"],
    [".", "service", "is a dot segment, which a SPIFFE ID must not have"],
    ["..", "namespace", "is a dot segment, which a SPIFFE ID must not have"],
    ...[
      "a~b",
      "a b",
      "a%20b",
      "a/b",
      "a:b",
      "a@b",
      "a!b",
      "a+b",
      "a,b",
      "é",
      "a\n",
      "a\u0000",
      "a*",
    ].map((segment) => [segment, "node", CHARACTERS] as const),
  ];
  for (const [segment, what, why] of refused)
    it(`requireSegment() refuses ${JSON.stringify(segment)} as a ${what}`, () => {
      assert.throws(
        () => requireSegment(segment, what),
        malformed(`Invalid ${what}: ${JSON.stringify(segment)} ${why}`),
      );
    });
});
