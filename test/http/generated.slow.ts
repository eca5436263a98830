/**
 * Requests that are made up by the thousand against a real server with access control over Redis:
 * none brings it down, makes it hang, fail or leak, and none that is refused changes what is
 * stored. For a minute, or for MESHCA_GENERATED_SECONDS; MESHCA_SEED repeats a run. `npm test` runs
 * it with MESHCA_SLOW=1 and in CI only.
 * @module
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import fc from "fast-check";
import { exportSPKI, generateKeyPair, importPKCS8, SignJWT } from "jose";
import { routesOf } from "../../src/http/app.ts";
import { makeKek } from "../../src/seal/kek.ts";
import { opensslCsr } from "../fakes/ca.ts";
import { createTestApp } from "../fixtures/app.ts";
import { createSearch } from "../fixtures/planted.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { makeRoot } from "../fixtures/supplied-root.ts";
import { noRedis, type RedisServer, startRedis } from "../redis/server.ts";
import { type Credentials, exchange, faultOf, requestsFrom, type Seed } from "./generated.ts";

const SECONDS = Number(process.env.MESHCA_GENERATED_SECONDS ?? 60);
const SEED = Number(process.env.MESHCA_SEED ?? Math.trunc(Math.random() * 2 ** 31));
const MANAGEMENT = crypto.randomUUID();
/** Several times what it takes. */
const MAX_MEMORY_KB = 700 * 1024;

