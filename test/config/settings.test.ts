/**
 * Settings: the source of each, which values are refused, and that all faults are named at once.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CONSUL_CONFIG_NAMES } from "../../providers/consul/config.ts";
import { isLoopback } from "../../src/config/addresses.ts";
import { listenRefusal, readSettings, type Settings } from "../../src/config/settings.ts";
import { SETTING_NAMES } from "../../src/config/settings-schema.ts";
import { STORE_FORMS } from "../../src/config/store-url.ts";
import { ConfigError } from "../../src/core/errors.ts";

function read(environment: Readonly<Record<string, string | undefined>>, file?: unknown): Settings {
  const readFile = (path: string) => {
    if (file === undefined) throw new Error(`No file ${path}`);
    return typeof file === "string" ? file : JSON.stringify(file);
  };
  return readSettings(environment, readFile, CONSUL_CONFIG_NAMES);
}

/** The faults that are found, without the first line. */
function faults(
  environment: Readonly<Record<string, string | undefined>>,
  file?: unknown,
): string[] {
  try {
    read(environment, file);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    const [first, ...lines] = error.message.split("\n");
    assert.equal(first, "Cannot start:");
    assert.deepEqual(
      lines,
      error.violations.map(({ message }) => `  ${message}`),
    );
    return lines.map((line) => line.trim());
  }
  throw new Error("The settings were accepted");
}

const LISTEN =
  "MESHCA_LISTEN: must be HOST:PORT, for example 127.0.0.1:8500, with port 0 for a free one";
const ADVERTISE =
  "MESHCA_ADVERTISE: must be HOST or HOST:PORT that others reach this replica by, with IPv6 in brackets, and not 0.0.0.0 or [::]";
const UNLISTED = "is not a setting; docs/configuration.md lists all settings";
const STALENESS = "MESHCA_MAX_STALENESS: must be a duration from 1s to 24h, for example 5m";

