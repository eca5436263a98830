/**
 * Name constraints against names: what is permitted, what is excluded, and what cannot be read (RFC
 * 5280 section 4.2.1.10).
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Bytes, utf8 } from "../../../src/core/bytes.ts";
import { FormatError } from "../../../src/core/errors.ts";
import {
  contextConstructed,
  contextPrimitive,
  type DerNode,
  element,
  encode,
  sequence,
  TAG,
} from "../../../src/core/x509/der.ts";
import {
  forbiddenBy,
  type NamesBelow,
  readNameConstraints,
} from "../../../src/core/x509/name-constraints.ts";
import { named } from "./requests.ts";

const KINDS = { email: 1, dns: 2, uri: 6 } as const;
const text = (kind: keyof typeof KINDS, name: string): DerNode =>
  element(contextPrimitive(KINDS[kind]), utf8(name));
const ip = (...octets: readonly number[]): DerNode =>
  element(contextPrimitive(7), Uint8Array.from(octets));
const nameOf = (commonName: string): Bytes =>
  encode(
    sequence(
      element(TAG.set, sequence(named("commonName"), element(TAG.utf8String, utf8(commonName)))),
    ),
  );
const directory = (commonName: string): DerNode =>
  element(contextConstructed(4), nameOf(commonName));
const subtrees = (tag: number, bases: readonly DerNode[]): DerNode[] =>
  bases.length === 0
    ? []
    : [element(contextConstructed(tag), ...bases.map((base) => sequence(base)))];
const constraintsOf = (permitted: readonly DerNode[], excluded: readonly DerNode[]) =>
  readNameConstraints(encode(sequence(...subtrees(0, permitted), ...subtrees(1, excluded))));

const NONE: NamesBelow = { uris: [], dnsNames: [], ipAddresses: [], subjects: [] };
const uri = (host: string): NamesBelow => ({
  ...NONE,
  uris: [`spiffe://${host}/ns/default/dc/dc1/svc/web`],
});
const dns = (name: string): NamesBelow => ({ ...NONE, dnsNames: [name] });
const address = (...octets: readonly number[]): NamesBelow => ({
  ...NONE,
  ipAddresses: [Uint8Array.from(octets)],
});
const subject = (commonName: string): NamesBelow => ({ ...NONE, subjects: [nameOf(commonName)] });

describe("forbiddenBy()", () => {
  const LOOPBACK = ip(127, 0, 0, 0, 255, 0, 0, 0);
  const cases: readonly (readonly [
    string,
    DerNode,
    NamesBelow,
    permitted: boolean,
    excluded: boolean,
  ])[] = [
    ["a URI's host", text("uri", "a.consul"), uri("a.consul"), true, true],
    ["a URI's host in another case", text("uri", "A.consul"), uri("a.Consul"), true, true],
    ["another host that ends alike", text("uri", "a.consul"), uri("xa.consul"), false, false],
    // RFC 5280: a host is that host; Go takes its subdomains along, and the stricter one of both
    // counts.
    ["a subdomain of a URI's host", text("uri", "a.consul"), uri("x.a.consul"), false, true],
    ["a subdomain below a period", text("uri", ".a.consul"), uri("x.a.consul"), true, true],
    ["the domain itself below a period", text("uri", ".a.consul"), uri("a.consul"), false, false],
    ["a DNS name", text("dns", "localhost"), dns("localhost"), true, true],
    ["a subdomain of a DNS name", text("dns", "a.consul"), dns("x.a.consul"), true, true],
    ["a DNS name that ends alike", text("dns", "a.consul"), dns("xa.consul"), false, false],
    ["every DNS name", text("dns", ""), dns("localhost"), true, true],
    ["an address in a range", LOOPBACK, address(127, 0, 0, 1), true, true],
    ["an address outside a range", LOOPBACK, address(128, 0, 0, 1), false, false],
    [
      "an IPv6 address and a range of IPv4",
      LOOPBACK,
      address(...Array.from({ length: 16 }, () => 127)),
      false,
      false,
    ],
    ["a subject", directory("ours"), subject("ours"), true, true],
    ["a subject in another case", directory("Ours"), subject("ours"), true, true],
    ["another subject", directory("ours"), subject("theirs"), false, false],
  ];
  for (const [what, base, names, permitted, excluded] of cases) {
    it(`forbiddenBy() ${permitted ? "lets pass" : "names"} ${what} if only that is permitted`, () => {
      const faults = forbiddenBy(constraintsOf([base], []), names);
      assert.equal(faults.length, permitted ? 0 : 1);
      if (!permitted) assert.match(faults[0] ?? "", /^do not permit /);
    });
    it(`forbiddenBy() ${excluded ? "names" : "lets pass"} ${what} if it is excluded`, () => {
      const faults = forbiddenBy(constraintsOf([], [base]), names);
      assert.equal(faults.length, excluded ? 1 : 0);
      if (excluded) assert.match(faults[0] ?? "", /^exclude /);
    });
  }

  it("forbiddenBy() allows names of an unconstrained kind", () => {
    const constraints = constraintsOf([text("dns", "example.com")], [text("email", "example.com")]);
    for (const names of [uri("a.consul"), address(127, 0, 0, 1), subject("ours")])
      assert.deepEqual(forbiddenBy(constraints, names), []);
  });

  it("forbiddenBy() names an excluded name although it is permitted", () =>
    assert.deepEqual(
      forbiddenBy(constraintsOf([text("dns", "")], [text("dns", "localhost")]), dns("localhost")),
      ["exclude the DNS name localhost"],
    ));
});

describe("readNameConstraints()", () => {
  const cases: readonly (readonly [string, readonly DerNode[], RegExp])[] = [
    ["without any constraint", [], /^are empty$/],
    [
      "a mask of separate parts",
      [ip(127, 0, 0, 0, 255, 0, 255, 0)],
      /^have an IP range with a mask of separate parts$/,
    ],
    [
      "a range of seven octets",
      [ip(127, 0, 0, 0, 255, 0, 0)],
      /^have an IP range that is not of 8 or 32 octets$/,
    ],
    [
      "a URI that is an address",
      [text("uri", "127.0.0.1")],
      /^have the malformed name "127\.0\.0\.1"$/,
    ],
    [
      "a name with an empty label",
      [text("dns", "a..consul")],
      /^have the malformed name "a\.\.consul"$/,
    ],
    ["a name that is not ASCII", [text("dns", "ä.consul")], /^have a name that is not ASCII$/],
  ];
  for (const [what, bases, why] of cases)
    it(`readNameConstraints() refuses ${what}`, () =>
      assert.throws(
        () => constraintsOf(bases, []),
        (error: unknown) => {
          assert.ok(error instanceof FormatError);
          assert.match(error.message, why);
          return true;
        },
      ));

  it("readNameConstraints() refuses a maximum distance, and a minimum that is not 0", () => {
    const within = (...fields: readonly DerNode[]) =>
      readNameConstraints(
        encode(
          sequence(element(contextConstructed(0), sequence(text("dns", "a.consul"), ...fields))),
        ),
      );
    within(element(contextPrimitive(0), Uint8Array.of(0)));
    for (const [tag, value] of [
      [0, 1],
      [1, 0],
    ] as const)
      assert.throws(() => within(element(contextPrimitive(tag), Uint8Array.of(value))), {
        message: "have a minimum or maximum distance, which is not allowed",
      });
  });
});
