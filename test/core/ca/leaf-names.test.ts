/**
 * Which DNS and IP names leaves get, and which no service gets by any template.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseConsulConfig } from "../../../providers/consul/config.ts";
import { leafNames, type NameRules } from "../../../src/core/ca/leaf-names.ts";
import { RequestError } from "../../../src/core/errors.ts";
import { parseSpiffeId } from "../../../src/core/spiffe/id.ts";
import { ipText, type ServerNames } from "../../../src/core/x509/leaf.ts";
import { readDnsTemplate } from "../../../src/core/x509/service-names.ts";
import { HINTS } from "../../../src/http/hints.ts";
import { ipOctets } from "../../../src/net/ip.ts";

const TRUST_DOMAIN = "11111111-2222-3333-4444-555555555555.consul";
const octets = (text: string) => ipOctets(text) ?? assert.fail(text);

interface Asked {
  readonly dns?: readonly string[];
  readonly ips?: readonly string[];
  readonly templates?: readonly string[];
  readonly ranges?: readonly string[];
  readonly own?: Partial<ServerNames>;
  /** Names that the identity of a server has. */
  readonly served?: Partial<ServerNames>;
}

function ask(path: string, asked: Asked) {
  const none = { dnsNames: [], ipAddresses: [] };
  const { serviceIpRanges } = parseConsulConfig({ ServiceIPRanges: asked.ranges ?? [] });
  const rules: NameRules = {
    serverNames: { ...none, ...asked.served },
    reserved: () => ({ ...none, ...asked.own }),
    // Straight from the reader: the configuration would refuse some lists that are tried here.
    templates: (asked.templates ?? ["{service}"]).map(readDnsTemplate),
    ranges: serviceIpRanges,
    hints: HINTS,
  };
  const id = parseSpiffeId(`spiffe://${TRUST_DOMAIN}${path}`);
  assert.ok(id.kind !== "signing");
  const { dnsNames, ipAddresses } = leafNames(
    id,
    { dnsNames: asked.dns ?? [], ipAddresses: (asked.ips ?? []).map(octets) },
    rules,
  );
  return [...dnsNames, ...ipAddresses.map(ipText)];
}

const service = (name: string, asked: Asked) => ask(`/ns/default/dc/dc1/svc/${name}`, asked);

function assertRefused(work: () => unknown, says: RegExp): void {
  assert.throws(work, (error: unknown) => {
    assert.ok(error instanceof RequestError && error.code === "profile_violation", String(error));
    assert.match(error.message, says);
    return true;
  });
}

const RESERVED = /: no service gets a name of loopback, of an agent or of a server$/;
const RESERVED_IP = /: no service gets an address of loopback or of a server, or an IPv4 address/;