describe("readSettings()", () => {
  it("leaves the variables of the agent to the agent", () => {
    assert.deepEqual(read({ MESHCA_AGENT_LISTEN: "x", MESHCA_AGENT_ZZZ: "1" }), read({}));
    assert.deepEqual(read({ MESHCA_HOOK_SERVICE: "web" }), read({}));
  });

  it("readSettings() reads IPv6 hosts that auth methods may contact in the spelling of URLs", () => {
    const { jwksHosts, jwksPrivateHosts } = read({
      MESHCA_JWKS_HOSTS: "[2001:DB8:0::1], issuer.example:8443",
      MESHCA_JWKS_PRIVATE_HOSTS: "[fd00:0:0:0::a]:6443,10.96.0.1:443",
    });
    assert.deepEqual(
      [jwksHosts, jwksPrivateHosts],
      [
        ["[2001:db8::1]", "issuer.example:8443"],
        ["[fd00::a]:6443", "10.96.0.1:443"],
      ],
    );
    for (const entry of [
      "fd00::1",
      "[fd00::1",
      "[10.0.0.1]",
      "[::1]6443",
      "[fd00::1%eth0]",
      "[:::1]",
      "[::1]:x",
      "https://[::1]",
    ])
      assert.throws(
        () => read({ MESHCA_JWKS_HOSTS: entry }),
        /MESHCA_JWKS_HOSTS\.0: must be HOST or HOST:PORT/,
        entry,
      );
  });

  it("readSettings() has a default for everything", () => {
    assert.deepEqual(read({ PATH: "/bin" }), {
      listen: { host: "127.0.0.1", port: 8500 },
      advertised: null,
      tls: null,
      plainHttp: null,
      dataDir: ".meshca",
      store: { kind: "sqlite", path: ".meshca/meshca.db" },
      kek: null,
      kekVault: null,
      vaultAllow: { hosts: [], ranges: [] },
      secretDirs: ["/var/run/secrets/kubernetes.io/serviceaccount"],
      namedFiles: [],
      acl: "off",
      managementToken: null,
      jwksHosts: [],
      jwksPrivateHosts: [],
      source: null,
      maxStalenessMs: 300_000,
      maxChainLength: 7,
      maxClockSkewMs: 30_000,
      datacenter: "dc1",
      primaryDatacenter: null,
      primary: null,
      datacenters: new Map(),
      logLevel: "info",
      connectEnabled: true,
      hosts: null,
      limits: {},
      audit: null,
      auditFailure: "stop-changes",
      bootstrap: null,
      ignored: [],
      worker: null,
    });
  });

  const accepted: readonly (readonly [string, string, (settings: Settings) => unknown, unknown])[] =
    [
      ["MESHCA_LISTEN", "127.0.0.1:0", ({ listen }) => listen, { host: "127.0.0.1", port: 0 }],
      [
        "MESHCA_LISTEN",
        "localhost:65535",
        ({ listen }) => listen,
        { host: "localhost", port: 65_535 },
      ],
      ["MESHCA_LISTEN", "[::1]:8500", ({ listen }) => listen, { host: "::1", port: 8500 }],
      [
        "MESHCA_ADVERTISE",
        "CA-1.example.com:8500",
        ({ advertised }) => advertised,
        { host: "ca-1.example.com", port: 8500 },
      ],
      [
        "MESHCA_ADVERTISE",
        "10.0.0.1",
        ({ advertised }) => advertised,
        { host: "10.0.0.1", port: null },
      ],
      [
        "MESHCA_ADVERTISE",
        "[FD00::1]",
        ({ advertised }) => advertised,
        { host: "fd00::1", port: null },
      ],
      [
        "MESHCA_ADVERTISE",
        "[fd00::1]:1",
        ({ advertised }) => advertised,
        { host: "fd00::1", port: 1 },
      ],
      [
        "MESHCA_DATA_DIR",
        "/srv/ca",
        ({ store }) => store,
        { kind: "sqlite", path: "/srv/ca/meshca.db" },
      ],
      ["MESHCA_STORE", "memory:", ({ store }) => store, { kind: "memory" }],
      [
        "MESHCA_STORE",
        "sqlite:/srv/x.db",
        ({ store }) => store,
        { kind: "sqlite", path: "/srv/x.db" },
      ],
      ["MESHCA_KEK", "a=b", ({ kek }) => kek, "a=b"],
      [
        "MESHCA_IMPORT",
        "sqlite:/srv/x.db",
        ({ source }) => source,
        { kind: "sqlite", path: "/srv/x.db" },
      ],
      ["MESHCA_IMPORT", "backup:b", ({ source }) => source, { kind: "backup", path: "b" }],
      ["MESHCA_MAX_CHAIN_LENGTH", "32", ({ maxChainLength }) => maxChainLength, 32],
      ["MESHCA_MAX_STALENESS", "90s", ({ maxStalenessMs }) => maxStalenessMs, 90_000],
      ["MESHCA_MAX_CLOCK_SKEW", "1s", ({ maxClockSkewMs }) => maxClockSkewMs, 1000],
      ["MESHCA_DATACENTER", "EU-West_1", ({ datacenter }) => datacenter, "eu-west_1"],
      ["MESHCA_LOG_LEVEL", "WARN", ({ logLevel }) => logLevel, "warning"],
      ["MESHCA_LOG_LEVEL", "debug", ({ logLevel }) => logLevel, "debug"],
      [
        "MESHCA_HOSTS",
        "ca.example.com, CA,[fd00::1]",
        ({ hosts }) => hosts,
        ["ca.example.com", "ca", "[fd00::1]"],
      ],
      [
        "MESHCA_SECRET_DIRS",
        "/etc/a, /run/b/,",
        ({ secretDirs }) => secretDirs,
        ["/etc/a", "/run/b/"],
      ],
      [
        "MESHCA_VAULT_ALLOW",
        "127.0.0.1:8200,[0::1]:8201,LOCALHOST,vault:1,10.0.0.0/8",
        ({ vaultAllow }) => [vaultAllow.hosts, vaultAllow.ranges.length],
        [["127.0.0.1:8200", "[::1]:8201", "localhost", "vault:1"], 1],
      ],
      ["MESHCA_AUDIT", "off", ({ audit }) => audit, null],
      ["MESHCA_AUDIT", "stdout", ({ audit }) => audit, { kind: "stdout" }],
      [
        "MESHCA_AUDIT",
        "/var/log/ca.jsonl",
        ({ audit }) => audit,
        { kind: "file", path: "/var/log/ca.jsonl" },
      ],
      ["MESHCA_AUDIT_FAILURE", "stop-all", ({ auditFailure }) => auditFailure, "stop-all"],
      [
        "MESHCA_LIMITS_HTTP_MAX_CONNS_PER_CLIENT",
        "50",
        ({ limits }) => limits,
        { connectionsPerClient: 50 },
      ],
      [
        "MESHCA_LIMITS_HTTP_MAX_CONNS_PER_CLIENT",
        "0",
        ({ limits }) => limits,
        { connectionsPerClient: Number.POSITIVE_INFINITY },
      ],
      [
        "MESHCA_LIMITS_WRONG_TOKENS_PER_CLIENT",
        "7",
        ({ limits }) => limits,
        { wrongTokensPerClient: 7 },
      ],
      ["MESHCA_LIMITS_BODY_TIME", "2s", ({ limits }) => limits, { bodyTimeMs: 2000 }],
      ["MESHCA_LIMITS_MODE", "enforcing", ({ limits }) => limits, { requestMode: "enforcing" }],
      [
        "MESHCA_LIMITS_READ_RATE",
        "-1",
        ({ limits }) => limits,
        { readRate: Number.POSITIVE_INFINITY },
      ],
      ["MESHCA_LIMITS_WRITE_RATE", "0.5", ({ limits }) => limits, { writeRate: 0.5 }],
    ];
  for (const [name, value, of, expected] of accepted)
    it(`readSettings() takes ${name}=${value}`, () =>
      assert.deepEqual(of(read({ [name]: value })), expected));

  const refused: readonly (readonly [string, string, string])[] = [
    ...[
      "8500",
      "127.0.0.1",
      "127.0.0.1:",
      ":8500",
      "127.0.0.1:65536",
      "127.0.0.1:-1",
      "127.0.0.1:x",
      "::1:8500",
      "[::1]",
      "http://127.0.0.1:8500",
    ].map((value) => ["MESHCA_LISTEN", value, LISTEN] as const),
    ...[
      "0.0.0.0",
      "0.0.0.0:8500",
      "[::]:8500",
      "[::ffff:0.0.0.0]:8500",
      "[::0]",
      "fd00::1",
      "[fd00::1",
      "[10.0.0.1]",
      "10.0.0.256",
      "1.2.3",
      "ca:0",
      "ca:65536",
      "ca:",
      "a b",
      "-a",
      "a..b",
      "http://ca",
      "ca/x",
      ":8500",
    ].map((value) => ["MESHCA_ADVERTISE", value, ADVERTISE] as const),
    ["MESHCA_CONFIG", "nowhere.json", 'MESHCA_CONFIG: cannot read "nowhere.json"'],
    ...["sqlite", "sqlite:", "redis:x", "redis://", "memory", "valkey://x", "redis+other://x"].map(
      (value) => ["MESHCA_STORE", value, `MESHCA_STORE: ${STORE_FORMS}`] as const,
    ),
    ["MESHCA_KEK_FILE", "nowhere", 'MESHCA_KEK_FILE: cannot read "nowhere"'],
    ...["redis://x", "sqlite:", "/x.db"].map(
      (value) =>
        ["MESHCA_IMPORT", value, "MESHCA_IMPORT: must be sqlite:PATH or backup:PATH"] as const,
    ),
    ...["2", "33", "7.0", "-7", "seven", "100", "007"].map(
      (value) =>
        [
          "MESHCA_MAX_CHAIN_LENGTH",
          value,
          "MESHCA_MAX_CHAIN_LENGTH: must be a whole number from 3 to 32",
        ] as const,
    ),
    ...["5", "0s", "25h", "-5m"].map(
      (value) => ["MESHCA_MAX_STALENESS", value, STALENESS] as const,
    ),
    [
      "MESHCA_MAX_CLOCK_SKEW",
      "2h",
      "MESHCA_MAX_CLOCK_SKEW: must be a duration from 1s to 1h, for example 30s",
    ],
    ...["a b", "dc.1", "x".repeat(65)].map(
      (value) =>
        [
          "MESHCA_DATACENTER",
          value,
          "MESHCA_DATACENTER: must be 1 to 64 letters, digits, - and _",
        ] as const,
    ),
    ...["trace", "loud"].map(
      (value) =>
        [
          "MESHCA_LOG_LEVEL",
          value,
          "MESHCA_LOG_LEVEL: must be one of debug, info, warn, warning, error",
        ] as const,
    ),
    ...["ca.example.com:8500", "a b", "a,,b", "http://a", "::1"].map(
      (value) =>
        [
          "MESHCA_HOSTS",
          value,
          "MESHCA_HOSTS: must be names or addresses, separated by commas, without ports, and IPv6 in brackets",
        ] as const,
    ),
    ...["secrets", "/", "./a", "/ok,relative", "/.", "/..", "/a/../..", "//"].map(
      (value) =>
        [
          "MESHCA_SECRET_DIRS",
          value,
          "MESHCA_SECRET_DIRS: must be absolute paths of folders (/etc/meshca/secrets), without . and .., separated by commas",
        ] as const,
    ),
    ...["/proc", "/ok,//sys/x", "/dev/shm"].map(
      (value) =>
        [
          "MESHCA_SECRET_DIRS",
          value,
          "MESHCA_SECRET_DIRS: must not include folders below /proc, /sys and /dev: no file of the kernel is read",
        ] as const,
    ),
    ...["127.0.0.1:x", "256.0.0.1:1", "[::1", "[::1]:x"].map(
      (value) =>
        [
          "MESHCA_VAULT_ALLOW",
          value,
          "MESHCA_VAULT_ALLOW: must be HOST, HOST:PORT, ADDRESS, ADDRESS:PORT or ADDRESS/BITS, separated by commas",
        ] as const,
    ),
    [
      "MESHCA_AUDIT_FAILURE",
      "stop",
      "MESHCA_AUDIT_FAILURE: must be one of stop-changes, stop-all, go-on",
    ],
    [
      "MESHCA_LIMITS_WATCHERS",
      "0",
      "MESHCA_LIMITS_WATCHERS: must be a whole number from 1 to 1000000",
    ],
    [
      "MESHCA_LIMITS_WATCHERS",
      "1e3",
      "MESHCA_LIMITS_WATCHERS: must be a whole number from 1 to 1000000",
    ],
    [
      "MESHCA_LIMITS_BODY_TIME",
      "1ms",
      "MESHCA_LIMITS_BODY_TIME: must be a duration from 100ms to 10m, for example 10s",
    ],
    [
      "MESHCA_LIMITS_READ_RATE",
      "-2",
      "MESHCA_LIMITS_READ_RATE: must be a number of requests a second, or -1 for unlimited",
    ],
    [
      "MESHCA_LIMITS_WATCHER",
      "1",
      "MESHCA_LIMITS_WATCHER: is not a setting; did you mean MESHCA_LIMITS_WATCHERS?",
    ],
    ["MESHCA_LISTN", "x", "MESHCA_LISTN: is not a setting; did you mean MESHCA_LISTEN?"],
    ["MESHCA_DATADIR", "x", "MESHCA_DATADIR: is not a setting; did you mean MESHCA_DATA_DIR?"],
    ["MESHCA_LOGLEVEL", "x", "MESHCA_LOGLEVEL: is not a setting; did you mean MESHCA_LOG_LEVEL?"],
    ["MESHCA_COMPLETELY_DIFFERENT", "x", `MESHCA_COMPLETELY_DIFFERENT: ${UNLISTED}`],
  ];
  for (const [name, value, says] of refused)
    it(`readSettings() refuses ${name}=${JSON.stringify(value)}`, () => {
      const found = faults({ [name]: value });
      assert.deepEqual(found, [says]);
    });

  it("readSettings() treats any empty variable as not set", () => {
    const usual = read({});
    assert.ok(SETTING_NAMES.length > 40);
    for (const name of SETTING_NAMES) assert.deepEqual(read({ [name]: "" }), usual, name);
    assert.deepEqual(read({ MESHCA_NOT_A_SETTING: "" }), usual);
    assert.deepEqual(read(Object.fromEntries(SETTING_NAMES.map((name) => [name, ""]))), usual);
    const file = { datacenter: "dc7", tls: "self" };
    const both = read(
      {
        MESHCA_CONFIG: "meshca.json",
        MESHCA_DATACENTER: "",
        MESHCA_TLS_CERT_FILE: "",
        MESHCA_TLS: "",
      },
      file,
    );
    assert.deepEqual(
      [both.datacenter, both.tls?.source.kind],
      ["dc7", "self"],
      "the file counts then",
    );
  });

  const token = { MESHCA_INITIAL_MANAGEMENT_TOKEN: "0123456789abcdef" };
  const single: readonly (readonly [
    name: string,
    environment: Record<string, string>,
    fault: string,
    file?: unknown,
  ])[] = [
    ["a wrong address to listen on", { MESHCA_LISTEN: "0.0.0.0:99999", ...token }, LISTEN],
    ["a wrong ACL", { MESHCA_ACL: "on", ...token }, "MESHCA_ACL: must be off, allow or deny"],
    [
      "a misspelt ACL",
      { MESHCA_ACLS: "deny", ...token },
      "MESHCA_ACLS: is not a setting; did you mean MESHCA_ACL?",
    ],
    [
      "a misspelt key-encryption key",
      { MESHCA_STORE: "redis://h", MESHCA_KEKS: "a:b" },
      "MESHCA_KEKS: is not a setting; did you mean MESHCA_KEK?",
    ],
    [
      "a misspelt certificate",
      { MESHCA_LISTEN: "0.0.0.0:1", MESHCA_TLS_CERTFILE: "/c", MESHCA_TLS_KEY_FILE: "/k" },
      "MESHCA_TLS_CERTFILE: is not a setting; did you mean MESHCA_TLS_CERT_FILE?",
    ],
    [
      "a wrong version of TLS",
      {
        MESHCA_LISTEN: "0.0.0.0:1",
        MESHCA_TLS: "self",
        MESHCA_TLS_MIN_VERSION: "1.1",
        MESHCA_TLS_NAMES: "a",
      },
      "MESHCA_TLS_MIN_VERSION: must be 1.2 or 1.3",
    ],
    [
      "a file that is not there",
      { MESHCA_CONFIG: "nowhere", ...token },
      'MESHCA_CONFIG: cannot read "nowhere"',
    ],
    [
      "a fault in the file, which turns access control on",
      { MESHCA_CONFIG: "c", ...token },
      "datacentre: is not a key of Consul's agent configuration; did you mean datacenter?",
      { datacentre: "x", acl: { enabled: true } },
    ],
    [
      "a fault in the file, which has a certificate",
      { MESHCA_CONFIG: "c", MESHCA_TLS_NAMES: "a" },
      "datacentre: is not a key of Consul's agent configuration; did you mean datacenter?",
      { datacentre: "x", tls: "self" },
    ],
    [
      "a file of keys that is not there",
      { MESHCA_STORE: "redis://h", MESHCA_KEK_FILE: "no" },
      'MESHCA_KEK_FILE: cannot read "no"',
    ],
  ];
  for (const [name, environment, fault, file] of single)
    it(`readSettings() names one fault for ${name}, and no consequential fault`, () =>
      assert.deepEqual(faults(environment, file), [fault]));

  it("readSettings() gives the reason why a file cannot be read", () => {
    const failing = (code: string) => () => {
      throw Object.assign(new Error(`${code}: secret details`), { code });
    };
    const fault = (code: string, environment: Record<string, string>) => {
      try {
        readSettings(environment, failing(code), []);
      } catch (error) {
        return error instanceof ConfigError ? error.violations.map(({ message }) => message) : [];
      }
      return [];
    };
    assert.deepEqual(fault("ENOENT", { MESHCA_KEK_FILE: "/a" }), [
      'MESHCA_KEK_FILE: cannot read "/a": there is no such file',
    ]);
    assert.deepEqual(fault("EACCES", { MESHCA_CONFIG: "/a" }), [
      'MESHCA_CONFIG: cannot read "/a": permission denied',
    ]);
    assert.deepEqual(fault("EISDIR", { MESHCA_STORE: "rediss://h?ca=/a", MESHCA_KEK: "k" }), [
      'MESHCA_STORE: ca: cannot read "/a": it is a folder',
    ]);
    assert.deepEqual(fault("EIO", { MESHCA_KEK_VAULT: "/a" }), [
      'MESHCA_KEK_VAULT: cannot read "/a": EIO',
    ]);
  });

  it("readSettings() names every fault at once, of the environment and of the file", () => {
    const environment = {
      MESHCA_LISTEN: "x",
      MESHCA_STORE: "y",
      MESHCA_LOG_LEVEL: "z",
      MESHCA_DATACENTR: "a",
      MESHCA_CONFIG: "meshca.json",
    };
    const found = faults(environment, { datacentre: "dc1", connect: { enable: true } });
    assert.deepEqual(
      new Set(found.map((fault) => fault.split(":")[0])),
      new Set([
        "MESHCA_DATACENTR",
        "MESHCA_LISTEN",
        "MESHCA_LOG_LEVEL",
        "MESHCA_STORE",
        "connect.enable",
        "datacentre",
      ]),
    );
  });

  it("readSettings() lists the files that settings name, with the files next to them", () => {
    const environment = {
      MESHCA_CONFIG: "/c.json",
      MESHCA_KEK_FILE: "/kek",
      MESHCA_KEK_VAULT: "/transit.json",
      MESHCA_TLS_CERT_FILE: "/cert",
      MESHCA_TLS_KEY_FILE: "/key",
      MESHCA_TLS_CLIENT_CA_FILE: "self",
      MESHCA_AUDIT: "/audit",
      MESHCA_STORE: "rediss://h?ca=/redis-ca&key=/redis-key&cert=/redis-cert",
      MESHCA_IMPORT: "sqlite:/old/ca.db",
    };
    const transit = {
      Address: "https://v",
      AuthMethod: { Params: { secret_id_file_path: "/transit-secret", role_id: "r" } },
    };
    const { namedFiles } = readSettings(
      environment,
      (path) => (path === "/transit.json" ? JSON.stringify(transit) : "{}"),
      [],
    );
    const named = new Set(namedFiles.map(({ setting, path }) => `${setting} ${path}`));
    for (const expected of [
      "MESHCA_CONFIG /c.json",
      "MESHCA_KEK_FILE /kek",
      "MESHCA_KEK_VAULT /transit.json",
      "MESHCA_KEK_VAULT /transit-secret",
      "MESHCA_TLS_CERT_FILE /cert",
      "MESHCA_TLS_KEY_FILE /key",
      "MESHCA_AUDIT /audit",
      "MESHCA_STORE /redis-ca",
      "MESHCA_STORE /redis-key",
      "MESHCA_STORE /redis-cert",
      "MESHCA_IMPORT /old/ca.db",
      "MESHCA_IMPORT /old/ca.db-wal",
      "MESHCA_IMPORT /old/kek",
    ])
      assert.ok(named.has(expected), expected);
    assert.ok(!namedFiles.some(({ path }) => path === "self" || path === "r"));
    const sqlite = read({ MESHCA_STORE: "sqlite:/db/x", MESHCA_AUDIT: "stdout" }).namedFiles.map(
      ({ path }) => path,
    );
    assert.deepEqual(sqlite, [
      "/db/x",
      "/db/x-wal",
      "/db/x-shm",
      "/db/x-journal",
      "/db/x-workers",
      "/db/x-workers-journal",
    ]);
  });

  it("readSettings() never repeats a value, which may be a secret", () => {
    const secret = "hunter2hunter2";
    for (const name of ["MESHCA_LISTEN", "MESHCA_STORE", "MESHCA_DATACENTER", "MESHCA_LOG_LEVEL"])
      assert.ok(
        !faults({ [name]: `${secret} ` })
          .join()
          .includes(secret),
        name,
      );
  });

  it("readSettings() requires an external key-encryption key with Redis, as text or in a file, and not both", () => {
    const MESHCA_STORE = "redis://127.0.0.1";
    const [fault = ""] = faults({ MESHCA_STORE });
    assert.match(fault, /^MESHCA_KEK: is required with Redis, the same for all replicas, /);
    assert.equal(read({ MESHCA_STORE, MESHCA_KEK: "a:b" }).kek, "a:b");
    assert.equal(read({ MESHCA_STORE, MESHCA_KEK_FILE: "kek" }, "c:d").kek, "c:d");
    assert.deepEqual(faults({ MESHCA_KEK: "a:b", MESHCA_KEK_FILE: "kek" }, "c:d"), [
      "MESHCA_KEK_FILE: is given together with MESHCA_KEK; give one of them",
    ]);
  });

  it("readSettings() reads the URL of the store from the file of MESHCA_STORE_FILE, which wins over the configuration file", () => {
    const MESHCA_STORE_FILE = "store";
    const files: Record<string, string> = {
      store: "redis://:s3cret@127.0.0.1:7/3\n",
      "c.json": '{"store": "memory:"}',
      wrong: "redis:x",
      empty: "\n",
    };
    const settingsOf = (environment: Readonly<Record<string, string>>) =>
      readSettings({ MESHCA_KEK: "a:b", ...environment }, (path) => files[path] ?? "", []);
    for (const more of [{}, { MESHCA_CONFIG: "c.json" }]) {
      const { store, namedFiles } = settingsOf({ MESHCA_STORE_FILE, ...more });
      assert.deepEqual(store.kind === "redis" && [store.password, store.db], ["s3cret", 3]);
      assert.ok(
        namedFiles.some(({ setting, path }) => `${setting} ${path}` === `MESHCA_STORE_FILE store`),
      );
    }
    const faultOf = (environment: Readonly<Record<string, string>>) => {
      try {
        return String(settingsOf(environment).store.kind);
      } catch (error) {
        return error instanceof ConfigError
          ? error.violations.map(({ message }) => message).join("; ")
          : String(error);
      }
    };
    assert.equal(
      faultOf({ MESHCA_STORE_FILE, MESHCA_STORE: "memory:" }),
      "MESHCA_STORE_FILE: is given together with MESHCA_STORE; give one of them",
    );
    for (const name of ["wrong", "empty"])
      assert.equal(faultOf({ MESHCA_STORE_FILE: name }), `MESHCA_STORE_FILE: ${STORE_FORMS}`);
    assert.deepEqual(faults({ MESHCA_STORE_FILE: "no" }), ['MESHCA_STORE_FILE: cannot read "no"']);
  });

  it("readSettings() takes the store from the file if the environment names none", () => {
    const file = { store: "redis://127.0.0.1:7/3" };
    const { store } = read({ MESHCA_CONFIG: "meshca.json", MESHCA_KEK: "a:b" }, file);
    assert.ok(store.kind === "redis" && store.db === 3 && store.nodes[0]?.port === 7);
    assert.deepEqual(read({ MESHCA_CONFIG: "meshca.json", MESHCA_STORE: "memory:" }, file).store, {
      kind: "memory",
    });
  });

  it("readSettings() prefers the environment to the file, and the file to the default", () => {
    const file = {
      datacenter: "from-file",
      data_dir: "/from/file",
      log_level: "ERR",
      client_addr: "127.0.0.2",
      ports: { http: 1234 },
    };
    const both = read(
      { MESHCA_CONFIG: "meshca.json", MESHCA_DATACENTER: "from-env", MESHCA_LISTEN: "127.0.0.1:9" },
      file,
    );
    assert.deepEqual(
      [both.datacenter, both.dataDir, both.logLevel, both.listen],
      ["from-env", "/from/file", "error", { host: "127.0.0.1", port: 9 }],
    );
    const fromFile = read({ MESHCA_CONFIG: "meshca.json" }, file);
    assert.deepEqual(
      [fromFile.datacenter, fromFile.listen],
      ["from-file", { host: "127.0.0.2", port: 1234 }],
    );
    assert.deepEqual(fromFile.store, { kind: "sqlite", path: "/from/file/meshca.db" });
  });

  it("readSettings() applies the same rules to values of the file", () => {
    assert.deepEqual(faults({ MESHCA_CONFIG: "meshca.json" }, { datacenter: "a b" }), [
      "MESHCA_DATACENTER: must be 1 to 64 letters, digits, - and _",
    ]);
  });
});

