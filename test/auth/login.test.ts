/**
 * Logging in with JWTs and Kubernetes' tokens: what is taken, what it gives, and every way that it must not work.
 * @module
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { base64url, exportJWK, exportSPKI, generateKeyPair, SignJWT, UnsecuredJWT } from "jose";
import { createKeySets } from "../../src/auth/jwks.ts";
import { createLogin, type Login } from "../../src/auth/login.ts";
import { makeUuid } from "../../src/auth/tokens.ts";
import type { AuthMethod, BindingRule } from "../../src/core/access.ts";
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
  jwt(claims?: Readonly<Record<string, unknown>>, options?: { key?: CryptoKey; header?: Record<string, string> }): Promise<string>;
  enter(bearerToken: string, authMethod?: string): ReturnType<Login["login"]>;
}

describe("createLogin()", () => {
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
    const { directory, clock } = access;
    const method: AuthMethod = {
      name: "m",
      type: "jwt",
      displayName: "",
      description: "",
      maxTokenTtlMs: 0,
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
    await directory.write([{ kind: "auth-method", id: method.name, replaces: null, content: method }]);
    for (const rule of rules) {
      const id = makeUuid(systemRandom);
      const content: BindingRule = { id, description: "", authMethod: "m", bindType: "service", bindName: VARIABLE, selector: "", ...rule };
      await directory.write([{ kind: "binding-rule", id, replaces: null, content }]);
    }
    const keySets = createKeySets({
      fetch: async () => Response.json(served),
      resolve: async () => ["93.184.216.34"],
      hosts: ["issuer.example"],
      privateHosts: [],
      clock,
    });
    const login = createLogin({ directory, keySets, datacenter: "dc1", clock, random: systemRandom });
    const now = () => Math.floor(clock.now().getTime() / 1000);
    return {
      access,
      login,
      now,
      jwt: (claims = {}, { key = ec.privateKey, header = {} } = {}) =>
        new SignJWT({ iss: ISSUER, aud: AUDIENCE, sub: "web", exp: now() + 600, iat: now(), jti: makeUuid(systemRandom), ...claims })
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

  it("login() makes a token with the service identity of its rule, which ends with the login token", async () => {
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
    assert.ok(!JSON.stringify([...access.directory.tokens.values()]).includes(secret));
  });

  it("login() makes a token that lives as long as its method says", async () => {
    const { enter, jwt, now } = await setup({}, { maxTokenTtlMs: 120_000 });
    assert.equal((await enter(await jwt())).token.value.expirationTime?.getTime(), (now() + 120) * 1000);
  });

  it("login() takes keys by URL, by their kid", async () => {
    const { enter, jwt } = await setup({ JWKSURL: `${ISSUER}/keys`, JWTValidationPubKeys: [] });
    await enter(await jwt({}, { header: { kid: "ec" } }));
    await enter(await jwt({}, { key: rsa.privateKey, header: { alg: "RS256", kid: "rsa" } }));
    assert.match(await refusal(enter(await jwt({}, { header: { kid: "none" } }))), /signature/);
    assert.match(await refusal(enter(await jwt({}, { header: { kid: "rsa" } }))), /signature/);
  });

  it("login() goes by selectors, and gives every identity that matches", async () => {
    const { enter, jwt } = await setup({}, {}, [
      { selector: '"ops" in list.groups', bindName: "ops" },
      { selector: 'value.name == "web" and value.deep == "7"' },
      { selector: 'value.name == "api"', bindName: "never" },
      { bindType: "node", bindName: "n-".concat(VARIABLE) },
      { authMethod: "other", bindName: "other" },
    ]);
    const { token } = await enter(await jwt({ groups: ["ops", "dev"], deep: { er: 7 } }));
    assert.deepEqual(token.value.serviceIdentities.map(({ serviceName }) => serviceName).toSorted(), ["ops", "web"]);
    assert.deepEqual(token.value.nodeIdentities, [{ nodeName: "n-web", datacenter: "dc1" }]);
  });

  it("login() takes a Kubernetes service account's token, again and again", async () => {
    const config = { JWTSupportedAlgs: ["ES256"], BoundIssuer: ISSUER, BoundAudiences: [AUDIENCE], JWTValidationPubKeys: [spki] };
    const { access, login, jwt } = await setup();
    const content: AuthMethod = { name: "k8s", type: "kubernetes", displayName: "", description: "", maxTokenTtlMs: 0, config };
    const id = makeUuid(systemRandom);
    const bindName = VARIABLE.replace("value.name", "serviceaccount.name");
    const selector = 'serviceaccount.namespace == "shop"';
    await access.directory.write([{ kind: "auth-method", id: "k8s", replaces: null, content }]);
    await access.directory.write([
      {
        kind: "binding-rule",
        id,
        replaces: null,
        content: { id, description: "", authMethod: "k8s", bindType: "service", bindName, selector },
      },
    ]);
    const pod = (namespace: string) =>
      jwt({ "kubernetes.io": { namespace, serviceaccount: { name: "cart", uid: "u" }, pod: { name: "p" } } });
    const bearerToken = await pod("shop");
    for (let i = 0; i < 3; i++) {
      const { token } = await login.login({ authMethod: "k8s", bearerToken, meta: { pod: "shop/cart" } });
      assert.deepEqual(token.value.serviceIdentities, [{ serviceName: "cart", datacenters: [] }]);
      assert.equal(token.value.description, 'token created via login: {"pod":"shop/cart"}');
    }
    assert.match(await refusal(login.login({ authMethod: "k8s", bearerToken: await pod("other"), meta: {} })), /no binding rule/);
    assert.match(await refusal(login.login({ authMethod: "k8s", bearerToken: await jwt(), meta: {} })), /no token of a Kubernetes/);
  });

  it("login() takes a token once, whichever replica is asked, and another one of the same holder", async () => {
    const { access, login, jwt, enter } = await setup();
    const bearerToken = await jwt();
    await enter(bearerToken);
    assert.match(await refusal(enter(bearerToken)), /it was used before/);
    const other = createLogin({
      directory: await access.replica(),
      keySets: createKeySets({
        fetch: async () => Response.error(),
        resolve: async () => [],
        hosts: [],
        privateHosts: [],
        clock: access.clock,
      }),
      datacenter: "dc1",
      clock: access.clock,
      random: systemRandom,
    });
    assert.match(await refusal(other.login({ authMethod: "m", bearerToken, meta: {} })), /it was used before/);
    const racing = await jwt();
    const outcomes = await Promise.allSettled(
      [login, other, login].map((one) => one.login({ authMethod: "m", bearerToken: racing, meta: {} })),
    );
    assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 1);
    await enter(await jwt());
  });

  it("login() does not use a token up that it refuses", async () => {
    const { enter, jwt } = await setup({}, {}, [{ selector: 'value.name == "web"' }]);
    const jti = "same";
    assert.match(await refusal(enter(await jwt({ jti, sub: "api" }))), /no binding rule/);
    await enter(await jwt({ jti }));
  });

  it("login() refuses an auth method that is not there", async () => {
    const { enter, jwt } = await setup();
    for (const name of ["x", "__proto__"]) assert.match(await refusal(enter(await jwt(), name)), /^ACL not found: auth method /);
  });

  const bad: readonly [what: string, make: (setup: Setup) => Promise<string> | string, expected: RegExp][] = [
    ["nothing", () => "", /signature/],
    ["what is no JWT", () => "a.b.c", /signature/],
    [
      "alg none (RFC 8725 §3.2)",
      ({ now }) => new UnsecuredJWT({ iss: ISSUER, aud: AUDIENCE, sub: "web", exp: now() + 60, jti: "x" }).encode(),
      /algorithm is not taken/,
    ],
    [
      "alg none in capitals",
      async ({ jwt }) => `${base64url.encode('{"alg":"nOnE"}')}.${(await jwt()).split(".")[1]}.`,
      /algorithm is not taken/,
    ],
    [
      "a public key used as a shared secret (RFC 8725 §2.1)",
      ({ now }) =>
        new SignJWT({ iss: ISSUER, aud: AUDIENCE, sub: "web", exp: now() + 60, jti: "x" })
          .setProtectedHeader({ alg: "HS256" })
          .sign(new TextEncoder().encode(spki)),
      /algorithm is not taken/,
    ],
    [
      "an algorithm that is not listed",
      ({ jwt }) => generateKeyPair("ES384").then(({ privateKey }) => jwt({}, { key: privateKey, header: { alg: "ES384" } })),
      /algorithm is not taken/,
    ],
    ["another key", ({ jwt }) => jwt({}, { key: stranger.privateKey }), /signature/],
    [
      "a key in its own header",
      async ({ jwt }) => jwt({}, { key: stranger.privateKey, header: { jwk: (await exportJWK(stranger.publicKey)) as unknown as string } }),
      /signature/,
    ],
    [
      "another payload under the signature",
      async ({ jwt }) => {
        const [head, , tail] = (await jwt()).split(".");
        return [head, (await jwt({ sub: "api" })).split(".")[1], tail].join(".");
      },
      /signature/,
    ],
    [
      "a header that must be understood",
      ({ jwt }) => jwt({}, { header: { crit: ["exp"] as unknown as string, exp: "1" } }).catch(() => "x.y.z"),
      /signature/,
    ],
    ["another issuer", ({ jwt }) => jwt({ iss: "https://other.example" }), /another issuer/],
    ["no issuer", ({ jwt }) => jwt({ iss: undefined }), /another issuer/],
    ["another audience", ({ jwt }) => jwt({ aud: ["vault", "meshca2"] }), /another audience/],
    ["no audience", ({ jwt }) => jwt({ aud: undefined }), /another audience/],
    ["one that has expired", ({ jwt, now }) => jwt({ exp: now() - 60, iat: now() - 600 }), /has expired/],
    ["one that is not valid yet", ({ jwt, now }) => jwt({ nbf: now() + 61 }), /not valid yet/],
    ["one that was issued in the future", ({ jwt, now }) => jwt({ iat: now() + 61, nbf: now() }), /not valid yet/],
    ["one without any time", ({ jwt }) => jwt({ exp: undefined, iat: undefined }), /none of exp, nbf and iat/],
    ["an end beyond all dates", ({ jwt }) => jwt({ exp: 1e300 }), /claims are malformed/],
    ["an end that is text", ({ jwt }) => jwt({ exp: "9999999999" }).catch(() => "x.y.z"), /malformed|signature/],
    ["one without a jti", ({ jwt }) => jwt({ jti: undefined }), /has no jti/],
    ["an empty jti", ({ jwt }) => jwt({ jti: "" }), /claims are malformed/],
    ["a name that no service has", ({ jwt }) => jwt({ sub: "Web" }), /no name that a service or node can have/],
    ["a name with a slash", ({ jwt }) => jwt({ sub: "web/../api" }), /no name that a service or node can have/],
    ["no claim for the name", ({ jwt }) => jwt({ sub: undefined }), /no name that a service or node can have/],
    ["a claim that is no text", ({ jwt }) => jwt({ sub: { a: 1 } }), /no name|malformed/],
    ["a list of other things than text", ({ jwt }) => jwt({ groups: [{}] }), /is no list of texts/],
    ["too long a token", ({ jwt }) => jwt({ pad: "x".repeat(20_000) }), /it is too long/],
  ];
  for (const [what, make, expected] of bad)
    it(`login() refuses ${what}, writes nothing and repeats nothing`, async () => {
      const made = await setup();
      const bearerToken = await make(made);
      const message = await refusal(made.enter(bearerToken));
      assert.match(message, expected);
      for (const part of bearerToken.split(".")) assert.ok(part.length < 8 || !message.includes(part));
      assert.equal(made.access.directory.tokens.size, 0);
    });

  it("login() counts time as Consul does where a token lacks exp or nbf", async () => {
    const { access, enter, jwt, now } = await setup({ ExpirationLeeway: "10s", NotBeforeLeeway: "10s", ClockSkewLeeway: "-1s" });
    const started = now();
    const withoutEnd = await jwt({ exp: undefined, iat: started, jti: "a" });
    const withoutStart = await jwt({ exp: started + 20, iat: undefined, jti: "b" });
    assert.match(await refusal(enter(withoutStart)), /not valid yet/);
    access.clock.advance(9_999);
    await enter(withoutEnd);
    access.clock.advance(1);
    assert.match(await refusal(enter(await jwt({ exp: undefined, iat: started, jti: "c" }))), /has expired/);
    await enter(withoutStart);
  });

  it("logout() deletes a token that a login made, and no other", async () => {
    const { access, login, enter, jwt } = await setup();
    const { token, secret } = await enter(await jwt());
    const made = await access.addToken();
    assert.match(await refusal(login.logout(made.secret)), /token wasn't created via login/);
    assert.match(await refusal(login.logout(null)), /ACL not found/);
    await login.logout(secret);
    assert.equal(access.directory.tokens.has(token.value.accessorId), false);
    assert.match(await refusal(login.logout(secret)), /ACL not found/);
  });
});
