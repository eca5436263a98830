/**
 * JSON bodies whose values are objects with odd `toString`, `toJSON`, `constructor` and the like,
 * numbers beyond every range and texts that are no Unicode, at every place of every body of every
 * route: none of them is a fault of the server.
 * @module
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { opensslCsr, serviceUri } from "../fakes/ca.ts";
import { type Guarded, guarded } from "../fixtures/guarded.ts";

const PUBLIC_KEY = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==
-----END PUBLIC KEY-----
`;

/** JSON texts, since `JSON.stringify` writes none of them. */
const ODD: readonly string[] = [
  ...[
    "toString",
    "valueOf",
    "toJSON",
    "constructor",
    "__proto__",
    "prototype",
    "hasOwnProperty",
    "then",
    "length",
    "message",
    "status",
  ].flatMap((name) => [
    `{"${name}":null}`,
    `{"${name}":{}}`,
    `{"${name}":"x"}`,
    `{"a":{"${name}":null}}`,
    `[{"${name}":null}]`,
  ]),
  '{"__proto__":{"toString":null}}',
  '{"constructor":{"prototype":null}}',
  "{}",
  "[]",
  "[null]",
  "[[[]]]",
  "null",
  "true",
  "0",
  "-0",
  "-1",
  "0.5",
  "1e30",
  "-1e30",
  "1e308",
  "1e-400",
  "9223372036854775808",
  "18446744073709551616",
  `1${"0".repeat(300)}`,
  '""',
  '"__proto__"',
  '"toString"',
  '"\\u0000"',
  '"\\ud800"',
  '"\\ufeff"',
  '"1e30h"',
  '"9999999999999h"',
  '"+275760-09-13T00:00:00Z"',
  '"2026-13-45T99:99:99Z"',
  `"${"x".repeat(5000)}"`,
];

type Template =
  | null
  | boolean
  | number
  | string
  | readonly Template[]
  | { readonly [key: string]: Template };
const MARK = "@odd@";

/**
 * The body with a mark at each place in turn: for each value, and for one more key of each object
 * and item of each list.
 */
function* places(body: Template): Generator<Template> {
  yield MARK;
  if (Array.isArray(body)) {
    const items = body as readonly Template[];
    for (const [i, item] of items.entries())
      for (const changed of places(item)) yield items.with(i, changed);
    yield [...items, MARK];
  } else if (typeof body === "object" && body !== null) {
    const fields = body as { readonly [key: string]: Template };
    for (const [key, value] of Object.entries(fields))
      for (const changed of places(value)) yield { ...fields, [key]: changed };
    for (const key of ["extra", "toString", "constructor"]) yield { ...fields, [key]: MARK };
  }
}

const ids = { token: "", policy: "", rule: "" };
const TOKEN = {
  Description: "d",
  Policies: [{ Name: "p" }],
  ServiceIdentities: [{ ServiceName: "web", Datacenters: ["dc1"] }],
  NodeIdentities: [{ NodeName: "n", Datacenter: "dc1" }],
  Local: false,
  ExpirationTTL: "1h",
};
const POLICY = { Name: "p", Description: "", Rules: 'operator = "read"', Datacenters: ["dc1"] };
const METHOD = {
  Name: "m",
  Type: "jwt",
  DisplayName: "",
  Description: "",
  MaxTokenTTL: "1h",
  TokenLocality: "local",
  Config: {
    JWTSupportedAlgs: ["ES256"],
    BoundIssuer: "https://issuer.example",
    BoundAudiences: ["meshca"],
    JWTValidationPubKeys: [PUBLIC_KEY],
    ClockSkewLeeway: "1s",
    ExpirationLeeway: 1,
    NotBeforeLeeway: "1s",
    ClaimMappings: { sub: "name" },
    ListClaimMappings: { groups: "groups" },
    OneTime: true,
  },
};
const RULE = {
  AuthMethod: "m",
  BindType: "service",
  BindName: "web",
  Selector: 'value.name == "web"',
  Description: "",
};
const CONSUL = {
  PrivateKeyType: "ec",
  PrivateKeyBits: 256,
  LeafCertTTL: "72h",
  RotationPeriod: "2160h",
  CSRMaxPerSecond: 0,
  PrivateKey: "",
  RootCert: "",
};
const VAULT = {
  Address: "http://127.0.0.1:1",
  Token: "t",
  RootPKIPath: "a",
  IntermediatePKIPath: "b",
  AuthMethod: { Type: "approle", Params: { role_id: "r", secret_id: "s" } },
};

