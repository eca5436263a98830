/**
 * Secrets are planted wherever there are any, every route is called in every way that works and in
 * many that do not, and then all that came out is searched: answers, logs, metrics, the audit log,
 * files, and what lies in the store.
 * @module
 */
import assert from "node:assert/strict";
import { createPrivateKey } from "node:crypto";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, it } from "node:test";
import { exportSPKI, generateKeyPair, importPKCS8, SignJWT } from "jose";
import { routesOf } from "../../src/http/app.ts";
import { makeKek } from "../../src/seal/kek.ts";
import { opensslCsr } from "../fakes/ca.ts";
import { createTestApp } from "../fixtures/app.ts";
import { createSearch, type Search } from "../fixtures/planted.ts";
import { makeDataDir, runServer, type ServerProcess, startServer } from "../fixtures/process.ts";
import { makeRoot } from "../fixtures/supplied-root.ts";
import { noRedis, type RedisServer, startRedis, until } from "../redis/server.ts";
import { selfSigned } from "../tls/harness.ts";

/** With characters that URLs, JSON and form data write otherwise. */
const marked = (name: string): string => `planted/${name}+${crypto.randomUUID()}="&%`;
/**
 * How each P-256 key in PKCS #8 begins (RFC 5958 §2, RFC 5915 §3): all that servers here make by
 * themselves.
 */
const PKCS8_P256 = Buffer.from(
  "308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420",
  "hex",
);

/** The number that is the private half of an EC key. */
const scalarOf = (pem: string): Buffer =>
  Buffer.from(String(createPrivateKey(pem).export({ format: "jwk" }).d), "base64url");
/** All but the public parts of a JWT. */
const signatureOf = (jwt: string): string => jwt.split(".")[2] ?? "";

/** A token is shown to its holder. */
const SELF = "answer GET /v1/acl/token/self 200";

interface Sent {
  readonly body?: string | undefined;
  readonly headers?: Readonly<Record<string, string>>;
}

/** All output of a server, and the secrets that must not be in it. */
class Scenario {
  readonly secrets: Search = createSearch();
  /** What is public, to see that the search sees. */
  readonly control: Search = createSearch();
  #count = 0;

  collect(source: string, content: string | Uint8Array): void {
    this.secrets.collect(source, content);
    this.control.collect(source, content);
  }

  /** @returns the answer, with what its source is called. */
  async call(
    server: ServerProcess,
    method: string,
    path: string,
    { body, headers = {} }: Sent = {},
  ) {
    const init = { method, headers, body: body ?? null, tls: { rejectUnauthorized: false } };
    const answer = await fetch(`${server.url}${path}`, init);
    const text = await answer.text();
    const source = `answer ${method} ${path.replace(/\?.*/s, "")} ${answer.status} of ${++this.#count}`;
    this.collect(source, `${JSON.stringify([...answer.headers])}\n${text}`);
    return { status: answer.status, text, source, headers: answer.headers };
  }

  /**
   * A call that must work.
   * @param secret what in its answer is a secret: it is only in that answer, uncompressed and not
   * to be kept.
   * @param shown how the names of other answers begin that show it.
   */
  async get<T>(
    server: ServerProcess,
    method: string,
    path: string,
    sent: Sent,
    secret?: (answer: T) => string,
    shown: readonly string[] = [],
  ): Promise<T> {
    const { status, text, source, headers } = await this.call(server, method, path, sent);
    assert.equal(status, 200, `${method} ${path}: ${text}`);
    const answer = (text === "" ? null : JSON.parse(text)) as T;
    if (secret !== undefined) {
      this.secrets.plant(`the secret of ${source}`, secret(answer), [source, ...shown]);
      assert.equal(headers.get("cache-control"), "no-store", source);
      assert.equal(headers.get("content-encoding"), null, source);
    }
    return answer;
  }