describe("the form of the file", () => {
  const messages = (path: string, text: string): readonly string[] => {
    try {
      readSettings({ MESHCA_CONFIG: path }, () => text, []);
      return [];
    } catch (error) {
      assert.ok(error instanceof ConfigError, String(error));
      return error.violations.map(({ message }) => message);
    }
  };

  it("readSettings() reads HCL if the file's name ends in .hcl, and JSON otherwise", () => {
    const hcl = 'datacenter = "dc2"';
    assert.equal(readSettings({ MESHCA_CONFIG: "meshca.hcl" }, () => hcl, []).datacenter, "dc2");
    assert.deepEqual(messages("meshca.json", hcl), [
      'MESHCA_CONFIG: "meshca.json": invalid JSON; a file in HCL has a name that ends in .hcl',
    ]);
    assert.deepEqual(messages("meshca.hcl", `${hcl}\n}`), [
      'MESHCA_CONFIG: "meshca.hcl": invalid HCL: line 2, column 1: found "}", expected a name',
    ]);
  });
});

describe("limits in the file", () => {
  it("readSettings() reads Consul's limits and ours from the file, and lets the environment win", () => {
    const limits = {
      http_max_conns_per_client: 7,
      signing_queue: 64,
      body_time: "3s",
      rpc_rate: 100,
      request_limits: { mode: "permissive", read_rate: 10, write_rate: -1 },
    };
    const read = (environment: Record<string, string>) =>
      readSettings({ ...environment, MESHCA_CONFIG: "c" }, () => JSON.stringify({ limits }), []);
    assert.deepEqual(read({ MESHCA_LIMITS_SIGNING_QUEUE: "32" }).limits, {
      connectionsPerClient: 7,
      maxPendingLeaves: 32,
      bodyTimeMs: 3000,
      requestMode: "permissive",
      readRate: 10,
      writeRate: Number.POSITIVE_INFINITY,
    });
    assert.deepEqual(read({}).ignored, ["limits.rpc_rate"]);
  });

  it("readSettings() names each fault of the limits in the file", () => {
    const found = (limits: unknown) => faults({ MESHCA_CONFIG: "meshca.json" }, { limits });
    assert.deepEqual(found({ watcher: 1 }), [
      "limits.watcher: is not a limit; did you mean watchers?",
    ]);
    assert.deepEqual(found({ watchers: true }), ["limits.watchers: must be a number or text"]);
    assert.deepEqual(found({ request_limits: [] }), ["limits.request_limits: must be an object"]);
    assert.deepEqual(found({ request_limits: { rate: 1 } }), [
      "limits.request_limits.rate: is not a limit; known are mode, read_rate, write_rate",
    ]);
    assert.deepEqual(found({ watchers: -1 }), [
      "MESHCA_LIMITS_WATCHERS: must be a whole number from 1 to 1000000",
    ]);
    assert.deepEqual(found([]), ["limits: must be an object"]);
  });
});