describe("leafNames() of a service", () => {
  it("leafNames() gives the names that are asked for, in lower case, in their order, each once", () => {
    const templates = ["{service}.a", "{service}", "*.{service}.x"];
    const dns = ["*.WEB.x", "Web", "web.a", "web"];
    assert.deepEqual(service("web", { dns, templates }), ["*.web.x", "web", "web.a"]);
    assert.deepEqual(service("web", { templates }), []);
  });

  it("leafNames() names the first name that is not allowed, and what is", () => {
    assertRefused(
      () => service("web", { dns: ["web", "db", "other"] }),
      /^Cannot sign leaf for "spiffe:.*\/svc\/web": it is not allowed to have the DNS name "db": its DNS names are "web"; ServiceDNSNames in the configuration of the CA /,
    );
    assertRefused(
      () => service("Web", { dns: ["web"] }),
      /the DNS name "web": it is allowed to have no DNS name; ServiceDNSNames/,
    );
    assertRefused(
      () => service("web", { dns: ["web"], templates: [] }),
      /the DNS name "web": it is allowed to have no DNS name; ServiceDNSNames/,
    );
    for (const name of ["web.", "*.web", "xweb", "", "*"])
      assertRefused(
        () => service("web", { dns: [name] }),
        /it is not allowed to have the DNS name/,
      );
  });

  for (const [name, templates, dns] of [
    ["localhost", ["{service}"], "localhost"],
    ["localhost", ["{service}"], "LOCALHOST"],
    ["web", ["{service}.localhost"], "web.localhost"],
    ["localhost", ["a.{service}"], "a.localhost"],
    ["web", ["*.{service}.localhost"], "*.web.localhost"],
    ["localhost", ["*.a.{service}"], "*.a.localhost"],
    ["server", ["{service}.dc1.peering.{trust_domain}"], `server.dc1.peering.${TRUST_DOMAIN}`],
    ["dc2", ["server.{service}.peering.{trust_domain}"], `server.dc2.peering.${TRUST_DOMAIN}`],
    ["dc1", ["*.{service}.peering.{trust_domain}"], `*.dc1.peering.${TRUST_DOMAIN}`],
    ["peering", ["*.{service}.{trust_domain}"], `*.peering.${TRUST_DOMAIN}`],
    ["peering", ["{service}.{trust_domain}"], `peering.${TRUST_DOMAIN}`],
    ["server", ["{service}.{datacenter}.consul"], "server.dc1.consul"],
    ["dc2", ["server.{service}.consul"], "server.dc2.consul"],
    ["dc2", ["*.{service}.consul"], "*.dc2.consul"],
    ["ca", ["{service}.example.com"], "ca.example.com"],
    ["ca", ["{service}.example.com"], "CA.example.COM"],
    ["example", ["*.{service}.com"], "*.example.com"],
    ["ca", ["{service}"], "ca"],
  ] as const)
    it(`leafNames() gives the service ${name} no ${dns} by ${templates}`, () => {
      const own = { dnsNames: ["ca.example.com", "ca"] };
      assertRefused(() => service(name, { dns: [dns], templates, own }), RESERVED);
      // Nor does an error offer it.
      assertRefused(
        () => service(name, { dns: ["other"], templates, own }),
        /it is allowed to have no DNS name/,
      );
    });

  for (const [datacenter, name, template, dns] of [
    ["service", "server", "{service}.service.consul", "server.service.consul"],
    ["virtual", "server", "{service}.virtual.consul", "server.virtual.consul"],
    ["node", "server", "{service}.{datacenter}.consul", "server.node.consul"],
    ["node", "node", "server.{service}.consul", "server.node.consul"],
    ["service", "service", "*.{service}.consul", "*.service.consul"],
  ] as const)
    it(`leafNames() gives the service ${name} of the datacenter ${datacenter} no ${dns}`, () => {
      const path = `/ns/default/dc/${datacenter}/svc/${name}`;
      const templates = [template, "{service}.own"];
      assertRefused(() => ask(path, { dns: [dns], templates }), RESERVED);
      assertRefused(
        () => ask(path, { dns: ["other"], templates }),
        new RegExp(`: its DNS names are "${name}\\.own"; ServiceDNSNames`),
      );
      assert.deepEqual(ask(path, { dns: [`${name}.own`], templates }), [`${name}.own`]);
    });

  it("leafNames() gives names that only look like those of servers", () => {
    const own = { dnsNames: ["ca.example.com"] };
    for (const [name, template, dns] of [
      ["server", "{service}.service.consul", "server.service.consul"],
      ["server", "{service}.virtual.consul", "server.virtual.consul"],
      ["server", "{service}.dc1.consul.example", "server.dc1.consul.example"],
      ["web", "{service}.peering.example", "web.peering.example"],
      ["notlocalhost", "{service}", "notlocalhost"],
      ["ca", "{service}.ca.example.com", "ca.ca.example.com"],
      ["x", "*.{service}.example.com", "*.x.example.com"],
      ["web", "*.{service}.service.consul", "*.web.service.consul"],
    ] as const)
      assert.deepEqual(service(name, { dns: [dns], templates: [template], own }), [dns]);
  });

  it("leafNames() gives the IP addresses of the ranges, and never one of loopback or of a server", () => {
    const ranges = ["10.0.0.0/8", "0.0.0.0/0", "::/0"];
    const own = { ipAddresses: [octets("10.0.0.1"), octets("fd00::1")] };
    assert.deepEqual(service("web", { ips: ["10.0.0.2", "fd00::2", "10.0.0.2"], ranges, own }), [
      "10.0.0.2",
      "fd00:0000:0000:0000:0000:0000:0000:0002",
    ]);
    for (const ip of ["127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::", "::ffff:10.0.0.2"])
      assertRefused(() => service("web", { ips: [ip], ranges, own }), RESERVED_IP);
    for (const ip of ["10.0.0.1", "fd00::1"])
      assertRefused(() => service("web", { ips: [ip], ranges, own }), RESERVED_IP);
    assertRefused(
      () => service("web", { ips: ["10.0.0.2", "11.0.0.1"], ranges: ["10.0.0.0/8"] }),
      /the IP address 11\.0\.0\.1: the allowed ranges are 10\.0\.0\.0\/8; ServiceIPRanges in the configuration/,
    );
    assertRefused(
      () => service("web", { ips: ["10.0.0.2"] }),
      /: no service is allowed to have one/,
    );
  });

  it("leafNames() bounds the size of all names together", () => {
    const templates = Array.from({ length: 16 }, (_, i) => `{service}.${"x".repeat(60)}.y${i}`);
    const dns = templates.map((template) => template.replace("{service}", "web"));
    assert.equal(service("web", { dns, templates }).length, 16);
    const wide = templates.map((template) => `${template}.${"z".repeat(60)}`);
    assertRefused(
      () =>
        service("web", {
          dns: wide.map((each) => each.replace("{service}", "web")),
          templates: wide,
        }),
      /its names have \d+ octets together, and at most 1264 are allowed$/,
    );
  });
});

describe("leafNames() of other identities", () => {
  it("leafNames() does not apply the templates and ranges to agents, gateways and servers", () => {
    const asked = { templates: ["{service}"], ranges: ["10.0.0.0/8"] };
    for (const path of [
      "/agent/client/dc/dc1/id/web",
      "/gateway/mesh/dc/dc1",
      "/agent/server/dc/dc1",
    ]) {
      assertRefused(() => ask(path, { ...asked, dns: ["web"] }), /the DNS name "web"$/);
      assertRefused(
        () => ask(path, { ...asked, ips: ["10.0.0.2"] }),
        /the IP address 10\.0\.0\.2$/,
      );
    }
    const peering = `server.dc1.peering.${TRUST_DOMAIN}`;
    assert.deepEqual(ask("/agent/client/dc/dc1/id/web", { dns: ["localhost"], ips: ["::1"] }), [
      "localhost",
      "0000:0000:0000:0000:0000:0000:0000:0001",
    ]);
    assert.deepEqual(ask("/gateway/mesh/dc/dc1", { dns: [peering] }), [peering]);
    const served = { dnsNames: ["ca.example.com"], ipAddresses: [octets("10.0.0.1")] };
    assert.deepEqual(
      ask("/agent/server/dc/dc1", { dns: [peering, "ca.example.com"], ips: ["10.0.0.1"], served }),
      [peering, "ca.example.com", "10.0.0.1"],
    );
  });
});