const BODIES: readonly (readonly [method: string, path: () => string, body: () => Template])[] = [
  [
    "PUT",
    () => "/v1/acl/bootstrap",
    () => ({ BootstrapSecret: "11111111-2222-4333-8444-555555555555" }),
  ],
  [
    "POST",
    () => "/v1/acl/login",
    () => ({ AuthMethod: "m", BearerToken: "a.b.c", Meta: { a: "b" } }),
  ],
  ["PUT", () => "/v1/acl/token", () => TOKEN],
  ["PUT", () => `/v1/acl/token/${ids.token}`, () => ({ ...TOKEN, AccessorID: ids.token })],
  ["PUT", () => `/v1/acl/token/${ids.token}/clone`, () => ({ Description: "d" })],
  ["PUT", () => "/v1/acl/policy", () => ({ ...POLICY, Name: "q" })],
  ["PUT", () => `/v1/acl/policy/${ids.policy}`, () => ({ ...POLICY, ID: ids.policy })],
  ["PUT", () => "/v1/acl/auth-method", () => ({ ...METHOD, Name: "m2" })],
  ["PUT", () => "/v1/acl/auth-method/m", () => METHOD],
  ["PUT", () => "/v1/acl/binding-rule", () => RULE],
  ["PUT", () => `/v1/acl/binding-rule/${ids.rule}`, () => ({ ...RULE, ID: ids.rule })],
  [
    "POST",
    () => "/v1/internal/acl/authorize",
    () => [{ Resource: "service", Segment: "web", Access: "write" }],
  ],
  ["PUT", () => "/v1/connect/ca/deny", () => ({ SerialNumber: "0a", Reason: "r" })],
  [
    "PUT",
    () => "/v1/connect/ca/configuration",
    () => ({
      Provider: "consul",
      Config: CONSUL,
      State: null,
      ForceWithoutCrossSigning: false,
      ModifyIndex: 1,
    }),
  ],
  ["PUT", () => "/v1/connect/ca/configuration", () => ({ Provider: "vault", Config: VAULT })],
  ["PUT", () => "/v1/connect/ca/state-conflict", () => ({ Keep: "snapshot" })],
];
const LISTS = [
  "/v1/acl/tokens",
  "/v1/acl/policies",
  "/v1/acl/auth-methods",
  "/v1/acl/binding-rules",
  "/v1/acl/auth-method/m",
  "/v1/connect/ca/deny",
  "/v1/connect/ca/configuration",
];