  collectFiles(folder: string): void {
    for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true }))
      if (entry.isFile())
        this.collect(`file ${entry.name}`, readFileSync(join(entry.parentPath, entry.name)));
  }

  /** The rows too, since what is in one may lie on several pages. */
  collectSqlite(path: string): void {
    const database = new DatabaseSync(path, { readOnly: true });
    for (const { name } of database
      .prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")
      .all())
      for (const row of database.prepare(`SELECT * FROM "${name}"`).all())
        this.collect(
          `table ${name}`,
          JSON.stringify(row, (_, value: unknown) =>
            value instanceof Uint8Array ? [...value] : value,
          ),
        );
    database.close();
  }

  async collectRedis({ admin }: RedisServer): Promise<void> {
    for (const key of await admin.keys("*")) {
      const type = await admin.type(key);
      const value =
        type === "hash"
          ? await admin.hgetall(key)
          : type === "zset" || type === "list"
            ? await admin.call(type === "list" ? "LRANGE" : "ZRANGE", key, 0, -1)
            : type === "stream"
              ? await admin.call("XRANGE", key, "-", "+")
              : await admin.get(key);
      this.collect(`redis ${key}`, `${key} ${JSON.stringify(value)}`);
    }
  }

  /** Nothing leaked, each exception is one, and every kind of source was seen through. */
  requireClean(kinds: readonly string[]): void {
    assert.deepEqual(this.secrets.leaks(), []);
    assert.deepEqual(this.secrets.unused(), []);
    const seen = new Set(this.control.leaks().map((leak) => / in (\w+)/.exec(leak)?.[1]));
    assert.deepEqual(seen, new Set(kinds));
  }
}