/** A valid request for each method of each route. */
async function makeSeeds(
  server: ServerProcess,
): Promise<{ seeds: Seed[]; credentials: Credentials }> {
  const token = { "X-Consul-Token": MANAGEMENT };
  const json = { ...token, "Content-Type": "application/json" };
  const call = async (method: string, path: string, body: unknown) => {
    const answer = await fetch(`${server.url}${path}`, {
      method,
      headers: token,
      body: JSON.stringify(body),
    });
    assert.equal(answer.status, 200, path);
    return (await answer.json()) as { ID: string; AccessorID: string; SecretID: string };
  };
  const issuer = await generateKeyPair("ES256", { extractable: true });
  const method = {
    Name: "jwt",
    Type: "jwt",
    Description: "",
    MaxTokenTTL: "1h",
    Config: {
      JWTSupportedAlgs: ["ES256"],
      BoundIssuer: "issuer",
      BoundAudiences: ["meshca"],
      JWTValidationPubKeys: [await exportSPKI(issuer.publicKey)],
      ClaimMappings: { sub: "name" },
      ListClaimMappings: { groups: "groups" },
      ClockSkewLeeway: "10s",
      OneTime: false,
    },
  };
  const policy = {
    Name: "web",
    Description: "",
    Rules: 'service "web" { policy = "write" }\noperator = "read"',
    Datacenters: ["dc1"],
  };
  const rule = {
    AuthMethod: "jwt",
    BindType: "service",
    BindName: "web",
    Selector: 'value.name == "someone" and "a" in list.groups',
  };
  const made = await call("PUT", "/v1/acl/policy", policy);
  const identity = {
    Policies: [{ ID: made.ID }],
    ServiceIdentities: [{ ServiceName: "web", Datacenters: ["dc1"] }],
    NodeIdentities: [{ NodeName: "n", Datacenter: "dc1" }],
  };
  const weak = await call("PUT", "/v1/acl/token", identity);
  await call("PUT", "/v1/acl/auth-method", method);
  const bound = await call("PUT", "/v1/acl/binding-rule", rule);
  const login = await new SignJWT({ sub: "someone", groups: ["a"] })
    .setProtectedHeader({ alg: "ES256" })
    .setIssuer("issuer")
    .setAudience("meshca")
    .setIssuedAt()
    .setExpirationTime("1h")
    .sign(issuer.privateKey);
  const { csr, key } = opensslCsr(`URI:spiffe://${server.trustDomain}/ns/default/dc/dc1/svc/web`);
  const Accept = "application/pem-certificate-chain";
  const signed = await fetch(`${server.url}/v1/connect/ca/sign`, {
    method: "PUT",
    headers: { ...token, Accept },
    body: csr,
  });
  const x5c = [...(await signed.text()).matchAll(/-----BEGIN CERTIFICATE-----([^-]+)-----/g)].map(
    (match) => (match[1] ?? "").replace(/\s/g, ""),
  );
  const proof = await new SignJWT({
    aud: `spiffe://${server.trustDomain}`,
    iat: Math.floor(Date.now() / 1000),
  })
    .setProtectedHeader({ alg: "ES256", x5c })
    .sign(await importPKCS8(key, "ES256"));
  const backup = await (
    await fetch(`${server.url}/v1/connect/ca/backup`, { headers: token })
  ).text();
  const root = makeRoot(server.trustDomain);
  const configuration = {
    Provider: "consul",
    Config: {
      LeafCertTTL: "72h",
      RootCertTTL: "87600h",
      IntermediateCertTTL: "8760h",
      PrivateKeyType: "ec",
      PrivateKeyBits: 256,
      PrivateKey: "",
      RootCert: "",
      CSRMaxPerSecond: 0,
    },
    State: null,
    ForceWithoutCrossSigning: false,
  };
  const spiffeId = `spiffe://${server.trustDomain}/ns/default/dc/dc1/svc/denied`;
  const bodies: Readonly<Record<string, readonly unknown[]>> = {
    "PUT /v1/connect/ca/configuration": [
      configuration,
      { Provider: "consul", Config: { PrivateKey: root.key, RootCert: root.certificate } },
    ],
    "PUT /v1/connect/ca/rotate": [{}, { ForceWithoutCrossSigning: false, ModifyIndex: 1 }],
    "PUT /v1/connect/ca/sign": [csr, { CSR: csr }],
    "POST /v1/connect/ca/sign": [csr],
    "PUT /v1/connect/ca/renew": [csr, { CSR: csr }],
    "PUT /v1/connect/ca/state-conflict": [{ Keep: "snapshot", ForceWithoutCrossSigning: false }],
    "PUT /v1/connect/ca/backup": [backup],
    "PUT /v1/connect/ca/deny": [
      { SPIFFEID: spiffeId, Reason: "lost" },
      { KeyID: "00:".repeat(31).concat("00"), Reason: "" },
      { SerialNumber: "01:02" },
    ],
    "PUT /v1/acl/bootstrap": [{ BootstrapSecret: crypto.randomUUID() }],
    "POST /v1/acl/login": [{ AuthMethod: "jwt", BearerToken: login, Meta: { pod: "x" } }],
    "PUT /v1/acl/token": [identity],
    "PUT /v1/acl/token/:id": [identity],
    "PUT /v1/acl/token/:id/clone": [{ Description: "x" }],
    "PUT /v1/acl/policy": [
      policy,
      { ...policy, Name: "json", Rules: '{"service_prefix": {"": {"policy": "read"}}}' },
    ],
    "PUT /v1/acl/policy/:id": [policy],
    "PUT /v1/acl/auth-method": [
      method,
      {
        Name: "k",
        Type: "kubernetes",
        Config: { JWKSURL: "https://issuer.example/keys", BoundAudiences: ["x"] },
      },
    ],
    "PUT /v1/acl/auth-method/:name": [method],
    "PUT /v1/acl/binding-rule": [rule],
    "PUT /v1/acl/binding-rule/:id": [rule],
  };
  const idOf = (path: string) =>
    path.includes("token")
      ? weak.AccessorID
      : path.includes("rule")
        ? bound.ID
        : path.includes("policy")
          ? made.ID
          : "none";
  const { app, options } = await createTestApp();
  const seeds = routesOf(options, app.watchers).flatMap(({ path, methods }) =>
    Object.keys(methods).flatMap((name) =>
      (bodies[`${name} ${path}`] ?? [""]).map((body): Seed => {
        const id = name === "DELETE" ? "none" : idOf(path);
        const target = path
          .replace(":id", id)
          .replace(":name", path.includes("method") ? (name === "DELETE" ? "none" : "jwt") : "web");
        const text = typeof body === "string" ? body : JSON.stringify(body);
        const headers = typeof body === "string" ? token : json;
        return {
          method: name,
          target,
          headers: path.endsWith("renew") ? { Authorization: `Bearer ${proof}` } : headers,
          body: text,
        };
      }),
    ),
  );
  const weakly = { "X-Consul-Token": weak.SecretID };
  return {
    seeds,
    credentials: [
      {},
      weakly,
      { Authorization: `Bearer ${weak.SecretID}` },
      { "X-Consul-Token": crypto.randomUUID() },
      { "X-Consul-Token": "anonymous" },
    ],
  };
}

