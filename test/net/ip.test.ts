/**
 * IP addresses: the accepted forms, and the result of every check for the forms of inet_aton(3),
 * which other programs take for addresses.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { EgressAllowlist } from "../../providers/vault/egress-allowlist.ts";
import { isLoopback } from "../../src/config/addresses.ts";
import { hostRefusal } from "../../src/http/client.ts";
import {
  ipOctets,
  isInRange,
  isIpAddress,
  isLoopbackAddress,
  isPublicAddress,
  isUnspecifiedAddress,
  readRange,
} from "../../src/net/ip.ts";

/** Forms of 127.0.0.1 that inet_aton(3) takes, and one that only looks like it. */
const ATON = [
  "127.1",
  "127.0.1",
  "0x7f.1",
  "0x7f.0.0.1",
  "0x7f000001",
  "2130706433",
  "0177.0.0.1",
  "127.0.0.01",
  "127.0.0.1 ",
];
/** Forms of IPv6 that are no address here. */
const ODD_IPV6 = [
  "::ffff:127.1",
  "::ffff:0x7f.0.0.1",
  "::ffff:0177.0.0.1",
  "::1%lo",
  "fe80::1%eth0",
  "::127.0.0.1%lo",
  "1::2::3",
  "1:2:3:4:5:6:7",
  "1:2:3:4:5:6:7:",
  "1.2.3.4::",
  "12345::",
  "[::1]",
];

describe("isIpAddress()", () => {
  for (const text of ["10.0.255.1", "::", "::1", "2001:DB8::ff", "1:2:3:4:5:6:7:8", "::1.2.3.4"])
    it(`takes ${text}`, () => assert.ok(isIpAddress(text)));
  for (const text of [...ATON, ...ODD_IPV6, "", "a", "1.2.3.256", "1.2.3.4.5", "1.2.3.4/8"])
    it(`refuses ${JSON.stringify(text)}, and so do all other checks`, () => {
      assert.ok(!isIpAddress(text));
      assert.equal(ipOctets(text), null);
      assert.ok(!isPublicAddress(text));
      assert.ok(!isLoopbackAddress(text));
      assert.ok(!isUnspecifiedAddress(text));
      for (const range of ["0.0.0.0/0", "::/0"]) {
        const read = readRange(range);
        assert.ok(read !== null && !isInRange(text, read));
      }
    });
});

describe("ipOctets()", () => {
  it("returns the octets of an address", () => {
    assert.deepEqual([...(ipOctets("10.0.255.1") ?? [])], [10, 0, 255, 1]);
    assert.deepEqual(
      [...(ipOctets("2001:db8::ff") ?? [])],
      [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff],
    );
    assert.deepEqual(ipOctets("::"), new Uint8Array(16));
    assert.deepEqual(
      [...(ipOctets("1:2:3:4:5:6:7:8") ?? [])].filter((_, i) => i % 2 === 1),
      [1, 2, 3, 4, 5, 6, 7, 8],
    );
    assert.deepEqual([...(ipOctets("::ffff:1.2.3.4") ?? [])].slice(10), [255, 255, 1, 2, 3, 4]);
  });
});

describe("isPublicAddress()", () => {
  for (const address of [
    "93.184.216.34",
    "1.1.1.1",
    "172.32.0.1",
    "2606:2800:220:1::1",
    "2a00::1",
    "2002:5db8:d822::1",
  ])
    it(`takes ${address}`, () => assert.ok(isPublicAddress(address)));
  for (const address of [
    ..."127.0.0.1 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1 255.255.255.255 198.18.0.1".split(
      " ",
    ),
    ...":: ::1 fe80::1 fd00::1 fc00::1 ff02::1 ::ffff:127.0.0.1 ::ffff:93.184.216.34 64:ff9b::7f00:1 2001:db8::1 2001::1 2002:7f00:1::1 fec0::1 3ff0::1 3fff::1".split(
      " ",
    ),
    "example.com",
  ])
    it(`refuses ${address}`, () => assert.ok(!isPublicAddress(address)));
});

describe("isLoopbackAddress()", () => {
  for (const address of ["127.0.0.1", "127.255.0.9", "::1", "0:0::1", "::ffff:127.0.0.1"])
    it(`takes ${address}`, () => assert.ok(isLoopbackAddress(address)));
  for (const address of ["128.0.0.1", "::", "::2", "::127.0.0.1", "::ffff:128.0.0.1", "localhost"])
    it(`refuses ${address}`, () => assert.ok(!isLoopbackAddress(address)));
});

describe("isUnspecifiedAddress()", () => {
  for (const address of ["0.0.0.0", "::", "0::0", "::ffff:0.0.0.0", "::ffff:0:0"])
    it(`takes ${address}`, () => assert.ok(isUnspecifiedAddress(address)));
  for (const address of ["0.0.0.1", "::1", "host"])
    it(`refuses ${address}`, () => assert.ok(!isUnspecifiedAddress(address)));
});

describe("Checks of addresses", () => {
  const vault = new EgressAllowlist({
    hosts: ["vault.example"],
    ranges: [readRange("127.0.0.0/8") ?? []].flat(),
    loopback: true,
  });
  for (const text of [...ATON, ...ODD_IPV6]) {
    it(`Host ${JSON.stringify(text)} is not a loopback name`, () => {
      if (text === "[::1]") return;
      assert.match(
        hostRefusal(text, { hosts: null, loopbackOnly: true }) ?? "",
        /not a loopback name/,
      );
    });
    it(`${JSON.stringify(text)} is not a loopback address to listen on`, () =>
      assert.ok(!isLoopback(text)));
    it(`${JSON.stringify(text)} is in no range that Vault may be asked at`, () =>
      assert.throws(() => vault.checkAddresses(new URL("http://localhost:8200"), [text])));
  }
});
