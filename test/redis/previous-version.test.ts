/**
 * This version and the one before share one Redis: both as real processes, the older one out of the
 * history of this repository. It runs on the packages of this version, of which @logtape/logtape is
 * installed for it only.
 * @module
 */
import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, describe, it } from "node:test";
import { makeKek } from "../../src/seal/kek.ts";
import { opensslCsr } from "../fakes/ca.ts";
import { checkOut, missingCommits } from "../fixtures/previous.ts";
import { runServer, type ServerProcess, startServer } from "../fixtures/process.ts";
import { noRedis, type RedisServer, startRedis, until } from "./server.ts";

/** The last commit that knows schema 2 of the state and the first one of records. */
const SCHEMA_2 = "3eac74d";
/** The last commit that knows schema 3 of the state. */
const SCHEMA_3 = "d711ca8";
/** The last commit that knows schema 4 of the state, and no roles. */
const SCHEMA_4 = "7072e74";
/** The last commit that knows schema 5 of the state, and one datacenter only. */
const SCHEMA_5 = "82c02b7";

const noPrevious = missingCommits(SCHEMA_2, SCHEMA_3, SCHEMA_4, SCHEMA_5);

const MANAGEMENT = "11111111-2222-4333-8444-555555555555";

interface Token {
  readonly AccessorID: string;
  readonly SecretID: string;
}

