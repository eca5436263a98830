/**
 * Names of trust domains: the default one, and which names a CA can have.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseSpiffeId } from "../../../src/core/spiffe/id.ts";
import { defaultTrustDomain, trustDomainFault } from "../../../src/core/spiffe/trust-domain.ts";

describe("defaultTrustDomain()", () => {
  it("defaultTrustDomain() lower-cases the cluster ID and adds the fixed top-level domain", () => {
    assert.equal(defaultTrustDomain("ABC-1"), "abc-1.consul");
  });
});

const LABEL = "a".repeat(63);

describe("trustDomainFault()", () => {
  for (const name of [
    "mesh.example.com",
    "a.b",
    "a-b.c--d",
    "1.x",
    "11111111-2222-3333-4444-555555555555.consul",
    "xn--bcher-kva.example",
    `${LABEL}.${LABEL}.${LABEL}.${LABEL}`,
  ])
    it(`trustDomainFault() takes ${name.length > 60 ? "255 characters" : name}`, () => {
      assert.equal(trustDomainFault(name), null);
      assert.deepEqual(parseSpiffeId(`spiffe://${name}`), { kind: "signing", trustDomain: name });
    });

  const refused: readonly (readonly [what: string, name: string, says: RegExp])[] = [
    ["an empty text", "", /^must not be empty$/],
    [
      "256 characters",
      `a${LABEL}.${LABEL}.${LABEL}.${LABEL}`,
      /^must have at most 255 characters$/,
    ],
    ["a label of 64 characters", `a${LABEL}.b`, /^must have labels of at most 63 characters$/],
    ["one label", "consul", /^must have at least two labels/],
    ["upper case", "Mesh.example.com", /^must be in lower case$/],
    ["a SPIFFE ID", "spiffe://mesh.example.com", /without "spiffe:\/\/"$/],
    ["an underscore", "my_mesh.example.com", /^must not have an underscore: .*Java/],
    ["a first dot", ".mesh.example", /^must not have an empty label/],
    ["a last dot", "mesh.example.", /^must not have an empty label/],
    ["two dots in a row", "mesh..example", /^must not have an empty label/],
    ["a label that begins with a hyphen", "mesh.-example", /begins or ends with a hyphen$/],
    ["a label that ends with a hyphen", "mesh-.example", /begins or ends with a hyphen$/],
    ["an IPv4 address", "10.0.0.1", /^must have a last label that begins with a letter: .* IP/],
    ["a last label of digits", "mesh.2001", /^must have a last label that begins with a letter/],
    [
      "an IPv6 address",
      "[::1]",
      /^must have letters, digits, dots and hyphens only, and has "\["$/,
    ],
    ["a port", "mesh.example:8500", /and has ":"$/],
    ["a path", "mesh.example/x", /and has "\/"$/],
    ["a blank", " mesh.example", /and has " "$/],
    ["a newline at its end", "mesh.example\n", /and has "\\n"$/],
    ["a NUL", "mesh.example\0", /and has "\\u0000"$/],
    ["a letter outside ASCII", "bücher.example", /and has "ü"$/],
    ["a letter that lower-cases into ASCII", "\u212a.example", /and has "\u212a"$/],
    ["a percent-encoded letter", "mesh%2eexample.com", /and has "%"$/],
    ["an asterisk", "*.example.com", /and has "\*"$/],
  ];
  for (const [what, name, says] of refused)
    it(`trustDomainFault() refuses ${what}`, () =>
      assert.match(trustDomainFault(name) ?? "", says));
});
