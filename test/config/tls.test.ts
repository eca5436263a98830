/**
 * The settings of TLS: which ones belong together, and which names a certificate of our own has.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { readSettings } from "../../src/config/settings.ts";
import type { TlsSettings } from "../../src/config/tls.ts";
import { ConfigError } from "../../src/core/errors.ts";

type Environment = Readonly<Record<string, string>>;

const read = (environment: Environment, file: unknown = {}): TlsSettings | null =>
  readSettings({ MESHCA_CONFIG: "file.json", ...environment }, () => JSON.stringify(file), []).tls;

function faults(environment: Environment, file?: unknown): string[] {
  try {
    read(environment, file);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.violations.map(({ message }) => message);
  }
  throw new Error("The settings were accepted");
}

const FILES = { MESHCA_TLS_CERT_FILE: "c.pem", MESHCA_TLS_KEY_FILE: "k.pem" };

function namesOf(environment: Environment): { dnsNames: readonly string[]; ips: string[] } {
  const source = read({ MESHCA_TLS: "self", ...environment })?.source;
  assert.ok(source?.kind === "self");
  return {
    dnsNames: source.names.dnsNames,
    ips: source.names.ipAddresses.map((address) => [...address].join(".")),
  };
}

describe("the settings of TLS", () => {
  it("are plain HTTP by default", () => assert.equal(read({}), null));

  it("take a pair of files, and the CAs of client certificates", () => {
    assert.deepEqual(
      read({ ...FILES, MESHCA_TLS_CLIENT_CA_FILE: "ca.pem", MESHCA_TLS_MIN_VERSION: "1.3" }),
      {
        source: { kind: "files", certFile: "c.pem", keyFile: "k.pem" },
        clientCa: { kind: "file", path: "ca.pem" },
        clientCertificate: "optional",
        minVersion: "TLSv1.3",
      },
    );
    const self = read({
      ...FILES,
      MESHCA_TLS_CLIENT_CA_FILE: "self",
      MESHCA_TLS_CLIENT_CERT: "required",
    });
    assert.deepEqual([self?.clientCa, self?.clientCertificate], [{ kind: "self" }, "required"]);
  });

  it("give our own certificate loopback's names, the listening address, and the configured names", () => {
    const loopback = ["127.0.0.1", `${"0.".repeat(15)}1`];
    assert.deepEqual(namesOf({}), { dnsNames: ["localhost"], ips: loopback });
    assert.deepEqual(namesOf({ MESHCA_LISTEN: "127.0.0.2:1" }).ips, [...loopback, "127.0.0.2"]);
    assert.deepEqual(namesOf({ MESHCA_TLS_NAMES: "CA.example.com, 10.1.2.3,::1" }), {
      dnsNames: ["localhost", "ca.example.com"],
      ips: [...loopback, "10.1.2.3"],
    });
  });

  it("prefer the environment to the file", () => {
    const file = { ports: { https: 8501 }, tls: { https: { cert_file: "c", key_file: "k" } } };
    assert.equal(read({}, file)?.source.kind, "files");
    assert.equal(read({ MESHCA_TLS: "self" }, file)?.source.kind, "self");
    assert.equal(read(FILES, { tls: "self" })?.source.kind, "files");
  });

  const refused: readonly (readonly [string, Environment, string, unknown?])[] = [
    [
      "a certificate without its key",
      { MESHCA_TLS_CERT_FILE: "c" },
      "MESHCA_TLS_KEY_FILE: must be given with MESHCA_TLS_CERT_FILE",
    ],
    [
      "a key without its certificate",
      { MESHCA_TLS_KEY_FILE: "k" },
      "MESHCA_TLS_CERT_FILE: must be given with MESHCA_TLS_KEY_FILE",
    ],
    ["an unknown mode", { MESHCA_TLS: "on" }, "MESHCA_TLS: must be self; "],
    [
      "files and self",
      { ...FILES, MESHCA_TLS: "self" },
      "MESHCA_TLS: is given together with MESHCA_TLS_CERT_FILE",
    ],
    [
      "clients' certificates over plain HTTP",
      { MESHCA_TLS_CLIENT_CA_FILE: "self" },
      "MESHCA_TLS_CLIENT_CA_FILE: needs TLS: ",
    ],
    ["names over plain HTTP", { MESHCA_TLS_NAMES: "a" }, "MESHCA_TLS_NAMES: needs TLS: "],
    [
      "names together with files",
      { ...FILES, MESHCA_TLS_NAMES: "a" },
      "MESHCA_TLS_NAMES: needs MESHCA_TLS=self",
    ],
    [
      "required certificates of anybody",
      { ...FILES, MESHCA_TLS_CLIENT_CERT: "required" },
      "MESHCA_TLS_CLIENT_CERT: can be required only",
    ],
    [
      "TLS and plain HTTP",
      { ...FILES, MESHCA_PLAIN_HTTP: "behind-proxy" },
      "MESHCA_PLAIN_HTTP: is given together with TLS",
    ],
    [
      "another reason for plain HTTP",
      { MESHCA_PLAIN_HTTP: "yes" },
      'MESHCA_PLAIN_HTTP: must be "behind-proxy"; plain HTTP is allowed only behind a TLS-terminating proxy',
    ],
    [
      "TLS 1.1",
      { ...FILES, MESHCA_TLS_MIN_VERSION: "1.1" },
      "MESHCA_TLS_MIN_VERSION: must be 1.2 or 1.3",
    ],
    [
      "self without a CA",
      { MESHCA_TLS: "self" },
      'MESHCA_TLS: cannot be "self" while connect.enabled is false: there is no CA to issue the certificate',
      { connect: { enabled: false } },
    ],
    [
      "a port for HTTPS without a certificate",
      {},
      "ports.https: needs a certificate: ",
      { ports: { https: 8501 } },
    ],
    ...[
      "a_b",
      "a b",
      "a,,b",
      "*.example.com",
      "10.0.0.256",
      "x".repeat(64),
      Array(17).fill("a").join(),
    ].map(
      (names) =>
        [
          `the names ${names}`,
          { MESHCA_TLS: "self", MESHCA_TLS_NAMES: names },
          names.split(",").length > 16
            ? "MESHCA_TLS_NAMES: must be at most 16 "
            : 'MESHCA_TLS_NAMES: must be at most 16 DNS names and IP addresses, separated by commas; "',
        ] as const,
    ),
  ];
  for (const [name, environment, says, file] of refused)
    it(`refuse ${name}`, () => {
      const found = faults(environment, file);
      assert.equal(found.length, 1, found.join("; "));
      assert.ok(found[0]?.startsWith(says), found.join());
    });
});
