/**
 * What is different on Cloudflare Workers: the built bundle in workerd, over a real Redis.
 * @module
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { makeKek } from "../../src/seal/kek.ts";
import { openssl, opensslCsr } from "../fakes/ca.ts";
import { startReplica } from "../redis/replica.ts";
import { noRedis, type RedisServer, startRedis, until } from "../redis/server.ts";
import { vaultConfig } from "../vault/harness.ts";
import { noOwnVault, startVault } from "../vault/server.ts";
import {
  type Bindings,
  type Bundle,
  buildWorker,
  type RunningWorker,
  startWorker,
} from "./workerd.ts";

const ROOTS = "/v1/connect/ca/roots";
const TOKEN = "0123456789abcdef0123456789abcdef";
const KEK = makeKek();

describe("Cloudflare Workers", { skip: noRedis }, () => {
  let bundle: Bundle;
  let redis: RedisServer;
  let worker: RunningWorker;
  let bindings: Bindings;

  /** Calls an isolate with the management token. */
  const call = (
    path: string,
    init: RequestInit & { isolate?: number; token?: string | null } = {},
  ) => {
    const { isolate = 0, token = TOKEN, ...rest } = init;
    return fetch(`${worker.urls[isolate]}${path}`, {
      ...rest,
      headers: { ...(token === null ? {} : { "X-Consul-Token": token }), ...rest.headers },
    });
  };
  const trustDomain = async () =>
    ((await (await call(ROOTS)).json()) as { TrustDomain: string }).TrustDomain;
  const csrFor = async (service: string) =>
    opensslCsr(`URI:spiffe://${await trustDomain()}/ns/default/dc/dc1/svc/${service}`).csr;
  const activeRoot = async (isolate: number) =>
    ((await (await call(ROOTS, { isolate })).json()) as { ActiveRootID: string }).ActiveRootID;

  before(async () => {
    bundle = buildWorker();
    redis = await startRedis({ config: ["appendonly yes"] });
    bindings = {
      MESHCA_STORE: `redis://127.0.0.1:${redis.port}?connect_timeout=30s&command_timeout=30s`,
      MESHCA_KEK: KEK,
      MESHCA_INITIAL_MANAGEMENT_TOKEN: TOKEN,
      MESHCA_AUDIT: "stdout",
    };
    const { MESHCA_KEK: _kek, ...noKek } = bindings;
    const more: Bindings = {
      ...bindings,
      MESHCA_ACL: "off",
      MESHCA_STORE: "memory:",
      MESHCA_TLS: "self",
      MESHCA_DATA_DIR: "/data",
      MESHCA_AUDIT: "/var/log/audit",
      MESHCA_LIMITS_WATCHERS: "1",
      MESHCA_MAX_AGE: "1h",
    };
    worker = await startWorker({ bundle, isolates: [bindings, bindings, {}, noKek, more] });
  });
  after(async () => {
    await worker?.stop();
    await redis?.stop();
    bundle?.remove();
  });

  it("makes a CA at the first request, and answers the second, and fifty at once, on connections of their own", async () => {
    const first = await call(ROOTS);
    assert.equal(first.status, 200);
    assert.equal((await call(ROOTS)).status, 200);
    const csr = await csrFor("web");
    const answers = await Promise.all(
      Array.from({ length: 50 }, () => call("/v1/connect/ca/sign", { method: "PUT", body: csr })),
    );
    const leaves = await Promise.all(
      answers.map((answer) => answer.json() as Promise<{ CertPEM: string }>),
    );
    assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
    assert.equal(new Set(leaves.map(({ CertPEM }) => CertPEM)).size, 50);
  });

  it("signs from its snapshot, without a command to Redis while that is fresh", async () => {
    const csr = await csrFor("web");
    const questions = async () =>
      Number(/cmdstat_eval:calls=(\d+)/.exec(await redis.admin.info("commandstats"))?.[1] ?? 0);
    // Two reads in a row cannot both fall on the end of a second.
    const counts: number[] = [];
    for (let i = 0; i < 5; i++) {
      await call("/v1/connect/ca/sign", { method: "PUT", body: csr });
      const asked = await questions();
      assert.equal((await call("/v1/connect/ca/sign", { method: "PUT", body: csr })).status, 200);
      counts.push((await questions()) - asked);
    }
    assert.ok(counts.includes(0), `every leaf was asked for: ${counts.join()}`);
  });

  it("refuses a caller without a token, and a deleted token, in every isolate", async () => {
    const csr = await csrFor("web");
    assert.equal(
      (await call("/v1/connect/ca/sign", { method: "PUT", body: csr, token: null })).status,
      403,
    );
    const body = JSON.stringify({ ServiceIdentities: [{ ServiceName: "web" }] });
    const made = (await (await call("/v1/acl/token", { method: "PUT", body })).json()) as {
      AccessorID: string;
      SecretID: string;
    };
    const sign = (isolate: number) =>
      call("/v1/connect/ca/sign", { method: "PUT", body: csr, token: made.SecretID, isolate });
    await until(async () => (await sign(1)).status === 200);
    assert.equal(
      (await call(`/v1/acl/token/${made.AccessorID}`, { method: "DELETE" })).status,
      200,
    );
    assert.equal((await sign(0)).status, 403);
    await until(async () => (await sign(1)).status === 403);
  });

  it("sees a rotation of another isolate, and wakes waiting clients of both before their wait is over", async () => {
    const before = await activeRoot(1);
    const index = (await call(ROOTS, { isolate: 1 })).headers.get("x-consul-index");
    const waiting = [0, 1].map((isolate) => call(`${ROOTS}?index=${index}&wait=600s`, { isolate }));
    assert.equal((await call("/v1/connect/ca/rotate", { method: "PUT" })).status, 200);
    const [, woken] = (await Promise.all(waiting)) as [Response, Response];
    assert.equal(woken.headers.get("cache-control"), "no-store");
    const { ActiveRootID } = (await woken.json()) as { ActiveRootID: string };
    assert.notEqual(ActiveRootID, before);
    assert.equal(await activeRoot(1), ActiveRootID);
    assert.equal(await activeRoot(0), ActiveRootID);
  });

  it("answers a wait without news when it is over", async () => {
    const { headers } = await call(ROOTS);
    const started = performance.now();
    const answer = await call(`${ROOTS}?index=${headers.get("x-consul-index")}&wait=2s`);
    assert.equal(answer.status, 200);
    assert.ok(performance.now() - started >= 1950);
  });

  it("leaves no connection behind: not after an answer, and not if a waiting client has hung up", async () => {
    const clients = async () =>
      String(await redis.admin.client("LIST"))
        .trim()
        .split("\n").length;
    await until(async () => (await clients()) === 1);
    const { headers } = await call(ROOTS);
    const hangUp = new AbortController();
    const waiting = call(`${ROOTS}?index=${headers.get("x-consul-index")}&wait=60s`, {
      signal: hangUp.signal,
    });
    // It has looked once, on a connection of its own.
    await until(async () => (await clients()) > 1);
    hangUp.abort();
    await assert.rejects(waiting);
    await until(async () => (await clients()) === 1);
    assert.equal(
      (await call("/v1/connect/ca/sign", { method: "PUT", body: await csrFor("web") })).status,
      200,
    );
  });

  it("lets a cache answer roots for a second, and leaves compression to what is in front", async () => {
    const answer = await call(ROOTS);
    assert.equal(answer.headers.get("cache-control"), "public, max-age=1");
    assert.equal(answer.headers.get("content-encoding"), null);
    const same = await call(ROOTS, {
      headers: { "If-None-Match": answer.headers.get("etag") ?? "" },
    });
    assert.equal(same.status, 304);
  });

  it("does what is due from the cron trigger, and gives the lease back", async () => {
    assert.equal(await worker.cron(0), "ok");
    assert.equal(await (await call("/v1/status/leader")).text(), '""');
    assert.equal(await (await call("/v1/status/peers")).text(), '["cloudflare-workers"]');
    // Two isolates that agree in what they can follow are one replica.
    assert.equal(await redis.admin.hlen("{meshca}:replicas"), 1);
    // Nothing is configured there.
    assert.equal(await worker.cron(2), "exception");
  });

  it("has every decision in its log, and no secret", async () => {
    assert.match(worker.output(), /"kind":"audit".*"action":"sign".*"outcome":"allowed"/);
    assert.match(worker.output(), /"action":"rotate"/);
    for (const secret of [TOKEN, KEK.split(":")[1] ?? KEK])
      assert.ok(!worker.output().includes(secret));
    // The first request makes the CA, before its route is looked for.
    assert.match(
      worker.output(),
      /"message":"CA changed: created the first root".*"requestId":"[0-9a-f-]{36}"/,
    );
  });

  it("shares a CA with servers: each sees what the other one changes, and who is alive", async () => {
    const server = await startReplica({ port: redis.port, settings: { kek: KEK } });
    try {
      await until(
        async () => String(await (await call("/v1/status/peers")).text()).split(",").length === 2,
      );
      assert.equal((await call("/v1/connect/ca/rotate", { method: "PUT" })).status, 200);
      const rotated = await activeRoot(0);
      await until(() => server.meshca.ca.require().active.id === rotated);
      const { active } = await server.meshca.ca.rotate({
        forceWithoutCrossSigning: false,
        modifyIndex: null,
      });
      await until(
        async () => (await activeRoot(0)) === active.id && (await activeRoot(1)) === active.id,
      );
    } finally {
      await server.close();
    }
  });

  it("answers 503 with what to set if it is not configured", async () => {
    const nothing = await call(ROOTS, { isolate: 2 });
    const text = await nothing.text();
    assert.equal(nothing.status, 503);
    assert.match(text, /^meshca on Cloudflare Workers: /);
    assert.match(text, /MESHCA_STORE: is required: .*wrangler secret put MESHCA_STORE/);
    assert.match(text, /MESHCA_KEK: is required: .*wrangler secret put MESHCA_KEK/);
    assert.match(
      text,
      /MESHCA_INITIAL_MANAGEMENT_TOKEN: is required: .*wrangler secret put MESHCA_INITIAL_MANAGEMENT_TOKEN/,
    );
    const noKek = await (await call(ROOTS, { isolate: 3 })).text();
    assert.match(noKek, /MESHCA_KEK: is required/);
    assert.doesNotMatch(noKek, /MESHCA_STORE/);
  });

  it("refuses what cannot be on Workers, each with the reason", async () => {
    const answer = await call(ROOTS, { isolate: 4 });
    const text = await answer.text();
    assert.equal(answer.status, 503);
    for (const [name, why] of [
      ["MESHCA_ACL", "cannot be off"],
      ["MESHCA_STORE", "must be redis:// or rediss:// of one server"],
      ["MESHCA_TLS", "has no meaning in a Worker: Cloudflare terminates TLS"],
      ["MESHCA_DATA_DIR", "has no meaning in a Worker: a Worker has no files"],
      ["MESHCA_AUDIT", "must be off or stdout"],
      ["MESHCA_LIMITS_WATCHERS", "has no meaning in a Worker: no isolate sees all requests"],
      ["MESHCA_MAX_AGE", "must be a duration from 0s to 3s"],
    ] as const)
      assert.ok(text.includes(`${name}: ${why}`), `${name} is not refused: ${text}`);
  });

  it("works through a restart of Redis; without Redis it signs from its snapshot, and changes nothing", async () => {
    const csr = await csrFor("web");
    redis.kill("SIGKILL");
    const signed = await call("/v1/connect/ca/sign", { method: "PUT", body: csr });
    assert.equal(signed.status, 200);
    const change = await call("/v1/connect/ca/rotate", { method: "PUT" });
    assert.equal(change.status, 503);
    assert.match(await change.text(), /Redis is unavailable/);
    assert.ok(Number(change.headers.get("retry-after")) > 0);
    await redis.restart();
    await until(
      async () => (await call("/v1/connect/ca/rotate", { method: "PUT" })).status === 200,
    );
  });

  it("says what to do if servers have moved the CA to Vault, which Workers do not support, and serves again once it is back", {
    skip: noOwnVault,
  }, async () => {
    const vault = await startVault({ kind: "openbao" });
    const server = await startReplica({
      port: redis.port,
      settings: { kek: KEK, vaultAllow: { hosts: ["127.0.0.1"], ranges: [] } },
    });
    const change = async (body: object) => {
      const { status, text } = await server.call(
        "PUT",
        "/v1/connect/ca/configuration",
        JSON.stringify(body),
      );
      assert.equal(status, 200, text);
    };
    try {
      await change({ Provider: "vault", Config: vaultConfig(vault) });
      for (const isolate of [0, 1]) {
        await until(async () => (await call(ROOTS, { isolate })).status === 503);
        const answer = await call(ROOTS, { isolate });
        assert.match(
          await answer.text(),
          /^meshca on Cloudflare Workers: Cannot serve: the stored CA uses the provider "vault", and this replica has only consul; serve it on a runtime that has the provider, or change the provider there\n$/,
        );
        assert.equal(answer.headers.get("cache-control"), "no-store");
      }
      await change({ Provider: "consul", Config: {} });
      for (const isolate of [0, 1])
        await until(async () => (await call(ROOTS, { isolate })).status === 200);
    } finally {
      await server.close();
      await vault.stop();
    }
  });

  it("reports that Redis is unavailable, and why, if it has seen no CA yet", async () => {
    const cold = await startWorker({
      bundle,
      isolates: [{ ...bindings, MESHCA_STORE: "redis://127.0.0.1:1?connect_timeout=1s" }],
    });
    try {
      const answer = await fetch(`${cold.urls[0]}${ROOTS}`);
      assert.equal(answer.status, 503);
      assert.match(await answer.text(), /^meshca on Cloudflare Workers: Redis is unavailable/);
      assert.equal(answer.headers.get("cache-control"), "no-store");
    } finally {
      await cold.stop();
    }
  });

  it("reaches Redis over TLS, as a user, and reports if it is not trusted or refused", async () => {
    const folder = mkdtempSync(join(tmpdir(), "meshca-tls-"));
    const file = (name: string) => join(folder, name);
    const common = [
      "-x509",
      "-newkey",
      "rsa:2048",
      "-nodes",
      "-days",
      "2",
      "-subj",
      "/CN=localhost",
      "-addext",
      "subjectAltName=DNS:localhost,IP:127.0.0.1",
    ];
    openssl(["req", ...common, "-keyout", file("key.pem"), "-out", file("cert.pem")]);
    const [cert, key] = ["cert.pem", "key.pem"].map((name) => readFileSync(file(name), "utf8")) as [
      string,
      string,
    ];
    const config = [
      `tls-cert-file ${file("cert.pem")}`,
      `tls-key-file ${file("key.pem")}`,
      `tls-ca-cert-file ${file("cert.pem")}`,
      "tls-auth-clients no",
      "appendonly yes",
      "user edge on >right ~{meshca}:* &{meshca}:* +@all",
    ];
    const secure = await startRedis({ config, tls: { ca: cert, cert, key } });
    const at = (password: string): Bindings => ({
      ...bindings,
      MESHCA_STORE: `rediss://edge:${password}@localhost:${secure.port}`,
    });
    const trusting = await startWorker({
      bundle,
      isolates: [at("right"), at("wrong")],
      trusted: cert,
    });
    const doubting = await startWorker({ bundle, isolates: [at("right")] });
    try {
      const answers = await Promise.all(
        [...trusting.urls, ...doubting.urls].map((url) => fetch(`${url}${ROOTS}`)),
      );
      const texts = await Promise.all(answers.map((answer) => answer.text()));
      assert.deepEqual(
        answers.map(({ status }) => status),
        [200, 503, 503],
        texts.join(),
      );
      assert.match(
        texts[1] ?? "",
        /^meshca on Cloudflare Workers: Redis refused the user or the password/,
      );
      assert.match(texts[2] ?? "", /^meshca on Cloudflare Workers: Redis is unavailable/);
      assert.doesNotMatch(texts.join(), /right|wrong@/);
    } finally {
      await trusting.stop();
      await doubting.stop();
      await secure.stop();
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it("names the runtime and the setting if Node's compatibility is missing", async () => {
    const bare = await startWorker({ bundle, isolates: [bindings], flags: [], date: "2024-01-01" });
    try {
      const answer = await fetch(`${bare.urls[0]}${ROOTS}`);
      assert.equal(answer.status, 503);
      assert.match(
        await answer.text(),
        /this runtime has no node:net. On Cloudflare Workers, set compatibility_flags = \["nodejs_compat"\]/,
      );
    } finally {
      await bare.stop();
    }
  });
});
