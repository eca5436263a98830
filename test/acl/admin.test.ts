/**
 * Operations of an operator: bootstrap, tokens, policies, auth methods, binding rules, denylist,
 * and requests that are refused.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { AclRecords } from "../../src/acl/admin.ts";
import { KeySets } from "../../src/acl/jwks.ts";
import { GLOBAL_MANAGEMENT } from "../../src/acl/rule-index.ts";
import { TokenReviews } from "../../src/acl/token-review.ts";
import { makeUuid } from "../../src/acl/tokens.ts";
import type { AclAdmin, NewTokenRequest, PolicyRequest } from "../../src/core/acl/admin.ts";
import { ANONYMOUS } from "../../src/core/acl/authorizer.ts";
import type { AuthMethod } from "../../src/core/acl/types.ts";
import { CaError } from "../../src/core/errors.ts";
import { systemRandom } from "../fakes/clock.ts";
import { selfSigned } from "../tls/harness.ts";
import { createTestAccess, type TestAccess } from "./access.ts";

interface Setup extends TestAccess {
  readonly admin: AclAdmin;
  /** The admin of another replica, which follows by itself before each use. */
  other(): Promise<AclAdmin>;
}

/** Leaves of 48 hours, for `abc.consul` and dc1. */
const HORIZON_MS = 48 * 3_600_000;
const leaves = {
  scope: () => ({ trustDomain: "abc.consul", datacenter: "dc1" }),
  horizonMs: () => HORIZON_MS,
  intermediateEnd: () => null,
};

async function setup(): Promise<Setup> {
  const access = await createTestAccess();
  const { clock } = access;
  const outside = {
    fetch: async () => Response.error(),
    resolve: async () => [],
    hosts: ["issuer.example"],
    privateHosts: [],
    clock,
  };
  const [keySets, reviews] = [new KeySets(outside), new TokenReviews(outside)];
  const over = (replica: TestAccess["replica"]) =>
    new AclRecords({ replica, clock, random: systemRandom, keySets, reviews, leaves });
  return {
    ...access,
    admin: over(access.replica),
    other: async () => over(await access.addReplica()),
  };
}

const refusal = async (work: () => unknown): Promise<{ code: string; message: string }> => {
  try {
    await work();
  } catch (error) {
    assert.ok(error instanceof CaError, String(error));
    return error;
  }
  throw new assert.AssertionError({ message: "it was not refused" });
};

