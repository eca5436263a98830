/**
 * Access control in a Redis with foreign writes, lost writes or no data: what servers answer in
 * between, and how an operator decides, over HTTP.
 * @module
 */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { makeKek } from "../../src/seal/kek.ts";
import { opensslCsr } from "../fakes/ca.ts";
import { linesOf, makeDataDir, type ServerProcess, startServer } from "../fixtures/process.ts";
import { noRedis, type RedisServer, startRedis, until } from "./server.ts";

const MANAGEMENT = "11111111-2222-4333-8444-555555555555";
const CONFLICT = "/v1/acl/state-conflict";
const KEYS = [
  "{meshca}:access",
  "{meshca}:access:records",
  "{meshca}:access:keys",
  "{meshca}:access:log",
];

interface Token {
  readonly AccessorID: string;
  readonly SecretID: string;
}

describe("a Redis with another ACL than was seen", { skip: noRedis }, () => {
  let redis: RedisServer;
  let environment: Record<string, string>;
  const open: ServerProcess[] = [];
  const start = async (more: Record<string, string> = {}) => {
    const server = await startServer({ ...environment, ...more });
    open.push(server);
    return server;
  };

  before(async () => {
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
  afterEach(async () => {
    for (const server of open.splice(0)) await server.stop();
  });
  after(() => redis?.stop());

  const call = async (
    { url }: ServerProcess,
    method: string,
    path: string,
    secret: string | null,
    body?: unknown,
  ) => {
    const headers: Record<string, string> = secret === null ? {} : { "X-Consul-Token": secret };
    const sent =
      body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) };
    const answer = await fetch(`${url}${path}`, { method, headers, ...sent });
    return { status: answer.status, text: await answer.text() };
  };
  const json = async <T>(
    server: ServerProcess,
    method: string,
    path: string,
    secret: string,
    body?: unknown,
  ): Promise<T> => {
    const { status, text } = await call(server, method, path, secret, body);
    assert.equal(status, 200, text);
    return JSON.parse(text) as T;
  };
  const makeToken = (server: ServerProcess, secret = MANAGEMENT) =>
    json<Token>(server, "PUT", "/v1/acl/token", secret, {
      ServiceIdentities: [{ ServiceName: "web" }],
    });
  const sign = (server: ServerProcess, secret: string | null) =>
    call(
      server,
      "PUT",
      "/v1/connect/ca/sign",
      secret,
      opensslCsr(`URI:spiffe://${server.trustDomain}/ns/default/dc/dc1/svc/web`).csr,
    );
  const secretOf = async ({ dataDir }: ServerProcess) =>
    (await Bun.file(`${dataDir}/acl-bootstrap-secret`).text()).trim();
  /** Waits until the set document is required. */
  const required = () =>
    until(async () =>
      /"access\\":\{\\"keyId/.test((await redis.admin.hget("{meshca}:state", "document")) ?? ""),
    );
  const save = () => Promise.all(KEYS.map((key) => redis.admin.hgetall(key)));
  const put = async (content: readonly Record<string, string>[]) => {
    const writes = redis.admin.multi().del(...KEYS);
    content.forEach((fields, i) => {
      if (Object.keys(fields).length > 0) writes.hset(KEYS[i] as string, fields);
    });
    await writes.exec();
    await redis.admin.publish("{meshca}:access:changed", "");
  };
  const stopped = (server: ServerProcess) =>
    until(async () =>
      (await call(server, "GET", "/readyz", null)).text.includes(
        "access_control: changes are stopped",
      ),
    );

  it("is refused: a deleted token stays deleted, also on a server that starts, until an operator decides", async () => {
    const one = await start();
    await required();
    const [gone, kept] = [await makeToken(one), await makeToken(one)];
    const then = await save();
    await json(one, "DELETE", `/v1/acl/token/${gone.AccessorID}`, MANAGEMENT);
    await put(then);
    await stopped(one);
    const ready = await call(one, "GET", "/readyz", null);
    assert.equal(ready.status, 200);
    assert.match(
      ready.text,
      /access_control: changes are stopped, the records loaded before stay in force: the store lost writes: /,
    );
    assert.ok(
      linesOf(one.stdout()).some(
        ({ level, message }) =>
          String(level).toLowerCase() === "error" &&
          /^Refusing the stored ACL/.test(String(message)),
      ),
    );
    assert.deepEqual(
      [(await sign(one, gone.SecretID)).status, (await sign(one, kept.SecretID)).status],
      [403, 200],
    );
    const refused = await call(one, "PUT", "/v1/acl/token", MANAGEMENT, {});
    assert.equal(refused.status, 503);
    assert.match(
      refused.text,
      /^Cannot change the ACL: the store lost writes.*see GET \/v1\/acl\/state-conflict$/,
    );
    const two = await start();
    assert.equal((await call(two, "GET", "/v1/connect/ca/roots", null)).status, 200);
    for (const secret of [gone.SecretID, kept.SecretID, MANAGEMENT, null])
      assert.equal((await sign(two, secret)).status, 503);
    const notReady = await call(two, "GET", "/readyz", null);
    assert.equal(notReady.status, 503);
    assert.match(notReady.text, /access control cannot be loaded: the store lost writes/);
    // An operator reads both.
    for (const secret of [null, gone.SecretID, "x"]) {
      assert.equal((await call(two, "GET", CONFLICT, secret)).status, 403);
      assert.equal((await call(two, "PUT", CONFLICT, secret, { Keep: "stored" })).status, 403);
    }
    for (const secret of [null, gone.SecretID, kept.SecretID])
      assert.equal((await call(one, "PUT", CONFLICT, secret, { Keep: "stored" })).status, 403);
    interface Report {
      readonly Conflict: boolean;
      readonly Reason: string;
      readonly Snapshot: object | null;
      readonly Differences: readonly string[];
    }
    const report = await json<Report>(one, "GET", CONFLICT, MANAGEMENT);
    assert.deepEqual(report.Differences, [
      `token/${gone.AccessorID}`,
      `tombstone/token.${gone.AccessorID}`,
    ]);
    assert.equal((await json<Report>(two, "GET", CONFLICT, await secretOf(two))).Snapshot, null);
    assert.equal((await call(two, "PUT", CONFLICT, MANAGEMENT, { Keep: "snapshot" })).status, 409);
    for (const body of [{}, { Keep: "x" }, { Keep: "stored", More: 1 }, "", "["])
      assert.equal((await call(one, "PUT", CONFLICT, MANAGEMENT, body)).status, 400);
    assert.deepEqual(await json(one, "PUT", CONFLICT, MANAGEMENT, { Keep: "snapshot" }), {
      Conflict: false,
    });
    assert.equal((await call(one, "PUT", CONFLICT, MANAGEMENT, { Keep: "snapshot" })).status, 409);
    await until(async () => (await sign(two, kept.SecretID)).status === 200);
    for (const server of [one, two]) assert.equal((await sign(server, gone.SecretID)).status, 403);
    const made = await makeToken(two);
    await until(async () => (await sign(one, made.SecretID)).status === 200);
  });

  it("is refused after a restart by the last-seen state in the data folder", async () => {
    const one = await start();
    await required();
    const { SecretID } = await makeToken(one);
    const then = await save();
    // The file is written after the response: it may not exist yet.
    const lastSeen = async (): Promise<number> => {
      const file = Bun.file(`${one.dataDir}/seen-access-redis.json`);
      return (await file.exists()) ? (await file.json()).index : 0;
    };
    await makeToken(one);
    await until(async () => (await lastSeen()) > Number(then[0]?.index));
    one.kill("SIGKILL");
    await one.ended;
    open.splice(0);
    await put(then);
    const again = await start({ MESHCA_DATA_DIR: one.dataDir });
    assert.match(
      (await call(again, "GET", "/readyz", null)).text,
      /access control cannot be loaded: the store lost writes/,
    );
    assert.equal((await sign(again, SecretID)).status, 503);
    // The operator knows of a failover, and keeps the stored state.
    assert.deepEqual(await json(again, "PUT", CONFLICT, MANAGEMENT, { Keep: "stored" }), {
      Conflict: false,
    });
    assert.equal((await sign(again, SecretID)).status, 200);
  });

  it("is refused by a server that starts on a store that was put back to before the MAC was required", async () => {
    // A replica of an older version, as far as the others can tell.
    const older = {
      id: "older",
      address: "127.0.0.1:1",
      keks: [environment.MESHCA_KEK?.split(":")[0]],
      schema: 2,
      index: 1,
      clockOffsetMs: 0,
    };
    await redis.admin.hset(
      "{meshca}:replicas",
      "older",
      `${Date.now() + 500_000} 600000 ${JSON.stringify(older)}`,
    );
    const one = await start();
    const { AccessorID, SecretID } = await makeToken(one);
    const [then, state] = [await save(), await redis.admin.hgetall("{meshca}:state")];
    await redis.admin.hdel("{meshca}:replicas", "older");
    await required();
    await json(one, "DELETE", `/v1/acl/token/${AccessorID}`, MANAGEMENT);
    await put(then);
    await redis.admin.multi().del("{meshca}:state").hset("{meshca}:state", state).exec();
    await redis.admin.publish("{meshca}:changed", "");
    await until(async () => (await redis.admin.exists("{meshca}:stop")) === 1);
    const two = await start();
    assert.equal((await sign(two, SecretID)).status, 503);
    assert.equal((await sign(one, SecretID)).status, 403);
    assert.equal(
      (await call(one, "PUT", "/v1/connect/ca/state-conflict", MANAGEMENT, { Keep: "snapshot" }))
        .status,
      200,
    );
    await stopped(one);
    assert.deepEqual(await json(one, "PUT", CONFLICT, MANAGEMENT, { Keep: "snapshot" }), {
      Conflict: false,
    });
    await until(async () => (await sign(two, SecretID)).status === 403);
    const made = await makeToken(two);
    assert.equal((await sign(two, made.SecretID)).status, 200);
  });

  it("is resolved with the secret of the data folder if no server has a set in force, and an empty ACL starts", async () => {
    const one = await start();
    await required();
    const { SecretID } = await makeToken(one);
    const { dataDir } = one;
    one.kill("SIGKILL");
    await one.ended;
    open.splice(0);
    await redis.admin.del(...KEYS);
    const { MESHCA_INITIAL_MANAGEMENT_TOKEN: _, ...without } = environment;
    environment = without;
    const again = await start({ MESHCA_DATA_DIR: dataDir });
    assert.equal((await sign(again, SecretID)).status, 503);
    assert.equal(
      (await call(again, "PUT", "/v1/acl/bootstrap", await secretOf(again))).status,
      503,
    );
    const secret = await secretOf(again);
    for (const Keep of ["snapshot", "stored"])
      assert.equal((await call(again, "PUT", CONFLICT, secret, { Keep })).status, 409);
    assert.deepEqual(await json(again, "PUT", CONFLICT, secret, { Keep: "nothing" }), {
      Conflict: false,
    });
    const first = await json<Token>(again, "PUT", "/v1/acl/bootstrap", secret);
    assert.equal((await sign(again, SecretID)).status, 403);
    const { SecretID: fresh } = await makeToken(again, first.SecretID);
    assert.equal((await sign(again, fresh)).status, 200);
    assert.equal((await call(again, "PUT", "/v1/acl/bootstrap", secret)).status, 403);
    const other = await start();
    assert.equal((await sign(other, fresh)).status, 200);
  });

  it("is restored with the CA's state after Redis was emptied", async () => {
    const one = await start();
    await required();
    const { SecretID } = await makeToken(one);
    await redis.admin.flushall();
    await redis.admin.publish("{meshca}:access:changed", "");
    await redis.admin.publish("{meshca}:changed", "");
    await stopped(one);
    await until(async () =>
      (await call(one, "GET", "/readyz", null)).text.includes("/v1/connect/ca/state-conflict"),
    );
    assert.equal((await sign(one, SecretID)).status, 200);
    assert.equal((await call(one, "PUT", "/v1/acl/bootstrap", await secretOf(one))).status, 403);
    assert.equal(
      (await call(one, "PUT", "/v1/connect/ca/state-conflict", MANAGEMENT, { Keep: "snapshot" }))
        .status,
      200,
    );
    assert.deepEqual(await json(one, "PUT", CONFLICT, MANAGEMENT, { Keep: "snapshot" }), {
      Conflict: false,
    });
    await makeToken(one);
    const other = await start();
    assert.equal((await sign(other, SecretID)).status, 200);
  });

  it("does not exist for a new Redis with an imported CA: the ACL starts empty, under a MAC", async () => {
    const dataDir = makeDataDir();
    const { MESHCA_STORE = "", MESHCA_KEK: _, ...rest } = environment;
    const embedded = await startServer({ ...rest, MESHCA_DATA_DIR: dataDir });
    const backup = `${dataDir}/ca.backup`;
    try {
      const { AccessorID, SecretID } = await makeToken(embedded);
      assert.equal((await sign(embedded, SecretID)).status, 200);
      await Bun.write(
        backup,
        (await call(embedded, "GET", "/v1/connect/ca/backup", MANAGEMENT)).text,
      );
      await embedded.stop();
      const kek = (await Bun.file(`${dataDir}/kek`).text()).trim();
      for (const source of [`sqlite:${dataDir}/meshca.db`, `backup:${backup}`]) {
        await redis.admin.flushall();
        const one = await start({
          MESHCA_STORE,
          MESHCA_IMPORT: source,
          MESHCA_KEK: `${environment.MESHCA_KEK},${kek}`,
        });
        assert.equal(one.trustDomain, embedded.trustDomain);
        await required();
        assert.deepEqual(
          [
            (await sign(one, SecretID)).status,
            (await call(one, "GET", `/v1/acl/token/${AccessorID}`, MANAGEMENT)).status,
          ],
          [403, 403],
        );
        assert.equal((await sign(one, (await makeToken(one)).SecretID)).status, 200);
        assert.ok(!(await call(one, "GET", "/readyz", null)).text.includes("access_control:"));
        await one.stop();
        open.splice(0);
      }
    } finally {
      rmSync(dataDir, { recursive: true, force: true });
    }
  });
});
