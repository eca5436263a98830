/**
 * SPIFFE IDs as URIs: the form, and how a segment is encoded.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { RequestError } from "../../../src/core/errors.ts";
import { decodeSegment, encodeSegment, splitSpiffeUri } from "../../../src/core/spiffe/id.ts";

const malformed = (message: string) => ({ name: "RequestError", code: "spiffe_id_malformed", message });

describe("splitSpiffeUri()", () => {
  const read: readonly (readonly [uri: string, trustDomain: string, segments: readonly string[]])[] = [
    ["spiffe://a.consul", "a.consul", []],
    ["spiffe://A.CONSUL", "a.consul", []],
    ["SPIFFE://a.consul/x", "a.consul", ["x"]],
    ["spiffe://a.consul/", "a.consul", [""]],
    ["spiffe://a.consul/x/", "a.consul", ["x", ""]],
    ["spiffe://a.consul//x", "a.consul", ["", "x"]],
    ["spiffe://a.consul/Ns/Dc", "a.consul", ["Ns", "Dc"]],
    ["spiffe://a.consul/a%2Fb", "a.consul", ["a%2Fb"]],
    ["spiffe://a_b-c.1/x", "a_b-c.1", ["x"]],
    ["spiffe://a.consul/!$&'()*+,;=:@~", "a.consul", ["!$&'()*+,;=:@~"]],
    [`spiffe://${"a".repeat(255)}/x`, "a".repeat(255), ["x"]],
    [`spiffe://a/${"x".repeat(2037)}`, "a", ["x".repeat(2037)]],
  ];
  for (const [uri, trustDomain, segments] of read)
    it(`splitSpiffeUri() reads ${uri.slice(0, 60)}`, () => {
      assert.deepEqual(splitSpiffeUri(uri), { trustDomain, segments });
    });

  for (const uri of ["", "https://a.consul/x", "a.consul/x", "//a.consul", " spiffe://a.consul", "spiff://a", "xspiffe://a"])
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
      assert.throws(() => splitSpiffeUri(uri), malformed(`SPIFFE ID is not in the expected format: ${uri.slice(0, 2048)}`));
    });
  it("splitSpiffeUri() refuses a trust domain of 256 characters", () => {
    assert.throws(
      () => splitSpiffeUri(`spiffe://${"a".repeat(256)}/x`),
      malformed("SPIFFE ID has a trust domain of more than 255 characters"),
    );
  });
  it("splitSpiffeUri() throws nothing but RequestError on any text", () => {
    const text = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.string({ unit: fc.constantFrom(..."spiffe:/a.%2F?#@A[]\n") }).map((rest) => `spiffe://${rest}`),
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

describe("decodeSegment()", () => {
  const decoded: readonly (readonly [segment: string, value: string])[] = [
    ["web", "web"],
    ["a%20b", "a b"],
    ["%c3%a9", "é"],
    ["%C3%A9", "é"],
    ["100%25", "100%"],
    ["a+b", "a+b"],
    ["%2525", "%25"],
    ["...", "..."],
  ];
  for (const [segment, value] of decoded)
    it(`decodeSegment() reads ${segment} as ${value}`, () => {
      assert.equal(decodeSegment(segment, "service"), value);
    });

  const refused: readonly (readonly [segment: string, what: string, message: string])[] = [
    ["%", "service", 'Invalid service: invalid URL escape "%"'],
    ["a%2", "service", 'Invalid service: invalid URL escape "%2"'],
    ["a%zzb", "namespace", 'Invalid namespace: invalid URL escape "%zz"'],
    ["%20%g0", "node", 'Invalid node: invalid URL escape "%g0"'],
    ["%ff", "service", "Invalid service: escapes are not UTF-8"],
    ["%c3", "service", "Invalid service: escapes are not UTF-8"],
    ["%c0%af", "service", "Invalid service: escapes are not UTF-8"],
    ["%ed%a0%80", "service", "Invalid service: escapes are not UTF-8"],
    ["", "datacenter", 'Invalid datacenter: "" is empty, a dot segment, or has a slash or control character'],
    [".", "service", 'Invalid service: "." is empty, a dot segment, or has a slash or control character'],
    ["..", "service", 'Invalid service: ".." is empty, a dot segment, or has a slash or control character'],
    ["%2e%2e", "service", 'Invalid service: ".." is empty, a dot segment, or has a slash or control character'],
    ["a%2Fb", "service", 'Invalid service: "a/b" is empty, a dot segment, or has a slash or control character'],
    ["a%00", "service", 'Invalid service: "a\\u0000" is empty, a dot segment, or has a slash or control character'],
    ["a%0a", "service", 'Invalid service: "a\\n" is empty, a dot segment, or has a slash or control character'],
    ["%7f", "service", 'Invalid service: "\u007f" is empty, a dot segment, or has a slash or control character'],
  ];
  for (const [segment, what, message] of refused)
    it(`decodeSegment() refuses ${JSON.stringify(segment)} as a ${what}`, () => {
      assert.throws(() => decodeSegment(segment, what), malformed(message));
    });
});

describe("encodeSegment()", () => {
  it("encodeSegment() leaves what RFC 3986 allows in a segment and encodes the rest", () => {
    assert.equal(encodeSegment("aZ09-._~!$&'()*+=:@"), "aZ09-._~!$&'()*+=:@");
    assert.equal(encodeSegment("a b/c?d#e%é[]"), "a%20b%2Fc%3Fd%23e%25%C3%A9%5B%5D");
  });
  it("encodeSegment() leaves the sub-delimiters comma and semicolon", () => {
    assert.equal(encodeSegment("a,b;c"), "a,b;c");
  });
  it("encodeSegment() writes what decodeSegment() reads back", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", minLength: 1 }), (value) => {
        // biome-ignore lint/suspicious/noControlCharactersInRegex: those are refused, which has its own tests
        fc.pre(value !== "." && value !== ".." && !/[\u0000-\u001f\u007f/]/.test(value));
        const encoded = encodeSegment(value);
        assert.match(encoded, /^[\x21-\x7e]+$/);
        assert.equal(decodeSegment(encoded, "service"), value);
      }),
      { numRuns: 2000 },
    );
  });
});
