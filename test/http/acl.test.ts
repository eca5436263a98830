/**
 * Access control over HTTP, on every store: which caller has which rights, in Consul's JSON, from
 * the first token to the last login.
 * @module
 */
import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { exportSPKI, generateKeyPair, SignJWT } from "jose";
import { makeKek } from "../../src/seal/kek.ts";
import { opensslCsr } from "../fakes/ca.ts";
import { guarded } from "../fixtures/guarded.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { noRedis, type RedisServer, startRedis, until } from "../redis/server.ts";

const MANAGEMENT = "11111111-2222-4333-8444-555555555555";
const KEK = makeKek();

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly headers: Headers;
}

async function call(
  server: ServerProcess,
  method: string,
  path: string,
  token: string | null,
  body?: unknown,
): Promise<Answer> {
  const headers: Record<string, string> = token === null ? {} : { "X-Consul-Token": token };
  const sent =
    body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) };
  const answer = await fetch(`${server.url}${path}`, { method, headers, ...sent });
  return { status: answer.status, text: await answer.text(), headers: answer.headers };
}

/** A call that is to succeed. @returns its JSON */
async function json<T = Record<string, unknown>>(
  server: ServerProcess,
  method: string,
  path: string,
  token: string | null,
  body?: unknown,
): Promise<T> {
  const { status, text } = await call(server, method, path, token, body);
  assert.equal(status, 200, `${method} ${path}: ${text}`);
  return JSON.parse(text) as T;
}

interface Token {
  readonly AccessorID: string;
  readonly SecretID: string;
  readonly Policies?: readonly { readonly ID: string; readonly Name: string }[];
  readonly ServiceIdentities?: readonly { readonly ServiceName: string }[];
  readonly ExpirationTime?: string;
}

function csrOf(server: ServerProcess, path: string): string {
  return opensslCsr(`URI:spiffe://${server.trustDomain}${path}`).csr;
}
const web = (server: ServerProcess) => csrOf(server, "/ns/default/dc/dc1/svc/web");
const sign = (server: ServerProcess, csr: string, token: string | null) =>
  call(server, "PUT", "/v1/connect/ca/sign", token, csr);