describe("odd JSON", () => {
  let test: Guarded;
  before(async () => {
    test = await guarded();
    const made = async (path: string, body: unknown) => {
      const { status, text } = await test.call("PUT", path, body);
      assert.equal(status, 200, text);
      return JSON.parse(text) as { ID: string; AccessorID: string };
    };
    ids.policy = (await made("/v1/acl/policy", POLICY)).ID;
    ids.token = (await made("/v1/acl/token", TOKEN)).AccessorID;
    await made("/v1/acl/auth-method", METHOD);
    ids.rule = (await made("/v1/acl/binding-rule", RULE)).ID;
  });

  /**
   * Reports what was sent if the response is a server error. An unavailable Vault does not count as
   * one.
   */
  const send = async (method: string, path: string, text: string) => {
    const answer = await test.call(method, path, text);
    assert.ok(
      answer.status < 500 || (answer.status === 503 && text.includes('"vault"')),
      `${answer.status} ${answer.text}: ${text.slice(0, 2000)}`,
    );
    if (answer.status >= 400)
      assert.doesNotMatch(
        answer.text,
        /\[object |Internal error|Cannot convert|is not a function|undefined/,
      );
  };

  for (const [method, path, body] of BODIES)
    it(`${method} ${path().replace(/\/(?=$|\/)/g, "/:id")} ${Object.keys(body() as object)[0]} never answers 500, at any place of its body`, async () => {
      for (const place of places(body())) {
        const text = JSON.stringify(place);
        for (const odd of ODD)
          await send(
            method,
            path(),
            text.replace(`"${MARK}"`, () => odd),
          );
      }
      for (const list of LISTS)
        assert.equal((await test.call("GET", list, undefined)).status, 200, list);
    });

  it("PUT /v1/connect/ca/sign and PUT /v1/connect/ca/renew never answer 500", async () => {
    const { csr } = opensslCsr(`URI:${serviceUri(test.manager, "web")}`);
    for (const path of ["/v1/connect/ca/sign", "/v1/connect/ca/renew"])
      for (const place of places({ CSR: csr }))
        for (const odd of ODD) {
          const response = await test.fetch(path, {
            method: "PUT",
            body: JSON.stringify(place).replace(`"${MARK}"`, () => odd),
            headers: { "X-Consul-Token": test.management, "Content-Type": "application/json" },
          });
          assert.ok(response.status < 500, `${path} ${await response.text()}: ${odd}`);
        }
  });

  it("no route of access control takes another namespace or partition, in a body, a query or a header", async () => {
    const feature = (what: string) => `${what} are a Consul Enterprise feature`;
    for (const [path, body] of [
      ["/v1/acl/token", TOKEN],
      ["/v1/acl/policy", { ...POLICY, Name: "n" }],
      ["/v1/acl/auth-method", { ...METHOD, Name: "n" }],
      ["/v1/acl/binding-rule", RULE],
    ] as const) {
      for (const [field, what] of [
        ["Namespace", "Namespaces"],
        ["Partition", "Partitions"],
      ] as const)
        assert.deepEqual(await test.call("PUT", path, { ...body, [field]: "other" }), {
          status: 400,
          text: `Request decode failed: Invalid ${field} "other" - ${feature(what)}`,
        });
      assert.deepEqual(await test.call("PUT", `${path}?ns=other`, body), {
        status: 400,
        text: `Invalid query parameter: "ns" - ${feature("Namespaces")}`,
      });
      assert.deepEqual(await test.call("PUT", `${path}?partition=other`, body), {
        status: 400,
        text: `Invalid query parameter: "partition" - ${feature("Partitions")}`,
      });
      const headers = { "X-Consul-Token": test.management, "X-Consul-Namespace": "other" };
      const response = await test.fetch(path, {
        method: "PUT",
        body: JSON.stringify(body),
        headers,
      });
      assert.deepEqual(
        [response.status, await response.text()],
        [400, `Invalid header: "X-Consul-Namespace" - ${feature("Namespaces")}`],
      );
    }
    assert.equal(
      (await test.call("PUT", "/v1/acl/token", { ...TOKEN, Namespace: "default", Partition: "" }))
        .status,
      200,
    );
    const rules = [{ Selector: "", BindNamespace: "other" }];
    const { status, text } = await test.call("PUT", "/v1/acl/auth-method", {
      ...METHOD,
      Name: "n",
      NamespaceRules: rules,
    });
    assert.deepEqual(
      [status, text],
      [400, `Request decode failed: Invalid NamespaceRules - ${feature("Namespaces")}`],
    );
  });

  it("no route that takes a body of another form answers odd JSON with 500", async () => {
    for (const [method, path] of [
      ["PUT", "/v1/connect/ca/backup"],
      ["PUT", "/v1/connect/ca/rotate?force=false"],
      ["PUT", "/v1/connect/ca/rewrap"],
      ["POST", "/v1/acl/logout"],
      ["POST", "/v1/connect/ca/sign"],
    ] as const)
      for (const odd of ODD.slice(0, 24)) await send(method, path, odd);
  });

  it("POST /v1/acl/login answers 400 in Go's words to a Meta that is not a map of texts", async () => {
    for (const [odd, kind] of [
      ['{"toString":null}', "object"],
      ["[1]", "array"],
      ["1", "number"],
      ["true", "bool"],
    ])
      assert.deepEqual(
        await test.call(
          "POST",
          "/v1/acl/login",
          `{"AuthMethod":"m","BearerToken":"a.b.c","Meta":{"a":${odd}}}`,
        ),
        {
          status: 400,
          text: `Request decode failed: json: cannot unmarshal ${kind} into Go struct field .Meta of type string`,
        },
      );
  });

  it("PUT /v1/acl/token answers 400 to an ExpirationTTL beyond a Go duration, and creates no token without expiry", async () => {
    const before = (await test.call("GET", "/v1/acl/tokens", undefined)).text;
    for (const ttl of ["1e30", "1e19", "9223372036854775808", "-1e30", "0.5", '"9999999999h"']) {
      const { status, text } = await test.call("PUT", "/v1/acl/token", `{"ExpirationTTL":${ttl}}`);
      assert.equal(status, 400, `${ttl}: ${text}`);
      assert.match(text, /ExpirationTTL/);
    }
    const tomorrow = new Date(Date.now() + 86_400_000).toISOString().slice(0, 10);
    // Days and hours that no calendar has, which Date moves on to the next ones; one of them is in
    // time on each day of a year.
    const overflowing = [
      "2026-02-30T00:00:00Z",
      "2026-11-31T04:00:00Z",
      "2100-02-29T00:00:00Z",
      `${tomorrow}T24:00:00Z`,
      "2026-00-01T00:00:00Z",
    ];
    for (const time of [
      "2026",
      "1",
      "June 2 2026",
      "+275760-09-13T00:00:00Z",
      "",
      ...overflowing,
    ]) {
      const { status, text } = await test.call("PUT", "/v1/acl/token", { ExpirationTime: time });
      assert.deepEqual(
        [status, /RFC 3339: ExpirationTime/.test(text)],
        [400, true],
        `${time}: ${text}`,
      );
    }
    assert.equal(
      (await test.call("PUT", "/v1/acl/token", { ExpirationTTL: 3_600_000_000_000 })).status,
      200,
    );
    assert.notEqual((await test.call("GET", "/v1/acl/tokens", undefined)).text, before);
  });
});
