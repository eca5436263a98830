/**
 * SPIFFE IDs: the form of the URI and its segments, and each kind of identity, read and written.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { RequestError } from "../../../src/core/errors.ts";
import {
  formatSpiffeId,
  type LeafId,
  parseSpiffeId,
  requireDefaultScope,
  requireSegment,
  type SpiffeId,
  splitSpiffeUri,
} from "../../../src/core/spiffe/id.ts";

const malformed = (message: string) => ({
  name: "RequestError",
  code: "spiffe_id_malformed",
  message,
});

describe("splitSpiffeUri()", () => {
  const read: readonly (readonly [
    uri: string,
    trustDomain: string,
    segments: readonly string[],
  ])[] = [
    ["spiffe://a.consul", "a.consul", []],
    ["spiffe://A.CONSUL", "a.consul", []],
    ["SPIFFE://a.consul/x", "a.consul", ["x"]],
    ["spiffe://a.consul/", "a.consul", [""]],
    ["spiffe://a.consul/x/", "a.consul", ["x", ""]],
    ["spiffe://a.consul//x", "a.consul", ["", "x"]],
    ["spiffe://a.consul/Ns/Dc", "a.consul", ["Ns", "Dc"]],
    ["spiffe://a_b-c.1/x", "a_b-c.1", ["x"]],
    ["spiffe://a.consul/!$&'()*+,;=:@~", "a.consul", ["!$&'()*+,;=:@~"]],
    [`spiffe://${"a".repeat(255)}/x`, "a".repeat(255), ["x"]],
    [`spiffe://a/${"x".repeat(2037)}`, "a", ["x".repeat(2037)]],
  ];
  for (const [uri, trustDomain, segments] of read)
    it(`splitSpiffeUri() reads ${uri.slice(0, 60)}`, () => {
      assert.deepEqual(splitSpiffeUri(uri), { trustDomain, segments });
    });

  for (const uri of [
    "",
    "https://a.consul/x",
    "a.consul/x",
    "//a.consul",
    " spiffe://a.consul",
    "spiff://a",
    "xspiffe://a",
  ])
    it(`splitSpiffeUri() refuses the scheme of ${JSON.stringify(uri)}`, () => {
      assert.throws(() => splitSpiffeUri(uri), malformed("SPIFFE ID must have 'spiffe' scheme"));
    });

  const unexpected: readonly (readonly [name: string, uri: string])[] = [
    ["no host", "spiffe://"],
    ["no host before a path", "spiffe:///ns/default"],
    ["no slashes", "spiffe:a.consul/x"],
    ["one slash", "spiffe:/a.consul/x"],
    ["user information", "spiffe://user@a.consul/x"],
    ["user information with a password", "spiffe://user:pass@a.consul/x"],
    ["a port", "spiffe://a.consul:8500/x"],
    ["an empty port", "spiffe://a.consul:/x"],
    ["a query", "spiffe://a.consul/x?y=z"],
    ["an empty query", "spiffe://a.consul/x?"],
    ["a query without a path", "spiffe://a.consul?y"],
    ["a fragment", "spiffe://a.consul/x#y"],
    ["an empty fragment", "spiffe://a.consul/x#"],
    ["an IPv6 host", "spiffe://[::1]/x"],
    ["an escape in the host", "spiffe://a%2Econsul/x"],
    ["a letter outside ASCII in the host", "spiffe://ä.consul/x"],
    ["a letter outside ASCII in the path", "spiffe://a.consul/ä"],
    ["a letter that lower-cases into ASCII", "spiffe://\u212a.consul/x"],
    ["a blank", "spiffe://a.consul/x y"],
    ["a final newline", "spiffe://a.consul/x\n"],
    ["a NUL", "spiffe://a.consul/x\u0000"],
    ["a backslash", "spiffe://a.consul\\x"],
    ["2049 characters", `spiffe://a/${"x".repeat(2038)}`],
  ];
  for (const [name, uri] of unexpected)
    it(`splitSpiffeUri() refuses ${name}`, () => {
      assert.throws(
        () => splitSpiffeUri(uri),
        malformed(`SPIFFE ID is not in the expected format: ${uri.slice(0, 2048)}`),
      );
    });
  it("splitSpiffeUri() refuses a trust domain of 256 characters", () => {
    assert.throws(
      () => splitSpiffeUri(`spiffe://${"a".repeat(256)}/x`),
      malformed("SPIFFE ID has a trust domain of more than 255 characters"),
    );
  });
  for (const path of ["/a%2Fb", "/%77eb", "/w%65b", "/%zz", "/%", "/x/%2e%2e", "/100%25"])
    it(`splitSpiffeUri() refuses the percent-encoding of ${path}`, () => {
      const uri = `spiffe://a.consul${path}`;
      assert.throws(
        () => splitSpiffeUri(uri),
        malformed(
          `SPIFFE ID must not be percent-encoded: "${uri}"; a path segment has letters, digits, '.', '-' and '_'`,
        ),
      );
    });
  it("splitSpiffeUri() throws nothing but RequestError on any text", () => {
    const text = fc.oneof(
      fc.string({ unit: "binary" }),
      fc
        .string({ unit: fc.constantFrom(..."spiffe:/a.%2F?#@A[]\n") })
        .map((rest) => `spiffe://${rest}`),
    );
    fc.assert(
      fc.property(text, (uri) => {
        try {
          splitSpiffeUri(uri);
        } catch (error) {
          assert.ok(error instanceof RequestError);
        }
      }),
      { numRuns: 3000 },
    );
  });
  it("splitSpiffeUri() takes time in proportion to a path of many slashes", () => {
    assert.throws(() => splitSpiffeUri(`spiffe://a${"/".repeat(500_000)} `), RequestError);
  });
});

describe("requireSegment()", () => {
  for (const segment of ["web", "a", "Web-1", "a_b.c", "...", "-", "9", "x".repeat(2000)])
    it(`requireSegment() takes ${segment.slice(0, 20)}`, () => {
      assert.equal(requireSegment(segment, "service"), segment);
    });

  const CHARACTERS =
    "has a character that a SPIFFE ID cannot carry; only letters, digits, '.', '-' and '_' are allowed";
  const refused: readonly (readonly [segment: string, what: string, why: string])[] = [
    ["", "datacenter", "is empty, which a segment of a SPIFFE ID must not be"],
    [".", "service", "is a dot segment, which a SPIFFE ID must not have"],
    ["..", "namespace", "is a dot segment, which a SPIFFE ID must not have"],
    ...[
      "a~b",
      "a b",
      "a%20b",
      "a/b",
      "a:b",
      "a@b",
      "a!b",
      "a+b",
      "a,b",
      "é",
      "a\n",
      "a\u0000",
      "a*",
    ].map((segment) => [segment, "node", CHARACTERS] as const),
  ];
  for (const [segment, what, why] of refused)
    it(`requireSegment() refuses ${JSON.stringify(segment)} as a ${what}`, () => {
      assert.throws(
        () => requireSegment(segment, what),
        malformed(`Invalid ${what}: ${JSON.stringify(segment)} ${why}`),
      );
    });
});

const DOMAIN = "11111111-2222-3333-4444-555555555555.consul";

const at = { trustDomain: DOMAIN, datacenter: "dc1" };
const KINDS: readonly (readonly [name: string, path: string, id: SpiffeId])[] = [
  [
    "a service",
    "/ns/default/dc/dc1/svc/web",
    { kind: "service", ...at, partition: "default", namespace: "default", service: "web" },
  ],
  [
    "a service in a partition",
    "/ap/east/ns/team/dc/dc1/svc/web",
    { kind: "service", ...at, partition: "east", namespace: "team", service: "web" },
  ],
  [
    "a service named ap",
    "/ns/ap/dc/dc1/svc/ap",
    { kind: "service", ...at, partition: "default", namespace: "ap", service: "ap" },
  ],
  [
    "a service in the partition ap",
    "/ap/ap/ns/ns/dc/dc1/svc/svc",
    { kind: "service", ...at, partition: "ap", namespace: "ns", service: "svc" },
  ],
  [
    "an agent",
    "/agent/client/dc/dc1/id/node-1",
    { kind: "agent", ...at, partition: "default", node: "node-1" },
  ],
  [
    "an agent in a partition",
    "/ap/east/agent/client/dc/dc1/id/node-1",
    { kind: "agent", ...at, partition: "east", node: "node-1" },
  ],
  ["a mesh gateway", "/gateway/mesh/dc/dc1", { kind: "mesh-gateway", ...at, partition: "default" }],
  [
    "a mesh gateway in a partition",
    "/ap/east/gateway/mesh/dc/dc1",
    { kind: "mesh-gateway", ...at, partition: "east" },
  ],
  ["a server", "/agent/server/dc/dc1", { kind: "server", ...at }],
  ["a trust domain", "", { kind: "signing", trustDomain: DOMAIN }],
  [
    "a service with every character that there may be",
    "/ns/A.z_0-9/dc/dc.1/svc/...",
    {
      kind: "service",
      trustDomain: DOMAIN,
      partition: "default",
      namespace: "A.z_0-9",
      datacenter: "dc.1",
      service: "...",
    },
  ],
];

describe("parseSpiffeId()", () => {
  for (const [name, path, id] of KINDS)
    it(`parseSpiffeId() reads the ID of ${name}, and formatSpiffeId() writes it back`, () => {
      assert.deepEqual(parseSpiffeId(`spiffe://${DOMAIN}${path}`), id);
      assert.equal(formatSpiffeId(id), `spiffe://${DOMAIN}${path}`);
    });

  it("parseSpiffeId() lower-cases the trust domain and keeps the case of the path", () => {
    const id = parseSpiffeId("SPIFFE://ABC.Consul/ns/Default/dc/DC1/svc/Web");
    assert.equal(formatSpiffeId(id), "spiffe://abc.consul/ns/Default/dc/DC1/svc/Web");
  });
  for (const [partition, why] of [
    ["default", '"default" is not named in a SPIFFE ID; leave "/ap/default" out'],
    ["Default", '"Default" must be in lower case'],
    ["EAST", '"EAST" must be in lower case'],
  ])
    it(`parseSpiffeId() refuses the partition ${partition}, which is another spelling`, () => {
      for (const rest of ["ns/n/dc/d/svc/s", "agent/client/dc/d/id/n", "gateway/mesh/dc/d"])
        assert.throws(
          () => parseSpiffeId(`spiffe://a.consul/ap/${partition}/${rest}`),
          malformed(`Invalid admin partition: ${why}`),
        );
    });

  const unexpected = [
    "/",
    "/ns",
    "/ns/default/dc/dc1/svc",
    "/ns/default/dc/dc1/svc/",
    "/ns/default/dc/dc1/svc/web/",
    "/ns/default/dc/dc1/svc/web/more",
    "//ns/default/dc/dc1/svc/web",
    "/ns//dc/dc1/svc/web",
    "/ns/default/dc//svc/web",
    "/NS/default/dc/dc1/svc/web",
    "/dc/dc1/ns/default/svc/web",
    "/svc/web",
    "/ap/east",
    "/ap/east/",
    "/ap",
    "/ap/east/ap/west/ns/default/dc/dc1/svc/web",
    "/ap/east/agent/server/dc/dc1",
    "/agent/client/dc/dc1",
    "/agent/client/dc/dc1/id/",
    "/agent/server/dc/",
    "/agent/server/dc/dc1/id/x",
    "/agent/client/dc/dc1/id/n/x",
    "/gateway/mesh/dc/",
    "/gateway/ingress/dc/dc1",
    "/gateway/mesh/dc/dc1/x",
  ];
  for (const path of unexpected)
    it(`parseSpiffeId() refuses the path ${path}`, () => {
      const uri = `spiffe://${DOMAIN}${path}`;
      assert.throws(
        () => parseSpiffeId(uri),
        malformed(`SPIFFE ID is not in the expected format: ${uri}`),
      );
    });
  for (const uri of ["spiffe://consul", "spiffe://.consul"])
    it(`parseSpiffeId() refuses ${uri}, whose host has no cluster ID`, () => {
      assert.throws(
        () => parseSpiffeId(uri),
        malformed(`SPIFFE ID is not in the expected format: ${uri}`),
      );
    });

  const CHARACTERS =
    "has a character that a SPIFFE ID cannot carry; only letters, digits, '.', '-' and '_' are allowed";
  const segments: readonly (readonly [path: string, message: string])[] = [
    ["/ns/a~b/dc/dc1/svc/web", `Invalid namespace: "a~b" ${CHARACTERS}`],
    ["/ns/default/dc/d:1/svc/web", `Invalid datacenter: "d:1" ${CHARACTERS}`],
    ["/ns/default/dc/dc1/svc/a@b", `Invalid service: "a@b" ${CHARACTERS}`],
    [
      "/ns/default/dc/dc1/svc/..",
      'Invalid service: ".." is a dot segment, which a SPIFFE ID must not have',
    ],
    [
      "/ns/./dc/dc1/svc/web",
      'Invalid namespace: "." is a dot segment, which a SPIFFE ID must not have',
    ],
    ["/ap/a+b/ns/default/dc/dc1/svc/web", `Invalid admin partition: "a+b" ${CHARACTERS}`],
    [
      "/ap/../gateway/mesh/dc/dc1",
      'Invalid admin partition: ".." is a dot segment, which a SPIFFE ID must not have',
    ],
    ["/agent/client/dc/dc1/id/a,b", `Invalid node: "a,b" ${CHARACTERS}`],
    [
      "/agent/server/dc/.",
      'Invalid datacenter: "." is a dot segment, which a SPIFFE ID must not have',
    ],
  ];
  for (const [path, message] of segments)
    it(`parseSpiffeId() refuses a segment of ${path}`, () => {
      assert.throws(() => parseSpiffeId(`spiffe://${DOMAIN}${path}`), malformed(message));
    });

  const word = fc
    .stringMatching(/^[A-Za-z0-9._-]{1,40}$/)
    .filter((value) => value !== "." && value !== "..");
  const partition = word.map((value) => value.toLowerCase());
  const trustDomain = fc.stringMatching(/^[a-z0-9_-]{1,40}\.[a-z0-9._-]{1,20}$/);
  const anyId: fc.Arbitrary<SpiffeId> = fc.oneof(
    fc.record({
      kind: fc.constant("service" as const),
      trustDomain,
      partition,
      namespace: word,
      datacenter: word,
      service: word,
    }),
    fc.record({
      kind: fc.constant("agent" as const),
      trustDomain,
      partition,
      datacenter: word,
      node: word,
    }),
    fc.record({
      kind: fc.constant("mesh-gateway" as const),
      trustDomain,
      partition,
      datacenter: word,
    }),
    fc.record({ kind: fc.constant("server" as const), trustDomain, datacenter: word }),
    fc.record({ kind: fc.constant("signing" as const), trustDomain }),
  );
  it("parseSpiffeId() reads back what formatSpiffeId() wrote, whatever the names are", () => {
    fc.assert(
      fc.property(anyId, (id) => {
        const uri = formatSpiffeId(id);
        fc.pre(uri.length <= 2048);
        assert.deepEqual({ ...parseSpiffeId(uri) }, { ...id });
      }),
      { numRuns: 3000 },
    );
  });
  it("formatSpiffeId() writes an accepted ID as it was sent, but for the case of scheme and trust domain", () => {
    const token = fc.constantFrom(
      ..."ns,dc,svc,ap,agent,client,server,id,gateway,mesh,a,A,default,%2e,%41,%,~,.,..,é,%C3%A9,/,/,/".split(
        ",",
      ),
    );
    fc.assert(
      fc.property(
        fc.array(fc.oneof(token, fc.string({ maxLength: 4 })), { maxLength: 10 }),
        fc.nat(3),
        (parts, shape) => {
          const [one = "n", two = "d", three = "s", four = "p"] = parts;
          const path = [
            `/ns/${one}/dc/${two}/svc/${three}`,
            `/ap/${four}/ns/${one}/dc/${two}/svc/${three}`,
            `/agent/client/dc/${one}/id/${two}`,
            `/${parts.join("/")}`,
          ][shape] as string;
          let canonical: string;
          try {
            canonical = formatSpiffeId(parseSpiffeId(`SPIFFE://A.Consul${path}`));
          } catch (error) {
            assert.ok(error instanceof RequestError);
            return;
          }
          assert.equal(canonical, `spiffe://a.consul${path}`);
        },
      ),
      { numRuns: 5000 },
    );
  });
});

describe("requireDefaultScope()", () => {
  const scoped = (path: string) => parseSpiffeId(`spiffe://${DOMAIN}${path}`) as LeafId;
  for (const path of [
    "/ns/default/dc/dc1/svc/web",
    "/agent/client/dc/dc1/id/n",
    "/gateway/mesh/dc/dc1",
    "/agent/server/dc/dc1",
  ])
    it(`requireDefaultScope() takes ${path}`, () => {
      requireDefaultScope(scoped(path));
    });
  for (const [path, message] of [
    [
      "/ns/other/dc/dc1/svc/web",
      "Non default partition or namespace is supported in Enterprise only.Provided namespace is other and partition is default",
    ],
    [
      "/ns/Default/dc/dc1/svc/web",
      "Non default partition or namespace is supported in Enterprise only.Provided namespace is Default and partition is default",
    ],
    [
      "/ap/east/ns/default/dc/dc1/svc/web",
      "Non default partition or namespace is supported in Enterprise only.Provided namespace is default and partition is east",
    ],
    [
      "/ap/east/gateway/mesh/dc/dc1",
      "Non default partition is supported in Enterprise only.Provided partition is east",
    ],
    [
      "/ap/east/agent/client/dc/dc1/id/n",
      "Non default partition is supported in Enterprise only.Provided partition is east",
    ],
  ] as const)
    it(`requireDefaultScope() refuses ${path} with Consul's text`, () => {
      assert.throws(() => requireDefaultScope(scoped(path)), {
        name: "RequestError",
        code: "profile_violation",
        message,
      });
    });
});
