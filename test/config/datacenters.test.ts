/**
 * The settings of other datacenters: their sources, which values are refused, and what a secondary
 * requires.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { DatacenterSettings } from "../../src/config/datacenters.ts";
import { readSettings } from "../../src/config/settings.ts";
import { readWorkerSettings } from "../../src/config/worker.ts";
import { ConfigError } from "../../src/core/errors.ts";
import { fileFacts } from "../../src/entry/file-facts.ts";

const PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
const HEX = "ab".repeat(32);
const FILES: Readonly<Record<string, string>> = {
  "roots.pem": PEM,
  "other.pem": `${PEM}${PEM}`,
  "empty.pem": "",
  token: "\n secret-of-dc2 \n",
  blank: "two words",
};

type Environment = Readonly<Record<string, string>>;

/** @param file the configuration file, as an object in JSON or as text in HCL. */
function read(environment: Environment, file?: object | string): DatacenterSettings {
  const name = typeof file === "string" ? "meshca.hcl" : "meshca.json";
  const readFile = (path: string): string => {
    if (path === name && file !== undefined)
      return typeof file === "string" ? file : JSON.stringify(file);
    const content = FILES[path];
    if (content === undefined) throw Object.assign(new Error("absent"), { code: "ENOENT" });
    return content;
  };
  const config = file === undefined ? {} : { MESHCA_CONFIG: name };
  return readSettings({ ...config, ...environment }, readFile, []);
}

/** Every fault, without the first line. */
function faults(environment: Environment, file?: object | string): string[] {
  try {
    read(environment, file);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.violations.map(({ message }) => message);
  }
  return assert.fail("The settings were accepted");
}

/** The settings with URLs as texts. */
function plain({ primary, primaryDatacenter, datacenters }: DatacenterSettings) {
  const texts = (servers: readonly URL[]) => servers.map(({ href }) => href);
  return {
    primaryDatacenter,
    primary: primary === null ? null : { ...primary, servers: texts(primary.servers) },
    datacenters: Object.fromEntries(
      [...datacenters].map(([name, each]) => [name, { ...each, servers: texts(each.servers) }]),
    ),
  };
}

const SECONDARY = {
  MESHCA_DATACENTER: "dc2",
  MESHCA_PRIMARY_DATACENTER: "dc1",
  MESHCA_PRIMARY_SERVERS: "https://one.example:8501, https://two.example/meshca",
  MESHCA_PRIMARY_CA_FILE: "roots.pem",
};
const SERVERS = ["https://one.example:8501/", "https://two.example/meshca"];
const NO_CA =
  "is another machine, which cannot be verified at the first contact; set MESHCA_PRIMARY_CA_FILE, or MESHCA_PRIMARY_CA_PIN with the SHA-256 of a root";
const PLAIN_HTTP =
  "is plain HTTP to another machine, on which tokens and roots can be read and replaced; use https";

