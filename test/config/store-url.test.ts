/**
 * The URL of a store: every form, every fault, and that faults repeat nothing of it.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { readStoreUrl, STORE_FORMS } from "../../src/config/store-url.ts";

const PEM = "-----BEGIN X-----";
const read = (text: string) =>
  readStoreUrl(text, (path) => {
    if (path.startsWith("/no")) throw new Error("gone");
    return `${PEM} ${path}`;
  });

const DEFAULTS = {
  kind: "redis",
  mode: "single",
  nodes: [{ host: "127.0.0.1", port: 6379 }],
  master: null,
  username: null,
  password: null,
  sentinelUsername: null,
  sentinelPassword: null,
  db: 0,
  tls: null,
  prefix: "meshca",
  datacenterPrefix: null,
  connectTimeoutMs: 5000,
  commandTimeoutMs: 2000,
  waitReplicas: 0,
};

describe("readStoreUrl()", () => {
  const accepted: readonly (readonly [string, object])[] = [
    ["redis://127.0.0.1", {}],
    ["redis://127.0.0.1:6380/7", { nodes: [{ host: "127.0.0.1", port: 6380 }], db: 7 }],
    ["redis://[::1]:1/", { nodes: [{ host: "::1", port: 1 }] }],
    ["redis://:p%40ss@127.0.0.1", { password: "p@ss" }],
    ["redis://ca:a:b@127.0.0.1", { username: "ca", password: "a:b" }],
    [
      "redis://127.0.0.1?prefix=prod.mesh&connect_timeout=1s&command_timeout=500ms&wait=2",
      { prefix: "prod.mesh", connectTimeoutMs: 1000, commandTimeoutMs: 500, waitReplicas: 2 },
    ],
    ["rediss://127.0.0.1", { tls: { ca: null, cert: null, key: null } }],
    [
      "rediss://127.0.0.1?ca=/a&cert=/b&key=/c",
      { tls: { ca: `${PEM} /a`, cert: `${PEM} /b`, key: `${PEM} /c` } },
    ],
    [
      "redis+sentinel://u:p@a:1,b/mesh/2?sentinel_user=s&sentinel_password=t",
      {
        mode: "sentinel",
        nodes: [
          { host: "a", port: 1 },
          { host: "b", port: 26379 },
        ],
        master: "mesh",
        db: 2,
        username: "u",
        password: "p",
        sentinelUsername: "s",
        sentinelPassword: "t",
      },
    ],
    [
      "rediss+cluster://a,b:7",
      {
        mode: "cluster",
        nodes: [
          { host: "a", port: 6379 },
          { host: "b", port: 7 },
        ],
        tls: { ca: null, cert: null, key: null },
      },
    ],
  ];
  for (const [text, differs] of accepted)
    it(`readStoreUrl() takes ${text}`, () =>
      assert.deepEqual(read(text), { ...DEFAULTS, ...differs }));

  it("readStoreUrl() has the datacenter in the prefix, unless the URL has a prefix", () => {
    for (const [text, prefix, datacenterPrefix] of [
      ["redis://127.0.0.1", "meshca", "meshca:dc2"],
      ["redis+cluster://127.0.0.1", "meshca", "meshca:dc2"],
      ["redis://127.0.0.1?prefix=meshca", "meshca", null],
      ["redis://127.0.0.1?prefix=mesh:dc9", "mesh:dc9", null],
    ] as const) {
      const url = readStoreUrl(text, () => "", "dc2");
      assert.ok("kind" in url && url.kind === "redis");
      assert.deepEqual([url.prefix, url.datacenterPrefix], [prefix, datacenterPrefix]);
    }
  });

  it("readStoreUrl() accepts the stores other than Redis", () => {
    assert.deepEqual(read("memory:"), { kind: "memory" });
    assert.deepEqual(read("sqlite:a b.db"), { kind: "sqlite", path: "a b.db" });
  });

  const refused: readonly (readonly [string, ...string[]])[] = [
    ["redis://", STORE_FORMS],
    ["redis://a:0", "each host must be HOST or HOST:PORT, with an IPv6 address in brackets"],
    ["redis://::1", "each host must be HOST or HOST:PORT, with an IPv6 address in brackets"],
    ["redis://a,b", "several hosts need redis+sentinel:// or redis+cluster://"],
    ["redis://a/x", "the path must be the number of a database"],
    ["redis://a/1/2", "the path must be the number of a database"],
    [
      "redis+sentinel://a",
      "redis+sentinel:// must name the master that the sentinels know: redis+sentinel://HOST:26379/MASTER",
    ],
    ["redis+cluster://a/1", "a Cluster has no database numbers"],
    ["redis+cluster://a?wait=1", "wait is not supported by a Cluster"],
    ["redis://a?prefixx=1", "an option is unknown; did you mean prefix?"],
    [
      "redis://a?completely=1",
      "an option is unknown; known are prefix, ca, cert, key, connect_timeout, command_timeout, wait, sentinel_user, sentinel_password",
    ],
    ["redis://a?prefix=", "prefix must not be empty"],
    ["redis://a?prefix={x}", "prefix must be 1 to 64 letters, digits, or any of _ . : -"],
    ["redis://a?wait=many", "wait must be a number of replicas, 0 to 9"],
    [
      "redis://a?command_timeout=1ms&connect_timeout=x",
      "connect_timeout must be a duration from 50ms to 1m",
      "command_timeout must be a duration from 50ms to 1m",
    ],
    ["redis://a?ca=/a", "ca, cert and key need rediss://"],
    ["rediss://a?cert=/a", "cert and key belong together"],
    ["rediss://a?ca=/no", 'ca: cannot read "/no"'],
    ["redis://a?sentinel_user=x", "sentinel_user and sentinel_password need redis+sentinel://"],
    ["redis://%zz@a", "user and password must be percent-encoded if they have special characters"],
  ];
  for (const [text, ...faults] of refused)
    it(`readStoreUrl() refuses ${text}`, () => assert.deepEqual(read(text), faults));

  it("readStoreUrl() repeats no password, whatever else is wrong", () => {
    for (const text of [
      "redis://u:hunter2@a:x",
      "redis://u:hunter2@a/x?wait=hunter2",
      "redis+sentinel://hunter2@a?x=hunter2",
      "hunter2",
    ])
      assert.ok(!JSON.stringify(read(text)).includes("hunter2"), text);
  });
});
