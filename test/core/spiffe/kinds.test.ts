/**
 * The kinds of identity, each read from and written to its SPIFFE ID.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { RequestError } from "../../../src/core/errors.ts";
import { formatSpiffeId, parseSpiffeId, type SpiffeId, trustDomainOf } from "../../../src/core/spiffe/kinds.ts";

const DOMAIN = "11111111-2222-3333-4444-555555555555.consul";
const malformed = (message: string) => ({ name: "RequestError", code: "spiffe_id_malformed", message });

const at = { trustDomain: DOMAIN, datacenter: "dc1" };
const KINDS: readonly (readonly [name: string, path: string, id: SpiffeId])[] = [
  ["a service", "/ns/default/dc/dc1/svc/web", { kind: "service", ...at, partition: "default", namespace: "default", service: "web" }],
  [
    "a service in a partition",
    "/ap/east/ns/team/dc/dc1/svc/web",
    { kind: "service", ...at, partition: "east", namespace: "team", service: "web" },
  ],
  ["a service named ap", "/ns/ap/dc/dc1/svc/ap", { kind: "service", ...at, partition: "default", namespace: "ap", service: "ap" }],
  [
    "a service in the partition ap",
    "/ap/ap/ns/ns/dc/dc1/svc/svc",
    { kind: "service", ...at, partition: "ap", namespace: "ns", service: "svc" },
  ],
  ["an agent", "/agent/client/dc/dc1/id/node-1", { kind: "agent", ...at, partition: "default", node: "node-1" }],
  ["an agent in a partition", "/ap/east/agent/client/dc/dc1/id/node-1", { kind: "agent", ...at, partition: "east", node: "node-1" }],
  ["a mesh gateway", "/gateway/mesh/dc/dc1", { kind: "mesh-gateway", ...at, partition: "default" }],
  ["a mesh gateway in a partition", "/ap/east/gateway/mesh/dc/dc1", { kind: "mesh-gateway", ...at, partition: "east" }],
  ["a server", "/agent/server/dc/dc1", { kind: "server", ...at }],
  ["a trust domain", "", { kind: "signing", trustDomain: DOMAIN }],
  [
    "a service with escapes",
    "/ns/a%20b/dc/dc%C3%A9/svc/100%25",
    { kind: "service", trustDomain: DOMAIN, partition: "default", namespace: "a b", datacenter: "dcé", service: "100%" },
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
  it("parseSpiffeId() lower-cases the partition", () => {
    assert.equal(
      formatSpiffeId(parseSpiffeId("spiffe://a.consul/ap/EAST/gateway/mesh/dc/dc1")),
      "spiffe://a.consul/ap/east/gateway/mesh/dc/dc1",
    );
  });
  for (const partition of ["default", "Default", "%64efault"])
    it(`parseSpiffeId() takes the partition ${partition} for the one that an ID does not name`, () => {
      assert.equal(formatSpiffeId(parseSpiffeId(`spiffe://a.consul/ap/${partition}/ns/n/dc/d/svc/s`)), "spiffe://a.consul/ns/n/dc/d/svc/s");
    });
  it("parseSpiffeId() gives escaped and plain spellings of one ID the same canonical form", () => {
    const canonical = "spiffe://a.consul/ns/default/dc/dc1/svc/w~b";
    for (const service of ["w~b", "%77~b", "w%7eb", "w%7Eb"])
      assert.equal(formatSpiffeId(parseSpiffeId(`spiffe://a.consul/ns/default/dc/dc1/svc/${service}`)), canonical);
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
    "/n%73/default/dc/dc1/svc/web",
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
      assert.throws(() => parseSpiffeId(uri), malformed(`SPIFFE ID is not in the expected format: ${uri}`));
    });
  for (const uri of ["spiffe://consul", "spiffe://.consul"])
    it(`parseSpiffeId() refuses ${uri}, whose host has no cluster ID`, () => {
      assert.throws(() => parseSpiffeId(uri), malformed(`SPIFFE ID is not in the expected format: ${uri}`));
    });

  const segments: readonly (readonly [path: string, message: string])[] = [
    ["/ns/%zz/dc/dc1/svc/web", 'Invalid namespace: invalid URL escape "%zz"'],
    ["/ns/default/dc/%/svc/web", 'Invalid datacenter: invalid URL escape "%"'],
    ["/ns/default/dc/dc1/svc/a%2Fb", 'Invalid service: "a/b" is empty, a dot segment, or has a slash or control character'],
    ["/ns/default/dc/dc1/svc/..", 'Invalid service: ".." is empty, a dot segment, or has a slash or control character'],
    ["/ns/./dc/dc1/svc/web", 'Invalid namespace: "." is empty, a dot segment, or has a slash or control character'],
    ["/ap/%zz/ns/default/dc/dc1/svc/web", 'Invalid admin partition: invalid URL escape "%zz"'],
    ["/ap/%ff/gateway/mesh/dc/dc1", "Invalid admin partition: escapes are not UTF-8"],
    ["/agent/client/dc/dc1/id/%00", 'Invalid node: "\\u0000" is empty, a dot segment, or has a slash or control character'],
    ["/agent/server/dc/%2e", 'Invalid datacenter: "." is empty, a dot segment, or has a slash or control character'],
    ["/gateway/mesh/dc/%0d", 'Invalid datacenter: "\\r" is empty, a dot segment, or has a slash or control character'],
  ];
  for (const [path, message] of segments)
    it(`parseSpiffeId() refuses a segment of ${path}`, () => {
      assert.throws(() => parseSpiffeId(`spiffe://${DOMAIN}${path}`), malformed(message));
    });

  const word = fc
    .string({ unit: "grapheme", minLength: 1, maxLength: 40 })
    // biome-ignore lint/suspicious/noControlCharactersInRegex: those are refused, which has its own tests
    .filter((value) => value !== "." && value !== ".." && !/[\u0000-\u001f\u007f/]/.test(value));
  const partition = word.map((value) => value.toLowerCase());
  const trustDomain = fc.stringMatching(/^[a-z0-9_-]{1,40}\.[a-z0-9._-]{1,20}$/);
  const anyId: fc.Arbitrary<SpiffeId> = fc.oneof(
    fc.record({ kind: fc.constant("service" as const), trustDomain, partition, namespace: word, datacenter: word, service: word }),
    fc.record({ kind: fc.constant("agent" as const), trustDomain, partition, datacenter: word, node: word }),
    fc.record({ kind: fc.constant("mesh-gateway" as const), trustDomain, partition, datacenter: word }),
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
  it("formatSpiffeId() gives an accepted ID a form that is accepted, and the same when it is written again", () => {
    const token = fc.constantFrom(..."ns,dc,svc,ap,agent,client,server,id,gateway,mesh,a,%2e,%41,%,,;,..,é,%C3%A9,/,/,/,/".split(","));
    fc.assert(
      fc.property(fc.array(fc.oneof(token, fc.string({ maxLength: 4 })), { maxLength: 10 }), fc.boolean(), (parts, shaped) => {
        const [ns = "n", dc = "d", svc = "s"] = parts;
        const uri = `spiffe://A.consul${shaped ? `/ns/${ns}/dc/${dc}/svc/${svc}` : `/${parts.join("/")}`}`;
        let canonical: string;
        try {
          canonical = formatSpiffeId(parseSpiffeId(uri));
        } catch (error) {
          assert.ok(error instanceof RequestError);
          return;
        }
        assert.equal(formatSpiffeId(parseSpiffeId(canonical)), canonical);
      }),
      { numRuns: 5000 },
    );
  });
  it("formatSpiffeId() never makes an accepted ID too long to be accepted again", () => {
    const uri = `spiffe://a.consul/ns/default/dc/dc1/svc/${",;".repeat(800)}`;
    const canonical = formatSpiffeId(parseSpiffeId(uri));
    assert.equal(formatSpiffeId(parseSpiffeId(canonical)), canonical);
  });
});

describe("trustDomainOf()", () => {
  it("trustDomainOf() lower-cases the cluster ID and adds the fixed top-level domain", () => {
    assert.equal(trustDomainOf("ABC-1"), "abc-1.consul");
  });
});
