/**
 * The names of this CA's servers, which no service gets: of every setting that names one, and of the
 * live replicas.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { reservedNames } from "../../src/config/reserved-names.ts";
import { readSettings } from "../../src/config/settings.ts";
import { ipText } from "../../src/core/x509/leaf.ts";

function reserved(
  environment: Readonly<Record<string, string>>,
  addresses: readonly string[] = [],
): string[] {
  const settings = readSettings(environment, () => "", []);
  const { dnsNames, ipAddresses } = reservedNames(settings, addresses);
  return [...dnsNames, ...ipAddresses.map(ipText)];
}

const SIX = (last: string) => `fd00:0000:0000:0000:0000:0000:0000:000${last}`;

describe("reservedNames()", () => {
  it("has the names of MESHCA_HOSTS and MESHCA_ADVERTISE, with and without TLS", () => {
    const own = {
      MESHCA_HOSTS: "Ca.example.com,10.0.0.1,[fd00::1],ca",
      MESHCA_ADVERTISE: "Ca-1.example.com:8501",
    };
    const names = ["127.0.0.1", "ca-1.example.com", "ca.example.com", "10.0.0.1", SIX("1"), "ca"];
    for (const tls of [{}, { MESHCA_TLS: "self" }]) {
      const found = reserved({ ...own, ...tls });
      for (const name of names) assert.ok(found.includes(name), `${name} of ${found}`);
    }
    assert.ok(reserved({ MESHCA_ADVERTISE: "[fd00::2]:8500" }).includes(SIX("2")));
    assert.ok(reserved({ MESHCA_ADVERTISE: "10.0.0.2" }).includes("10.0.0.2"));
  });

  it("has the names of MESHCA_TLS_NAMES, and the host to listen on", () => {
    const found = reserved({
      MESHCA_TLS: "self",
      MESHCA_LISTEN: "10.0.0.3:8501",
      MESHCA_TLS_NAMES: "ca.mesh.example,10.0.0.4",
    });
    for (const name of ["ca.mesh.example", "10.0.0.3", "10.0.0.4", "localhost"])
      assert.ok(found.includes(name), `${name} of ${found}`);
  });

  it("has an IPv4 address that a setting names in the form of IPv6, and a name with the root's dot", () => {
    const mapped = (last: number) => `[::ffff:10.0.0.${last}]`;
    const found = reserved(
      {
        MESHCA_TLS: "self",
        MESHCA_LISTEN: "ca.example.com.:8501",
        MESHCA_HOSTS: mapped(6),
        MESHCA_ADVERTISE: `${mapped(7)}:8501`,
        MESHCA_TLS_NAMES: "::ffff:10.0.0.8",
      },
      [`${mapped(9)}:8501`],
    );
    for (const name of ["10.0.0.6", "10.0.0.7", "10.0.0.8", "10.0.0.9", "ca.example.com"])
      assert.ok(found.includes(name), `${name} of ${found}`);
  });

  it("has what the live replicas advertise, and nothing for an unspecified address", () => {
    assert.deepEqual(
      reserved({ MESHCA_LISTEN: "0.0.0.0:8500", MESHCA_PLAIN_HTTP: "behind-proxy" }, [
        "ca-2.example.com:8500",
        "10.0.0.5:8500",
        "[fd00::3]:8500",
        "0.0.0.0:8500",
        "worker",
      ]),
      ["ca-2.example.com", "worker", "10.0.0.5", SIX("3")],
    );
  });
});
