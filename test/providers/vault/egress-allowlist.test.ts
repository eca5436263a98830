/**
 * Which servers may be asked as Vault, by their URL and by the addresses that it leads to.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { EgressAllowlist, type EgressOptions } from "../../../providers/vault/egress-allowlist.ts";
import { isInRange, readRange } from "../../../src/net/ip.ts";

const list = (entries: Partial<EgressOptions> & { readonly blocks?: readonly string[] }) =>
  new EgressAllowlist({
    hosts: entries.hosts ?? [],
    ranges: (entries.blocks ?? []).map((block) => {
      const range = readRange(block);
      assert.ok(range !== null, block);
      return range;
    }),
    loopback: entries.loopback ?? false,
  });

function allowed(
  allow: ReturnType<typeof list>,
  address: string,
  resolved: readonly string[],
): boolean {
  try {
    const url = new URL(address);
    allow.check(url);
    allow.checkAddresses(url, resolved);
    return true;
  } catch {
    return false;
  }
}

describe("readRange()", () => {
  for (const [block, inside, outside] of [
    ["10.0.0.0/8", "10.255.0.1", "11.0.0.0"],
    ["192.168.1.7", "192.168.1.7", "192.168.1.8"],
    ["fd00::/8", "fdff::1", "fe00::1"],
    ["0.0.0.0/0", "203.0.113.9", "2001:db8::1"],
    ["10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"],
  ] as const)
    it(`${block} has ${inside} and not ${outside}`, () => {
      const range = readRange(block);
      assert.ok(range !== null);
      assert.ok(isInRange(inside, range));
      assert.ok(!isInRange(outside, range));
    });

  for (const bad of [
    "",
    "10.0.0.0/33",
    "10.0.0.0/08",
    "10.0.0/8",
    "::/129",
    "host",
    "10.0.0.0/8/8",
    "10.0.0.0/",
  ])
    it(`refuses ${JSON.stringify(bad)}`, () => assert.equal(readRange(bad), null));
});

describe("EgressAllowlist", () => {
  it("allows nothing if nothing is listed", () => {
    for (const [url, address] of [
      ["https://vault.example.com", "93.184.216.34"],
      ["https://10.0.0.1", "10.0.0.1"],
      ["http://127.0.0.1:8200", "127.0.0.1"],
      ["http://localhost:8200", "127.0.0.1"],
    ] as const)
      assert.ok(!allowed(list({}), url, [address]), url);
  });

  it("lets a server on loopback ask a Vault there, in plain HTTP too", () => {
    const allow = list({ loopback: true });
    for (const url of [
      "http://127.0.0.1:8200",
      "http://127.9.9.9",
      "https://127.0.0.1",
      "http://[::1]:8200",
      "http://localhost:8200",
    ])
      assert.ok(allowed(allow, url, [url.includes("[") ? "::1" : "127.0.0.1"]), url);
    assert.ok(
      !allowed(allow, "http://localhost:8200", ["10.0.0.1"]),
      "a localhost that is elsewhere",
    );
    assert.ok(!allowed(allow, "https://10.0.0.1", ["10.0.0.1"]));
  });

  it("allows listed loopback, by its address or as localhost, at the listed port only", () => {
    const allow = list({ hosts: ["127.0.0.1:8200", "[::1]:8200", "localhost", "vault.internal"] });
    assert.ok(allowed(allow, "http://127.0.0.1:8200", ["127.0.0.1"]));
    assert.ok(allowed(allow, "http://[::1]:8200", ["::1"]));
    assert.ok(allowed(allow, "http://localhost:1234", ["127.0.0.1", "::1"]));
    assert.ok(!allowed(allow, "http://127.0.0.1:8201", ["127.0.0.1"]), "another port");
    assert.ok(!allowed(allow, "http://127.0.0.2:8200", ["127.0.0.2"]), "another address");
    assert.ok(
      !allowed(allow, "https://vault.internal", ["127.0.0.1"]),
      "another name that leads to loopback",
    );
    assert.ok(allowed(list({ blocks: ["127.0.0.0/8"] }), "http://localhost:8200", ["127.0.0.1"]));
  });

  it("lets a listed host have any address but those that no name stands for", () => {
    const allow = list({ hosts: ["vault.internal", "other.internal:8200"] });
    assert.ok(allowed(allow, "https://vault.internal:1234", ["10.0.0.1", "fd00::1"]));
    assert.ok(allowed(allow, "https://other.internal:8200", ["10.0.0.1"]));
    assert.ok(!allowed(allow, "https://other.internal", ["10.0.0.1"]), "another port");
    for (const address of [
      "127.0.0.1",
      "169.254.169.254",
      "0.0.0.0",
      "::1",
      "fe80::1",
      "fd00:ec2::254",
      "224.0.0.1",
      "::ffff:169.254.169.254",
      "::",
    ])
      assert.ok(!allowed(allow, "https://vault.internal", ["10.0.0.1", address]), address);
    assert.ok(!allowed(allow, "http://vault.internal", ["10.0.0.1"]), "plain HTTP");
  });

  it("refuses plain HTTP beyond loopback by the URL, and by every address that its host leads to", () => {
    const allow = list({ hosts: ["vault.internal", "localhost"], blocks: ["10.1.0.0/16"] });
    const why = /plain HTTP is allowed to loopback only/;
    for (const url of ["http://vault.internal", "http://10.1.2.3:8200"])
      assert.throws(() => allow.check(new URL(url)), why, url);
    // The addresses of a name are not known before it is resolved.
    allow.check(new URL("http://localhost"));
    allow.checkAddresses(new URL("http://localhost"), ["127.0.0.1"]);
    for (const addresses of [["10.1.2.3"], ["127.0.0.1", "10.1.2.3"]])
      assert.throws(() => allow.checkAddresses(new URL("http://localhost"), addresses), {
        reason: "not_allowed",
        message: /it leads to 10\.1\.2\.3, and plain HTTP is allowed to loopback only/,
      });
  });

  it("lets a host through whose addresses are all in a listed range", () => {
    const allow = list({ blocks: ["10.1.0.0/16"] });
    assert.ok(allowed(allow, "https://vault.internal", ["10.1.2.3"]));
    assert.ok(allowed(allow, "https://10.1.2.3:8200", ["10.1.2.3"]));
    assert.ok(!allowed(allow, "https://vault.internal", ["10.1.2.3", "10.2.0.1"]));
    assert.ok(!allowed(allow, "https://10.2.0.1", ["10.2.0.1"]));
    assert.ok(!allowed(allow, "http://10.1.2.3", ["10.1.2.3"]), "plain HTTP");
    assert.ok(!allowed(allow, "https://vault.internal", []), "no address at all");
  });

  it("reads an address as the connection will, however it is written", () => {
    const allow = list({ hosts: ["vault.internal"] });
    for (const url of [
      "https://0x7f.1",
      "https://2130706433",
      "https://017700000001",
      "https://[::ffff:7f00:1]",
      "https://vault.internal.",
      "https://VAULT.internal@127.0.0.1",
    ])
      assert.ok(!allowed(allow, url, ["127.0.0.1"]), url);
    assert.ok(allowed(allow, "https://VAULT.INTERNAL", ["10.0.0.1"]));
  });

  it("lets a loopback range be asked in plain HTTP, as a sidecar is", () => {
    assert.ok(allowed(list({ blocks: ["127.0.0.1"] }), "http://127.0.0.1:8200", ["127.0.0.1"]));
  });
});
