/**
 * Logins through Kubernetes' TokenReview and through an issuer that is discovered, over real TLS
 * with a CA of their own.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { type Asked, type IssuerServer, startIssuer } from "../fixtures/issuer-server.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";

const MANAGEMENT = "11111111-2222-4333-8444-555555555555";
/** The token of the auth method: the form of a JWT, and a text that is searched for. */
const REVIEWER = "eyJhbGciOiJSUzI1NiJ9.cmV2aWV3ZXItcGxhbnRlZC1zZWNyZXQ.c2lnbmF0dXJl";

interface Answered {
  readonly status: number;
  readonly text: string;
}

async function call(
  server: ServerProcess,
  method: string,
  path: string,
  body?: unknown,
): Promise<Answered> {
  const headers = { "X-Consul-Token": MANAGEMENT };
  const answer = await fetch(`${server.url}${path}`, {
    method,
    headers,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: answer.status, text: await answer.text() };
}

async function made(
  server: ServerProcess,
  path: string,
  body: unknown,
): Promise<Record<string, unknown>> {
  const { status, text } = await call(server, "PUT", path, body);
  assert.equal(status, 200, text);
  return JSON.parse(text) as Record<string, unknown>;
}

const service = (server: ServerProcess, method: string, jwt: string): Promise<Answered> =>
  call(server, "POST", "/v1/acl/login", { AuthMethod: method, BearerToken: jwt });

describe("an auth method of type kubernetes with Host", () => {
  let api: IssuerServer;
  let server: ServerProcess;
  let key: CryptoKeyPair;
  /** The API server's response for the next token. */
  let status: unknown;
  let refused = false;

  const USER = {
    username: "system:serviceaccount:shop:cart",
    uid: "u-1",
    extra: {
      "authentication.kubernetes.io/pod-name": ["cart-7"],
      "authentication.kubernetes.io/pod-uid": ["p-7"],
    },
  };
  const answer = ({ method, path, authorization }: Asked): readonly [number, unknown] => {
    if (authorization !== `Bearer ${REVIEWER}` || refused) return [401, { kind: "Status" }];
    if (method === "POST" && path === "/apis/authentication.k8s.io/v1/tokenreviews")
      return [201, { kind: "TokenReview", status }];
    if (path === "/api/v1/namespaces/shop/serviceaccounts/cart")
      return [200, { metadata: { name: "cart" } }];
    if (path === "/api/v1/namespaces/shop/serviceaccounts/front")
      return [200, { metadata: { annotations: { "consul.hashicorp.com/service-name": "web" } } }];
    return [404, {}];
  };
  const jwt = (claims: Record<string, unknown> = {}) =>
    new SignJWT({
      iss: "https://kubernetes.default.svc",
      sub: "system:serviceaccount:shop:cart",
      ...claims,
    })
      .setProtectedHeader({ alg: "ES256" })
      .sign(key.privateKey);
  const config = () => ({ Host: api.url, CACert: api.ca, ServiceAccountJWT: REVIEWER });

  before(async () => {
    api = await startIssuer(answer);
    key = await generateKeyPair("ES256");
    server = await startServer({
      MESHCA_ACL: "deny",
      MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT,
      MESHCA_JWKS_PRIVATE_HOSTS: api.host,
      MESHCA_LIMITS_TOKENS_PER_LOGIN: "5",
    });
    await made(server, "/v1/acl/auth-method", {
      Name: "k8s",
      Type: "kubernetes",
      Config: config(),
    });
    await made(server, "/v1/acl/binding-rule", {
      AuthMethod: "k8s",
      BindType: "service",
      // biome-ignore lint/suspicious/noTemplateCurlyInString: the form of a binding
      BindName: "${serviceaccount.name}",
      Selector: "serviceaccount.namespace==shop",
    });
  });
  after(async () => {
    await server?.stop();
    await api?.stop();
  });

  it("takes a token that Kubernetes knows, and gives it the service of its account, again and again", async () => {
    status = { authenticated: true, user: USER, audiences: ["https://kubernetes.default.svc"] };
    const bearer = await jwt({ exp: Math.floor(Date.now() / 1000) + 3600 });
    for (let i = 0; i < 2; i++) {
      const { status: code, text } = await service(server, "k8s", bearer);
      assert.equal(code, 200, text);
      const token = JSON.parse(text) as {
        ServiceIdentities: { ServiceName: string }[];
        ExpirationTime: string;
      };
      assert.deepEqual(token.ServiceIdentities, [{ ServiceName: "cart" }]);
      assert.ok(new Date(token.ExpirationTime).getTime() <= Date.now() + 3_600_000);
    }
    const [review] = api.asked
      .filter(({ method }) => method === "POST")
      .map(({ body }) => JSON.parse(body) as Record<string, unknown>);
    assert.deepEqual(review, {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenReview",
      spec: { token: bearer },
    });
  });

  it("takes the service that a service account names by Consul's annotation", async () => {
    status = {
      authenticated: true,
      user: { username: "system:serviceaccount:shop:front", uid: "u" },
    };
    const { text } = await service(server, "k8s", await jwt());
    assert.deepEqual((JSON.parse(text) as { ServiceIdentities: unknown }).ServiceIdentities, [
      { ServiceName: "web" },
    ]);
  });

  it("makes as many live tokens for one pod as MESHCA_LIMITS_TOKENS_PER_LOGIN says, and then answers 429", async () => {
    const pod = {
      "authentication.kubernetes.io/pod-name": ["cart-8"],
      "authentication.kubernetes.io/pod-uid": ["p-8"],
    };
    status = { authenticated: true, user: { ...USER, extra: pod } };
    const bearer = await jwt();
    const answers = await Promise.all(
      Array.from({ length: 30 }, () => service(server, "k8s", bearer)),
    );
    const codes = answers.map((one) => one.status).toSorted();
    assert.deepEqual(codes, [
      ...Array.from({ length: 5 }, () => 200),
      ...Array.from({ length: 25 }, () => 429),
    ]);
    assert.match(
      answers.find((one) => one.status === 429)?.text ?? "",
      /^Cannot log in: this subject has 5 live tokens/,
    );
  });

  const denials: readonly (readonly [what: string, status: unknown, says: RegExp])[] = [
    [
      "a token that Kubernetes does not know",
      { authenticated: false, error: "[invalid bearer token]" },
      /is unknown to Kubernetes/,
    ],
    ["a token without a user", { authenticated: true }, /is unknown to Kubernetes/],
    [
      "a user that is not a service account",
      { authenticated: true, user: { username: "alice" } },
      /is not a token of a Kubernetes service account/,
    ],
    [
      "a node",
      { authenticated: true, user: { username: "system:node:n1" } },
      /is not a token of a Kubernetes service account/,
    ],
    [
      "a name that leads elsewhere",
      { authenticated: true, user: { username: "system:serviceaccount:..:cart" } },
      /not a token of/,
    ],
    [
      "a longer name",
      { authenticated: true, user: { username: "system:serviceaccount:shop:cart:x" } },
      /not a token of/,
    ],
  ];
  for (const [what, said, says] of denials)
    it(`refuses ${what} with 403`, async () => {
      status = said;
      const answered = await service(server, "k8s", await jwt());
      assert.equal(answered.status, 403, answered.text);
      assert.match(answered.text, says);
    });

  it("does not send Kubernetes a token that is no JWT or has expired", async () => {
    const before = api.asked.length;
    for (const bearer of [
      "",
      "a",
      "a.b.c",
      await jwt({ exp: 1 }),
      await jwt({ exp: 1e300 }),
      "x".repeat(20_000),
    ])
      assert.equal((await service(server, "k8s", bearer)).status, 403);
    assert.equal(api.asked.length, before);
  });

  it("answers 502 with the reason if Kubernetes refuses the token of the auth method", async () => {
    refused = true;
    const answered = await service(server, "k8s", await jwt());
    refused = false;
    assert.deepEqual(answered, {
      status: 502,
      text: "Cannot review login token: the Kubernetes API server refused the token of the auth method (401)",
    });
  });

  it("shows the token of the auth method as hidden, writes it nowhere, and keeps it when hidden is sent back", async () => {
    const { text } = await call(server, "GET", "/v1/acl/auth-method/k8s");
    assert.equal(
      (JSON.parse(text) as { Config: Record<string, unknown> }).Config.ServiceAccountJWT,
      "hidden",
    );
    const updated = await made(server, "/v1/acl/auth-method/k8s", {
      Name: "k8s",
      Type: "kubernetes",
      Description: "changed",
      Config: { ...config(), ServiceAccountJWT: "hidden" },
    });
    assert.equal((updated.Config as Record<string, unknown>).ServiceAccountJWT, "hidden");
    status = { authenticated: true, user: USER };
    assert.equal((await service(server, "k8s", await jwt())).status, 200);
    const answers = await Promise.all(
      ["/v1/acl/auth-methods", "/v1/acl/auth-method/k8s", "/v1/acl/tokens"].map((path) =>
        call(server, "GET", path),
      ),
    );
    for (const written of [...answers.map((one) => one.text), server.stdout(), server.stderr()])
      assert.ok(!written.includes(REVIEWER));
  });

  it("refuses hidden if the token would go elsewhere, and for a method that has none", async () => {
    const change = async (name: string, more: Record<string, unknown>) =>
      call(server, "PUT", name === "new" ? "/v1/acl/auth-method" : `/v1/acl/auth-method/${name}`, {
        Name: name,
        Type: "kubernetes",
        Config: { ...config(), ServiceAccountJWT: "hidden", ...more },
      });
    for (const [field, value] of [
      ["Host", `${api.url}/other`],
      ["CACert", `${api.ca}${api.ca}`],
    ])
      assert.deepEqual(await change("k8s", { [field as string]: value }), {
        status: 400,
        text: `Invalid auth method config: ServiceAccountJWT is "hidden", but ${field} changed: send it again`,
      });
    assert.deepEqual(await change("new", {}), {
      status: 400,
      text: 'Invalid auth method config: ServiceAccountJWT is "hidden", but no ServiceAccountJWT is stored; send it',
    });
    assert.equal((await change("k8s", { ServiceAccountJWT: { sealed: "AAAA" } })).status, 400);
  });

  it("refuses a host that is not listed, and a certificate of another CA", async () => {
    const elsewhere = await call(server, "PUT", "/v1/acl/auth-method", {
      Name: "elsewhere",
      Type: "kubernetes",
      Config: { ...config(), Host: "https://10.0.0.1:6443" },
    });
    assert.deepEqual(elsewhere, {
      status: 400,
      text: 'Invalid Host: host "10.0.0.1:6443" is not among the hosts that this server may ask: add it to MESHCA_JWKS_HOSTS',
    });
    const other = await startIssuer(answer);
    await other.stop();
    await made(server, "/v1/acl/auth-method", {
      Name: "forged",
      Type: "kubernetes",
      Config: { ...config(), CACert: other.ca },
    });
    await made(server, "/v1/acl/binding-rule", {
      AuthMethod: "forged",
      BindType: "service",
      BindName: "web",
    });
    const before = api.asked.length;
    assert.deepEqual(await service(server, "forged", await jwt()), {
      status: 503,
      text: "Cannot review login token: the Kubernetes API server cannot be reached",
    });
    assert.equal(api.asked.length, before);
  });
});

describe("an auth method of type jwt with OIDCDiscoveryURL", () => {
  it("finds the issuer's keys, trusts its CA, and takes its tokens for any audience if none is bound", async () => {
    const key = await generateKeyPair("ES256", { extractable: true });
    const jwk = { ...(await exportJWK(key.publicKey)), kid: "k" };
    let issuer = "";
    let keysAt = "";
    const idp = await startIssuer(({ path }) => {
      if (path === "/.well-known/openid-configuration") return [200, { issuer, jwks_uri: keysAt }];
      return path === "/keys" ? [200, { keys: [jwk] }] : [404, {}];
    });
    [issuer, keysAt] = [idp.url, `${idp.url}/keys`];
    const server = await startServer({
      MESHCA_ACL: "deny",
      MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT,
      MESHCA_JWKS_PRIVATE_HOSTS: idp.host,
    });
    try {
      const method = (Name: string, Config: Record<string, unknown>) =>
        made(server, "/v1/acl/auth-method", {
          Name,
          Type: "jwt",
          Config: { JWTSupportedAlgs: ["ES256"], ...Config },
        });
      const rule = (AuthMethod: string) =>
        made(server, "/v1/acl/binding-rule", { AuthMethod, BindType: "service", BindName: "web" });
      const jwt = (iss: string, aud?: string) =>
        new SignJWT({ jti: crypto.randomUUID(), iss, ...(aud === undefined ? {} : { aud }) })
          .setProtectedHeader({ alg: "ES256", kid: "k" })
          .setIssuedAt()
          .setExpirationTime("5m")
          .sign(key.privateKey);
      await method("oidc", { OIDCDiscoveryURL: idp.url, OIDCDiscoveryCACert: idp.ca });
      await method("jwks", {
        JWKSURL: `${idp.url}/keys`,
        JWKSCACert: idp.ca,
        BoundAudiences: ["meshca"],
      });
      for (const name of ["oidc", "jwks"]) await rule(name);
      assert.equal((await service(server, "oidc", await jwt(idp.url))).status, 200);
      assert.equal((await service(server, "oidc", await jwt(idp.url, "anybody"))).status, 200);
      assert.match(
        (await service(server, "oidc", await jwt("https://other.example"))).text,
        /is from another issuer/,
      );
      assert.equal((await service(server, "jwks", await jwt("x", "meshca"))).status, 200);
      assert.match(
        (await service(server, "jwks", await jwt("x", "anybody"))).text,
        /is for another audience/,
      );
      assert.match((await service(server, "jwks", await jwt("x"))).text, /is for another audience/);

      // Without its CA, with another issuer, and with keys on a host that is not listed.
      await method("untrusted", { JWKSURL: `${idp.url}/keys` });
      await rule("untrusted");
      assert.deepEqual(await service(server, "untrusted", await jwt("x")), {
        status: 503,
        text: "Cannot fetch the auth method's keys: the issuer cannot be reached",
      });
      issuer = "https://other.example";
      await method("lying", { OIDCDiscoveryURL: `${idp.url}/`, OIDCDiscoveryCACert: idp.ca });
      await rule("lying");
      assert.deepEqual(await service(server, "lying", await jwt(`${idp.url}/`)), {
        status: 503,
        text: "Cannot fetch the auth method's keys: the issuer names an issuer other than OIDCDiscoveryURL",
      });
      [issuer, keysAt] = [`${idp.url}/`, "https://169.254.169.254/keys"];
      await method("leading-away", {
        OIDCDiscoveryURL: issuer,
        OIDCDiscoveryCACert: `${idp.ca}\n`,
      });
      await rule("leading-away");
      assert.deepEqual(await service(server, "leading-away", await jwt(issuer)), {
        status: 502,
        text: "Cannot fetch the auth method's keys: the issuer's configuration has an unusable URL: Invalid jwks_uri: host \"169.254.169.254\" is not among the hosts that this server may ask: add it to MESHCA_JWKS_HOSTS",
      });
    } finally {
      await server.stop();
      await idp.stop();
    }
  });
});