describe("the primary datacenter", () => {
  it("is this one without settings, and if it is named", () => {
    const alone = { primary: null, primaryDatacenter: null, datacenters: {} };
    assert.deepEqual(plain(read({})), alone);
    assert.deepEqual(plain(read({ MESHCA_PRIMARY_DATACENTER: "DC1" })), {
      ...alone,
      primaryDatacenter: "dc1",
    });
    // One configuration may serve all datacenters.
    const everywhere = { ...SECONDARY, MESHCA_REPLICATION_TOKEN: "secret" };
    const first = read({ ...everywhere, MESHCA_DATACENTER: "dc1" });
    assert.deepEqual(plain(first), { ...alone, primaryDatacenter: "dc1" });
  });

  it("is read from the environment, with the file of its CA and of the token", () => {
    const environment = { ...SECONDARY, MESHCA_REPLICATION_TOKEN_FILE: "token" };
    assert.deepEqual(plain(read(environment)), {
      primaryDatacenter: "dc1",
      primary: {
        datacenter: "dc1",
        servers: SERVERS,
        caPem: PEM,
        caPin: null,
        token: "secret-of-dc2",
        tokenFile: "token",
      },
      datacenters: { dc1: { servers: SERVERS, caPem: PEM, caPin: null } },
    });
  });

  it("is read from the configuration file, in JSON and HCL", () => {
    const expected = {
      datacenter: "dc1",
      servers: SERVERS,
      caPem: null,
      caPin: `sha256:${HEX}`,
      token: "secret",
      tokenFile: null,
    };
    const json = {
      datacenter: "dc2",
      primary_datacenter: "dc1",
      primary_servers: ["https://one.example:8501", "https://two.example/meshca"],
      primary_ca_pin: `sha256:${HEX.toUpperCase()}`,
      acl: { tokens: { replication: "secret", agent: "x" } },
      retry_join_wan: ["10.0.0.1"],
    };
    assert.deepEqual(plain(read({}, json)).primary, expected);
    const hcl = `
      datacenter = "dc2"
      primary_datacenter = "dc1"
      primary_servers = ["https://one.example:8501"]
      primary_ca_file = "roots.pem"
      acl { tokens { replication = "secret" } }`;
    const one = { ...expected, servers: SERVERS.slice(0, 1), caPem: PEM, caPin: null };
    assert.deepEqual(plain(read({}, hcl)).primary, one);
  });

  it("is named by the environment before the file, with its CA and token", () => {
    const file = {
      datacenter: "dc2",
      primary_datacenter: "dc9",
      primary_servers: "https://nine.example",
      primary_ca_file: "other.pem",
      acl: { tokens: { replication: "secret" } },
    };
    const { MESHCA_PRIMARY_CA_FILE: _file, ...others } = SECONDARY;
    const { primary } = read(
      { ...others, MESHCA_PRIMARY_CA_PIN: HEX, MESHCA_REPLICATION_TOKEN_FILE: "token" },
      file,
    );
    assert.deepEqual(
      [primary?.datacenter, primary?.caPem, primary?.caPin, primary?.token],
      ["dc1", null, `sha256:${HEX}`, "secret-of-dc2"],
    );
  });

  it("is reached at a loopback address without TLS, and without a CA", () => {
    const { MESHCA_PRIMARY_CA_FILE: _file, ...others } = SECONDARY;
    for (const url of ["http://127.0.0.1:8500", "https://localhost:8501", "http://[::1]:1"]) {
      const { primary } = read({ ...others, MESHCA_PRIMARY_SERVERS: url });
      assert.deepEqual([primary?.servers.length, primary?.caPem], [1, null], url);
    }
  });

  for (const [changed, expected] of [
    [
      { MESHCA_PRIMARY_SERVERS: "" },
      "MESHCA_PRIMARY_SERVERS: is required: MESHCA_PRIMARY_DATACENTER names another datacenter than this one, dc2; give the URLs of its servers, or leave MESHCA_PRIMARY_DATACENTER out if this is the primary",
    ],
    [
      { MESHCA_PRIMARY_SERVERS: "http://one.example:8500" },
      `MESHCA_PRIMARY_SERVERS: address 1 ${PLAIN_HTTP}`,
    ],
    [
      { MESHCA_PRIMARY_SERVERS: "http://127.0.0.1.example:8500" },
      `MESHCA_PRIMARY_SERVERS: address 1 ${PLAIN_HTTP}`,
    ],
    [{ MESHCA_PRIMARY_CA_FILE: "", MESHCA_PRIMARY_SERVERS: "https://one.example" }, NO_CA],
    [
      { MESHCA_PRIMARY_SERVERS: "https://a.example,ca.example:8501" },
      "address 2 must begin with https:// or http://",
    ],
    [{ MESHCA_PRIMARY_SERVERS: "https://" }, "address 1 is not a URL, such as"],
    [
      { MESHCA_PRIMARY_SERVERS: "https://user:hunter2@a.example" },
      "address 1 must not have a user or a password",
    ],
    [
      { MESHCA_PRIMARY_SERVERS: "https://a.example/?dc=dc3" },
      "address 1 must not have a query or a fragment",
    ],
    [
      { MESHCA_PRIMARY_SERVERS: "https://a.example,https://a.example:443/" },
      "MESHCA_PRIMARY_SERVERS: address 2 is given twice",
    ],
    [
      { MESHCA_PRIMARY_CA_PIN: HEX },
      "MESHCA_PRIMARY_CA_PIN: is given together with MESHCA_PRIMARY_CA_FILE; give one of them",
    ],
    [
      { MESHCA_PRIMARY_CA_FILE: "", MESHCA_PRIMARY_CA_PIN: "sha1:abcd" },
      "MESHCA_PRIMARY_CA_PIN: must be the SHA-256 of a root's DER",
    ],
    [
      { MESHCA_PRIMARY_CA_FILE: "absent.pem" },
      'MESHCA_PRIMARY_CA_FILE: cannot read "absent.pem": there is no such file',
    ],
    [
      { MESHCA_PRIMARY_CA_FILE: "empty.pem" },
      'MESHCA_PRIMARY_CA_FILE: "empty.pem" has no certificate in PEM',
    ],
    [
      { MESHCA_REPLICATION_TOKEN: "x", MESHCA_REPLICATION_TOKEN_FILE: "token" },
      "MESHCA_REPLICATION_TOKEN_FILE: is given together with MESHCA_REPLICATION_TOKEN",
    ],
    [
      { MESHCA_REPLICATION_TOKEN: "two words" },
      "MESHCA_REPLICATION_TOKEN: must be 1 to 128 printable characters without blanks",
    ],
    [
      { MESHCA_REPLICATION_TOKEN_FILE: "blank" },
      "MESHCA_REPLICATION_TOKEN_FILE: must be 1 to 128 printable characters without blanks",
    ],
    [{ MESHCA_REPLICATION_TOKEN_FILE: "absent" }, 'cannot read "absent": there is no such file'],
    [{ MESHCA_PRIMARY_DATACENTER: "dc/1" }, "MESHCA_PRIMARY_DATACENTER: must be 1 to 64 letters"],
  ] as const)
    it(`is refused with ${JSON.stringify(changed)}`, () => {
      const found = faults({ ...SECONDARY, ...changed });
      assert.ok(
        found.every((fault) => fault.includes(expected)) && found.length === 1,
        found.join("\n"),
      );
      assert.ok(!found.join().includes("hunter2"));
    });

  it("is required by each setting of it, so that no secondary becomes a primary by mistake", () => {
    const { MESHCA_PRIMARY_DATACENTER: _name, ...others } = SECONDARY;
    const needs = "needs MESHCA_PRIMARY_DATACENTER, the name of the primary datacenter";
    assert.deepEqual(faults(others), [
      `MESHCA_PRIMARY_SERVERS: ${needs}`,
      `MESHCA_PRIMARY_CA_FILE: ${needs}`,
    ]);
    assert.deepEqual(faults({ MESHCA_PRIMARY_CA_PIN: HEX }), [`MESHCA_PRIMARY_CA_PIN: ${needs}`]);
    assert.deepEqual(faults({}, { primary_servers: [] }), [`MESHCA_PRIMARY_SERVERS: ${needs}`]);
  });

  it("reports a misspelt setting, and not what follows from it", () => {
    const { MESHCA_PRIMARY_SERVERS: servers, ...others } = SECONDARY;
    assert.deepEqual(faults({ ...others, MESHCA_PRIMARY_SERVER: servers }), [
      "MESHCA_PRIMARY_SERVER: is not a setting; did you mean MESHCA_PRIMARY_SERVERS?",
    ]);
  });
});