/** What anybody can do that has all rights, in the way that it is meant. */
async function doEverything(
  scenario: Scenario,
  server: ServerProcess,
  management: string,
): Promise<void> {
  const token = { "X-Consul-Token": management };
  const json = (body: unknown): Sent => ({ body: JSON.stringify(body), headers: token });
  interface TokenAnswer {
    readonly AccessorID: string;
    readonly SecretID: string;
  }
  const made = await scenario.get<TokenAnswer>(
    server,
    "PUT",
    "/v1/acl/token",
    json({ SecretID: crypto.randomUUID(), ServiceIdentities: [{ ServiceName: "web" }] }),
    ({ SecretID }) => SecretID,
  );
  scenario.control.plant("an accessor", made.AccessorID);
  scenario.control.plant("a route", "/v1/acl/token/:id/clone");
  await scenario.get<TokenAnswer>(
    server,
    "PUT",
    "/v1/acl/token",
    json({}),
    ({ SecretID }) => SecretID,
  );
  await scenario.get<TokenAnswer>(
    server,
    "PUT",
    `/v1/acl/token/${made.AccessorID}/clone`,
    json({}),
    ({ SecretID }) => SecretID,
  );
  assert.equal(
    (
      await scenario.call(server, "GET", "/v1/acl/tokens", {
        headers: { Authorization: `Bearer ${made.SecretID}` },
      })
    ).status,
    403,
  );
  for (const path of ["/v1/acl/tokens", `/v1/acl/token/${made.AccessorID}`])
    await scenario.get(server, "GET", path, { headers: token });
  await scenario.get(
    server,
    "PUT",
    `/v1/acl/token/${made.AccessorID}`,
    json({ Description: "changed", ServiceIdentities: [{ ServiceName: "web" }] }),
  );

  const issuer = await generateKeyPair("ES256", { extractable: true });
  const Config = {
    JWTSupportedAlgs: ["ES256"],
    BoundIssuer: "issuer",
    BoundAudiences: ["meshca"],
    JWTValidationPubKeys: [await exportSPKI(issuer.publicKey)],
    ClaimMappings: { sub: "name" },
  };
  await scenario.get(
    server,
    "PUT",
    "/v1/acl/auth-method",
    json({ Name: "jwt", Type: "jwt", Config }),
  );
  await scenario.get(
    server,
    "PUT",
    "/v1/acl/binding-rule",
    json({ AuthMethod: "jwt", BindType: "service", BindName: "api" }),
  );
  const jwt = async (key: CryptoKey, alg = "ES256") => {
    const signed = await new SignJWT({ sub: "someone", jti: crypto.randomUUID() })
      .setProtectedHeader({ alg })
      .setIssuer("issuer")
      .setAudience("meshca")
      .setIssuedAt()
      .setExpirationTime("5m")
      .sign(key);
    scenario.secrets.plant("a login token", signatureOf(signed));
    return signed;
  };
  const login = (BearerToken: string): Sent => ({
    body: JSON.stringify({ AuthMethod: "jwt", BearerToken }),
  });
  const bearer = await jwt(issuer.privateKey);
  const entered = await scenario.get<TokenAnswer>(
    server,
    "POST",
    "/v1/acl/login",
    login(bearer),
    ({ SecretID }) => SecretID,
  );
  const refused = [
    bearer,
    await jwt((await generateKeyPair("ES256")).privateKey),
    `${bearer}x`,
    marked("no JWT"),
  ];
  scenario.secrets.plant("what is no JWT", String(refused[3]));
  for (const again of refused)
    assert.equal((await scenario.call(server, "POST", "/v1/acl/login", login(again))).status, 403);
  await scenario.get(server, "POST", "/v1/acl/logout", {
    headers: { "X-Consul-Token": entered.SecretID },
  });

  const { csr, key } = opensslCsr(`URI:spiffe://${server.trustDomain}/ns/default/dc/dc1/svc/web`);
  scenario.secrets.plant("a leaf's key", scalarOf(key));
  const chain = { Accept: "application/pem-certificate-chain" };
  const { text: leaf, status } = await scenario.call(
    server,
    "PUT",
    `/v1/connect/ca/sign?token=${made.SecretID}`,
    {
      body: csr,
      headers: chain,
    },
  );
  assert.equal(status, 200, leaf);
  const x5c = [...leaf.matchAll(/-----BEGIN CERTIFICATE-----([^-]+)-----/g)].map((match) =>
    (match[1] ?? "").replace(/\s/g, ""),
  );
  const der = Buffer.from(csr.replace(/-----[^-]+-----|\s/g, ""), "base64");
  const proof = await new SignJWT({
    aud: `spiffe://${server.trustDomain}`,
    iat: Math.floor(Date.now() / 1000),
    csr: Buffer.from(await crypto.subtle.digest("SHA-256", der)).toString("base64url"),
  })
    .setProtectedHeader({ alg: "ES256", x5c })
    .sign(
      await importPKCS8(
        createPrivateKey(key).export({ type: "pkcs8", format: "pem" }).toString(),
        "ES256",
      ),
    );
  scenario.secrets.plant("a proof of renewal", signatureOf(proof));
  const other = opensslCsr(`URI:spiffe://${server.trustDomain}/ns/default/dc/dc1/svc/web`).csr;
  for (const [body, expected] of [
    [csr, 200],
    [other, 403],
    ["no request", 400],
  ] as const) {
    const headers = { Authorization: `Bearer ${proof}` };
    assert.equal(
      (await scenario.call(server, "PUT", "/v1/connect/ca/renew", { body, headers })).status,
      expected,
    );
  }

  const root = makeRoot(server.trustDomain);
  scenario.secrets.plant("the key of a supplied root", scalarOf(root.key));
  const supplied = json({
    Provider: "consul",
    Config: { PrivateKey: root.key, RootCert: root.certificate },
  });
  await scenario.get(server, "PUT", "/v1/connect/ca/configuration", supplied);
  for (const path of ["configuration", "roots", "state-conflict", "rewrap"])
    await scenario.get(server, "GET", `/v1/connect/ca/${path}?pretty`, { headers: token });
  const { text: backup } = await scenario.call(server, "GET", "/v1/connect/ca/backup", {
    headers: token,
  });
  await scenario.get(server, "PUT", "/v1/connect/ca/backup", { body: backup, headers: token });
  await scenario.get(server, "PUT", "/v1/connect/ca/rewrap", { headers: token });
  await scenario.get(
    server,
    "PUT",
    "/v1/connect/ca/deny",
    json({ SPIFFEID: `spiffe://${server.trustDomain}/ns/default/dc/dc1/svc/bad`, Reason: "lost" }),
  );
  // Keys in places that allow none: they are refused, and not repeated.
  const wrong = { ...Config, JWTValidationPubKeys: [root.key] };
  assert.equal(
    (
      await scenario.call(
        server,
        "PUT",
        "/v1/acl/auth-method",
        json({ Name: "wrong", Type: "jwt", Config: wrong }),
      )
    ).status,
    400,
  );
  const ServiceAccountJWT = marked("a service account's token");
  scenario.secrets.plant("a service account's token", ServiceAccountJWT);
  await scenario.call(
    server,
    "PUT",
    "/v1/acl/auth-method",
    json({ Name: "k", Type: "kubernetes", Config: { ServiceAccountJWT } }),
  );
  for (const PrivateKey of [
    root.key.replace("BEGIN", "BEGIN ENCRYPTED"),
    `${root.key}${root.key}`,
    root.key.slice(0, 150),
    [root.key],
  ])
    assert.equal(
      (
        await scenario.call(
          server,
          "PUT",
          "/v1/connect/ca/configuration",
          json({ Provider: "consul", Config: { PrivateKey } }),
        )
      ).status,
      400,
    );
  scenario.collect(
    "metrics",
    (await scenario.call(server, "GET", "/metrics", { headers: token })).text,
  );
}

