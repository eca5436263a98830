/**
 * The settings of a Worker: which values are accepted, and which are refused.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { readWorkerSettings } from "../../src/config/worker.ts";
import { ConfigError } from "../../src/core/errors.ts";

const NEEDED = {
  MESHCA_STORE: "rediss://u:p@redis.example.com:6380",
  MESHCA_KEK: `k:${btoa("k".repeat(32))}`,
  MESHCA_INITIAL_MANAGEMENT_TOKEN: "0123456789abcdef0123456789abcdef",
};

/** Every fault of some bindings, by its field. */
function faults(bindings: Readonly<Record<string, unknown>>): Map<string, string> {
  try {
    readWorkerSettings(bindings, []);
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return new Map(error.violations.map(({ field, message }) => [field, message]));
  }
  return new Map();
}

describe("readWorkerSettings()", () => {
  it("readWorkerSettings() reads bindings by the schema of the environment, denies by default, and reads no others", () => {
    const settings = readWorkerSettings(
      { ...NEEDED, MESHCA_DATACENTER: "DC2", ASSETS: { fetch: () => null }, OTHER: "x" },
      [],
    );
    const { acl, datacenter, maxAgeMs, plainHttp, store, tls } = settings;
    assert.deepEqual(
      [acl, datacenter, maxAgeMs, plainHttp, store.kind, tls],
      ["deny", "dc2", 1000, "behind-proxy", "redis", null],
    );
    assert.equal(readWorkerSettings({ ...NEEDED, MESHCA_MAX_AGE: "0s" }, []).maxAgeMs, 0);
  });

  it("readWorkerSettings() names everything that is missing at once, once each, and how to set it", () => {
    const found = faults({});
    assert.deepEqual(new Set(found.keys()), new Set(Object.keys(NEEDED)));
    for (const [name, message] of found)
      assert.ok(message.endsWith(`wrangler secret put ${name}`), message);
  });

  for (const [name, value, says] of [
    ["MESHCA_ACL", "off", /cannot be off in a Worker/],
    ["MESHCA_STORE", "sqlite:meshca.db", /must be redis:\/\/ or rediss:\/\/ of one server/],
    ["MESHCA_STORE", "redis+cluster://a,b", /of one server/],
    ["MESHCA_STORE", "redis+sentinel://a,b/mesh", /of one server/],
    ["MESHCA_STORE", "rediss://h?ca=ca.pem", /cannot read "ca.pem"/],
    ["MESHCA_STORE_FILE", "store", /put the URL into the secret MESHCA_STORE/],
    ["MESHCA_KEK_FILE", "kek", /put the keys into the secret MESHCA_KEK/],
    ["MESHCA_KEK_VAULT", "transit.json", /put the keys into the secret MESHCA_KEK/],
    ["MESHCA_CONFIG", "meshca.json", /a Worker has no files/],
    ["MESHCA_IMPORT", "backup:x", /a Worker has no files/],
    ["MESHCA_LISTEN", "127.0.0.1:8500", /Cloudflare terminates TLS and owns the address/],
    ["MESHCA_TLS_CERT_FILE", "cert.pem", /Cloudflare terminates TLS/],
    ["MESHCA_LIMITS_READ_RATE", "5", /rate limiting rules/],
    ["MESHCA_AUDIT", "audit.log", /must be off or stdout/],
    ["MESHCA_MAX_AGE", "4s", /from 0s to 3s/],
    ["MESHCA_DATACENTRE", "x", /did you mean MESHCA_DATACENTER/],
    ["MESHCA_DATACENTER", { fetch: () => null }, /not another kind of binding/],
  ] as const)
    it(`readWorkerSettings() refuses ${name} as ${JSON.stringify(value)}, and nothing else`, () => {
      const found = faults({ ...NEEDED, [name]: value });
      assert.deepEqual([...found.keys()], [name]);
      assert.match(found.get(name) ?? "", says);
    });

  it("readWorkerSettings() treats an empty binding as not set", () => {
    const empty = {
      MESHCA_CONFIG: "",
      MESHCA_LISTEN: "",
      MESHCA_DATACENTER: "",
      MESHCA_MAX_AGE: "",
      MESHCA_OTHER: "",
    };
    assert.deepEqual(
      readWorkerSettings({ ...NEEDED, ...empty }, []),
      readWorkerSettings(NEEDED, []),
    );
    for (const name of Object.keys(NEEDED))
      assert.deepEqual([...faults({ ...NEEDED, [name]: "" }).keys()], [name]);
  });

  for (const name of Object.keys(NEEDED))
    it(`readWorkerSettings() names one fault if ${name} is misspelt or of another kind, and does not call it missing`, () => {
      const { [name]: value, ...rest } = NEEDED as Record<string, string>;
      assert.deepEqual([...faults({ ...rest, [`${name}S`]: value }).keys()], [`${name}S`]);
      const found = faults({ ...rest, [name]: { fetch: () => null } });
      assert.deepEqual([...found.keys()], [name]);
      assert.match(found.get(name) ?? "", /another kind of binding/);
    });

  it("readWorkerSettings() refuses a staleness limit for reads above the one for signing", () => {
    const found = faults({ ...NEEDED, MESHCA_MAX_AGE: "2s", MESHCA_MAX_STALENESS: "1s" });
    assert.match(found.get("MESHCA_MAX_AGE") ?? "", /must not be above MESHCA_MAX_STALENESS/);
  });

  it("readWorkerSettings() repeats no secret in a fault", () => {
    const found = faults({
      MESHCA_STORE: "redis://u:hush@h:0",
      MESHCA_KEK: "hush",
      MESHCA_INITIAL_MANAGEMENT_TOKEN: "hush",
    });
    assert.ok(found.size > 0);
    assert.doesNotMatch([...found.values()].join(), /hush/);
  });
});