function onStore(
  name: string,
  skip: string | false,
  start: (more?: Record<string, string>) => Promise<ServerProcess>,
): void {
  describe(`access control on ${name}`, { skip }, () => {
    let server: ServerProcess;
    before(async () => {
      server = await start({ MESHCA_ACL: "deny", MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT });
    });
    after(() => server?.stop());

    const policy = (Name: string, Rules: string) =>
      json<{ ID: string }>(server, "PUT", "/v1/acl/policy", MANAGEMENT, { Name, Rules });
    const token = async (Rules: string): Promise<string> => {
      const { ID } = await policy(`p-${crypto.randomUUID()}`, Rules);
      return (await json<Token>(server, "PUT", "/v1/acl/token", MANAGEMENT, { Policies: [{ ID }] }))
        .SecretID;
    };

    it("a query that cannot be read is refused before anything is changed", async () => {
      const [tokens, denied] = ["/v1/acl/tokens", "/v1/connect/ca/deny"];
      const before = [
        await json(server, "GET", tokens, MANAGEMENT),
        await json(server, "GET", denied, MANAGEMENT),
      ];
      for (const [path, body] of [
        ["/v1/acl/token", {}],
        [denied, { SerialNumber: "01:02" }],
      ] as const)
        assert.equal((await call(server, "PUT", `${path}?index=x`, MANAGEMENT, body)).status, 400);
      assert.deepEqual(
        [
          await json(server, "GET", tokens, MANAGEMENT),
          await json(server, "GET", denied, MANAGEMENT),
        ],
        before,
      );
    });

    it("serves the roots without a token, and nothing else", async () => {
      for (const path of [
        "/v1/connect/ca/roots",
        "/v1/connect/ca/roots?pem=true",
        "/v1/agent/connect/ca/roots",
        "/healthz",
      ])
        for (const secret of [null, "00000000-1111-4222-8333-444444444444"])
          assert.equal((await call(server, "GET", path, secret)).status, 200);
      assert.equal((await call(server, "GET", "/readyz", null)).status, 200);
      const roots = await call(server, "GET", "/v1/connect/ca/roots", null);
      assert.equal(roots.headers.get("x-consul-default-acl-policy"), "deny");
      const anonymous = await call(server, "GET", "/v1/connect/ca/configuration", null);
      assert.deepEqual(
        [anonymous.status, anonymous.text],
        [
          403,
          "Permission denied: anonymous token lacks permission 'operator:read'. The anonymous token is used implicitly when a request does not specify a token.",
        ],
      );
      const unknown = await call(
        server,
        "PUT",
        "/v1/connect/ca/rotate",
        "00000000-1111-4222-8333-444444444444",
      );
      assert.deepEqual([unknown.status, unknown.text], [403, "ACL not found"]);
      assert.equal(
        (await sign(server, web(server), null)).text,
        `Permission denied: anonymous token lacks permission 'service:write' on "web". The anonymous token is used implicitly when a request does not specify a token.`,
      );
    });

    it("signs what a token's rules allow, and nothing else", async () => {
      const secret = await token(
        'service "web" { policy = "write" } service_prefix "" { policy = "read" } node_prefix "n-" { policy = "write" }',
      );
      assert.equal((await sign(server, web(server), secret)).status, 200);
      const refused: readonly (readonly [string, RegExp])[] = [
        ["/ns/default/dc/dc1/svc/api", /lacks permission 'service:write' on "api"/],
        ["/ns/default/dc/dc1/svc/web2", /lacks permission 'service:write' on "web2"/],
        ["/agent/client/dc/dc1/id/m-1", /lacks permission 'node:write' on "m-1"/],
        ["/gateway/mesh/dc/dc1", /lacks permission 'mesh:write'/],
        ["/agent/server/dc/dc1", /lacks permission 'acl:write'/],
      ];
      for (const [path, says] of refused) {
        const answer = await sign(server, csrOf(server, path), secret);
        assert.equal(answer.status, 403, path);
        assert.match(answer.text, says);
      }
      assert.equal(
        (await sign(server, csrOf(server, "/agent/client/dc/dc1/id/n-1"), secret)).status,
        200,
      );
      for (const [method, path] of [
        ["GET", "/v1/connect/ca/configuration"],
        ["PUT", "/v1/connect/ca/rotate"],
        ["GET", "/v1/acl/tokens"],
        ["GET", "/v1/connect/ca/backup"],
      ] as const)
        assert.equal((await call(server, method, path, secret)).status, 403, path);
    });

    it("takes a token in any of Consul's places", async () => {
      const secret = await token('operator = "read"');
      const ask = (query: string, headers: Record<string, string>) =>
        fetch(`${server.url}/v1/connect/ca/configuration${query}`, { headers });
      assert.equal((await ask("", { Authorization: `Bearer ${secret}` })).status, 200);
      assert.equal((await ask(`?token=${secret}`, {})).status, 200);
      assert.equal((await ask("", { "X-Consul-Token": secret })).status, 200);
      // The query is asked first, as in Consul.
      assert.equal(
        (await ask("?token=00000000-1111-4222-8333-444444444444", { "X-Consul-Token": secret }))
          .status,
        403,
      );
      assert.ok(!server.stdout().includes(secret), "a token is in the log");
    });

    it("creates, reads, updates, clones and deletes tokens and policies, and shows a secret once", async () => {
      const { ID } = await policy("operators", 'operator = "write"');
      const made = await json<Token>(server, "PUT", "/v1/acl/token", MANAGEMENT, {
        Description: "one",
        Policies: [{ Name: "operators" }],
      });
      assert.deepEqual(made.Policies, [{ ID, Name: "operators" }]);
      const read = await json<Token>(server, "GET", `/v1/acl/token/${made.AccessorID}`, MANAGEMENT);
      assert.equal(read.SecretID, "<hidden>");
      const list = await call(server, "GET", "/v1/acl/tokens", MANAGEMENT);
      for (const secret of [made.SecretID, MANAGEMENT]) assert.ok(!list.text.includes(secret));
      assert.equal(
        (await json<Token>(server, "GET", "/v1/acl/token/self", made.SecretID)).AccessorID,
        made.AccessorID,
      );
      assert.equal((await call(server, "PUT", "/v1/connect/ca/rotate", made.SecretID)).status, 200);
      const clone = await json<Token>(
        server,
        "PUT",
        `/v1/acl/token/${made.AccessorID}/clone`,
        MANAGEMENT,
        {},
      );
      await json(server, "PUT", `/v1/acl/policy/${ID}`, MANAGEMENT, {
        ID,
        Name: "operators",
        Rules: 'operator = "read"',
      });
      for (const secret of [made.SecretID, clone.SecretID]) {
        await until(
          async () => (await call(server, "PUT", "/v1/connect/ca/rotate", secret)).status === 403,
        );
        assert.equal(
          (await call(server, "GET", "/v1/connect/ca/configuration", secret)).status,
          200,
        );
      }
      await json(server, "PUT", `/v1/acl/token/${made.AccessorID}`, MANAGEMENT, {
        Description: "two",
        Policies: [],
      });
      assert.equal(
        (await call(server, "GET", "/v1/connect/ca/configuration", made.SecretID)).status,
        403,
      );
      assert.equal(
        await json<unknown>(server, "DELETE", `/v1/acl/token/${clone.AccessorID}`, MANAGEMENT),
        true,
      );
      assert.equal(
        (await call(server, "GET", "/v1/connect/ca/configuration", clone.SecretID)).text,
        "ACL not found",
      );
      assert.equal(
        (await call(server, "GET", `/v1/acl/token/${clone.AccessorID}`, MANAGEMENT)).status,
        403,
      );
      assert.equal(await json<unknown>(server, "DELETE", `/v1/acl/policy/${ID}`, MANAGEMENT), true);
      assert.equal((await call(server, "GET", `/v1/acl/policy/${ID}`, MANAGEMENT)).status, 404);
    });

    it("refuses invalid fields, by name, and changes nothing", async () => {
      const before = (await call(server, "GET", "/v1/acl/tokens", MANAGEMENT)).text;
      const refused: readonly (readonly [string, string, unknown, number, RegExp])[] = [
        [
          "PUT",
          "/v1/acl/token",
          { Policies: [{ Name: "nowhere" }] },
          400,
          /^No such ACL policy with name "nowhere"$/,
        ],
        ["PUT", "/v1/acl/token", { Policies: "all" }, 400, /cannot unmarshal string/],
        ["PUT", "/v1/acl/token", { Polices: [] }, 400, /unknown field "Polices"/],
        [
          "PUT",
          "/v1/acl/token",
          { Roles: [{ Name: "x" }] },
          400,
          /^No such ACL role with name "x"$/,
        ],
        [
          "PUT",
          "/v1/acl/token",
          { ServiceIdentities: [{ ServiceName: "No!" }] },
          400,
          /has an invalid name/,
        ],
        [
          "PUT",
          "/v1/acl/token",
          { NodeIdentities: [{ NodeName: "n" }] },
          400,
          /missing the datacenter/,
        ],
        [
          "PUT",
          "/v1/acl/token",
          { AccessorID: "00000000-0000-0000-0000-000000000009" },
          400,
          /reserved/,
        ],
        ["PUT", "/v1/acl/token", { SecretID: "short" }, 400, /not a valid UUID/],
        [
          "PUT",
          "/v1/acl/token",
          { ExpirationTTL: "1s" },
          400,
          /ExpirationTime cannot be less than/,
        ],
        ["PUT", "/v1/acl/token", "null", 400, /null where an object belongs/],
        [
          "PUT",
          "/v1/acl/token/00000000-0000-0000-0000-00000000000f",
          { Description: "x" },
          404,
          /^Cannot find token /,
        ],
        ["PUT", "/v1/acl/policy", { Name: "a b", Rules: "" }, 400, /invalid Name/],
        [
          "PUT",
          "/v1/acl/policy",
          { Name: "x", Rules: 'service "web" { policy = "wirte" }' },
          400,
          /^Failed to parse ACL rules: /,
        ],
        ["PUT", "/v1/acl/policy", { Name: "global-management", Rules: "" }, 409, /already exists/],
        [
          "DELETE",
          "/v1/acl/token/00000000-0000-0000-0000-000000000002",
          undefined,
          400,
          /not permitted on the anonymous token/,
        ],
        [
          "DELETE",
          "/v1/acl/policy/00000000-0000-0000-0000-000000000001",
          undefined,
          400,
          /builtin global-management policy is not permitted/,
        ],
        [
          "PUT",
          "/v1/acl/auth-method",
          { Name: "x", Type: "oidc", Config: {} },
          400,
          /Type should be one of/,
        ],
        [
          "PUT",
          "/v1/acl/binding-rule",
          { AuthMethod: "none", BindType: "service", BindName: "x" },
          400,
          /cannot find auth method "none"/,
        ],
        ["PUT", "/v1/connect/ca/deny", { SPIFFEID: "x" }, 400, /SPIFFE ID must have/],
        ["PUT", "/v1/connect/ca/deny", {}, 400, /one of SPIFFEID, KeyID and SerialNumber/],
      ];
      const wrong: string[] = [];
      for (const [method, path, body, status, says] of refused) {
        const answer = await call(server, method, path, MANAGEMENT, body);
        if (answer.status !== status || !says.test(answer.text))
          wrong.push(`${method} ${path} ${JSON.stringify(body)}: ${answer.status} ${answer.text}`);
      }
      assert.deepEqual(wrong, []);
      assert.equal((await call(server, "GET", "/v1/acl/tokens", MANAGEMENT)).text, before);
    });

    it("gives the anonymous token what its policies allow", async () => {
      const { ID } = await policy("for-all", 'operator = "read"');
      const anonymous = "00000000-0000-0000-0000-000000000002";
      await json(server, "PUT", `/v1/acl/token/${anonymous}`, MANAGEMENT, { Policies: [{ ID }] });
      assert.equal((await call(server, "GET", "/v1/connect/ca/configuration", null)).status, 200);
      await json(server, "PUT", `/v1/acl/token/${anonymous}`, MANAGEMENT, { Policies: [] });
      assert.equal((await call(server, "GET", "/v1/connect/ca/configuration", null)).status, 403);
    });

    it("is bootstrapped already if a management token is configured", async () => {
      const again = await call(server, "PUT", "/v1/acl/bootstrap", null);
      assert.equal(again.status, 403);
      assert.match(
        again.text,
        /^Permission denied: ACL bootstrap no longer allowed \(reset index: \d+\)$/,
      );
    });

    it("lets a workload log in with a JWT, once for each, and log out", async () => {
      const { publicKey, privateKey } = await generateKeyPair("ES256");
      const Config = {
        BoundIssuer: "https://idp.example",
        JWTSupportedAlgs: ["ES256"],
        BoundAudiences: ["meshca"],
        JWTValidationPubKeys: [await exportSPKI(publicKey)],
        ClaimMappings: { service: "service" },
      };
      await json(server, "PUT", "/v1/acl/auth-method", MANAGEMENT, {
        Name: "ci",
        Type: "jwt",
        MaxTokenTTL: "5m",
        Config,
      });
      await json(server, "PUT", "/v1/acl/binding-rule", MANAGEMENT, {
        AuthMethod: "ci",
        BindType: "service",
        // biome-ignore lint/suspicious/noTemplateCurlyInString: the form of a binding
        BindName: "${value.service}",
        Selector: 'value.service != "root"',
      });
      const jwt = (claims: Record<string, unknown>, audience = "meshca") =>
        new SignJWT(claims)
          .setProtectedHeader({ alg: "ES256" })
          .setIssuer("https://idp.example")
          .setAudience(audience)
          .setIssuedAt()
          .setJti(crypto.randomUUID())
          .setExpirationTime("2m")
          .sign(privateKey);
      const login = (BearerToken: string) =>
        call(server, "POST", "/v1/acl/login", null, { AuthMethod: "ci", BearerToken });
      const first = await jwt({ service: "web" });
      const granted = await login(first);
      assert.equal(granted.status, 200, granted.text);
      const token = JSON.parse(granted.text) as Token;
      assert.equal(token.ServiceIdentities?.[0]?.ServiceName, "web");
      assert.ok(token.ExpirationTime !== undefined);
      assert.equal((await sign(server, web(server), token.SecretID)).status, 200);
      assert.equal(
        (await sign(server, csrOf(server, "/ns/default/dc/dc1/svc/api"), token.SecretID)).status,
        403,
      );
      for (const bad of [
        await jwt({ service: "web" }, "other"),
        await jwt({ service: "root" }),
        `${first}x`,
        first.replace(/^[^.]+/, Buffer.from('{"alg":"none"}').toString("base64url")),
        "x",
      ])
        assert.equal((await login(bad)).status, 403);
      assert.equal((await call(server, "POST", "/v1/acl/logout", MANAGEMENT)).status, 403);
      assert.equal((await call(server, "POST", "/v1/acl/logout", token.SecretID)).text, "true");
      assert.equal((await sign(server, web(server), token.SecretID)).text, "ACL not found");
    });

    it("refuses an identity on the denylist, on every replica, until its entry is removed", async () => {
      const secret = await token('service_prefix "" { policy = "write" }');
      const prefix = `spiffe://${server.trustDomain}/ns/default/dc/dc1/svc`;
      const denied = await json<{ ID: string; ExpirationTime: string }>(
        server,
        "PUT",
        "/v1/connect/ca/deny",
        MANAGEMENT,
        {
          SPIFFEID: `${prefix}/web`,
          Reason: "lost",
        },
      );
      assert.ok(new Date(denied.ExpirationTime).getTime() > Date.now() + 70 * 3_600_000);
      const refused = await sign(server, web(server), secret);
      assert.deepEqual(
        [refused.status, refused.text],
        [403, "Permission denied: this SPIFFE ID is on the denylist"],
      );
      const api = csrOf(server, "/ns/default/dc/dc1/svc/api");
      assert.equal((await sign(server, api, secret)).status, 200);
      const all = await json<{ ID: string }>(server, "PUT", "/v1/connect/ca/deny", MANAGEMENT, {
        SPIFFEID: `${prefix}/*`,
      });
      assert.equal((await sign(server, api, secret)).status, 403);
      for (const { ID } of [denied, all])
        await json(server, "DELETE", `/v1/connect/ca/deny/${ID}`, MANAGEMENT);
      assert.equal((await sign(server, web(server), secret)).status, 200);
      assert.deepEqual(await json<unknown>(server, "GET", "/v1/connect/ca/deny", MANAGEMENT), []);
    });
  });
}

