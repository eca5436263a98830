/**
 * The address that a replica shows to others: MESHCA_ADVERTISE, the address that it listens on, or
 * an address of the machine.
 * @module
 */
import assert from "node:assert/strict";
import { networkInterfaces } from "node:os";
import { describe, it } from "node:test";
import { ownAddress, reachableAddresses } from "../../src/config/addresses.ts";
import { readSettings } from "../../src/config/settings.ts";
import { ipText } from "../../src/core/x509/leaf.ts";
import { linesOf, startServer } from "../fixtures/process.ts";

const MACHINE = ["169.254.3.4", "fe80::1", "8.8.4.4", "10.0.0.7", "172.17.0.1"];

const shown = (host: string, addresses: readonly string[]) =>
  ownAddress({ advertised: null, listen: { host, port: 8500 } }, addresses);

describe("ownAddress()", () => {
  it("is what the server listens on, if that is an address", () => {
    assert.equal(shown("10.1.1.1", MACHINE), "10.1.1.1:8500");
    assert.equal(shown("127.0.0.1", MACHINE), "127.0.0.1:8500");
    assert.equal(shown("ca.example.com", MACHINE), "ca.example.com:8500");
  });

  it("is the first private IPv4 address of the machine on 0.0.0.0", () => {
    assert.equal(shown("0.0.0.0", ["8.8.4.4", "10.0.0.7", "172.17.0.1"]), "10.0.0.7:8500");
    assert.equal(shown("0.0.0.0", ["fd00::7", "8.8.4.4"]), "8.8.4.4:8500");
  });

  it("is the first IPv6 address of the machine on [::], else the first private IPv4 address", () => {
    assert.equal(shown("::", ["10.0.0.7", "fe80::1", "fd00::7"]), "[fd00::7]:8500");
    assert.equal(shown("::", ["8.8.4.4", "10.0.0.7", "fe80::1"]), "10.0.0.7:8500");
  });

  it("is loopback on a machine without any other address", () => {
    for (const addresses of [[], ["127.0.0.1", "::1"], ["169.254.3.4", "fe80::1"]])
      for (const host of ["0.0.0.0", "::"]) assert.equal(shown(host, addresses), "localhost:8500");
  });

  it("is MESHCA_ADVERTISE before all, with the port that the server listens on unless it has one", () => {
    const listen = { host: "0.0.0.0", port: 8500 };
    const host = "ca-1.example.com";
    assert.equal(ownAddress({ advertised: { host, port: 443 }, listen }, MACHINE), `${host}:443`);
    assert.equal(ownAddress({ advertised: { host, port: null }, listen }, MACHINE), `${host}:8500`);
  });
});

describe("reachableAddresses()", () => {
  it("lists private addresses first and leaves out loopback and link-local ones", () => {
    assert.deepEqual(reachableAddresses("0.0.0.0", ["127.0.0.1", ...MACHINE, "::1"]), [
      "10.0.0.7",
      "172.17.0.1",
      "8.8.4.4",
    ]);
    assert.deepEqual(reachableAddresses("::", ["fe80::1", "fd00::7", "10.0.0.7"]), [
      "fd00::7",
      "10.0.0.7",
    ]);
  });
});

describe("the name of a replica that listens on every address", () => {
  const settings = {
    MESHCA_STORE: "memory:",
    MESHCA_ACL: "deny",
    MESHCA_PLAIN_HTTP: "behind-proxy",
  };
  const machine = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  const choices = machine
    .filter(({ internal, address }) => !internal && !/^(169\.254|fe80)/.test(address))
    .map(({ address }) => address.replace(/%.*$/, ""));
  for (const host of ["0.0.0.0", "[::]"])
    it(`on ${host} it is an address of the machine, which the log names`, async () => {
      const server = await startServer({ ...settings, MESHCA_LISTEN: `${host}:0` });
      try {
        const leader = (await (await fetch(`${server.url}/v1/status/leader`)).json()) as string;
        const own = leader.slice(0, -`:${server.port}`.length).replace(/^\[|\]$/g, "");
        assert.ok((choices.length > 0 ? choices : ["localhost"]).includes(own), leader);
        const peers = await fetch(`${server.url}/v1/status/peers`);
        assert.deepEqual(await peers.json(), [leader]);
        const lines = linesOf(server.stdout());
        const [listening] = lines.filter(({ message }) => message === "Listening");
        assert.equal(listening?.advertise, leader);
        const warned = lines.some(({ message }) => /MESHCA_ADVERTISE/.test(String(message)));
        const usable = reachableAddresses(host.replace(/[[\]]/g, ""), choices);
        assert.equal(warned, usable.length !== 1);
      } finally {
        await server.stop();
      }
    });

  it("MESHCA_ADVERTISE is in the certificate that the server issues to itself", () => {
    const certificate = { MESHCA_TLS: "self", MESHCA_TLS_NAMES: "ca.example.com" };
    const names = (advertise: string) => {
      const { tls } = readSettings({ ...certificate, MESHCA_ADVERTISE: advertise }, () => "", []);
      return tls?.source.kind === "self" ? tls.source.names : null;
    };
    assert.deepEqual(names("ca-1.example.com:8501")?.dnsNames, [
      "localhost",
      "ca-1.example.com",
      "ca.example.com",
    ]);
    assert.deepEqual(names("10.0.0.7")?.ipAddresses.map(ipText).includes("10.0.0.7"), true);
    // Not a name of a certificate, and no fault of MESHCA_TLS_NAMES.
    assert.deepEqual(names("ca_1.example.com")?.dnsNames, ["localhost", "ca.example.com"]);
  });
});