describe("the list of other datacenters", () => {
  const LIST = {
    dc2: { servers: ["https://a.example", "https://b.example:8501"], ca_file: "roots.pem" },
    EU_3: { servers: ["https://c.example"], ca_pin: HEX },
    dc1: { servers: ["https://own.example"], ca_file: "roots.pem" },
    dev: { servers: ["http://127.0.0.1:8600"] },
  };
  const READ = {
    dc2: { servers: ["https://a.example/", "https://b.example:8501/"], caPem: PEM, caPin: null },
    eu_3: { servers: ["https://c.example/"], caPem: null, caPin: `sha256:${HEX}` },
    dev: { servers: ["http://127.0.0.1:8600/"], caPem: null, caPin: null },
  };

  it("is read from the environment and the file, without this datacenter", () => {
    assert.deepEqual(plain(read({ MESHCA_DATACENTERS: JSON.stringify(LIST) })).datacenters, READ);
    assert.deepEqual(plain(read({}, { datacenters: LIST })).datacenters, READ);
    const hcl = `
      datacenters {
        dc2 {
          servers = ["https://a.example", "https://b.example:8501"]
          ca_file = "roots.pem"
        }
        EU_3 {
          servers = ["https://c.example"]
          ca_pin = "${HEX}"
        }
        dev { servers = ["http://127.0.0.1:8600"] }
      }`;
    assert.deepEqual(plain(read({}, hcl)).datacenters, READ);
  });

  it("has the primary of a secondary, by its own entry if there is one", () => {
    const { datacenters } = read({
      ...SECONDARY,
      MESHCA_DATACENTERS: JSON.stringify({ dc1: LIST.dc1, dc3: LIST.EU_3 }),
    });
    assert.deepEqual(
      [...datacenters].map(([name, { servers }]) => [name, servers[0]?.host]),
      [
        ["dc1", "own.example"],
        ["dc3", "c.example"],
      ],
    );
  });

  for (const [list, expected] of [
    ["{", "MESHCA_DATACENTERS: must be a JSON object, such as"],
    ["[]", "MESHCA_DATACENTERS: must be a JSON object, such as"],
    ['{"a":{"servers":[]},"a":{"servers":[]}}', 'MESHCA_DATACENTERS: "a" is given twice'],
    [{ "dc/2": LIST.dev }, "MESHCA_DATACENTERS.dc/2: the name must be 1 to 64 letters"],
    [{ dc2: LIST.dev, DC2: LIST.dev }, "MESHCA_DATACENTERS.DC2: is given twice: case does not"],
    [{ dc2: "https://a.example" }, "MESHCA_DATACENTERS.dc2: must be an object with servers"],
    [{ dc2: {} }, "MESHCA_DATACENTERS.dc2.servers: is required: a list of URLs"],
    [{ dc2: { servers: [] } }, "MESHCA_DATACENTERS.dc2.servers: must have at least one server"],
    [{ dc2: { servers: [5, 6] } }, "MESHCA_DATACENTERS.dc2.servers: must be a list of URLs"],
    [
      { dc2: { servers: ["http://127.0.0.1"], ca_fil: "x" } },
      "MESHCA_DATACENTERS.dc2.ca_fil: is not a key of a datacenter; did you mean ca_file?",
    ],
    [
      { dc2: { servers: ["https://a.example"] } },
      "MESHCA_DATACENTERS.dc2.servers: address 1 is another machine, which cannot be verified at the first contact; set MESHCA_DATACENTERS.dc2.ca_file, or MESHCA_DATACENTERS.dc2.ca_pin with the SHA-256 of a root",
    ],
    [
      { dc2: { servers: ["http://a.example"], ca_file: "roots.pem" } },
      `MESHCA_DATACENTERS.dc2.servers: address 1 ${PLAIN_HTTP}`,
    ],
    [
      { dc2: { servers: ["https://a.example"], ca_file: "roots.pem", ca_pin: HEX } },
      "MESHCA_DATACENTERS.dc2.ca_pin: is given together with MESHCA_DATACENTERS.dc2.ca_file",
    ],
    [
      { dc2: { servers: ["https://a.example"], ca_pin: "x" } },
      "MESHCA_DATACENTERS.dc2.ca_pin: must be the SHA-256 of a root's DER",
    ],
    [
      { dc2: { servers: ["https://a.example"], ca_file: "absent.pem" } },
      'MESHCA_DATACENTERS.dc2.ca_file: cannot read "absent.pem": there is no such file',
    ],
    // The entry of this datacenter is checked, too.
    [{ dc1: { servers: ["ftp://a"] } }, "MESHCA_DATACENTERS.dc1.servers: address 1 must begin"],
  ] as const)
    it(`is refused as ${JSON.stringify(list)}`, () => {
      const text = typeof list === "string" ? list : JSON.stringify(list);
      const [fault = "", ...others] = faults({ MESHCA_DATACENTERS: text });
      assert.ok(fault.startsWith(expected), fault);
      assert.deepEqual(others, []);
      if (typeof list === "string") return;
      const [ofFile = ""] = faults({}, { datacenters: list });
      const inFile = expected.replaceAll("MESHCA_DATACENTERS", "datacenters");
      assert.ok(ofFile.startsWith(inFile), ofFile);
    });

  it("has a token file that others must not read, unlike its CA files", () => {
    const settings = readSettings(
      {
        ...SECONDARY,
        MESHCA_STORE: "memory:",
        MESHCA_DATACENTERS: JSON.stringify({ dc3: { ...LIST.dc2, ca_file: "other.pem" } }),
        MESHCA_REPLICATION_TOKEN_FILE: "token",
      },
      (path) => FILES[path] ?? "",
      [],
    );
    assert.deepEqual(
      fileFacts(settings).map(({ setting, kind }) => [setting, kind]),
      [["MESHCA_REPLICATION_TOKEN_FILE", "secret"]],
    );
  });

  it("protects its CA files, and the token's, from a provider's configuration", () => {
    const { namedFiles } = readSettings(
      {
        ...SECONDARY,
        MESHCA_DATACENTERS: JSON.stringify({ dc3: LIST.dc2 }),
        MESHCA_REPLICATION_TOKEN_FILE: "token",
      },
      (path) => FILES[path] ?? "",
      [],
    );
    const paths = namedFiles.map(({ setting, path }) => `${setting} ${path}`);
    for (const named of [
      "MESHCA_REPLICATION_TOKEN_FILE token",
      "MESHCA_PRIMARY_CA_FILE roots.pem",
      "MESHCA_DATACENTERS roots.pem",
    ])
      assert.ok(paths.includes(named), named);
  });
});