/** What is stored, by the numbers that every write moves. */
const storedIn = async ({ admin }: RedisServer): Promise<string> =>
  JSON.stringify([
    await admin.hmget("{meshca}:state", "index", "commit"),
    await admin.hmget("{meshca}:access", "index", "tip"),
  ]);

describe("generated requests", () => {
  it(`none of those made in ${SECONDS} s fails, hangs, leaks, or changes anything if it is refused`, {
    skip: noRedis,
    timeout: (SECONDS + 120) * 1000,
  }, async () => {
    const kek = makeKek();
    const redis = await startRedis({
      config: ["appendonly yes", "appendfsync always", "maxmemory-policy noeviction"],
    });
    const server = await startServer({
      MESHCA_STORE: `redis://127.0.0.1:${redis.port}`,
      MESHCA_KEK: kek,
      MESHCA_ACL: "deny",
      MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT,
      MESHCA_LIMITS_BODY_TIME: "500ms",
    });
    try {
      const search = createSearch();
      search.plant("the key-encryption key", Buffer.from(kek.trim().split(":")[1] ?? "", "base64"));
      search.plant("the management token", MANAGEMENT, ["own"]);
      search.plant(
        "a private key",
        Buffer.from(
          "308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420",
          "hex",
        ),
      );
      const { seeds, credentials } = await makeSeeds(server);
      const statuses = new Map<number, number>();
      console.log(`MESHCA_SEED=${SEED}`);
      let stored = await storedIn(redis);
      await fc.assert(
        fc.asyncProperty(
          requestsFrom(seeds, credentials, `127.0.0.1:${server.port}`),
          async (made) => {
            const before = stored;
            const answer = await exchange(server.port, made);
            stored = await storedIn(redis);
            if (answer === null) return;
            statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1);
            assert.equal(faultOf(answer), null);
            if (answer.status >= 400)
              assert.equal(stored, before, `the refusal with ${answer.status} changed something`);
            if (/token\/self/.test(made.head)) return;
            const seen = search.leaksIn(
              "answer",
              `${[...answer.headers].join("\n")}\n${answer.body}`,
            );
            assert.deepEqual(seen, []);
          },
        ),
        {
          seed: SEED,
          numRuns: 1_000_000_000,
          interruptAfterTimeLimit: SECONDS * 1000,
          markInterruptAsFailure: false,
        },
      );
      console.log(JSON.stringify(Object.fromEntries([...statuses].toSorted(([a], [b]) => a - b))));
      for (const status of [200, 400, 403, 404, 405])
        assert.ok((statuses.get(status) ?? 0) > 0, `nothing was answered ${status}`);
      assert.equal((await fetch(`${server.url}/readyz`)).status, 200);
      assert.deepEqual(
        server
          .stdout()
          .split("\n")
          .filter((line) => /"level":"error"/i.test(line)),
        [],
      );
      const memory = Number(
        /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/status`, "utf8"))?.[1],
      );
      assert.ok(memory < MAX_MEMORY_KB, `it takes ${memory} KB`);
    } finally {
      await server.stop();
      await redis.stop();
    }
  });
});