describe("this version and the one before at one Redis", { skip: noRedis || noPrevious }, () => {
  let redis: RedisServer;
  let folder: string;
  let environment: Record<string, string>;
  const older = () => startServer(environment, [], [process.execPath], folder);

  before(async () => {
    folder = checkOut(SCHEMA_2);
    redis = await startRedis();
  });
  beforeEach(async () => {
    await redis.admin.flushall();
    environment = {
      MESHCA_STORE: `redis://127.0.0.1:${redis.port}`,
      MESHCA_KEK: makeKek(),
      MESHCA_ACL: "deny",
      MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT,
    };
  });
  after(async () => {
    await redis?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const call = async (
    { url }: ServerProcess,
    method: string,
    path: string,
    secret: string,
    body?: string,
  ) => {
    const answer = await fetch(`${url}${path}`, {
      method,
      headers: { "X-Consul-Token": secret },
      ...(body === undefined ? {} : { body }),
    });
    return { status: answer.status, text: await answer.text() };
  };
  const makeToken = async (server: ServerProcess): Promise<Token> => {
    const { status, text } = await call(
      server,
      "PUT",
      "/v1/acl/token",
      MANAGEMENT,
      '{"ServiceIdentities": [{"ServiceName": "web"}]}',
    );
    assert.equal(status, 200, text);
    return JSON.parse(text) as Token;
  };
  const sign = (server: ServerProcess, { trustDomain }: ServerProcess, secret: string) =>
    call(
      server,
      "PUT",
      "/v1/connect/ca/sign",
      secret,
      opensslCsr(`URI:spiffe://${trustDomain}/ns/default/dc/dc1/svc/web`).csr,
    );
  const roots = async (server: ServerProcess) =>
    (
      JSON.parse((await call(server, "GET", "/v1/connect/ca/roots", "")).text) as {
        Roots: { ID: string }[];
      }
    ).Roots;
  interface Document {
    readonly schema: number;
    readonly body: string;
  }
  const document = async () =>
    JSON.parse((await redis.admin.hget("{meshca}:state", "document")) ?? "") as Document;
  const access = async () =>
    (JSON.parse((await document()).body) as { access?: object | null }).access ?? null;
  const records = () => redis.admin.hgetall("{meshca}:access:records");
  const schemas = async () =>
    Object.entries(await records())
      .filter(([name]) => !name.startsWith("access-key/"))
      .map(
        ([, text]) => (JSON.parse(text.slice(text.indexOf("\n") + 1)) as { schema: number }).schema,
      );

  it("both serve tokens, leaves and roots, and the newer schema is written once the older version has stopped", async () => {
    const servers: ServerProcess[] = [];
    const start = async (starting: Promise<ServerProcess>) => {
      const server = await starting;
      servers.push(server);
      return server;
    };
    try {
      const previous = await start(older());
      const present = await start(startServer(environment));
      const tokens = [await makeToken(previous), await makeToken(present)];
      for (const server of [previous, present]) {
        for (const { SecretID } of tokens)
          await until(async () => (await sign(server, present, SecretID)).status === 200);
        assert.deepEqual(await roots(server), await roots(previous));
      }
      const [gone, kept] = tokens as [Token, Token];
      assert.equal(
        (await call(present, "DELETE", `/v1/acl/token/${gone.AccessorID}`, MANAGEMENT)).status,
        200,
      );
      await until(async () => (await sign(previous, present, gone.SecretID)).status === 403);
      for (const server of [previous, present]) {
        assert.equal((await call(server, "PUT", "/v1/connect/ca/rotate", MANAGEMENT)).status, 200);
        await until(
          async () =>
            JSON.stringify(await roots(previous)) === JSON.stringify(await roots(present)),
        );
        for (const other of [previous, present])
          assert.equal((await sign(other, present, kept.SecretID)).status, 200);
      }
      assert.ok((await document()).schema <= 2);
      assert.equal(await access(), null);
      assert.deepEqual(new Set(await schemas()), new Set([1]));
      await previous.stop();
      await until(async () => (await access()) !== null);
      assert.equal((await document()).schema, 3);
      const later = await makeToken(present);
      assert.equal(
        (await call(present, "DELETE", `/v1/acl/token/${later.AccessorID}`, MANAGEMENT)).status,
        200,
      );
      assert.ok(Object.keys(await records()).includes(`tombstone/token.${later.AccessorID}`));
      assert.ok((await schemas()).includes(2));
      assert.equal((await sign(present, present, kept.SecretID)).status, 200);
      const again = await runServer(environment, [], [process.execPath], folder);
      assert.notEqual(again.code, 0);
      assert.match(
        again.stderr + again.stdout,
        /it has schema 3, this version of meshca knows up to 2; start the newer version that wrote it/,
      );
      // It has changed nothing.
      assert.equal((await sign(present, present, kept.SecretID)).status, 200);
      const fresh = await start(startServer(environment));
      assert.equal((await sign(fresh, present, kept.SecretID)).status, 200);
      assert.equal((await sign(fresh, present, gone.SecretID)).status, 403);
    } finally {
      for (const server of servers) await server.stop();
    }
  });
});

describe("this version and one that knows schema 3 at one Redis", {
  skip: noRedis || noPrevious,
}, () => {
  let redis: RedisServer;
  let folder: string;
  let environment: Record<string, string>;
  before(async () => {
    folder = checkOut(SCHEMA_3);
    redis = await startRedis();
  });
  beforeEach(async () => {
    await redis.admin.flushall();
    environment = {
      MESHCA_STORE: `redis://127.0.0.1:${redis.port}`,
      MESHCA_KEK: makeKek(),
    };
  });
  after(async () => {
    await redis?.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  const schema = async () =>
    (
      JSON.parse((await redis.admin.hget("{meshca}:state", "document")) ?? "") as {
        schema: number;
      }
    ).schema;
  const rotate = async ({ url }: ServerProcess) => {
    const answer = await fetch(`${url}/v1/connect/ca/rotate`, { method: "PUT" });
    assert.equal(answer.status, 200, await answer.text());
  };

  it("a CA with the default trust domain stays in schema 3, and the older version can take over at any time", async () => {
    const servers: ServerProcess[] = [];
    const start = async (starting: Promise<ServerProcess>) => {
      const server = await starting;
      servers.push(server);
      return server;
    };
    try {
      const present = await start(startServer(environment));
      const { trustDomain } = present;
      assert.equal(await schema(), 3);
      const previous = await start(startServer(environment, [], [process.execPath], folder));
      assert.equal(previous.trustDomain, trustDomain);
      for (const server of [present, previous]) {
        await rotate(server);
        assert.equal(await schema(), 3);
      }
      for (const server of [present, previous]) await server.stop();
      const back = await start(startServer(environment, [], [process.execPath], folder));
      await rotate(back);
      assert.equal(back.trustDomain, trustDomain);
    } finally {
      for (const server of servers) await server.stop();
    }
  });

  it("a configuration with names of services waits until no live replica is older, and is followed by none that is", async () => {
    const servers: ServerProcess[] = [];
    const start = async (starting: Promise<ServerProcess>) => {
      const server = await starting;
      servers.push(server);
      return server;
    };
    const configure = async ({ url }: ServerProcess, Config: object) => {
      const body = JSON.stringify({ Provider: "consul", Config });
      const answer = await fetch(`${url}/v1/connect/ca/configuration`, { method: "PUT", body });
      return { status: answer.status, text: await answer.text() };
    };
    const named = { ServiceDNSNames: ["{service}.example.com"] };
    try {
      const present = await start(startServer(environment));
      const previous = await start(startServer(environment, [], [process.execPath], folder));
      const before = await redis.admin.hget("{meshca}:state", "document");
      const unknown = await configure(previous, named);
      assert.deepEqual(
        [unknown.status, unknown.text.includes('unknown key "ServiceDNSNames" in Config')],
        [400, true],
      );
      const early = await configure(present, named);
      assert.equal(early.status, 503, early.text);
      assert.match(
        early.text,
        /^Cannot change the CA: its next state needs schema 4, and replica 127\.0\.0\.1:\d+ runs a version of meshca that reads the stored state up to schema 3; stop that replica, or start the newer version there$/,
      );
      assert.equal(await redis.admin.hget("{meshca}:state", "document"), before);
      // What the older version knows can still be changed.
      assert.equal((await configure(present, { LeafCertTTL: "71h" })).status, 200);
      assert.equal(await schema(), 3);
      await previous.stop();
      await until(async () => (await configure(present, named)).status === 200);
      assert.equal(await schema(), 4);
      const again = await runServer(environment, [], [process.execPath], folder);
      assert.notEqual(again.code, 0);
      assert.match(
        again.stderr + again.stdout,
        /it has schema 4, this version of meshca knows up to 3/,
      );
      // Without these fields the older version can take over again.
      assert.equal((await configure(present, { LeafCertTTL: "71h" })).status, 200);
      assert.equal(await schema(), 3);
      const back = await start(startServer(environment, [], [process.execPath], folder));
      await rotate(back);
    } finally {
      for (const server of servers) await server.stop();
    }
  });

  it("the older version refuses a CA with a trust domain of its own, and changes nothing", async () => {
    const file = join(folder, "trust-domain.json");
    writeFileSync(
      file,
      JSON.stringify({ connect: { ca_config: { trust_domain: "mesh.example.com" } } }),
    );
    const present = await startServer({ ...environment, MESHCA_CONFIG: file });
    try {
      assert.equal(present.trustDomain, "mesh.example.com");
      assert.equal(await schema(), 4);
      const before = await redis.admin.hgetall("{meshca}:state");
      const refused = await runServer(environment, [], [process.execPath], folder);
      assert.notEqual(refused.code, 0);
      assert.match(
        refused.stderr + refused.stdout,
        /it has schema 4, this version of meshca knows up to 3; start the newer version that wrote it/,
      );
      assert.deepEqual(await redis.admin.hgetall("{meshca}:state"), before);
      await rotate(present);
    } finally {
      await present.stop();
    }
  });
});

describe("this version and one without roles at one Redis", { skip: noRedis || noPrevious }, () => {
  let redis: RedisServer;
  let folder: string;
  let environment: Record<string, string>;
  before(async () => {
    folder = checkOut(SCHEMA_4);
    redis = await startRedis();
    environment = {
      MESHCA_STORE: `redis://127.0.0.1:${redis.port}`,
      MESHCA_KEK: makeKek(),
      MESHCA_ACL: "deny",
      MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT,
    };
  });
  after(async () => {
    await redis?.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  const older = () => startServer(environment, [], [process.execPath], folder);
  const put = async ({ url }: ServerProcess, path: string, body: object) => {
    const headers = { "X-Consul-Token": MANAGEMENT };
    const answer = await fetch(`${url}${path}`, {
      method: "PUT",
      headers,
      body: JSON.stringify(body),
    });
    return { status: answer.status, text: await answer.text() };
  };
  const document = async () => (await redis.admin.hget("{meshca}:state", "document")) ?? "";
  const schema = async () => (JSON.parse(await document()) as { schema: number }).schema;
  const isRecorded = async () => (await document()).includes("keyId");

  it("roles wait until no live replica is older, and the older version does not start with them", async () => {
    const servers: ServerProcess[] = [];
    const start = async (starting: Promise<ServerProcess>) => {
      const server = await starting;
      servers.push(server);
      return server;
    };
    try {
      const present = await start(startServer(environment));
      const previous = await start(older());
      await until(isRecorded);
      const service = { ServiceIdentities: [{ ServiceName: "web" }] };
      for (const server of [present, previous])
        assert.equal((await put(server, "/v1/acl/token", service)).status, 200);
      assert.equal(await schema(), 3);
      const templated = {
        TemplatedPolicies: [
          { TemplateName: "builtin/service", TemplateVariables: { Name: "api" } },
        ],
      };
      for (const [path, body] of [
        ["/v1/acl/role", { Name: "r", ...service }],
        ["/v1/acl/token", templated],
      ] as const) {
        const early = await put(present, path, body);
        assert.equal(early.status, 503, early.text);
        assert.match(
          early.text,
          /its next state needs schema 5, and replica 127\.0\.0\.1:\d+ runs a version of meshca that reads the stored state up to schema 4; stop that replica, or start the newer version there$/,
        );
      }
      const records = async () =>
        Object.keys(await redis.admin.hgetall("{meshca}:access:records")).filter((name) =>
          name.startsWith("role/"),
        );
      assert.deepEqual(await records(), []);
      // Everything that the older version knows can still be changed.
      assert.equal((await put(present, "/v1/acl/policy", { Name: "p" })).status, 200);
      await present.stop();
      const back = await start(startServer(environment));
      await previous.stop();
      await until(
        async () => (await put(back, "/v1/acl/role", { Name: "r", ...service })).status === 200,
      );
      assert.equal(await schema(), 5);
      assert.equal((await records()).length, 1);
      const made = await put(back, "/v1/acl/token", { Roles: [{ Name: "r" }] });
      assert.equal(made.status, 200, made.text);
      const again = await runServer(environment, [], [process.execPath], folder);
      assert.notEqual(again.code, 0);
      assert.match(
        again.stderr + again.stdout,
        /it has schema 5, this version of meshca knows up to 4; start the newer version that wrote it/,
      );
      // A replica that starts knows the role.
      const fresh = await start(startServer(environment));
      const { SecretID } = JSON.parse(made.text) as Token;
      const signed = await fetch(`${fresh.url}/v1/connect/ca/sign`, {
        method: "PUT",
        headers: { "X-Consul-Token": SecretID },
        body: opensslCsr(`URI:spiffe://${fresh.trustDomain}/ns/default/dc/dc1/svc/web`).csr,
      });
      assert.equal(signed.status, 200, await signed.text());
    } finally {
      for (const server of servers) await server.stop();
    }
  });
});

describe("this version and one that knows one datacenter at one Redis", {
  skip: noRedis || noPrevious,
}, () => {
  it("an intermediate waits until no live replica is older, and the older version does not start with it", async () => {
    const folder = checkOut(SCHEMA_5);
    const redis = await startRedis();
    const environment = {
      MESHCA_STORE: `redis://127.0.0.1:${redis.port}`,
      MESHCA_KEK: makeKek(),
    };
    const servers: ServerProcess[] = [];
    const start = async (starting: Promise<ServerProcess>) => {
      const server = await starting;
      servers.push(server);
      return server;
    };
    const schema = async () =>
      (
        JSON.parse((await redis.admin.hget("{meshca}:state", "document")) ?? "") as {
          schema: number;
        }
      ).schema;
    try {
      const present = await start(startServer(environment));
      const previous = await start(startServer(environment, [], [process.execPath], folder));
      const { csr } = opensslCsr(`URI:spiffe://${present.trustDomain}`, undefined, [
        "-subj",
        "/CN=sec-1.consul",
      ]);
      const ask = async () => {
        const answer = await fetch(`${present.url}/v1/connect/ca/sign-intermediate`, {
          method: "PUT",
          body: csr,
        });
        return { status: answer.status, text: await answer.text() };
      };
      const early = await ask();
      assert.equal(early.status, 503, early.text);
      assert.match(
        early.text,
        /its next state needs schema 6, and replica 127\.0\.0\.1:\d+ runs a version of meshca that reads the stored state up to schema 5; stop that replica, or start the newer version there$/,
      );
      // Both change what both know.
      for (const { url } of [previous, present])
        assert.equal((await fetch(`${url}/v1/connect/ca/rotate`, { method: "PUT" })).status, 200);
      assert.equal(await schema(), 3);
      await previous.stop();
      await until(async () => (await ask()).status === 200);
      assert.equal(await schema(), 6);
      const again = await runServer(environment, [], [process.execPath], folder);
      assert.notEqual(again.code, 0);
      assert.match(
        again.stderr + again.stdout,
        /it has schema 6, this version of meshca knows up to 5; start the newer version that wrote it/,
      );
    } finally {
      for (const server of servers) await server.stop();
      await redis.stop();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