describe("a Worker", () => {
  const NEEDED = {
    MESHCA_STORE: "rediss://u:p@redis.example.com:6380",
    MESHCA_KEK: `k:${btoa("k".repeat(32))}`,
    MESHCA_INITIAL_MANAGEMENT_TOKEN: "0123456789abcdef0123456789abcdef",
    MESHCA_DATACENTER: "edge",
    MESHCA_PRIMARY_DATACENTER: "dc1",
    MESHCA_PRIMARY_SERVERS: "https://ca.example",
    MESHCA_REPLICATION_TOKEN: "secret",
  };

  it("verifies other datacenters by the public CAs", () => {
    const settings = readWorkerSettings(
      { ...NEEDED, MESHCA_DATACENTERS: '{"dc3": {"servers": ["https://c.example"]}}' },
      [],
    );
    assert.deepEqual(
      [settings.primary?.caPem, settings.primary?.caPin, [...settings.datacenters.keys()]],
      [null, null, ["dc3", "dc1"]],
    );
  });

  for (const [changed, expected] of [
    [{ MESHCA_PRIMARY_CA_FILE: "roots.pem" }, /by the public CAs, and by nothing else$/],
    [{ MESHCA_PRIMARY_CA_PIN: HEX }, /by the public CAs, and by nothing else$/],
    [{ MESHCA_REPLICATION_TOKEN_FILE: "token" }, /use the secret MESHCA_REPLICATION_TOKEN$/],
    [{ MESHCA_PRIMARY_SERVERS: "http://ca.example" }, /is plain HTTP to another machine/],
    [
      { MESHCA_DATACENTERS: `{"dc3": {"servers": ["https://c.example"], "ca_pin": "${HEX}"}}` },
      /dc3\.ca_pin: has no meaning in a Worker/,
    ],
    [
      { MESHCA_DATACENTERS: '{"dc3": {"servers": ["https://c.example"], "ca_file": "roots.pem"}}' },
      /dc3\.ca_file: has no meaning in a Worker/,
    ],
  ] as const)
    it(`refuses ${JSON.stringify(changed)}`, () => {
      assert.throws(
        () => readWorkerSettings({ ...NEEDED, ...changed }, []),
        (error) => {
          assert.ok(error instanceof ConfigError);
          assert.equal(error.violations.length, 1, error.message);
          assert.match(error.violations[0]?.message ?? "", expected);
          return true;
        },
      );
    });
});
