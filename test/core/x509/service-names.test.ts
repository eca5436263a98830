/**
 * Templates of DNS names and ranges of addresses: which are refused, what they give, and that no name
 * is given to two services.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { FormatError } from "../../../src/core/errors.ts";
import {
  canClash,
  DEFAULT_DNS_TEMPLATES,
  expandDnsTemplate,
  type IdentityValues,
  isDnsLabel,
  isInIpRange,
  isLocalAddress,
  isMappedIpv4,
  readDnsTemplate,
} from "../../../src/core/x509/service-names.ts";
import { ipOctets } from "../../../src/net/ip.ts";

const VALUES: IdentityValues = {
  service: "web",
  namespace: "default",
  datacenter: "dc1",
  trust_domain: "11111111-2222-3333-4444-555555555555.consul",
};
const expand = (template: string, values: Partial<IdentityValues> = {}) =>
  expandDnsTemplate(readDnsTemplate(template), { ...VALUES, ...values });
const clash = (a: string, b: string, trustDomain: string | null = VALUES.trust_domain) =>
  canClash(readDnsTemplate(a), readDnsTemplate(b), trustDomain);

const FAULTS: readonly (readonly [template: string, says: RegExp])[] = [
  ["", /^is empty$/],
  ["web.example.com", /^must have \{service\} once, as a label of its own between dots$/],
  ["{service}-x.example.com", /^must have \{service\} once, as a label/],
  ["x{service}", /^must have \{service\} once, as a label/],
  ["{service}{namespace}.x", /^must have \{service\} once, as a label/],
  ["{service}.{service}.x", /^must have \{service\} once, as a label/],
  ["{namespace}.x", /^must have \{service\} once, as a label/],
  ["{service}.{cluster}", /^has the unknown placeholder \{cluster\}; known are \{service\}, /],
  ["{service}.{Namespace}", /^has an upper-case letter; write it in lower case$/],
  ["{service}.Example", /^has an upper-case letter/],
  ["{service}.{}", /^has the unknown placeholder \{\}/],
  ["{service}.{namespace", /^has the label "\{namespace": a label is letters/],
  ["{service}.names}", /^has the label "names\}"/],
  ["{{service}}.x", /^has the label "\{\{service\}\}"/],
  ["{service}..x", /^has an empty label$/],
  [".{service}", /^has an empty label$/],
  ["{service}.", /^ends with a dot/],
  ["{service}.-x", /^has the label "-x"/],
  ["{service}.x-", /^has the label "x-"/],
  ["{service}.{namespace}-", /^has the label "\{namespace\}-"/],
  ["{service}.x_y", /^has the label "x_y"/],
  ["{service}.bücher", /^has the label "bücher"/],
  ["{service}.a b", /^has the label "a b"/],
  ["{service}:8443", /^has the label "\{service\}:8443"/],
  [`{service}.${"x".repeat(64)}`, /^has a label of more than 63 characters$/],
  [`{service}.${"x".repeat(63)}-`, /^has the label "x+"/],
  [`{service}${`.${"x".repeat(63)}`.repeat(4)}`, /^has more than 253 characters$/],
  [`{service}.${"x".repeat(2000)}`, /^is too long for a DNS name$/],
  ["*", /^has a "\*" elsewhere than as its first label/],
  ["*.{service}", /^must have at least two labels after "\*\."$/],
  ["*.*.{service}.x", /^has a "\*" elsewhere/],
  ["{service}.*.x", /^has a "\*" elsewhere/],
  ["a*.{service}.x", /^has a "\*" elsewhere/],
  ["*{service}.x", /^has a "\*" elsewhere/],
  ["{trust_domain}.{service}", /^has \{trust_domain\} elsewhere than at its end/],
  ["{service}.x-{trust_domain}", /^has \{trust_domain\} elsewhere than at its end/],
  ["{service}.10", /^ends with a number, as an IP address does$/],
  ["10.0.0.{service}.0x1", /^ends with a number/],
];

describe("readDnsTemplate()", () => {
  for (const [template, says] of FAULTS)
    it(`readDnsTemplate() refuses ${JSON.stringify(template.slice(0, 40))} (${template.length})`, () => {
      assert.throws(
        () => readDnsTemplate(template),
        (error: unknown) => {
          assert.ok(error instanceof FormatError, String(error));
          assert.match(error.message, says);
          return true;
        },
      );
    });
});

describe("expandDnsTemplate()", () => {
  for (const [template, name] of [
    ["{service}", "web"],
    ["{service}.service.{datacenter}.consul", "web.service.dc1.consul"],
    ["{service}.{namespace}.svc.cluster.local", "web.default.svc.cluster.local"],
    ["{service}.ns-{namespace}-{datacenter}.x", "web.ns-default-dc1.x"],
    ["{service}.{trust_domain}", `web.${VALUES.trust_domain}`],
    ["*.{service}.example.com", "*.web.example.com"],
    ["*.x.{service}", "*.x.web"],
  ] as const)
    it(`expandDnsTemplate() makes ${name} of ${template}`, () => {
      assert.equal(expand(template), name);
    });

  it("expandDnsTemplate() gives no name for a service that is not one DNS label in lower case", () => {
    for (const service of [
      "Web",
      "web_1",
      "web.api",
      "-web",
      "web-",
      "x".repeat(64),
      "",
      "*",
      "wéb",
      "web\n",
    ])
      for (const template of DEFAULT_DNS_TEMPLATES)
        assert.equal(expand(template, { service }), null, service);
    const longest = "x".repeat(63);
    assert.equal(expand("{service}", { service: longest }), longest);
  });

  it("expandDnsTemplate() leaves a template out that needs a value which is no DNS label, and gives the others", () => {
    const names = DEFAULT_DNS_TEMPLATES.map((template) => expand(template, { datacenter: "dc_1" }));
    assert.deepEqual(names, ["web", "web.service.consul", null, "web.virtual.consul"]);
    assert.equal(expand("{service}.{trust_domain}", { trust_domain: "my_mesh.example" }), null);
    assert.equal(expand("{service}.{trust_domain}", { trust_domain: "mesh..example" }), null);
  });

  it("expandDnsTemplate() gives nothing that a URL takes for an IPv4 address, or that is too long", () => {
    for (const service of ["1", "007", "0x1f", "0x"]) {
      assert.equal(expand("{service}", { service }), null, service);
      assert.equal(expand("10.0.0.{service}", { service }), null, service);
      assert.equal(expand("{service}.example.com", { service }), `${service}.example.com`);
    }
    const long = `{service}${`.${"x".repeat(63)}`.repeat(3)}`;
    assert.equal(expand(long, { service: "y".repeat(61) })?.length, 253);
    assert.equal(expand(long, { service: "y".repeat(62) }), null);
    assert.equal(expand(`{service}.{namespace}${"x".repeat(60)}`), null);
  });
});

describe("canClash()", () => {
  for (const [a, b, expected] of [
    ["{service}.a", "{service}.{namespace}", false],
    ["{service}.a", "b.{service}", true],
    // The name a.a is of the service a by both.
    ["{service}.a", "a.{service}", false],
    ["{service}.a", "b.{service}.c", false],
    ["{service}.a.x", "b.{service}.y", false],
    ["{service}.{datacenter}", "{datacenter}.{service}", true],
    ["*.{service}.mesh", "{service}.web.mesh", true],
    ["*.{service}.mesh", "x.{service}.mesh", false],
    ["*.{service}.mesh", "{service}.mesh", false],
    ["*.{service}.consul", "{service}.service.consul", true],
    ["{service}.{trust_domain}", "{service}.x.y.z", false],
    ["{service}.{trust_domain}", "x.{service}.consul", true],
    ["{service}.{trust_domain}", "x.{service}.example", false],
    ["*.{service}.example.com", "{service}.{trust_domain}", false],
    ["{service}.{trust_domain}", "x.{service}.{trust_domain}", false],
    ["x.{service}.{trust_domain}", "{service}.y.{trust_domain}", true],
    ["x.{service}.{trust_domain}", "{service}", false],
    ["{service}.ns-{namespace}", "ns-a.{service}", true],
  ] as const)
    it(`canClash() says ${expected} of ${a} and ${b}`, () => {
      assert.equal(clash(a, b), expected);
      assert.equal(clash(b, a), expected);
    });

  it("canClash() leaves to a known trust domain what that decides", () => {
    const [one, other] = ["{service}.{trust_domain}", "x.{service}.z"];
    assert.equal(clash(one, other, null), false);
    assert.equal(clash(one, other, "y.z"), true);
    assert.equal(clash(one, other, "y.x"), false);
    assert.equal(clash("x.{service}.{trust_domain}", "{service}.y.{trust_domain}", null), true);
  });

  it("canClash() says no of the default templates", () => {
    for (const a of DEFAULT_DNS_TEMPLATES)
      for (const b of DEFAULT_DNS_TEMPLATES) assert.equal(clash(a, b), false);
  });

  it("no list of templates without clashes gives one name to two services, by a wildcard neither", () => {
    // Few labels, so that names of different templates meet.
    const label = fc.constantFrom("a", "b", "c");
    const trustDomain = fc.constantFrom("a.b", "b.a.c", "c.c");
    const part = fc.oneof(label, fc.constantFrom("{namespace}", "{datacenter}", "x-{datacenter}"));
    const template = fc
      .record({
        wildcard: fc.boolean(),
        before: fc.array(part, { maxLength: 2 }),
        after: fc.array(part, { maxLength: 3 }),
        open: fc.boolean(),
      })
      .map(({ wildcard, before, after, open }) =>
        [
          ...(wildcard ? ["*"] : []),
          ...before,
          "{service}",
          ...after,
          ...(open ? ["{trust_domain}"] : wildcard ? ["a"] : []),
        ].join("."),
      );
    const identity = fc.record({ service: label, namespace: label, datacenter: label });
    const covers = (one: string, other: string) =>
      one === other ||
      (one.startsWith("*.") && other.slice(other.indexOf(".") + 1) === one.slice(2));
    let compared = 0;
    fc.assert(
      fc.property(
        fc.uniqueArray(template, { minLength: 2, maxLength: 5 }),
        trustDomain,
        identity,
        identity,
        (texts, trust_domain, one, other) => {
          const read = texts.map(readDnsTemplate);
          const kept = read.filter((each, i) =>
            read.slice(0, i).every((before) => !canClash(each, before, trust_domain)),
          );
          const names = (values: typeof one) =>
            kept
              .map((each) => expandDnsTemplate(each, { ...values, trust_domain }))
              .filter((name) => name !== null);
          if (one.service === other.service) return;
          compared += names(one).length * names(other).length;
          for (const first of names(one))
            for (const second of names(other))
              assert.ok(
                !covers(first, second) && !covers(second, first),
                `${first} of ${one.service} and ${second} of ${other.service} by ${texts.join()}`,
              );
        },
      ),
      { numRuns: 20_000 },
    );
    assert.ok(compared > 10_000, "The property compared next to nothing");
  });
});

describe("ranges of addresses", () => {
  const octets = (text: string) => ipOctets(text) ?? assert.fail(text);
  const isIn = (address: string, base: string, bits: number) =>
    isInIpRange(octets(address), { text: "", base: octets(base), bits });

  it("isInIpRange() compares the bits of the prefix", () => {
    assert.equal(isIn("10.255.0.1", "10.0.0.0", 8), true);
    assert.equal(isIn("11.0.0.1", "10.0.0.0", 8), false);
    assert.equal(isIn("10.31.255.255", "10.16.0.0", 12), true);
    assert.equal(isIn("10.32.0.0", "10.16.0.0", 12), false);
    assert.equal(isIn("8.8.8.8", "0.0.0.0", 0), true);
    assert.equal(isIn("10.0.0.1", "10.0.0.1", 32), true);
    assert.equal(isIn("10.0.0.2", "10.0.0.1", 32), false);
    assert.equal(isIn("fd00:1::5", "fd00::", 8), true);
    assert.equal(isIn("fe00::5", "fd00::", 8), false);
    assert.equal(isIn("fd00::1", "fd00::1", 128), true);
    assert.equal(isIn("10.0.0.1", "::", 0), false);
    assert.equal(isIn("::1", "0.0.0.0", 0), false);
  });

  it("loopback, unspecified and mapped addresses are known", () => {
    for (const text of ["127.0.0.1", "127.255.255.255", "0.0.0.0", "::1", "::"])
      assert.equal(isLocalAddress(octets(text)), true, text);
    for (const text of ["126.0.0.1", "128.0.0.1", "0.0.0.1", "::2", "1::1", "fd00::1"])
      assert.equal(isLocalAddress(octets(text)), false, text);
    assert.equal(isMappedIpv4(octets("::ffff:10.0.0.1")), true);
    assert.equal(isMappedIpv4(octets("::fffe:a00:1")), false);
    assert.equal(isMappedIpv4(octets("10.0.0.1")), false);
  });

  it("isDnsLabel() takes letters, digits and inner hyphens", () => {
    for (const text of ["a", "0", "a-b", "xn--bcher-kva"]) assert.equal(isDnsLabel(text), true);
    for (const text of ["", "-", "a.", "A", "a_b"]) assert.equal(isDnsLabel(text), false);
  });
});