onStore("SQLite", false, (more = {}) => startServer({ MESHCA_KEK: KEK, ...more }));
onStore("memory", false, (more = {}) =>
  startServer({ MESHCA_STORE: "memory:", MESHCA_KEK: KEK, ...more }),
);

let redis: RedisServer | undefined;
onStore("Redis", noRedis, async (more = {}) => {
  redis ??= await startRedis();
  return startServer({ MESHCA_STORE: `redis://127.0.0.1:${redis.port}`, MESHCA_KEK: KEK, ...more });
});
after(() => redis?.stop());

/** The secret in a server's data folder. */
const bootstrapSecret = async ({ dataDir }: ServerProcess) =>
  (await Bun.file(`${dataDir}/acl-bootstrap-secret`).text()).trim();

describe("the first token", () => {
  it("goes to the caller with the secret in the data folder, once, and again if the operator wrote the reset index down", async () => {
    const server = await startServer({ MESHCA_ACL: "deny" });
    try {
      const secret = await bootstrapSecret(server);
      const made = await json<Token>(server, "PUT", "/v1/acl/bootstrap", secret);
      assert.deepEqual(made.Policies, [
        { ID: "00000000-0000-0000-0000-000000000001", Name: "global-management" },
      ]);
      const again = await call(server, "PUT", "/v1/acl/bootstrap", null);
      const index = /reset index: (\d+)\)$/.exec(again.text)?.[1] ?? "";
      assert.equal(again.status, 403);
      await Bun.write(`${server.dataDir}/acl-bootstrap-reset`, `${Number(index) + 1}\n`);
      assert.match((await call(server, "PUT", "/v1/acl/bootstrap", secret)).text, /reset index/);
      await Bun.write(`${server.dataDir}/acl-bootstrap-reset`, `${index}\n`);
      // A reset allows no other caller.
      assert.match(
        (await call(server, "PUT", "/v1/acl/bootstrap", null)).text,
        /needs the secret in /,
      );
      const second = await json<Token>(server, "PUT", "/v1/acl/bootstrap", secret);
      assert.equal((await call(server, "PUT", "/v1/acl/bootstrap", secret)).status, 403);
      for (const { SecretID } of [made, second])
        assert.equal((await call(server, "GET", "/v1/acl/tokens", SecretID)).status, 200);
    } finally {
      await server.stop();
    }
  });

  for (const plain of ["", "behind-proxy"])
    it(`needs the secret from loopback too, since a stock proxy looks like it (MESHCA_PLAIN_HTTP=${JSON.stringify(plain)})`, async () => {
      const server = await startServer({
        MESHCA_ACL: "deny",
        ...(plain === "" ? {} : { MESHCA_PLAIN_HTTP: plain }),
      });
      const bootstrap = (headers: Record<string, string>) =>
        fetch(`${server.url}/v1/acl/bootstrap`, { method: "PUT", headers });
      try {
        const secret = await bootstrapSecret(server);
        const file = `${server.dataDir}/acl-bootstrap-secret`;
        assert.equal(statSync(file).mode & 0o777, 0o600);
        const wrong = [
          {},
          { "X-Consul-Token": "" },
          { "X-Consul-Token": secret.slice(1) },
          { "X-Consul-Token": `${secret}0` },
          { "X-Consul-Token": `${secret.slice(0, -1)}${secret.endsWith("0") ? "1" : "0"}` },
          { Authorization: `Basic ${secret}` },
          { "X-Forwarded-For": "127.0.0.1", Via: "1.1 127.0.0.1" },
        ];
        for (const headers of wrong) {
          const refused = await bootstrap(headers as Record<string, string>);
          const text = await refused.text();
          assert.equal(refused.status, 403, JSON.stringify(headers));
          assert.ok(text.includes(`CONSUL_HTTP_TOKEN=$(cat ${file}) consul acl bootstrap`), text);
          assert.ok(!text.includes(secret));
        }
        assert.equal((await bootstrap({ Authorization: `Bearer ${secret}` })).status, 200);
      } finally {
        await server.stop();
      }
    });

  it("is refused if the secret is in the body only, and the secret is not a valid token itself", async () => {
    const server = await startServer({ MESHCA_ACL: "deny" });
    try {
      const secret = await bootstrapSecret(server);
      assert.equal((await call(server, "GET", "/v1/acl/tokens", secret)).status, 403);
      await json<Token>(server, "PUT", "/v1/acl/bootstrap", secret);
      assert.equal((await call(server, "GET", "/v1/acl/tokens", secret)).status, 403);
    } finally {
      await server.stop();
    }
  });

  it("does not exist if access control is off, and everything is allowed", async () => {
    const server = await startServer();
    try {
      for (const [method, path] of [
        ["PUT", "/v1/acl/bootstrap"],
        ["GET", "/v1/acl/tokens"],
        ["POST", "/v1/acl/login"],
      ] as const) {
        const answer = await call(server, method, path, null, method === "GET" ? undefined : {});
        assert.deepEqual([answer.status, answer.text], [401, "ACL support disabled"], path);
      }
      assert.equal((await sign(server, web(server), "whatever")).status, 200);
    } finally {
      await server.stop();
    }
  });

  it("is asked for on every replica", { skip: noRedis }, async () => {
    const server = await startRedis();
    const environment = {
      MESHCA_STORE: `redis://127.0.0.1:${server.port}`,
      MESHCA_KEK: KEK,
      MESHCA_ACL: "deny",
      MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT,
    };
    const [one, two] = [await startServer(environment), await startServer(environment)];
    try {
      const { SecretID, AccessorID } = await json<Token>(one, "PUT", "/v1/acl/token", MANAGEMENT, {
        ServiceIdentities: [{ ServiceName: "web" }],
      });
      await until(async () => (await sign(two, web(two), SecretID)).status === 200);
      await json(two, "DELETE", `/v1/acl/token/${AccessorID}`, MANAGEMENT);
      await until(async () => (await sign(one, web(one), SecretID)).status === 403);
    } finally {
      await Promise.all([one.stop(), two.stop()]);
      await server.stop();
    }
  });
});

