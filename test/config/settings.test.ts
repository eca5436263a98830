/**
 * Settings: where each comes from, which values are refused, and that every fault is named at once.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CONSUL_CONFIG_NAMES } from "../../providers/consul/config.ts";
import { isLoopback, readSettings, type Settings } from "../../src/config/settings.ts";
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
function faults(environment: Readonly<Record<string, string | undefined>>, file?: unknown): string[] {
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

const LISTEN = "MESHCA_LISTEN: must be HOST:PORT, for example 127.0.0.1:8500, with port 0 for a free one";
const KNOWN =
  "known are MESHCA_LISTEN, MESHCA_DATA_DIR, MESHCA_CONFIG, MESHCA_STORE, MESHCA_KEK, MESHCA_KEK_FILE, MESHCA_IMPORT, MESHCA_MAX_STALENESS, MESHCA_MAX_CLOCK_SKEW, MESHCA_DATACENTER, MESHCA_LOG_LEVEL";
const STALENESS = "MESHCA_MAX_STALENESS: must be a duration from 1s to 24h, for example 5m";

describe("readSettings()", () => {
  it("readSettings() has a default for everything", () => {
    assert.deepEqual(read({ PATH: "/bin" }), {
      listen: { host: "127.0.0.1", port: 8500 },
      dataDir: ".meshca",
      store: { kind: "sqlite", path: ".meshca/meshca.db" },
      kek: null,
      source: null,
      maxStalenessMs: 300_000,
      maxClockSkewMs: 30_000,
      datacenter: "dc1",
      logLevel: "info",
      connectEnabled: true,
      bootstrap: null,
      ignored: [],
      worker: null,
    });
  });

  const accepted: readonly (readonly [string, string, (settings: Settings) => unknown, unknown])[] = [
    ["MESHCA_LISTEN", "127.0.0.1:0", ({ listen }) => listen, { host: "127.0.0.1", port: 0 }],
    ["MESHCA_LISTEN", "localhost:65535", ({ listen }) => listen, { host: "localhost", port: 65_535 }],
    ["MESHCA_LISTEN", "[::1]:8500", ({ listen }) => listen, { host: "::1", port: 8500 }],
    ["MESHCA_DATA_DIR", "/srv/ca", ({ store }) => store, { kind: "sqlite", path: "/srv/ca/meshca.db" }],
    ["MESHCA_STORE", "memory:", ({ store }) => store, { kind: "memory" }],
    ["MESHCA_STORE", "sqlite:/srv/x.db", ({ store }) => store, { kind: "sqlite", path: "/srv/x.db" }],
    ["MESHCA_KEK", "a=b", ({ kek }) => kek, "a=b"],
    ["MESHCA_IMPORT", "sqlite:/srv/x.db", ({ source }) => source, { kind: "sqlite", path: "/srv/x.db" }],
    ["MESHCA_IMPORT", "backup:b", ({ source }) => source, { kind: "backup", path: "b" }],
    ["MESHCA_MAX_STALENESS", "90s", ({ maxStalenessMs }) => maxStalenessMs, 90_000],
    ["MESHCA_MAX_CLOCK_SKEW", "1s", ({ maxClockSkewMs }) => maxClockSkewMs, 1000],
    ["MESHCA_DATACENTER", "EU-West_1", ({ datacenter }) => datacenter, "eu-west_1"],
    ["MESHCA_LOG_LEVEL", "WARN", ({ logLevel }) => logLevel, "warning"],
    ["MESHCA_LOG_LEVEL", "debug", ({ logLevel }) => logLevel, "debug"],
  ];
  for (const [name, value, of, expected] of accepted)
    it(`readSettings() takes ${name}=${value}`, () => assert.deepEqual(of(read({ [name]: value })), expected));

  const refused: readonly (readonly [string, string, string])[] = [
    ...[
      "",
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
    ["MESHCA_DATA_DIR", "", "MESHCA_DATA_DIR: must name a folder"],
    ["MESHCA_CONFIG", "", "MESHCA_CONFIG: must name a file"],
    ["MESHCA_CONFIG", "nowhere.json", 'MESHCA_CONFIG: cannot read "nowhere.json"'],
    ...["", "sqlite", "sqlite:", "redis:x", "redis://", "memory", "valkey://x", "redis+other://x"].map(
      (value) => ["MESHCA_STORE", value, `MESHCA_STORE: ${STORE_FORMS}`] as const,
    ),
    ["MESHCA_KEK_FILE", "", "MESHCA_KEK_FILE: must name a file"],
    ["MESHCA_KEK_FILE", "nowhere", 'MESHCA_KEK_FILE: cannot read "nowhere"'],
    ...["", "redis://x", "sqlite:", "/x.db"].map(
      (value) => ["MESHCA_IMPORT", value, "MESHCA_IMPORT: must be sqlite:PATH or backup:PATH"] as const,
    ),
    ...["", "5", "0s", "25h", "-5m"].map((value) => ["MESHCA_MAX_STALENESS", value, STALENESS] as const),
    ["MESHCA_MAX_CLOCK_SKEW", "2h", "MESHCA_MAX_CLOCK_SKEW: must be a duration from 1s to 1h, for example 30s"],
    ...["", "a b", "dc.1", "x".repeat(65)].map(
      (value) => ["MESHCA_DATACENTER", value, "MESHCA_DATACENTER: must be letters, digits, - and _"] as const,
    ),
    ...["", "trace", "loud"].map(
      (value) => ["MESHCA_LOG_LEVEL", value, "MESHCA_LOG_LEVEL: must be one of debug, info, warn, warning, error"] as const,
    ),
    ["MESHCA_LISTN", "x", "MESHCA_LISTN: is not a setting; did you mean MESHCA_LISTEN?"],
    ["MESHCA_DATADIR", "x", "MESHCA_DATADIR: is not a setting; did you mean MESHCA_DATA_DIR?"],
    ["MESHCA_LOGLEVEL", "x", "MESHCA_LOGLEVEL: is not a setting; did you mean MESHCA_LOG_LEVEL?"],
    ["MESHCA_COMPLETELY_DIFFERENT", "x", `MESHCA_COMPLETELY_DIFFERENT: is not a setting; ${KNOWN}`],
  ];
  for (const [name, value, says] of refused)
    it(`readSettings() refuses ${name}=${JSON.stringify(value)}`, () => assert.deepEqual(faults({ [name]: value }), [says]));

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
      new Set(["MESHCA_DATACENTR", "MESHCA_LISTEN", "MESHCA_LOG_LEVEL", "MESHCA_STORE", "connect.enable", "datacentre"]),
    );
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

  it("readSettings() asks for a key-encryption key from outside with Redis, as text or in a file, and not both", () => {
    const MESHCA_STORE = "redis://127.0.0.1";
    const [fault = ""] = faults({ MESHCA_STORE });
    assert.match(fault, /^MESHCA_KEK: must be given with Redis, the same to all replicas: /);
    assert.equal(read({ MESHCA_STORE, MESHCA_KEK: "a:b" }).kek, "a:b");
    assert.equal(read({ MESHCA_STORE, MESHCA_KEK_FILE: "kek" }, "c:d").kek, "c:d");
    assert.deepEqual(faults({ MESHCA_KEK: "a:b", MESHCA_KEK_FILE: "kek" }, "c:d"), [
      "MESHCA_KEK_FILE: is given together with MESHCA_KEK; give one of them",
    ]);
  });

  it("readSettings() takes the store from the file where the environment names none", () => {
    const file = { store: "redis://127.0.0.1:7/3" };
    const { store } = read({ MESHCA_CONFIG: "meshca.json", MESHCA_KEK: "a:b" }, file);
    assert.ok(store.kind === "redis" && store.db === 3 && store.nodes[0]?.port === 7);
    assert.deepEqual(read({ MESHCA_CONFIG: "meshca.json", MESHCA_STORE: "memory:" }, file).store, { kind: "memory" });
  });

  it("readSettings() prefers the environment to the file, and the file to the default", () => {
    const file = { datacenter: "from-file", data_dir: "/from/file", log_level: "ERR", client_addr: "127.0.0.2", ports: { http: 1234 } };
    const both = read({ MESHCA_CONFIG: "meshca.json", MESHCA_DATACENTER: "from-env", MESHCA_LISTEN: "127.0.0.1:9" }, file);
    assert.deepEqual(
      [both.datacenter, both.dataDir, both.logLevel, both.listen],
      ["from-env", "/from/file", "error", { host: "127.0.0.1", port: 9 }],
    );
    const fromFile = read({ MESHCA_CONFIG: "meshca.json" }, file);
    assert.deepEqual([fromFile.datacenter, fromFile.listen], ["from-file", { host: "127.0.0.2", port: 1234 }]);
    assert.deepEqual(fromFile.store, { kind: "sqlite", path: "/from/file/meshca.db" });
  });

  it("readSettings() holds values of the file to the same rules", () => {
    assert.deepEqual(faults({ MESHCA_CONFIG: "meshca.json" }, { datacenter: "a b" }), [
      "MESHCA_DATACENTER: must be letters, digits, - and _",
    ]);
  });
});

describe("isLoopback()", () => {
  it("isLoopback() knows loopback from everything else", () => {
    for (const host of ["localhost", "::1", "127.0.0.1", "127.255.255.255"]) assert.ok(isLoopback(host), host);
    for (const host of ["0.0.0.0", "::", "10.0.0.1", "example.com", "127.0.0.1.example.com", "localhost.example.com", "128.0.0.1", ""])
      assert.ok(!isLoopback(host), host);
  });
});