const TOKEN: NewTokenRequest = {
  description: "",
  policies: [],
  serviceIdentities: [],
  nodeIdentities: [],
  local: false,
  accessorId: null,
  secret: null,
  expirationTtlMs: null,
  expirationTime: null,
};
const POLICY: PolicyRequest = {
  name: "ops",
  description: "",
  rules: 'operator = "read"',
  datacenters: [],
};
const METHOD: AuthMethod = {
  name: "m",
  type: "jwt",
  displayName: "",
  description: "",
  maxTokenTtlMs: 0,
  config: {
    BoundAudiences: ["meshca"],
    JWKSURL: "https://issuer.example/keys",
    ClaimMappings: { sub: "name" },
  },
};
/** The generator of P-256 as a key (SEC 2 §2.4.2). */
const PUBLIC_KEY = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==
-----END PUBLIC KEY-----
`;
const BOTH_KEYS = `${PUBLIC_KEY}${PUBLIC_KEY.replaceAll("PUBLIC", "PRIVATE")}`;
const RULE = {
  description: "",
  authMethod: "m",
  bindType: "service",
  bindName: "web",
  selector: "",
} as const;

/** The caller does not matter to these tests. */
const anybody = () => undefined;

describe("bootstrap()", () => {
  it("bootstrap() creates one management token, once for all replicas", async () => {
    const { admin, other, authorizer } = await setup();
    const replica = await other();
    const { token, secret } = await admin.tokens.bootstrap(null, null, anybody);
    assert.deepEqual(token.value.policies, [GLOBAL_MANAGEMENT.id]);
    const caller = await authorizer.authorize(secret);
    for (const resource of ["acl", "operator", "mesh"] as const)
      assert.equal(caller.allows(resource, "write"), true);
    for (const one of [admin, replica]) {
      const { code, message } = await refusal(() => one.tokens.bootstrap(null, null, anybody));
      assert.equal(code, "permission_denied");
      assert.equal(
        message,
        `Permission denied: ACL bootstrap no longer allowed (reset index: ${token.modifyIndex})`,
      );
    }
  });

  it("bootstrap() succeeds for one of several concurrent callers", async () => {
    const { admin, other } = await setup();
    const outcomes = await Promise.allSettled(
      [admin, await other(), await other()].map((one) => one.tokens.bootstrap(null, null, anybody)),
    );
    assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 1);
    assert.equal((await other()).tokens.list().length, 2);
  });

  it("bootstrap() is allowed again with the reset index only", async () => {
    const { admin } = await setup();
    const { token } = await admin.tokens.bootstrap(null, null, anybody);
    for (const index of [0, token.modifyIndex - 1, token.modifyIndex + 1])
      assert.equal(
        (await refusal(() => admin.tokens.bootstrap(index, null, anybody))).code,
        "permission_denied",
      );
    const again = await admin.tokens.bootstrap(token.modifyIndex, null, anybody);
    assert.notEqual(again.token.value.accessorId, token.value.accessorId);
    assert.equal(
      (await refusal(() => admin.tokens.bootstrap(token.modifyIndex, null, anybody))).code,
      "permission_denied",
    );
  });

  it("bootstrap() accepts a chosen secret that is a UUID, and refuses another without quoting it", async () => {
    const { admin } = await setup();
    const { message } = await refusal(() =>
      admin.tokens.bootstrap(null, "hunter2hunter2", anybody),
    );
    assert.ok(!message.includes("hunter2"));
    const secret = makeUuid(systemRandom);
    assert.equal((await admin.tokens.bootstrap(null, secret, anybody)).secret, secret);
  });

  it("ensureInitialManagement() creates the token once for all replicas, and ends bootstrap", async () => {
    const { admin, other, authorizer } = await setup();
    const secret = "an old secret of ours";
    const made = await Promise.all(
      [admin, await other(), await other()].map((one) =>
        one.tokens.ensureInitialManagement(secret),
      ),
    );
    assert.equal(made.filter((first) => first).length, 1);
    assert.equal(await (await other()).tokens.ensureInitialManagement(secret), false);
    assert.equal(
      (await refusal(async () => (await other()).tokens.bootstrap(null, null, anybody))).code,
      "permission_denied",
    );
    assert.equal(
      (await refusal(() => admin.tokens.ensureInitialManagement("anonymous"))).code,
      "request_malformed",
    );
    assert.equal((await authorizer.authorize(secret)).allows("acl", "write"), true);
  });
});

describe("tokens", () => {
  it("tokens.create() resolves policies by id and name, without duplicates", async () => {
    const { authorizer, admin, clock } = await setup();
    const { value: policy } = await admin.policies.create(POLICY);
    const [accessorId, secret] = [makeUuid(systemRandom), makeUuid(systemRandom)];
    const made = await admin.tokens.create({
      ...TOKEN,
      accessorId,
      secret,
      description: "d",
      policies: [
        { id: policy.id, name: "" },
        { id: "", name: "ops" },
        { id: "", name: "global-management" },
      ],
      serviceIdentities: [
        { serviceName: "web", datacenters: [] },
        { serviceName: "web", datacenters: ["dc1"] },
      ],
      nodeIdentities: [{ nodeName: "n", datacenter: "dc1" }],
      expirationTtlMs: 60_000,
    });
    assert.equal(made.secret, secret);
    assert.deepEqual(made.token.value, {
      accessorId,
      description: "d",
      policies: [policy.id, GLOBAL_MANAGEMENT.id],
      serviceIdentities: [{ serviceName: "web", datacenters: ["dc1"] }],
      nodeIdentities: [{ nodeName: "n", datacenter: "dc1" }],
      local: false,
      createTime: clock.now(),
      expirationTime: new Date(clock.now().getTime() + 60_000),
      authMethod: null,
    });
    assert.equal((await authorizer.authorize(secret)).accessorId, accessorId);
    clock.advance(60_000);
    assert.equal(admin.tokens.get(accessorId), null);
    assert.equal((await refusal(() => authorizer.authorize(secret))).code, "token_unknown");
    assert.equal(admin.tokens.list().length, 1);
  });

  const bad: readonly [what: string, request: Partial<NewTokenRequest>, expected: RegExp][] = [
    ["an accessor that is no UUID", { accessorId: "x" }, /AccessorID - not a valid UUID/],
    [
      "a reserved accessor",
      { accessorId: ANONYMOUS.accessorId },
      /AccessorID - UUIDs with the prefix/,
    ],
    [
      "a secret that is no UUID",
      { secret: "hunter2" },
      /^Invalid Token: SecretID - not a valid UUID$/,
    ],
    [
      "a policy that is not there",
      { policies: [{ id: "", name: "none" }] },
      /No such ACL policy with name "none"/,
    ],
    [
      "a policy id that is not there",
      { policies: [{ id: "none", name: "ops" }] },
      /No such ACL policy with ID "none"/,
    ],
    [
      "a service without a name",
      { serviceIdentities: [{ serviceName: "", datacenters: [] }] },
      /missing the service name/,
    ],
    [
      "a service with a bad name",
      { serviceIdentities: [{ serviceName: "a/b", datacenters: [] }] },
      /"a\/b" has an invalid name/,
    ],
    [
      "a local token for datacenters",
      { local: true, serviceIdentities: [{ serviceName: "a", datacenters: ["dc1"] }] },
      /on a local token/,
    ],
    [
      "a node without a datacenter",
      { nodeIdentities: [{ nodeName: "a", datacenter: "" }] },
      /missing the datacenter/,
    ],
    [
      "a node with a bad name",
      { nodeIdentities: [{ nodeName: "A", datacenter: "dc1" }] },
      /Node identity has an invalid name/,
    ],
    ["an end that is too soon", { expirationTtlMs: 1 }, /cannot be less than 1m0s/],
    ["too long a description", { description: "x".repeat(5000) }, /longer than 4096/],
    [
      "too many identities",
      { nodeIdentities: Array.from({ length: 257 }, () => ({ nodeName: "a", datacenter: "b" })) },
      /at most 256/,
    ],
  ];
  for (const [what, request, expected] of bad)
    it(`createToken() refuses ${what}, and writes nothing`, async () => {
      const { admin, replica } = await setup();
      const { code, message } = await refusal(() => admin.tokens.create({ ...TOKEN, ...request }));
      assert.equal(code, "request_malformed");
      assert.match(message, expected);
      assert.equal(replica.tokens.size, 0);
    });

  it("tokens.create() refuses an accessor or secret in use, without quoting the secret", async () => {
    const { admin } = await setup();
    const { token, secret } = await admin.tokens.create(TOKEN);
    const byAccessor = await refusal(() =>
      admin.tokens.create({ ...TOKEN, accessorId: token.value.accessorId }),
    );
    assert.deepEqual(
      [byAccessor.code, byAccessor.message],
      ["name_taken", "Invalid Token: AccessorID is already in use"],
    );
    const bySecret = await refusal(() => admin.tokens.create({ ...TOKEN, secret }));
    assert.deepEqual(
      [bySecret.code, bySecret.message],
      ["name_taken", "Invalid Token: SecretID is already in use"],
    );
  });

  it("tokens.update() changes permissions and keeps secret, expiry and scope", async () => {
    const { admin, authorizer } = await setup();
    const { token, secret } = await admin.tokens.create({ ...TOKEN, expirationTtlMs: 60_000 });
    const { accessorId, expirationTime } = token.value;
    const updated = await admin.tokens.update(accessorId, {
      ...TOKEN,
      serviceIdentities: [{ serviceName: "web", datacenters: [] }],
    });
    assert.deepEqual(updated.value.expirationTime, expirationTime);
    assert.equal(updated.version, 2);
    assert.equal((await authorizer.authorize(secret)).allows("service", "write", "web"), true);
    assert.match(
      (await refusal(() => admin.tokens.update(accessorId, { ...TOKEN, local: true }))).message,
      /Cannot toggle local mode/,
    );
    assert.equal(
      (await refusal(() => admin.tokens.update(makeUuid(systemRandom), TOKEN))).code,
      "not_found",
    );
  });

  it("tokens.update() changes the anonymous token, which always exists and cannot be deleted", async () => {
    const { admin, authorizer } = await setup();
    const nobody = async () => authorizer.authorize(null);
    assert.equal(admin.tokens.list()[0]?.value.description, "Anonymous Token");
    for (const name of ["web", "api"]) {
      await admin.tokens.update(ANONYMOUS.accessorId, {
        ...TOKEN,
        serviceIdentities: [{ serviceName: name, datacenters: [] }],
      });
      assert.equal((await nobody()).allows("service", "write", name), true);
    }
    assert.equal((await nobody()).allows("service", "write", "web"), false);
    assert.equal(admin.tokens.list().length, 1);
    assert.equal((await authorizer.authorize(null)).accessorId, ANONYMOUS.accessorId);
    assert.match(
      (await refusal(() => admin.tokens.delete(ANONYMOUS.accessorId))).message,
      /not permitted on the anonymous token/,
    );
  });

  it("tokens.clone() creates another secret with the same permissions and expiry", async () => {
    const { admin } = await setup();
    const { token, secret } = await admin.tokens.create({
      ...TOKEN,
      description: "one",
      expirationTtlMs: 60_000,
      local: true,
    });
    const clone = await admin.tokens.clone(token.value.accessorId, null);
    assert.notEqual(clone.secret, secret);
    assert.notEqual(clone.token.value.accessorId, token.value.accessorId);
    assert.deepEqual({ ...clone.token.value, accessorId: "" }, { ...token.value, accessorId: "" });
    assert.equal(
      (await admin.tokens.clone(token.value.accessorId, "two")).token.value.description,
      "two",
    );
  });

  it("tokens.delete() revokes a token at once, and refuses an unknown one", async () => {
    const { admin, authorizer } = await setup();
    const { token, secret } = await admin.tokens.create(TOKEN);
    await authorizer.authorize(secret);
    await admin.tokens.delete(token.value.accessorId);
    assert.equal((await refusal(() => authorizer.authorize(secret))).code, "token_unknown");
    assert.equal(
      (await refusal(() => admin.tokens.delete(token.value.accessorId))).code,
      "not_found",
    );
  });
});

describe("policies", () => {
  it("policies.create() and update() store the request, and delete() frees the name", async () => {
    const { admin } = await setup();
    const { value } = await admin.policies.create(POLICY);
    assert.deepEqual(admin.policies.getByName("ops")?.value, value);
    const renamed = await admin.policies.update(value.id, { ...POLICY, name: "sre" });
    assert.deepEqual([renamed.value.name, renamed.version], ["sre", 2]);
    assert.equal(admin.policies.getByName("ops"), null);
    await admin.policies.create(POLICY);
    await admin.policies.delete(value.id);
    assert.equal(admin.policies.get(value.id), null);
    assert.deepEqual(
      admin.policies.list().map((entry) => entry.value.name),
      ["global-management", "ops"],
    );
  });

  const bad: readonly [
    what: string,
    request: Partial<PolicyRequest>,
    code: string,
    expected: RegExp,
  ][] = [
    ["a name with blanks", { name: "a b" }, "request_malformed", /invalid Name/],
    ["no name", { name: "" }, "request_malformed", /invalid Name/],
    [
      "rules that are none",
      { rules: "x" },
      "request_malformed",
      /^Failed to parse ACL rules: line 1/,
    ],
    ["the name of the built-in one", { name: "global-management" }, "name_taken", /already exists/],
    [
      "a name that is in use",
      {},
      "name_taken",
      /Invalid Policy: A Policy with Name "ops" already exists/,
    ],
  ];
  for (const [what, request, code, expected] of bad)
    it(`createPolicy() refuses ${what}`, async () => {
      const { admin } = await setup();
      await admin.policies.create(POLICY);
      const error = await refusal(() => admin.policies.create({ ...POLICY, ...request }));
      assert.equal(error.code, code);
      assert.match(error.message, expected);
    });

  it("policies.create() refuses a name that another replica has just taken", async () => {
    const { admin, other } = await setup();
    const replica = await other();
    await admin.policies.create(POLICY);
    assert.equal((await refusal(() => replica.policies.create(POLICY))).code, "name_taken");
  });

  it("policies.update() and delete() refuse the builtin policy and an unknown one", async () => {
    const { admin } = await setup();
    for (const work of [
      () => admin.policies.update(GLOBAL_MANAGEMENT.id, POLICY),
      () => admin.policies.delete(GLOBAL_MANAGEMENT.id),
    ])
      assert.match(
        (await refusal(work)).message,
        /builtin global-management policy is not permitted/,
      );
    assert.equal(
      (await refusal(() => admin.policies.delete(makeUuid(systemRandom)))).code,
      "not_found",
    );
  });
});

describe("auth methods and binding rules", () => {
  it("authMethods.create() and bindingRules.create() store the request", async () => {
    const { admin } = await setup();
    const method = await admin.authMethods.create(METHOD);
    const rule = await admin.bindingRules.create(RULE);
    assert.deepEqual(method.value, { ...METHOD, id: method.value.id });
    assert.match(method.value.id ?? "", /^[0-9a-f-]{36}$/);
    assert.deepEqual(admin.authMethods.get("m"), method);
    assert.deepEqual(admin.bindingRules.list(), [rule]);
    const updated = await admin.bindingRules.update(rule.value.id, {
      ...RULE,
      selector: 'value.name == "x"',
    });
    assert.equal(updated.version, 2);
    assert.equal((await refusal(() => admin.authMethods.create(METHOD))).code, "name_taken");
    assert.equal(
      (await admin.authMethods.update(METHOD.name, { ...METHOD, maxTokenTtlMs: 60_000 })).value
        .maxTokenTtlMs,
      60_000,
    );
  });

  const config = (change: Record<string, unknown>) => ({ config: { ...METHOD.config, ...change } });
  const SOURCES =
    /exactly one of 'JWTValidationPubKeys', 'JWKSURL', or 'OIDCDiscoveryURL' must be set for type "jwt"/;
  const CERTIFICATE = selfSigned("issuer.example").cert;
  const kubernetes = (change: Record<string, unknown>): Partial<AuthMethod> => ({
    type: "kubernetes",
    config: {
      Host: "https://issuer.example",
      CACert: CERTIFICATE,
      ServiceAccountJWT: "a.b.c",
      ...change,
    },
  });
  const NOT_PUBLIC =
    /^Invalid auth method config: JWTValidationPubKeys\.0 must be a public key or a certificate in PEM, and nothing else$/;
  const badMethods: readonly [what: string, change: Partial<AuthMethod>, expected: RegExp][] = [
    ["a name with a slash", { name: "a/b" }, /invalid Name/],
    [
      "a life that is too short",
      { maxTokenTtlMs: 1000 },
      /MaxTokenTTL 1s must be between 1m0s and 24h0m0s/,
    ],
    ["a life that is too long", { maxTokenTtlMs: 25 * 3_600_000 }, /MaxTokenTTL 25h0m0s must be/],
    [
      "a field that is not known",
      config({ BoundIssuers: "x" }),
      /unknown field "BoundIssuers"; did you mean BoundIssuer\?/,
    ],
    ["an issuer and a key set", config({ OIDCDiscoveryURL: "https://issuer.example" }), SOURCES],
    ["no keys", config({ JWKSURL: "" }), SOURCES],
    ["two kinds of keys", config({ JWTValidationPubKeys: [PUBLIC_KEY] }), SOURCES],
    [
      "another issuer than the one that is discovered",
      config({
        JWKSURL: "",
        OIDCDiscoveryURL: "https://issuer.example",
        BoundIssuer: "https://other.example",
      }),
      /BoundIssuer must be equal to OIDCDiscoveryURL/,
    ],
    [
      "an issuer on another host",
      config({ JWKSURL: "", OIDCDiscoveryURL: "https://other.example" }),
      /Invalid OIDCDiscoveryURL: host "other/,
    ],
    [
      "a CA without what it is for",
      config({ OIDCDiscoveryCACert: CERTIFICATE }),
      /OIDCDiscoveryCACert requires OIDCDiscoveryURL, which is not set/,
    ],
    ...[
      "garbage",
      " ",
      "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
      `-----BEGIN CERTIFICATE-----\n${btoa("0\u0003\u0002\u0001\u0001")}\n-----END CERTIFICATE-----\n`,
    ].map(
      (ca) =>
        [
          `the CA ${JSON.stringify(ca)}`,
          config({ JWKSCACert: ca }),
          /JWKSCACert must be certificates in PEM, and nothing else/,
        ] as [string, Partial<AuthMethod>, RegExp],
    ),
    [
      "a CA that is a key",
      config({ JWKSCACert: PUBLIC_KEY }),
      /JWKSCACert must be certificates in PEM, and nothing else/,
    ],
    ["a CA that is a list", config({ JWKSCACert: [CERTIFICATE] }), /JWKSCACert/],
    ["settings of Kubernetes", config({ Host: "https://issuer.example" }), /unknown field "Host"/],
    ["a key that is no PEM", config({ JWKSURL: "", JWTValidationPubKeys: ["x"] }), NOT_PUBLIC],
    [
      "a private key",
      config({ JWKSURL: "", JWTValidationPubKeys: [PUBLIC_KEY.replaceAll("PUBLIC", "PRIVATE")] }),
      NOT_PUBLIC,
    ],
    [
      "a private key behind a public one",
      config({ JWKSURL: "", JWTValidationPubKeys: [BOTH_KEYS] }),
      NOT_PUBLIC,
    ],
    [
      "alg none",
      config({ JWTSupportedAlgs: ["RS256", "none"] }),
      /algorithm that is not supported; supported are RS256/,
    ],
    [
      "a shared secret",
      config({ JWTSupportedAlgs: ["HS256"] }),
      /algorithm that is not supported; supported are RS256/,
    ],
    ["no algorithm", config({ JWTSupportedAlgs: [] }), /JWTSupportedAlgs is empty/],
    [
      "a leeway that is no duration",
      config({ ClockSkewLeeway: "soon" }),
      /ClockSkewLeeway time: invalid duration/,
    ],
    [
      "a leeway of a day",
      config({ ClockSkewLeeway: "24h" }),
      /ClockSkewLeeway is longer than an hour/,
    ],
    [
      "a mapping to a name with a dot",
      config({ ClaimMappings: { sub: "a.b" } }),
      /has a field name with other characters than letters, digits and _/,
    ],
    [
      "a URL to another host",
      config({ JWKSURL: "https://169.254.169.254/" }),
      /Invalid JWKSURL: host .* is not among/,
    ],
    ["a URL without TLS", config({ JWKSURL: "http://issuer.example/" }), /must be an https URL/],
    ["mappings for Kubernetes", { type: "kubernetes" }, /unknown field "ClaimMappings"/],
    [
      "a review without a token",
      kubernetes({ ServiceAccountJWT: "" }),
      /ServiceAccountJWT is required with Host/,
    ],
    ["a review without a CA", kubernetes({ CACert: "" }), /CACert is required with Host/],
    [
      "a token without a host",
      kubernetes({ Host: "" }),
      /ServiceAccountJWT requires Host, which is not set/,
    ],
    [
      "a token review and keys",
      kubernetes({ JWKSURL: "https://issuer.example/keys" }),
      /exactly one of 'Host', 'JWTValidationPubKeys', or 'JWKSURL'/,
    ],
    [
      "a token that is no JWT",
      kubernetes({ ServiceAccountJWT: "s3cret" }),
      /ServiceAccountJWT must be a JWT/,
    ],
    [
      "a sealed token from outside",
      kubernetes({ ServiceAccountJWT: { sealed: "s3cret" } }),
      /ServiceAccountJWT must be a JWT/,
    ],
    [
      "a hidden token that is not stored",
      kubernetes({ ServiceAccountJWT: "hidden" }),
      /no ServiceAccountJWT is stored; send it$/,
    ],
    [
      "a cluster without TLS",
      kubernetes({ Host: "http://issuer.example" }),
      /Invalid Host: must be an https URL/,
    ],
    [
      "a cluster that is not listed",
      kubernetes({ Host: "https://10.0.0.1:6443" }),
      /Invalid Host: host "10.0.0.1:6443" is not among/,
    ],
    [
      "an issuer for Kubernetes",
      kubernetes({ OIDCDiscoveryURL: "https://issuer.example" }),
      /unknown field "OIDCDiscoveryURL"/,
    ],
  ];
  for (const [what, change, expected] of badMethods)
    it(`createAuthMethod() refuses ${what}`, async () => {
      const { admin } = await setup();
      const { code, message } = await refusal(() =>
        admin.authMethods.create({ ...METHOD, ...change }),
      );
      assert.equal(code, "request_malformed");
      assert.match(message, expected);
      assert.ok(!message.includes("s3cret"));
      assert.equal(admin.authMethods.list().length, 0);
    });

  const badRules: readonly [
    what: string,
    change: Partial<Record<keyof typeof RULE, string>>,
    expected: RegExp,
  ][] = [
    ["a method that is not there", { authMethod: "x" }, /cannot find auth method "x"/],
    [
      "a selector of a field that is not mapped",
      { selector: 'value.team == "x"' },
      /Selector is invalid: column 1: unknown field/,
    ],
    ["a name that no service has", { bindName: "Web" }, /BindName is invalid: only lowercase/],
    [
      "a variable that is not mapped",
      { bindName: ["$", "{value.team}"].join("") },
      /unknown variable "value\.team"/,
    ],
  ];
  for (const [what, change, expected] of badRules)
    it(`createBindingRule() refuses ${what}`, async () => {
      const { admin } = await setup();
      await admin.authMethods.create(METHOD);
      const { code, message } = await refusal(() =>
        admin.bindingRules.create({ ...RULE, ...change } as typeof RULE),
      );
      assert.equal(code, "request_malformed");
      assert.match(message, expected);
    });

  it("authMethods.update() refuses a change that breaks its binding rules, and another type", async () => {
    const { admin } = await setup();
    await admin.authMethods.create(METHOD);
    await admin.bindingRules.create({ ...RULE, selector: 'value.name == "x"' });
    const without = { ...METHOD, config: { ...METHOD.config, ClaimMappings: {} } };
    assert.match(
      (await refusal(() => admin.authMethods.update(METHOD.name, without))).message,
      /Selector is invalid/,
    );
    assert.match(
      (
        await refusal(() =>
          admin.authMethods.update(METHOD.name, { ...METHOD, type: "kubernetes" }),
        )
      ).message,
      /Changing an auth method's type/,
    );
  });

  it("authMethods.delete() deletes its binding rules and tokens", async () => {
    const { admin, addToken, authorizer, replica } = await setup();
    await admin.authMethods.create(METHOD);
    await admin.authMethods.create({ ...METHOD, name: "n" });
    await admin.bindingRules.create(RULE);
    const kept = await admin.bindingRules.create({ ...RULE, authMethod: "n" });
    const made = await Promise.all(
      Array.from({ length: 205 }, () => addToken({ authMethod: "m" })),
    );
    const other = await addToken({ authMethod: "n" });
    await authorizer.authorize(made[0]?.secret ?? null);
    await admin.authMethods.delete("m");
    assert.deepEqual([...replica.tokens.keys()], [other.token.accessorId]);
    assert.deepEqual(admin.bindingRules.list(), [kept]);
    assert.equal(
      (await refusal(() => authorizer.authorize(made[0]?.secret ?? null))).code,
      "token_unknown",
    );
  });

  it("authorize() refuses a token of a deleted auth method before it is collected", async () => {
    const { admin, addToken, authorizer, replica } = await setup();
    const { secret } = await addToken({ authMethod: "gone" });
    assert.equal((await refusal(() => authorizer.authorize(secret))).code, "token_unknown");
    assert.equal(await admin.collect(new Date(0)), 1);
    assert.equal(replica.tokens.size, 0);
  });
});

describe("collect()", () => {
  it("collect() deletes all expired records and nothing else", async () => {
    const { admin, addToken, clock, replica } = await setup();
    const kept = await addToken();
    await Promise.all(
      Array.from({ length: 250 }, () =>
        addToken({ expirationTime: new Date(clock.now().getTime() + 1000) }),
      ),
    );
    assert.equal(await admin.collect(clock.now()), 0);
    clock.advance(1000);
    assert.equal(await admin.collect(clock.now()), 250);
    assert.deepEqual([...replica.tokens.keys()], [kept.token.accessorId]);
  });
});