/**
 * Every route with every kind of token and every kind of body, none of which it can do anything
 * with.
 */
async function tryEverything(
  scenario: Scenario,
  server: ServerProcess,
  management: string,
): Promise<void> {
  const { app, options } = await createTestApp();
  const [guess, body] = [marked("guess"), marked("body")];
  scenario.secrets.plant("a guessed token", guess);
  scenario.secrets.plant("a secret in a body", body);
  const fields = (value: unknown) => ({
    SecretID: value,
    BearerToken: value,
    BootstrapSecret: value,
    CSR: value,
  });
  const bodies: readonly (string | undefined)[] = [
    undefined,
    body,
    `{"SecretID": "${JSON.stringify(body).slice(1, -1)}`,
    `{"SecretID": ${JSON.stringify(body)}, "SecretID": ${JSON.stringify(body)}}`,
    JSON.stringify({ Provider: "consul", Config: { PrivateKey: body }, ...fields(body) }),
    JSON.stringify({
      Provider: "consul",
      Config: { PrivateKey: { deep: body }, privatekey: [body] },
      ...fields([body, { deep: body }]),
    }),
    JSON.stringify(fields(body)),
    `-----BEGIN CERTIFICATE REQUEST-----\n${Buffer.from(body).toString("base64")}\n-----END CERTIFICATE REQUEST-----\n`,
  ];
  const credentials: readonly (readonly [
    query: string,
    headers: Readonly<Record<string, string>>,
  ])[] = [
    ["", {}],
    ["", { "X-Consul-Token": guess }],
    ["", { Authorization: `Bearer ${guess}` }],
    [`?token=${encodeURIComponent(guess)}&index=x&dc=${"y".repeat(300)}`, {}],
    ["", { "X-Consul-Token": management }],
    ["?pretty&wait=x&dc=other", { "X-Consul-Token": management }],
  ];
  const routes = routesOf(options, app.watchers);
  assert.ok(routes.length > 30);
  for (const { path, methods } of routes)
    for (const method of [...Object.keys(methods), "PATCH"])
      for (const [query, headers] of credentials)
        for (const sent of method === "GET" ? [undefined] : bodies)
          for (const type of sent === undefined ? [undefined] : ["application/json", "text/xml"]) {
            const target = `${path.replace(/:\w+/, "none")}${query}`;
            await scenario.call(server, method, target, {
              body: sent,
              headers: { ...headers, ...(type === undefined ? {} : { "Content-Type": type }) },
            });
          }
  for (const path of [
    `/v1/nothing?token=${encodeURIComponent(guess)}`,
    `/v1/acl/tokens?token=${encodeURIComponent(guess).repeat(200)}`,
  ])
    await scenario.call(server, "GET", path);
}