describe("listenRefusal()", () => {
  const tls = { host: "10.0.0.1", tls: true, plainHttp: null, accessControl: true };

  it("listenRefusal() allows everything on loopback", () =>
    assert.equal(
      listenRefusal({ host: "::1", tls: false, plainHttp: null, accessControl: false }),
      null,
    ));

  it("listenRefusal() allows TLS with access control on any address, and plain HTTP with behind-proxy", () => {
    assert.equal(listenRefusal(tls), null);
    assert.equal(listenRefusal({ ...tls, tls: false, plainHttp: "behind-proxy" }), null);
  });

  it("listenRefusal() names what is missing for an address beyond loopback", () => {
    assert.match(
      listenRefusal({ ...tls, accessControl: false }) ?? "",
      /^cannot listen on "10\.0\.0\.1": without access control/,
    );
    assert.match(
      listenRefusal({ ...tls, tls: false }) ?? "",
      /^cannot serve plain HTTP on "10\.0\.0\.1": set MESHCA_TLS_CERT_FILE/,
    );
  });
});

describe("isLoopback()", () => {
  it("isLoopback() is true for loopback addresses only", () => {
    for (const host of ["localhost", "::1", "127.0.0.1", "127.255.255.255"])
      assert.ok(isLoopback(host), host);
    for (const host of [
      "0.0.0.0",
      "::",
      "10.0.0.1",
      "example.com",
      "127.0.0.1.example.com",
      "localhost.example.com",
      "128.0.0.1",
      "",
    ])
      assert.ok(!isLoopback(host), host);
  });
});