describe("PUT /v1/acl/binding-rule/:id", () => {
  it("keeps the auth method if the body has neither ID nor AuthMethod, as Consul does", async () => {
    const { publicKey } = await generateKeyPair("ES256", { extractable: true });
    const test = await guarded();
    const Config = {
      BoundAudiences: ["meshca"],
      JWTValidationPubKeys: [await exportSPKI(publicKey)],
    };
    const method = await test.call("PUT", "/v1/acl/auth-method", {
      Name: "m",
      Type: "jwt",
      Config,
    });
    assert.equal(method.status, 200, method.text);
    const rule = { AuthMethod: "m", BindType: "service", BindName: "web" };
    const made = await test.call("PUT", "/v1/acl/binding-rule", rule);
    const { ID } = JSON.parse(made.text) as { ID: string };
    const changed = await test.call("PUT", `/v1/acl/binding-rule/${ID}`, {
      BindType: "service",
      BindName: "api",
    });
    assert.equal(changed.status, 200, changed.text);
    const { AuthMethod, BindName } = JSON.parse(changed.text) as Record<string, unknown>;
    assert.deepEqual([AuthMethod, BindName], ["m", "api"]);
  });
});

describe("PUT /v1/acl/token", () => {
  it("reports a type error before links that do not exist", async () => {
    const test = await guarded();
    const typeError =
      "Request decode failed: json: cannot unmarshal number into Go struct field .Local of type bool";
    const id = "json: cannot unmarshal number into Go struct field .ID of type string";
    for (const [body, fault] of [
      [{ Roles: [{ ID: "x" }], Local: 5 }, typeError],
      [{ TemplatedPolicies: [{}], Local: 5 }, typeError],
      [{ Policies: [{ ID: 5 }], Roles: [{ ID: "x" }] }, `Request decode failed: ${id}`],
      [{ Roles: [{ ID: "x" }] }, 'No such ACL role with ID "x"'],
      [
        { TemplatedPolicies: [{}] },
        "templated policy is missing the template name field on this token",
      ],
    ] as const)
      assert.deepEqual((await test.call("PUT", "/v1/acl/token", body)).text, fault);
    const allowed = { Description: "a", Roles: [], TemplatedPolicies: null };
    const made = await test.call("PUT", "/v1/acl/token", allowed);
    assert.equal(made.status, 200, made.text);
    assert.doesNotMatch(made.text, /Roles|TemplatedPolicies/);
  });
});
