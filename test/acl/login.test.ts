/**
 * Logins with JWTs and Kubernetes service account tokens: what is accepted, the token created, and
 * every login that must be refused.
 * @module
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import {
  base64url,
  CompactSign,
  exportJWK,
  exportSPKI,
  generateKeyPair,
  SignJWT,
  UnsecuredJWT,
} from "jose";
import { KeySets } from "../../src/acl/jwks.ts";
import { Login } from "../../src/acl/login.ts";
import { makeUuid } from "../../src/acl/tokens.ts";
import type { AclRole, AuthMethod, BindingRule } from "../../src/core/acl/types.ts";
import { DeniedError } from "../../src/core/errors.ts";
import { systemRandom } from "../fakes/clock.ts";
import { createTestAccess, type TestAccess } from "./access.ts";

const ISSUER = "https://issuer.example";
const AUDIENCE = "meshca";
const VARIABLE = ["$", "{value.name}"].join("");

interface Setup {
  readonly access: TestAccess;
  readonly login: Login;
  now(): number;
  jwt(
    claims?: Readonly<Record<string, unknown>>,
    options?: { key?: CryptoKey; header?: Record<string, string> },
  ): Promise<string>;
  enter(bearerToken: string, authMethod?: string): ReturnType<Login["login"]>;
}

describe("Login", () => {
  let ec: CryptoKeyPair;
  let rsa: CryptoKeyPair;
  let stranger: CryptoKeyPair;
  let spki: string;
  let served: { keys: Record<string, unknown>[] };

  before(async () => {
    [ec, rsa, stranger] = [
      await generateKeyPair("ES256", { extractable: true }),
      await generateKeyPair("RS256", { extractable: true }),
      await generateKeyPair("ES256"),
    ];
    spki = await exportSPKI(ec.publicKey);
    served = {
      keys: [
        { ...(await exportJWK(ec.publicKey)), kid: "ec" },
        { ...(await exportJWK(rsa.publicKey)), kid: "rsa" },
      ],
    };
  });

  async function setup(
    config: Record<string, unknown> = {},
    more: Partial<AuthMethod> = {},
    rules: Partial<BindingRule>[] = [{}],
  ): Promise<Setup> {
    const access = await createTestAccess();
    const { replica, clock } = access;
    const method: AuthMethod = {
      name: "m",
      type: "jwt",
      displayName: "",
      description: "",
      maxTokenTtlMs: 0,
      id: makeUuid(systemRandom),
      config: {
        JWTSupportedAlgs: ["ES256", "RS256"],
        BoundIssuer: ISSUER,
        BoundAudiences: [AUDIENCE],
        JWTValidationPubKeys: [spki],
        ClaimMappings: { sub: "name", "/deep/er": "deep" },
        ListClaimMappings: { groups: "groups" },
        ...config,
      },
      ...more,
    };
    await replica.write([
      { kind: "auth-method", id: method.name, replaces: null, content: method },
    ]);
    for (const rule of rules) {
      const id = makeUuid(systemRandom);
      const content: BindingRule = {
        id,
        description: "",
        authMethod: "m",
        bindType: "service",
        bindName: VARIABLE,
        selector: "",
        ...rule,
      };
      await replica.write([{ kind: "binding-rule", id, replaces: null, content }]);
    }
    const keySets = new KeySets({
      fetch: async () => Response.json(served),
      resolve: async () => ["93.184.216.34"],
      hosts: ["issuer.example"],
      privateHosts: [],
      clock,
    });
    const login = new Login({
      replica,
      keySets,
      reviews: {} as never,
      datacenter: "dc1",
      clock,
      random: systemRandom,
    });
    const now = () => Math.floor(clock.now().getTime() / 1000);
    return {
      access,
      login,
      now,
      jwt: (claims = {}, { key = ec.privateKey, header = {} } = {}) =>
        new SignJWT({
          iss: ISSUER,
          aud: AUDIENCE,
          sub: "web",
          exp: now() + 600,
          iat: now(),
          jti: makeUuid(systemRandom),
          ...claims,
        })
          .setProtectedHeader({ alg: "ES256", ...header })
          .sign(key),
      enter: (bearerToken, authMethod = "m") => login.login({ authMethod, bearerToken, meta: {} }),
    };
  }

  const refusal = async (work: Promise<unknown>): Promise<string> => {
    try {
      await work;
    } catch (error) {
      assert.ok(error instanceof DeniedError, String(error));
      return error.message;
    }
    throw new assert.AssertionError({ message: "it was not refused" });
  };

  it("login() creates a token with the service identity of its rule, which expires with the login token", async () => {
    const { access, enter, jwt, now } = await setup();
    const { token, secret } = await enter(await jwt());
    assert.deepEqual(token.value.serviceIdentities, [{ serviceName: "web", datacenters: [] }]);
    assert.equal(token.value.authMethod, "m");
    assert.equal(token.value.local, true);
    // The clock leeway by default is one minute.
    assert.equal(token.value.expirationTime?.getTime(), (now() + 660) * 1000);
    const caller = await access.authorizer.authorize(secret);
    assert.equal(caller.allows("service", "write", "web"), true);
    assert.equal(caller.allows("service", "write", "api"), false);
    assert.ok(!JSON.stringify([...access.replica.tokens.values()]).includes(secret));
  });

  it("login() creates a token with the method's TTL", async () => {
    const { enter, jwt, now } = await setup({}, { maxTokenTtlMs: 120_000 });
    assert.equal(
      (await enter(await jwt())).token.value.expirationTime?.getTime(),
      (now() + 120) * 1000,
    );
  });

  it("login() uses keys from a URL, by their kid", async () => {
    const { enter, jwt } = await setup({ JWKSURL: `${ISSUER}/keys`, JWTValidationPubKeys: [] });
    await enter(await jwt({}, { header: { kid: "ec" } }));
    await enter(await jwt({}, { key: rsa.privateKey, header: { alg: "RS256", kid: "rsa" } }));
    assert.match(
      await refusal(enter(await jwt({}, { header: { kid: "none" } }))),
      /is not signed by a key of the issuer/,
    );
    assert.match(
      await refusal(enter(await jwt({}, { header: { kid: "rsa" } }))),
      /is not signed by a key of the issuer/,
    );
  });

  it("login() refuses signed tokens with claims that are not strings or too deeply nested", async () => {
    const { enter } = await setup({ JWKSURL: `${ISSUER}/keys`, JWTValidationPubKeys: [] });
    const signed = (payload: Uint8Array) =>
      new CompactSign(payload).setProtectedHeader({ alg: "ES256", kid: "ec" }).sign(ec.privateKey);
    const texts = [
      "[".repeat(10_000),
      `{"a":${"[".repeat(5000)}${"]".repeat(5000)}}`,
      "null",
      '"x"',
      "",
      "{",
    ];
    for (const payload of [
      Uint8Array.of(0xff, 0xfe),
      ...texts.map((text) => new TextEncoder().encode(text)),
    ])
      assert.match(
        await refusal(enter(await signed(payload))),
        /^Permission denied: login token has (malformed claims|none of the claims exp, nbf and iat)$/,
      );
  });

  it("login() refuses a token that names an invalid key of the issuer", async () => {
    const { x, ...half } = await exportJWK(ec.publicKey);
    const broken = [
      { ...half, kid: "off-curve", x, y: x },
      { ...half, kid: "no-x" },
      { ...half, x: 1, kid: "number" },
      { kty: "EC", crv: "P-999", kid: "unknown-curve", x, y: x },
      { kty: "RSA", n: "AQAB", e: "", kid: "no-exponent", alg: "RS256" },
      { kty: "OKP", crv: "Ed25519", x: "AA", kid: "short", alg: "EdDSA" },
      { kty: "EC", crv: "P-256", kid: "key-ops", x, y: x, key_ops: ["x"], use: "sig" },
      { kty: "EC", crv: "P-256", kid: "not-base64", x: "!", y: "!" },
    ];
    const { enter, jwt } = await setup({
      JWKSURL: `${ISSUER}/keys`,
      JWTValidationPubKeys: [],
      JWTSupportedAlgs: ["ES256", "RS256", "EdDSA"],
    });
    const before = served;
    served = { keys: [...served.keys, ...broken] };
    try {
      for (const { kid, alg = "ES256" } of broken as { kid: string; alg?: string }[]) {
        const token = await jwt({}, { header: { kid } });
        const [, ...rest] = token.split(".");
        const header = base64url.encode(JSON.stringify({ alg, kid }));
        assert.match(
          await refusal(enter([header, ...rest].join("."))),
          /^Permission denied: login token is not signed by a key of the issuer$/,
          kid,
        );
      }
    } finally {
      served = before;
    }
  });

  it("login() evaluates selectors, and grants every identity that matches", async () => {
    const { enter, jwt } = await setup({}, {}, [
      { selector: '"ops" in list.groups', bindName: "ops" },
      { selector: 'value.name == "web" and value.deep == "7"' },
      { selector: 'value.name == "api"', bindName: "never" },
      { bindType: "node", bindName: "n-".concat(VARIABLE) },
      { authMethod: "other", bindName: "other" },
    ]);
    const { token } = await enter(await jwt({ groups: ["ops", "dev"], deep: { er: 7 } }));
    assert.deepEqual(
      token.value.serviceIdentities.map(({ serviceName }) => serviceName).toSorted(),
      ["ops", "web"],
    );
    assert.deepEqual(token.value.nodeIdentities, [{ nodeName: "n-web", datacenter: "dc1" }]);
  });

  it("login() accepts a Kubernetes service account token repeatedly", async () => {
    const config = {
      JWTSupportedAlgs: ["ES256"],
      BoundIssuer: ISSUER,
      BoundAudiences: [AUDIENCE],
      JWTValidationPubKeys: [spki],
    };
    const { access, login, jwt } = await setup();
    const content: AuthMethod = {
      name: "k8s",
      type: "kubernetes",
      displayName: "",
      description: "",
      maxTokenTtlMs: 0,
      config,
    };
    const id = makeUuid(systemRandom);
    const bindName = VARIABLE.replace("value.name", "serviceaccount.name");
    const selector = 'serviceaccount.namespace == "shop"';
    await access.replica.write([{ kind: "auth-method", id: "k8s", replaces: null, content }]);
    await access.replica.write([
      {
        kind: "binding-rule",
        id,
        replaces: null,
        content: {
          id,
          description: "",
          authMethod: "k8s",
          bindType: "service",
          bindName,
          selector,
        },
      },
    ]);
    const pod = (namespace: string) =>
      jwt({
        "kubernetes.io": {
          namespace,
          serviceaccount: { name: "cart", uid: "u" },
          pod: { name: "p" },
        },
      });
    const bearerToken = await pod("shop");
    for (let i = 0; i < 3; i++) {
      const { token } = await login.login({
        authMethod: "k8s",
        bearerToken,
        meta: { pod: "shop/cart" },
      });
      assert.deepEqual(token.value.serviceIdentities, [{ serviceName: "cart", datacenters: [] }]);
      assert.equal(token.value.description, 'token created via login: {"pod":"shop/cart"}');
    }
    assert.match(
      await refusal(login.login({ authMethod: "k8s", bearerToken: await pod("other"), meta: {} })),
      /matches no binding rule/,
    );
    assert.match(
      await refusal(login.login({ authMethod: "k8s", bearerToken: await jwt(), meta: {} })),
      /not a token of a Kubernetes/,
    );
  });

  it("login() accepts a login token once on all replicas, and another one of the same subject", async () => {
    const { access, login, jwt, enter } = await setup();
    const bearerToken = await jwt();
    await enter(bearerToken);
    assert.match(
      await refusal(enter(bearerToken)),
      /^Permission denied: login token was used before$/,
    );
    const other = new Login({
      replica: await access.addReplica(),
      keySets: new KeySets({
        fetch: async () => Response.error(),
        resolve: async () => [],
        hosts: [],
        privateHosts: [],
        clock: access.clock,
      }),
      reviews: {} as never,
      datacenter: "dc1",
      clock: access.clock,
      random: systemRandom,
    });
    assert.match(
      await refusal(other.login({ authMethod: "m", bearerToken, meta: {} })),
      /^Permission denied: login token was used before$/,
    );
    const racing = await jwt();
    const outcomes = await Promise.allSettled(
      [login, other, login].map((one) =>
        one.login({ authMethod: "m", bearerToken: racing, meta: {} }),
      ),
    );
    assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 1);
    await enter(await jwt());
  });

  it("login() does not claim a login token that it refuses", async () => {
    const { enter, jwt } = await setup({}, {}, [{ selector: 'value.name == "web"' }]);
    const jti = "same";
    assert.match(await refusal(enter(await jwt({ jti, sub: "api" }))), /matches no binding rule/);
    await enter(await jwt({ jti }));
  });

  it("login() refuses an unknown auth method", async () => {
    const { enter, jwt } = await setup();
    for (const name of ["x", "__proto__"])
      assert.match(await refusal(enter(await jwt(), name)), /^ACL not found: auth method /);
  });

  const bad: readonly [
    what: string,
    make: (setup: Setup) => Promise<string> | string,
    expected: RegExp,
  ][] = [
    ["nothing", () => "", /is not signed by a key of the issuer/],
    ["what is no JWT", () => "a.b.c", /is not signed by a key of the issuer/],
    [
      "alg none (RFC 8725 §3.2)",
      ({ now }) =>
        new UnsecuredJWT({
          iss: ISSUER,
          aud: AUDIENCE,
          sub: "web",
          exp: now() + 60,
          jti: "x",
        }).encode(),
      /signature algorithm that this auth method does not allow/,
    ],
    [
      "alg none in capitals",
      async ({ jwt }) => `${base64url.encode('{"alg":"nOnE"}')}.${(await jwt()).split(".")[1]}.`,
      /signature algorithm that this auth method does not allow/,
    ],
    [
      "a public key used as a shared secret (RFC 8725 §2.1)",
      ({ now }) =>
        new SignJWT({ iss: ISSUER, aud: AUDIENCE, sub: "web", exp: now() + 60, jti: "x" })
          .setProtectedHeader({ alg: "HS256" })
          .sign(new TextEncoder().encode(spki)),
      /signature algorithm that this auth method does not allow/,
    ],
    [
      "an algorithm that is not listed",
      ({ jwt }) =>
        generateKeyPair("ES384").then(({ privateKey }) =>
          jwt({}, { key: privateKey, header: { alg: "ES384" } }),
        ),
      /signature algorithm that this auth method does not allow/,
    ],
    [
      "another key",
      ({ jwt }) => jwt({}, { key: stranger.privateKey }),
      /is not signed by a key of the issuer/,
    ],
    [
      "a key in its own header",
      async ({ jwt }) =>
        jwt(
          {},
          {
            key: stranger.privateKey,
            header: { jwk: (await exportJWK(stranger.publicKey)) as unknown as string },
          },
        ),
      /is not signed by a key of the issuer/,
    ],
    [
      "another payload under the signature",
      async ({ jwt }) => {
        const [head, , tail] = (await jwt()).split(".");
        return [head, (await jwt({ sub: "api" })).split(".")[1], tail].join(".");
      },
      /is not signed by a key of the issuer/,
    ],
    [
      "a header that must be understood",
      ({ jwt }) =>
        jwt({}, { header: { crit: ["exp"] as unknown as string, exp: "1" } }).catch(() => "x.y.z"),
      /is not signed by a key of the issuer/,
    ],
    ["another issuer", ({ jwt }) => jwt({ iss: "https://other.example" }), /another issuer/],
    ["no issuer", ({ jwt }) => jwt({ iss: undefined }), /another issuer/],
    ["another audience", ({ jwt }) => jwt({ aud: ["vault", "meshca2"] }), /another audience/],
    ["no audience", ({ jwt }) => jwt({ aud: undefined }), /another audience/],
    [
      "one that has expired",
      ({ jwt, now }) => jwt({ exp: now() - 60, iat: now() - 600 }),
      /has expired/,
    ],
    ["one that is not valid yet", ({ jwt, now }) => jwt({ nbf: now() + 61 }), /not valid yet/],
    [
      "one that was issued in the future",
      ({ jwt, now }) => jwt({ iat: now() + 61, nbf: now() }),
      /not valid yet/,
    ],
    [
      "one without any time",
      ({ jwt }) => jwt({ exp: undefined, iat: undefined }),
      /has none of the claims exp, nbf and iat$/,
    ],
    ["an end beyond all dates", ({ jwt }) => jwt({ exp: 1e300 }), /has malformed claims/],
    [
      "an end that is text",
      ({ jwt }) => jwt({ exp: "9999999999" }).catch(() => "x.y.z"),
      /malformed|signature/,
    ],
    ["one without a jti", ({ jwt }) => jwt({ jti: undefined }), /has no jti/],
    ["an empty jti", ({ jwt }) => jwt({ jti: "" }), /has malformed claims/],
    [
      "a name that no service has",
      ({ jwt }) => jwt({ sub: "Web" }),
      /login token gets a name from a binding rule that no service or node can have$/,
    ],
    [
      "a name with a slash",
      ({ jwt }) => jwt({ sub: "web/../api" }),
      /login token gets a name from a binding rule that no service or node can have$/,
    ],
    [
      "no claim for the name",
      ({ jwt }) => jwt({ sub: undefined }),
      /login token gets a name from a binding rule that no service or node can have$/,
    ],
    [
      "a claim that is no text",
      ({ jwt }) => jwt({ sub: { a: 1 } }),
      /gets a name from a binding rule|malformed/,
    ],
    [
      "a list of other things than text",
      ({ jwt }) => jwt({ groups: [{}] }),
      /that is not a list of strings/,
    ],
    [
      "too long a token",
      ({ jwt }) => jwt({ pad: "x".repeat(20_000) }),
      /^Permission denied: login token is too long$/,
    ],
  ];
  for (const [what, make, expected] of bad)
    it(`login() refuses ${what}, writes nothing and repeats nothing`, async () => {
      const made = await setup();
      const bearerToken = await make(made);
      const message = await refusal(made.enter(bearerToken));
      assert.match(message, expected);
      for (const part of bearerToken.split("."))
        assert.ok(part.length < 8 || !message.includes(part));
      assert.equal(made.access.replica.tokens.size, 0);
    });

  it("login() derives a missing exp or nbf as Consul does", async () => {
    const { access, enter, jwt, now } = await setup({
      ExpirationLeeway: "10s",
      NotBeforeLeeway: "10s",
      ClockSkewLeeway: "-1s",
    });
    const started = now();
    const withoutEnd = await jwt({ exp: undefined, iat: started, jti: "a" });
    const withoutStart = await jwt({ exp: started + 20, iat: undefined, jti: "b" });
    assert.match(await refusal(enter(withoutStart)), /not valid yet/);
    access.clock.advance(9_999);
    await enter(withoutEnd);
    access.clock.advance(1);
    assert.match(
      await refusal(enter(await jwt({ exp: undefined, iat: started, jti: "c" }))),
      /has expired/,
    );
    await enter(withoutStart);
  });

  for (const [what, claims] of [
    ["ends far in the future", { exp: 4_102_444_800 }],
    ["has no end", { exp: undefined }],
  ] as const)
    it(`login() makes a token that ends within a day for one that ${what}, if the method sets no TTL`, async () => {
      const { enter, jwt, now } = await setup({ ExpirationLeeway: "1h" });
      const { token } = await enter(await jwt(claims));
      assert.ok(
        (token.value.expirationTime?.getTime() ?? Number.POSITIVE_INFINITY) <=
          (now() + 86_400) * 1000,
      );
    });

  for (const [claim, value] of [
    ["exp", 8.64e12],
    ["exp", 8.63e12],
    ["exp", 253_402_300_800],
    ["exp", 1e300],
    ["exp", -1],
    ["nbf", -1],
    ["nbf", 1e20],
    ["iat", 9e15],
    ["iat", -1e300],
  ] as const)
    it(`login() refuses a token whose ${claim} is ${value}, which is not a date, and claims nothing for it`, async () => {
      const { access, enter, jwt } = await setup();
      assert.match(
        await refusal(enter(await jwt({ [claim]: value, jti: "j" }))),
        /^Permission denied: login token has malformed claims$/,
      );
      assert.equal(access.replica.tokens.size, 0);
      await enter(await jwt({ jti: "j" }));
    });

  it("login() gives roles, policies and templated policies by their binding rules", async () => {
    const { access, jwt, enter } = await setup({}, {}, [
      { bindType: "role", bindName: `${VARIABLE}-role` },
      { bindType: "policy", bindName: `${VARIABLE}-policy` },
      { bindType: "policy", bindName: "global-management", selector: "value.name == admin" },
      { bindType: "templated-policy", bindName: "builtin/dns", selector: "value.name == dns" },
      {
        bindType: "templated-policy",
        bindName: "builtin/service",
        bindVariable: `${VARIABLE}-x`,
        selector: 'value.name matches "^tasks"',
      },
    ]);
    // Rules for a role and a policy that do not exist give nothing.
    assert.match(
      await refusal(enter(await jwt({ sub: "nobody" }))),
      /^Permission denied: login token matches no binding rule$/,
    );
    const policy = await access.addPolicy('operator = "read"', { name: "tasks-policy" });
    const id = makeUuid(systemRandom);
    const role: AclRole = {
      id,
      name: "tasks-role",
      description: "",
      policies: [],
      serviceIdentities: [{ serviceName: "batch", datacenters: [] }],
      nodeIdentities: [],
    };
    await access.replica.write([
      { kind: "role", id, replaces: null, content: role, key: role.name },
    ]);
    const { token, secret } = await enter(await jwt({ sub: "tasks" }));
    assert.deepEqual(token.value.roles, [id]);
    assert.deepEqual(token.value.policies, [policy.id]);
    assert.deepEqual(token.value.templatedPolicies, [
      { templateName: "builtin/service", name: "tasks-x", datacenters: [] },
    ]);
    const rights = await access.authorizer.authorize(secret);
    for (const name of ["batch", "tasks-x"])
      assert.equal(rights.allows("service", "write", name), true, name);
    assert.equal(rights.allows("operator", "read"), true);
    assert.equal(rights.allows("acl", "write"), false);
    const admin = await enter(await jwt({ sub: "admin" }));
    assert.deepEqual(admin.token.value.policies, ["00000000-0000-0000-0000-000000000001"]);
    const dns = await enter(await jwt({ sub: "dns" }));
    assert.deepEqual(dns.token.value.templatedPolicies, [
      { templateName: "builtin/dns", name: "", datacenters: [] },
    ]);
    // The name gets into rules.
    assert.match(
      await refusal(enter(await jwt({ sub: 'tasks" { policy = "write" } acl = "write' }))),
      /^Permission denied: login token gets a name from a binding rule that no (role|policy) can have$/,
    );
  });

  it("login() refuses a variable of a templated policy that would change its rules", async () => {
    const { jwt, enter } = await setup({}, {}, [
      { bindType: "templated-policy", bindName: "builtin/service", bindVariable: VARIABLE },
    ]);
    assert.match(
      await refusal(enter(await jwt({ sub: 'a" { policy = "write" } acl = "write' }))),
      /^Permission denied: login token gets a name from a binding rule that its templated policy cannot have$/,
    );
  });

  it("login() accepts a login token once for its issuer and audience, by any auth method", async () => {
    const { access, login, jwt } = await setup();
    const method = access.replica.authMethods.get("m");
    assert.ok(method);
    for (const [name, config] of [
      ["second", {}],
      ["anyone", { BoundIssuer: "", ClockSkewLeeway: "1h" }],
    ] as const) {
      const content = { ...method.value, name, config: { ...method.value.config, ...config } };
      await access.replica.write([{ kind: "auth-method", id: name, replaces: null, content }]);
      const id = makeUuid(systemRandom);
      const rule = {
        id,
        description: "",
        authMethod: name,
        bindType: "service",
        bindName: VARIABLE,
        selector: "",
      } as const;
      await access.replica.write([{ kind: "binding-rule", id, replaces: null, content: rule }]);
    }
    const bearerToken = await jwt();
    await login.login({ authMethod: "m", bearerToken, meta: {} });
    for (const authMethod of ["second", "anyone"])
      assert.match(
        await refusal(login.login({ authMethod, bearerToken, meta: {} })),
        /^Permission denied: login token was used before$/,
        authMethod,
      );
    // A method with a longer leeway accepts it for longer: the claim outlasts that.
    access.clock.advance(600_000 + 3_500_000);
    assert.match(
      await refusal(login.login({ authMethod: "anyone", bearerToken, meta: {} })),
      /^Permission denied: login token was used before$/,
    );
    // Without an issuer the token stands for itself: the methods need not have the same keys.
    const entry = access.replica.authMethods.get("anyone");
    assert.ok(entry);
    const { JWTValidationPubKeys } = method.value.config;
    const keys = [...(JWTValidationPubKeys as string[]), await exportSPKI(rsa.publicKey)];
    const more = {
      ...entry.value,
      name: "more keys",
      config: { ...entry.value.config, JWTValidationPubKeys: keys },
    };
    await access.replica.write([
      { kind: "auth-method", id: "more keys", replaces: null, content: more },
    ]);
    const id = makeUuid(systemRandom);
    const rule = {
      id,
      description: "",
      authMethod: "more keys",
      bindType: "service",
      bindName: VARIABLE,
      selector: "",
    } as const;
    await access.replica.write([{ kind: "binding-rule", id, replaces: null, content: rule }]);
    const nobodys = await jwt({ iss: undefined });
    await login.login({ authMethod: "anyone", bearerToken: nobodys, meta: {} });
    for (const authMethod of ["anyone", "more keys"])
      assert.match(
        await refusal(login.login({ authMethod, bearerToken: nobodys, meta: {} })),
        /^Permission denied: login token was used before$/,
        authMethod,
      );
    // Another audience's token is another one, though its jti is the same.
    const jti = "one";
    await login.login({ authMethod: "m", bearerToken: await jwt({ jti }), meta: {} });
    await login.login({
      authMethod: "m",
      bearerToken: await jwt({ jti, aud: [AUDIENCE, "other"] }),
      meta: {},
    });
    // A token of another issuer is another one too, though it has the same keys.
    await login.login({
      authMethod: "anyone",
      bearerToken: await jwt({ jti, iss: "https://other.example" }),
      meta: {},
    });
    // A token of one issuer is the same one, though the methods have other keys.
    assert.match(
      await refusal(
        login.login({ authMethod: "more keys", bearerToken: await jwt({ jti }), meta: {} }),
      ),
      /^Permission denied: login token was used before$/,
    );
  });

  const kubernetes = async (maxTokens: number) => {
    const { access, jwt } = await setup({}, { type: "kubernetes", config: KUBERNETES() }, [
      { bindName: "cart" },
    ]);
    const options = {
      keySets: {} as never,
      reviews: {} as never,
      datacenter: "dc1",
      clock: access.clock,
      random: systemRandom,
      maxTokens,
    };
    const pod = (uid: string) =>
      jwt({
        "kubernetes.io": {
          namespace: "shop",
          serviceaccount: { name: "cart", uid: "u" },
          pod: { name: "cart-1", uid },
        },
      });
    const replicas = [access.replica, await access.addReplica()].map(
      (replica) => new Login({ ...options, replica }),
    );
    return { access, pod, replicas: replicas as [Login, Login] };
  };
  const KUBERNETES = () => ({
    JWTSupportedAlgs: ["ES256"],
    BoundIssuer: ISSUER,
    BoundAudiences: [AUDIENCE],
    JWTValidationPubKeys: [spki],
  });

  it("login() limits the live tokens of one subject until one expires or is logged out", async () => {
    const { access, pod, replicas } = await kubernetes(3);
    const [login] = replicas;
    const enter = async (uid: string) =>
      login.login({ authMethod: "m", bearerToken: await pod(uid), meta: {} });
    const made = [await enter("a"), await enter("a"), await enter("a")];
    await assert.rejects(enter("a"), {
      name: "RateLimitedError",
      code: "login_tokens_exceeded",
      message:
        "Cannot log in: this subject has 3 live tokens, the limit; log out of unused tokens, or wait until one expires",
      retryAfterMs: 660_000,
    });
    // Another pod of the same account has its own limit.
    await enter("b");
    await login.logout(made[0]?.secret ?? null);
    await enter("a");
    await assert.rejects(enter("a"), { code: "login_tokens_exceeded" });
    access.clock.advance(660_000);
    await enter("a");
  });

  it("login() keeps the limit for concurrent logins on several replicas", async () => {
    const { access, pod, replicas } = await kubernetes(5);
    const bearerToken = await pod("a");
    const outcomes = await Promise.allSettled(
      Array.from({ length: 40 }, (_, i) =>
        (replicas[i % 2] as Login).login({ authMethod: "m", bearerToken, meta: {} }),
      ),
    );
    await access.replica.refresh();
    assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 5);
    assert.equal(access.replica.tokens.size, 5);
    for (const outcome of outcomes)
      if (outcome.status === "rejected") assert.equal(outcome.reason.code, "login_tokens_exceeded");
  });

  const metas: readonly (readonly [what: string, meta: Record<string, string>, says: RegExp])[] = [
    [
      "65 entries",
      Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`k${i}`, ""])),
      /Meta has 65 entries, at most 64 are allowed/,
    ],
    [
      "a long key",
      { ["k".repeat(129)]: "" },
      /a key of Meta is empty or longer than 128 characters/,
    ],
    ["an empty key", { "": "v" }, /a key of Meta is empty or longer than 128 characters/],
    ["a long value", { k: "v".repeat(513) }, /a value of Meta is longer than 512 characters/],
    [
      "more than a description holds",
      Object.fromEntries(Array.from({ length: 10 }, (_, i) => [`k${i}`, "v".repeat(500)])),
      /Meta is longer than 4096 characters in JSON/,
    ],
  ];
  for (const [what, meta, says] of metas)
    it(`login() refuses Meta with ${what}, before the token is used up`, async () => {
      const { access, login, jwt } = await setup();
      const bearerToken = await jwt();
      await assert.rejects(
        login.login({ authMethod: "m", bearerToken, meta }),
        (error: Error & { code?: string }) => {
          assert.match(error.message, says);
          return error.code === "request_malformed";
        },
      );
      assert.equal(access.replica.tokens.size, 0);
      await login.login({ authMethod: "m", bearerToken, meta: { pod: "a" } });
    });

  it("login() and logout() audit the method and the subject", async () => {
    const { login, jwt } = await setup();
    const told: unknown[] = [];
    const before = async (subject: string, detail?: unknown) => void told.push([subject, detail]);
    const { token, secret } = await login.login(
      { authMethod: "m", bearerToken: await jwt({ sub: "web" }), meta: {} },
      before,
    );
    await login.logout(secret, before);
    const line = [`token/${token.value.accessorId}`, { "auth-method": "m", subject: "web" }];
    assert.deepEqual(told, [line, line]);
  });

  it("logout() deletes only tokens that a login created", async () => {
    const { access, login, enter, jwt } = await setup();
    const { token, secret } = await enter(await jwt());
    const made = await access.addToken();
    assert.match(await refusal(login.logout(made.secret)), /token wasn't created via login/);
    assert.match(await refusal(login.logout(null)), /ACL not found/);
    await login.logout(secret);
    assert.equal(access.replica.tokens.has(token.value.accessorId), false);
    assert.match(await refusal(login.logout(secret)), /ACL not found/);
  });
});
