/**
 * The configuration file: Consul's agent form, which keys apply, which are ignored or refused.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CONSUL_CONFIG_NAMES, parseConsulConfig } from "../../providers/consul/config.ts";
import { type ConfigFile, readConfigFile } from "../../src/config/file.ts";
import { CONSUL_AGENT_KEYS } from "../../src/consul/agent-keys.ts";
import { ConfigError } from "../../src/core/errors.ts";

const read = (file: unknown): ConfigFile =>
  readConfigFile(typeof file === "string" ? file : JSON.stringify(file), CONSUL_CONFIG_NAMES);

function faults(file: unknown): string[] {
  try {
    read(file);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.violations.length > 0
      ? error.violations.map(({ message }) => message)
      : [error.message];
  }
  throw new Error("The file was accepted");
}

const CLUSTER_ID = "11111111-2222-3333-4444-AAAAAAAAAAAA";

describe("readConfigFile()", () => {
  it("readConfigFile() reads a file of Consul's agent", () => {
    const file = {
      datacenter: "eu1",
      data_dir: "/opt/consul",
      log_level: "INFO",
      server: true,
      bootstrap_expect: 3,
      retry_join: ["10.0.0.1"],
      client_addr: "127.0.0.1",
      ports: { http: 8501, grpc: 8502 },
      connect: {
        enabled: true,
        ca_provider: "consul",
        ca_config: {
          leaf_cert_ttl: "48h",
          private_key_bits: 384,
          csr_max_per_second: 10,
          cluster_id: CLUSTER_ID,
          trust_domain: "mesh.example.com",
        },
      },
    };
    assert.deepEqual(read(file), {
      settings: {
        MESHCA_DATACENTER: "eu1",
        MESHCA_DATA_DIR: "/opt/consul",
        MESHCA_LOG_LEVEL: "INFO",
        MESHCA_LISTEN: "127.0.0.1:8501",
      },
      connectEnabled: true,
      https: false,
      bootstrap: {
        provider: "consul",
        config: { LeafCertTTL: "48h", PrivateKeyBits: 384, CSRMaxPerSecond: 10 },
        clusterId: CLUSTER_ID.toLowerCase(),
        trustDomain: "mesh.example.com",
      },
      ignored: ["server", "bootstrap_expect", "retry_join"],
    });
  });

  it("readConfigFile() returns no setting for a file without keys", () => {
    assert.deepEqual(read({}), {
      settings: {},
      connectEnabled: true,
      https: false,
      bootstrap: null,
      ignored: [],
    });
    assert.equal(read({ connect: { enabled: false } }).connectEnabled, false);
    assert.equal(read({ connect: {} }).bootstrap, null);
  });

  it("readConfigFile() ignores every key of Consul's agent that does not apply to meshca, and names it", () => {
    const file = Object.fromEntries(CONSUL_AGENT_KEYS.map((key) => [key, "x"]));
    assert.deepEqual(read(file).ignored, CONSUL_AGENT_KEYS);
  });

  it("readConfigFile() translates every configuration name from snake_case", () => {
    const names = {
      leaf_cert_ttl: "LeafCertTTL",
      intermediate_cert_ttl: "IntermediateCertTTL",
      root_cert_ttl: "RootCertTTL",
      private_key_type: "PrivateKeyType",
      private_key_bits: "PrivateKeyBits",
      csr_max_per_second: "CSRMaxPerSecond",
      csr_max_concurrent: "CSRMaxConcurrent",
      private_key: "PrivateKey",
      root_cert: "RootCert",
    };
    const { bootstrap } = read({
      connect: { ca_config: Object.fromEntries(Object.keys(names).map((key) => [key, key])) },
    });
    assert.deepEqual(
      bootstrap?.config,
      Object.fromEntries(Object.entries(names).map(([key, name]) => [name, key])),
    );
  });

  it("readConfigFile() takes CamelCase names too, and leaves unknown ones for the provider to refuse", () => {
    const { bootstrap } = read({ connect: { ca_config: { LeafCertTTL: "48h", leaf_ttl: "1h" } } });
    assert.deepEqual(bootstrap, {
      provider: "consul",
      config: { LeafCertTTL: "48h", leaf_ttl: "1h" },
      clusterId: null,
      trustDomain: null,
    });
  });

  it("readConfigFile() takes Consul's names of log levels", () => {
    for (const [level, ours] of [
      ["trace", "debug"],
      ["TRACE", "debug"],
      ["err", "error"],
      ["ERR", "error"],
      ["WARN", "WARN"],
    ])
      assert.equal(read({ log_level: level }).settings.MESHCA_LOG_LEVEL, ours);
  });

  it("readConfigFile() takes the address without the port, and the port without the address", () => {
    assert.equal(read({ client_addr: "127.0.0.2" }).settings.MESHCA_LISTEN, "127.0.0.2:8500");
    assert.equal(read({ ports: { http: 0 } }).settings.MESHCA_LISTEN, "127.0.0.1:0");
    assert.equal(read({ ports: { dns: 8600 } }).settings.MESHCA_LISTEN, undefined);
  });

  it("readConfigFile() takes Consul's certificates if HTTPS has a port, those for HTTPS before those for all", () => {
    const tls = {
      defaults: {
        ca_file: "ca.pem",
        cert_file: "all.pem",
        key_file: "key.pem",
        verify_incoming: true,
        verify_outgoing: true,
      },
      https: { cert_file: "https.pem", tls_min_version: "TLSv1_3" },
      internal_rpc: { verify_server_hostname: true },
    };
    const { settings, https, ignored } = read({ ports: { http: -1, https: 8501 }, tls });
    assert.deepEqual([https, ignored], [true, []]);
    assert.deepEqual(settings, {
      MESHCA_LISTEN: "127.0.0.1:8501",
      MESHCA_TLS_CERT_FILE: "https.pem",
      MESHCA_TLS_KEY_FILE: "key.pem",
      MESHCA_TLS_CLIENT_CA_FILE: "ca.pem",
      MESHCA_TLS_CLIENT_CERT: "required",
      MESHCA_TLS_MIN_VERSION: "1.3",
    });
    const optional = read({
      ports: { https: 1 },
      tls: { ...tls, https: { verify_incoming: false } },
    });
    assert.equal(optional.settings.MESHCA_TLS_CLIENT_CERT, undefined);
  });

  it("readConfigFile() ignores Consul's certificates if HTTPS has no port, as Consul does", () => {
    const { settings, https, ignored } = read({
      tls: { defaults: { cert_file: "a", tls_min_version: "TLSv1_0" } },
    });
    assert.deepEqual([settings, https, ignored], [{}, false, ["tls"]]);
  });

  it("readConfigFile() takes a certificate of our own CA on either port", () => {
    assert.deepEqual(read({ tls: "self" }).settings, { MESHCA_TLS: "self" });
    assert.deepEqual(read({ tls: "self", ports: { https: 1 } }).settings, {
      MESHCA_TLS: "self",
      MESHCA_LISTEN: "127.0.0.1:1",
    });
  });

  it("readConfigFile() takes a block that is a list of one object, as HCL is written in JSON", () => {
    const plain = {
      datacenter: "dc2",
      ports: { http: 8600 },
      acl: {
        enabled: true,
        tokens: { initial_management: "11111111-2222-4333-8444-555555555555" },
      },
      connect: {
        ca_provider: "vault",
        ca_config: {
          address: "https://v",
          auth_method: { type: "approle", params: { role_id: "r" } },
        },
      },
      limits: { request_limits: { mode: "enforcing" } },
      tls: { https: { cert_file: "/c" }, defaults: { ca_file: "/d" } },
      retry_join: ["a"],
    };
    const listed = (value: unknown): unknown =>
      typeof value !== "object" || value === null || Array.isArray(value)
        ? value
        : [Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, listed(inner)]))];
    const [json] = listed(plain) as unknown[];
    assert.deepEqual(read(json), read(plain));
    assert.deepEqual(
      read({ connect: [{ ca_config: [{ leaf_cert_ttl: ["24h"] }] }] }).bootstrap?.config,
      { LeafCertTTL: "24h" },
    );
    const hcl = 'connect = [{ ca_config = [{ leaf_cert_ttl = "24h" }] }]\nports = [{ http = 1 }]';
    assert.deepEqual(
      readConfigFile(hcl, CONSUL_CONFIG_NAMES, "hcl"),
      read({ connect: { ca_config: { leaf_cert_ttl: "24h" } }, ports: { http: 1 } }),
    );
  });

  const refused: readonly (readonly [string, unknown, string])[] = [
    [
      "a block that is a list of two objects",
      { connect: [{ enabled: true }, { enabled: false }] },
      "connect: ",
    ],
    [
      "a list of two objects inside a block",
      { connect: { ca_config: [{}, {}] } },
      "connect.ca_config: must be an object",
    ],
    [
      "a key that is given twice",
      '{"datacenter":"a","ports":{"http":1},"datacenter":"b"}',
      '"datacenter" is given twice in one object',
    ],
    [
      "a key of a block that is given twice",
      '{"acl":{"enabled":true,"\\u0065nabled":false}}',
      '"enabled" is given twice in one object',
    ],
    [
      "a field of ca_config in two spellings",
      { connect: { ca_config: { leaf_cert_ttl: "1h", LeafCertTTL: "72h" } } },
      'connect.ca_config.LeafCertTTL: "connect.ca_config.leaf_cert_ttl" and "connect.ca_config.LeafCertTTL" are the same field: give one of them',
    ],
    [
      "text that is no JSON",
      "datacenter = 1",
      "invalid JSON; a file in HCL has a name that ends in .hcl",
    ],
    ["an empty file", "", "invalid JSON; a file in HCL has a name that ends in .hcl"],
    [
      "a misspelt key",
      { datacentre: "x" },
      "datacentre: is not a key of Consul's agent configuration; did you mean datacenter?",
    ],
    [
      "a misspelt key that would be ignored",
      { retry_joins: [] },
      "retry_joins: is not a key of Consul's agent configuration; did you mean retry_join?",
    ],
    [
      "an unknown key",
      { completely_different_thing: 1 },
      "completely_different_thing: is not a key of Consul's agent configuration",
    ],
    [
      "a misspelt key of connect",
      { connect: { ca_confg: {} } },
      "connect.ca_confg: is not a key of connect; did you mean ca_config?",
    ],
    [
      "an unknown key of connect",
      { connect: { xyz: {} } },
      "connect.xyz: is not a key of connect; known are enabled, ca_provider, ca_config",
    ],
    [
      "connect.enabled as text",
      { connect: { enabled: "false" } },
      "connect.enabled: must be true or false",
    ],
    [
      "ca_provider as a number",
      { connect: { ca_provider: 1 } },
      "connect.ca_provider: must be the name of a provider",
    ],
    ["ca_config as a list", { connect: { ca_config: [] } }, "connect.ca_config: must be an object"],
    ["datacenter as a number", { datacenter: 1 }, "datacenter: must be a name"],
    ["an empty data_dir", { data_dir: "" }, "data_dir: must be a folder"],
    ["ports as a list", { ports: [] }, "ports: must be an object"],
    ["connect as a list", { connect: [] }, "connect: "],
    [
      "a key with the name of a property",
      { constructor: 1 },
      "constructor: is not a key of Consul's agent configuration",
    ],
    ["a port above 65535", { ports: { http: 65_536 } }, "ports.http: must be a port"],
    ["a port below -1", { ports: { http: -2 } }, "ports.http: must be a port"],
    [
      "no port at all",
      { ports: { http: -1 } },
      "ports.http: cannot be -1 without ports.https: nothing would be served",
    ],
    [
      "both ports",
      { ports: { http: 8500, https: 8501 }, tls: "self" },
      "ports.http: cannot be served together with ports.https: set it to -1",
    ],
    ["tls as text", { tls: "other" }, "tls: must be an object"],
    [
      "a certificate as a number",
      { tls: { https: { cert_file: 1 } } },
      "tls.https.cert_file: must be a file",
    ],
    [
      "an old version of TLS",
      { ports: { https: 8501 }, tls: { https: { tls_min_version: "TLSv1_1" } } },
      "tls.https.tls_min_version: must be TLSv1_2 or TLSv1_3: older versions are not supported",
    ],
    ["a port with a fraction", { ports: { http: 1.5 } }, "ports.http: must be a port"],
    ["a port as text", { ports: { http: "8500" } }, "ports.http: must be a port"],
    [
      "a cluster ID that is no UUID",
      { connect: { ca_config: { cluster_id: "x" } } },
      "connect.ca_config.cluster_id: must be a UUID",
    ],
    [
      "a cluster ID that is a number",
      { connect: { ca_config: { cluster_id: 1 } } },
      "connect.ca_config.cluster_id: must be a UUID",
    ],
    [
      "a trust domain of one label",
      { connect: { ca_config: { trust_domain: "mesh" } } },
      "connect.ca_config.trust_domain: must have at least two labels",
    ],
    [
      "an empty trust domain",
      { connect: { ca_config: { trust_domain: "" } } },
      "connect.ca_config.trust_domain: must not be empty",
    ],
    [
      "a trust domain that is no text",
      { connect: { ca_config: { trust_domain: 1 } } },
      "connect.ca_config.trust_domain: must be the name of a trust domain",
    ],
  ];
  for (const [name, file, says] of refused)
    it(`readConfigFile() refuses ${name}`, () => {
      const found = faults(file);
      assert.equal(found.length, 1, found.join("; "));
      assert.ok(found[0]?.startsWith(says), found.join());
    });

  for (const [name, file] of [
    ["null", "null"],
    ["a list", "[]"],
    ["a number", "1"],
    ["text", '"x"'],
  ] as const)
    it(`readConfigFile() refuses a file that is ${name}, not an object`, () =>
      assert.ok(faults(file).length > 0));

  it("readConfigFile() names every fault at once", () => {
    const found = faults({
      datacentre: "x",
      data_dir: 1,
      connect: { enabled: 1, ca_confg: {} },
      ports: { http: -2 },
    });
    assert.deepEqual(
      new Set(found.map((fault) => fault.split(":")[0])),
      new Set(["connect.ca_confg", "connect.enabled", "data_dir", "datacentre", "ports.http"]),
    );
  });
});

describe("readConfigFile() of HCL", () => {
  const readHcl = (text: string) => readConfigFile(text, CONSUL_CONFIG_NAMES, "hcl");
  const refusal = (text: string): string => {
    try {
      readHcl(text);
    } catch (error) {
      assert.ok(error instanceof ConfigError);
      return error.message;
    }
    throw new assert.AssertionError({ message: "It was taken" });
  };

  it("readConfigFile() reads the same from HCL as from JSON", () => {
    const hcl = `
      # As an agent of Consul has it.
      datacenter = "dc2"
      ports { http = 8600 }
      acl = { enabled = true, default_policy = "deny", tokens { initial_management = "11111111-2222-4333-8444-555555555555" } }
      connect {
        enabled     = true
        ca_provider = "consul"
        ca_config { leaf_cert_ttl = "24h", private_key_type = "rsa", private_key_bits = 2048 }
      }
      limits { http_max_conns_per_client = 7, request_limits { mode = "enforcing" } }
      retry_join = ["a", "b"]
    `;
    const json = {
      datacenter: "dc2",
      ports: { http: 8600 },
      acl: {
        enabled: true,
        default_policy: "deny",
        tokens: { initial_management: "11111111-2222-4333-8444-555555555555" },
      },
      connect: {
        enabled: true,
        ca_provider: "consul",
        ca_config: { leaf_cert_ttl: "24h", private_key_type: "rsa", private_key_bits: 2048 },
      },
      limits: { http_max_conns_per_client: 7, request_limits: { mode: "enforcing" } },
      retry_join: ["a", "b"],
    };
    assert.deepEqual(readHcl(hcl), read(json));
    assert.deepEqual(
      readHcl('limits "request_limits" { mode = "enforcing" }'),
      read({ limits: { request_limits: { mode: "enforcing" } } }),
    );
    assert.deepEqual(readHcl(JSON.stringify(json)), read(json));
    assert.deepEqual(readHcl(""), read({}));
  });

  it("readConfigFile() reads the names of services, one or several", () => {
    const namesOf = (list: string) => {
      const { bootstrap } = readHcl(
        `connect { ca_config { service_dns_names = ${list}, service_ip_ranges = ["10.0.0.0/8"] } }`,
      );
      const { serviceDnsNames, serviceIpRanges } = parseConsulConfig(bootstrap?.config ?? null);
      assert.deepEqual(
        serviceIpRanges.map(({ text }) => text),
        ["10.0.0.0/8"],
      );
      return serviceDnsNames.map(({ text }) => text);
    };
    assert.deepEqual(namesOf('["{service}", "{service}.x"]'), ["{service}", "{service}.x"]);
    // A list of one is read as what is in it, as by Consul.
    assert.deepEqual(namesOf('["{service}"]'), ["{service}"]);
    assert.deepEqual(namesOf('"{service}"'), ["{service}"]);
    assert.deepEqual(namesOf("[]"), []);
  });

  it("readConfigFile() reads heredocs, as in a certificate of the first configuration", () => {
    const pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    const hcl = `connect {\n  ca_config {\n    root_cert = <<EOF\n${pem}EOF\n    private_key = <<-KEY\n      k\n      KEY\n  }\n}\ndatacenter = "dc9"\n`;
    const { bootstrap, settings } = readHcl(hcl);
    assert.deepEqual(
      [bootstrap?.config, settings.MESHCA_DATACENTER],
      [{ RootCert: pem, PrivateKey: "k\n" }, "dc9"],
    );
  });

  const refused: readonly (readonly [what: string, text: string, message: string])[] = [
    [
      "what is not closed",
      "connect {\n  enabled = true",
      "invalid HCL: line 2, column 17: found the end, expected a name",
    ],
    [
      "a value set twice",
      'datacenter = "a"\ndatacenter = "b"',
      'invalid HCL: line 2, column 1: "datacenter" is set twice',
    ],
    [
      "a block written twice",
      "connect { enabled = true }\nconnect { enabled = false }",
      'invalid HCL: line 2, column 1: "connect" is set twice, first at line 1, column 1',
    ],
    [
      "a heredoc without an end",
      "datacenter = <<EOF\na\nEOFX",
      "invalid HCL: line 1, column 14: the heredoc is not closed: its last line must be the marker",
    ],
    [
      "a heredoc without a mark",
      "datacenter = << EOF\na\nEOF",
      "invalid HCL: line 1, column 14: a heredoc must begin with << or <<-, a marker of letters and digits, and the end of the line",
    ],
    [
      "a heredoc as a name",
      "<<EOF\na\nEOF\n = 1",
      "invalid HCL: line 1, column 1: found a heredoc, expected a name",
    ],
    [
      "what follows a heredoc",
      "datacenter = <<EOF\na\nEOF\n}",
      'invalid HCL: line 4, column 1: found "}", expected a name',
    ],
    [
      "a key with a slip",
      "\nconnect {\n  enable = true\n}",
      "connect.enable (line 3, column 3): is not a key of connect; did you mean enabled?",
    ],
    [
      "a top key with a slip",
      'datacentre = "a"',
      "datacentre (line 1, column 1): is not a key of Consul's agent configuration; did you mean datacenter?",
    ],
    ["a wrong type", "ports { http = true }", "ports.http (line 1, column 9): must be a port"],
    [
      "an invalid limit",
      "limits {\n watcher = 1 }",
      "limits.watcher (line 2, column 2): is not a limit; did you mean watchers?",
    ],
  ];
  for (const [what, text, message] of refused)
    it(`readConfigFile() refuses ${what}`, () => assert.equal(refusal(text), message));

  it("readConfigFile() repeats no value of a file that it cannot read", () => {
    const secret = "b19c2f1e-secret";
    for (const text of [
      `acl { tokens { initial_management = ${secret} } }`,
      `a = "${secret}" "${secret}"`,
      `a = [ "x" "${secret}" ]`,
      `a = { 1 = ${secret}`,
    ]) {
      assert.match(refusal(text), /^invalid HCL: line 1, column \d+: /);
      assert.doesNotMatch(refusal(text), /b19c2f1e/);
    }
  });

  it("readConfigFile() gives names of Object.prototype no meaning", () => {
    assert.match(
      refusal("__proto__ { connect { enabled = false } }"),
      /^__proto__ \(line 1, column 1\): is not a key/,
    );
  });
});