describe("secrets are write-only", () => {
  it("nothing planted comes out of a server over SQLite with TLS", {
    timeout: 120_000,
  }, async () => {
    const scenario = new Scenario();
    scenario.secrets.plant("a private key", PKCS8_P256, ["file key.pem"]);
    const folder = makeDataDir();
    const management = marked("management").slice(0, 60);
    const tls = selfSigned("planted");
    const [cert, key, audit] = ["cert.pem", "key.pem", "audit.jsonl"].map((name) =>
      join(folder, name),
    ) as [string, string, string];
    await Bun.write(cert, tls.cert);
    await Bun.write(key, tls.key);
    scenario.secrets.plant("the management token", management, [SELF]);
    scenario.secrets.plant("the server's key", scalarOf(tls.key), ["file key.pem"]);
    const server = await startServer({
      MESHCA_DATA_DIR: folder,
      MESHCA_ACL: "deny",
      MESHCA_INITIAL_MANAGEMENT_TOKEN: management,
      MESHCA_TLS_CERT_FILE: cert,
      MESHCA_TLS_KEY_FILE: key,
      MESHCA_AUDIT: audit,
      MESHCA_LOG_LEVEL: "debug",
      MESHCA_LIMITS_REQUESTS_PER_CLIENT: "1000000",
    });
    try {
      const kek = readFileSync(join(folder, "kek"), "utf8").trim().split(":")[1] ?? "";
      scenario.secrets.plant("the key-encryption key", Buffer.from(kek, "base64"), ["file kek"]);
      await doEverything(scenario, server, management);
      await tryEverything(scenario, server, management);
    } finally {
      const { stdout, stderr } = await server.stop();
      scenario.collect("log", stdout + stderr);
    }
    scenario.collectFiles(folder);
    scenario.collectSqlite(join(folder, "meshca.db"));
    rmSync(folder, { recursive: true });
    scenario.requireClean(["answer", "file", "log", "metrics", "table"]);
  });

  it("nothing planted comes out of a server over Redis, nor out of Redis", {
    skip: noRedis,
    timeout: 120_000,
  }, async () => {
    const scenario = new Scenario();
    scenario.secrets.plant("a private key", PKCS8_P256);
    const folder = makeDataDir();
    const kek = makeKek();
    const password = `planted-${crypto.randomUUID()}/=`;
    const redis = await startRedis({
      config: [
        `requirepass ${password}`,
        "appendonly yes",
        "appendfsync always",
        "maxmemory-policy noeviction",
      ],
    });
    scenario.secrets.plant(
      "the key-encryption key",
      Buffer.from(kek.trim().split(":")[1] ?? "", "base64"),
    );
    scenario.secrets.plant("the password of Redis", password);
    const said: string[] = [];
    const listener = redis.admin.duplicate();
    listener.on("error", () => undefined);
    await listener.psubscribe("*");
    listener.on("pmessage", (_, channel, message) => said.push(`${channel} ${message}`));
    const environment = {
      MESHCA_DATA_DIR: folder,
      MESHCA_STORE: `redis://:${encodeURIComponent(password)}@127.0.0.1:${redis.port}`,
      MESHCA_KEK: kek,
      MESHCA_ACL: "deny",
      MESHCA_AUDIT: "stdout",
      MESHCA_LOG_LEVEL: "debug",
      MESHCA_LIMITS_REQUESTS_PER_CLIENT: "1000000",
    };
    const server = await startServer(environment);
    try {
      const file = "acl-bootstrap-secret";
      const secret = readFileSync(join(folder, file), "utf8").trim();
      scenario.secrets.plant("the secret for the first token", secret, [`file ${file}`]);
      const first = crypto.randomUUID();
      const answer = await scenario.get<{ SecretID: string }>(
        server,
        "PUT",
        "/v1/acl/bootstrap",
        { body: JSON.stringify({ BootstrapSecret: first }), headers: { "X-Consul-Token": secret } },
        ({ SecretID }) => SecretID,
        [SELF],
      );
      assert.equal(answer.SecretID, first);
      await doEverything(scenario, server, first);
      await tryEverything(scenario, server, first);
      await scenario.collectRedis(redis);
      redis.kill("SIGKILL");
      await until(
        async () =>
          (
            await scenario.call(server, "PUT", "/v1/acl/token", {
              body: "{}",
              headers: { "X-Consul-Token": first },
            })
          ).status === 503,
      );
      await tryWithoutStore(scenario, server, first);
    } finally {
      const { stdout, stderr } = await server.stop();
      scenario.collect("log", stdout + stderr);
      listener.disconnect();
      await redis.stop();
    }
    for (const message of said) scenario.collect("redis channel", message);
    scenario.collectFiles(folder);
    rmSync(folder, { recursive: true });
    scenario.requireClean(["answer", "log", "metrics", "redis"]);
  });

  it("a start that fails logs the reason without the secrets that it was given", {
    skip: noRedis,
  }, async () => {
    const scenario = new Scenario();
    const secret = marked("setting");
    scenario.secrets.plant("a setting", secret);
    const given = encodeURIComponent(secret);
    const folder = makeDataDir();
    const [file, short] = [join(folder, "config.json"), join(folder, "token")];
    await Bun.write(
      file,
      JSON.stringify({
        acl: { tokens: { initial_management: `${secret} ` }, enabled: secret },
        connect: { ca_config: secret },
      }),
    );
    await Bun.write(short, `${secret}\n${secret}`);
    const redis = await startRedis({});
    for (const environment of [
      { MESHCA_INITIAL_MANAGEMENT_TOKEN: `${secret} ` },
      { MESHCA_INITIAL_MANAGEMENT_TOKEN: secret, MESHCA_ACL: "off" },
      { MESHCA_INITIAL_MANAGEMENT_TOKEN_FILE: short },
      { MESHCA_KEK: secret },
      { MESHCA_KEK: `id:${secret}` },
      { MESHCA_KEK_FILE: short },
      { MESHCA_STORE: `redis://user:${given}@[::1` },
      {
        MESHCA_STORE: `redis://user:${given}@127.0.0.1:1/x?wait=10&nothing=${given}`,
        MESHCA_KEK: makeKek(),
      },
      // A Redis that is away is waited for; one that refuses the password is not.
      { MESHCA_STORE: `redis://user:${given}@127.0.0.1:${redis.port}`, MESHCA_KEK: makeKek() },
      { MESHCA_CONFIG: file },
      { MESHCA_CONFIG: short },
    ]) {
      const { code, stdout, stderr } = await runServer({
        MESHCA_LISTEN: "127.0.0.1:0",
        MESHCA_DATA_DIR: folder,
        ...environment,
      });
      assert.notEqual(code, 0, JSON.stringify(environment));
      assert.notEqual(stderr, "");
      scenario.collect(`start with ${Object.keys(environment).join()}`, stdout + stderr);
    }
    await redis.stop();
    rmSync(folder, { recursive: true });
    assert.deepEqual(scenario.secrets.leaks(), []);
  });
});

async function tryWithoutStore(
  scenario: Scenario,
  server: ServerProcess,
  management: string,
): Promise<void> {
  const { app, options } = await createTestApp();
  for (const { path, methods } of routesOf(options, app.watchers))
    for (const method of Object.keys(methods))
      await scenario.call(server, method, path.replace(/:\w+/, "none"), {
        headers: { "X-Consul-Token": management },
        body: method === "GET" ? undefined : "{}",
      });
}
