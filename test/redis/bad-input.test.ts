/**
 * A Redis that cannot be relied on, or that holds something else: one clear error at the start, and
 * nothing overwritten.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { RedisSettings } from "../../src/store/redis/settings.ts";
import { openTestRedis } from "../fixtures/redis.ts";
import { startReplica } from "./replica.ts";
import {
  freePort,
  noRedis,
  type RedisServer,
  type RedisServerOptions,
  redisUrl,
  startRedis,
  until,
} from "./server.ts";

const open = (settings: RedisSettings) => openTestRedis(settings);

/** Runs `work` with a server of its own. */
async function withRedis(
  options: RedisServerOptions,
  work: (server: RedisServer) => Promise<void>,
): Promise<void> {
  const server = await startRedis(options);
  try {
    await work(server);
  } finally {
    await server.stop();
  }
}

/** The error text of a start with a Redis, with its URL. @param says a regular expression. */
const refusal = (says: string): RegExp =>
  new RegExp(String.raw`^StoreError: Redis ${says} \(MESHCA_STORE: 127\.0\.0\.1:\d+\)$`);

describe("a Redis that cannot be relied on", { skip: noRedis }, () => {
  let redis: RedisServer;
  before(async () => {
    redis = await startRedis({ config: ["repl-diskless-sync-delay 0"] });
  });
  after(() => redis?.stop());

  it("is refused if nothing listens on its port", async () => {
    const url = redisUrl(await freePort(), { connectTimeoutMs: 500 });
    await assert.rejects(open(url), refusal("is unavailable: ECONNREFUSED"));
    await assert.rejects(
      open({ ...url, mode: "cluster" }),
      refusal("is unavailable: no node of the cluster is reachable"),
    );
    await assert.rejects(
      open({ ...url, mode: "sentinel", master: "mesh" }),
      refusal("is unavailable: no sentinel is reachable, or none knows the master"),
    );
  });

  it("is refused if it requires a password, or another one", async () => {
    await withRedis({ config: ["requirepass secret"] }, async ({ port }) => {
      await assert.rejects(
        open(redisUrl(port)),
        refusal("(is unavailable: it )?refused the user or the password"),
      );
      await assert.rejects(
        open(redisUrl(port, { password: "wrong" })),
        refusal("(is unavailable: it )?refused the user or the password"),
      );
      (await open(redisUrl(port, { password: "secret" }))).close();
    });
  });

  for (const command of ["eval", "info", "set", "hset", "publish", "hgetall", "time", "subscribe"])
    it(`is refused if the user is not allowed to run ${command}, by name`, async () => {
      await redis.admin.call(
        "ACL",
        "SETUSER",
        "ca",
        "on",
        ">secret",
        "~*",
        "&*",
        "+@all",
        `-${command}`,
      );
      const url = redisUrl(redis.port, { username: "ca", password: "secret" });
      await assert.rejects(
        open(url),
        refusal(
          `does not allow the user to run ${command.toUpperCase()}; allow it in the ACL of Redis`,
        ),
      );
    });

  it("is refused if the user is not allowed to use the keys or the channel", async () => {
    const url = redisUrl(redis.port, { username: "narrow", password: "secret" });
    await redis.admin.call(
      "ACL",
      "SETUSER",
      "narrow",
      "on",
      ">secret",
      "~{other}:*",
      "&{other}:*",
      "+@all",
    );
    await assert.rejects(
      open(url),
      refusal(
        "does not allow the user to access the keys of meshca's prefix; allow it in the ACL of Redis: ~{meshca}:\\* &{meshca}:\\*",
      ),
    );
    await redis.admin.call("ACL", "SETUSER", "narrow", "~{meshca}:*");
    await assert.rejects(
      open(url),
      refusal(
        "does not allow the user to access the channel of meshca's prefix; allow it in the ACL of Redis: ~{meshca}:\\* &{meshca}:\\*",
      ),
    );
    await redis.admin.call("ACL", "SETUSER", "narrow", "&{meshca}:*");
    (await open(url)).close();
  });

  it("is probed by many replicas at once, and no probe key is left", async () => {
    const backends = await Promise.all(
      Array.from({ length: 16 }, () => open(redisUrl(redis.port))),
    );
    for (const backend of backends) backend.close();
    assert.deepEqual(await redis.admin.keys("*probe*"), []);
  });

  it("is enough with the permissions that docs/operations.md names", async () => {
    const documented =
      /ACL SETUSER (.*)/.exec(
        readFileSync(new URL("../../docs/operations.md", import.meta.url), "utf8"),
      )?.[1] ?? "";
    const rules = documented
      .replaceAll("`", "")
      .split(" ")
      .slice(1)
      .map((rule) => (rule.startsWith(">") ? ">secret" : rule));
    await redis.admin.call("ACL", "SETUSER", "documented", ...rules);
    const replica = await startReplica({
      port: redis.port,
      settings: { store: redisUrl(redis.port, { username: "documented", password: "secret" }) },
    });
    assert.equal((await replica.call("PUT", "/v1/connect/ca/rotate")).status, 200);
    await replica.close();
    await redis.admin.flushall();
  });

  it("is refused if it is a read-only replica", async () => {
    await withRedis({ config: [`replicaof 127.0.0.1 ${redis.port}`] }, async ({ port, admin }) => {
      await until(async () => /master_link_status:up/.test(await admin.info("replication")));
      await assert.rejects(
        open(redisUrl(port)),
        refusal("is read-only because it is a replica; connect to the master, or use Sentinel"),
      );
    });
  });

  it("is refused if its memory is full", async () => {
    await withRedis({ config: ["maxmemory 400kb"] }, async ({ port }) => {
      await assert.rejects(open(redisUrl(port)), refusal("is out of memory: maxmemory is reached"));
    });
  });

  for (const policy of ["allkeys-lru", "volatile-ttl", "allkeys-random"])
    it(`is refused with maxmemory-policy ${policy}`, async () => {
      await withRedis({ config: [`maxmemory-policy ${policy}`] }, async ({ port }) => {
        await assert.rejects(
          open(redisUrl(port)),
          refusal(`may evict the CA: its maxmemory-policy is ${policy}; set it to noeviction`),
        );
      });
    });

  it("fails each change with the reason once its memory is full, and nothing is changed", async () => {
    await withRedis({}, async ({ port, admin }) => {
      const replica = await startReplica({ port });
      const before = await admin.hgetall("{meshca}:state");
      await admin.config("SET", "maxmemory", "1mb");
      const refused = await replica.call("PUT", "/v1/connect/ca/rotate");
      assert.deepEqual(
        [refused.status, refused.text],
        [503, "Redis is out of memory: maxmemory is reached"],
      );
      assert.deepEqual(await admin.hgetall("{meshca}:state"), before);
      await admin.config("SET", "maxmemory", "0");
      assert.equal((await replica.call("PUT", "/v1/connect/ca/rotate")).status, 200);
      await replica.close();
    });
  });

  it("is reached over TLS with a CA and a client certificate, and refused without them", async () => {
    const folder = mkdtempSync(join(tmpdir(), "meshca-tls-"));
    const file = (name: string) => join(folder, name);
    const openssl = (...args: string[]) => execFileSync("openssl", args, { stdio: "ignore" });
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    openssl(
      "req",
      "-x509",
      ...key,
      "-keyout",
      file("ca.key"),
      "-out",
      file("ca.pem"),
      "-subj",
      "/CN=ca",
      "-days",
      "2",
    );
    const names = ["-subj", "/CN=redis", "-addext", "subjectAltName=IP:127.0.0.1"];
    openssl("req", "-new", ...key, "-keyout", file("key.pem"), "-out", file("csr.pem"), ...names);
    const by = [
      "-CA",
      file("ca.pem"),
      "-CAkey",
      file("ca.key"),
      "-CAcreateserial",
      "-copy_extensions",
      "copyall",
    ];
    openssl("x509", "-req", "-in", file("csr.pem"), ...by, "-out", file("cert.pem"), "-days", "2");
    const [ca, cert, pem] = ["ca.pem", "cert.pem", "key.pem"].map((name) =>
      readFileSync(file(name), "utf8"),
    ) as [string, string, string];
    const config = [
      `tls-cert-file ${file("cert.pem")}`,
      `tls-key-file ${file("key.pem")}`,
      `tls-ca-cert-file ${file("ca.pem")}`,
    ];
    try {
      await withRedis({ config, tls: { ca, cert, key: pem } }, async ({ port }) => {
        (await open(redisUrl(port, { tls: { ca, cert, key: pem }, db: 3 }))).close();
        await assert.rejects(
          open(redisUrl(port, { tls: { ca: null, cert, key: pem } })),
          /^StoreError: Redis is unavailable: /,
        );
        await assert.rejects(
          open(redisUrl(port, { tls: { ca, cert: null, key: null } })),
          /^StoreError: Redis is unavailable/,
        );
        await assert.rejects(open(redisUrl(port)), /^StoreError: Redis is unavailable/);
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  const others: readonly (readonly [
    string,
    (admin: RedisServer["admin"]) => Promise<unknown>,
    RegExp,
  ])[] = [
    [
      "a key of another type",
      (admin) => admin.lpush("{meshca}:state", "x"),
      /^StoreError: A key under meshca's prefix in Redis has another type: another program uses the prefix$/,
    ],
    [
      "an invalid state",
      (admin) => admin.hset("{meshca}:state", { index: "1", commit: "a", document: "diary" }),
      /^StoreError: Cannot trust the stored CA state: its document is not JSON$/,
    ],
    [
      "a state of a newer schema",
      (admin) =>
        admin.hset("{meshca}:state", { index: "1", commit: "a", document: '{"schema":9}' }),
      /^StoreError: Cannot read the stored state: it has schema 9/,
    ],
  ];
  for (const [what, make, says] of others)
    it(`is refused with ${what}, which stays as it is`, async () => {
      await redis.admin.flushall();
      await make(redis.admin);
      const before = await redis.admin.dump("{meshca}:state");
      await assert.rejects(startReplica({ port: redis.port }), says);
      assert.deepEqual(await redis.admin.dump("{meshca}:state"), before);
      await redis.admin.flushall();
    });

  it("is refused with the state of another cluster than the one that the data folder names, which stays as it is", async () => {
    const folder = new Map<string, string>();
    const mine = await startReplica({ port: redis.port, folder });
    await mine.close();
    await redis.admin.flushall();
    const other = await startReplica({ port: redis.port });
    await other.close();
    const before = await redis.admin.hgetall("{meshca}:state");
    await assert.rejects(
      startReplica({ port: redis.port, folder }),
      /^StoreError: The store holds the state of another cluster, \S+; this replica serves \S+, and nothing was changed$/,
    );
    assert.deepEqual(await redis.admin.hgetall("{meshca}:state"), before);
    await redis.admin.flushall();
  });

  it("never publishes a root that was inserted into the store, while it runs or at a start", async () => {
    const replica = await startReplica({ port: redis.port });
    const roots = (await replica.call("GET", "/v1/connect/ca/roots")).text;
    const stored = await redis.admin.hgetall("{meshca}:state");
    const forged = (stored.document ?? "")
      .replace('\\"forcedOut\\":false', '\\"forcedOut\\":true')
      .replace(stored.commit ?? "", "f".repeat(32));
    assert.notEqual(forged, stored.document);
    await redis.admin.hset("{meshca}:state", {
      index: "1",
      commit: "f".repeat(32),
      document: forged,
    });
    await assert.rejects(
      replica.meshca.ca.refresh(),
      /Cannot trust the stored CA state: the MAC of its document is invalid/,
    );
    assert.equal((await replica.call("GET", "/v1/connect/ca/roots")).text, roots);
    assert.equal((await replica.call("PUT", "/v1/connect/ca/rotate")).status, 500);
    await assert.rejects(
      startReplica({ port: redis.port }),
      /Cannot trust the stored CA state: the MAC of its document is invalid/,
    );
    await replica.close();
    await redis.admin.flushall();
  });
});
