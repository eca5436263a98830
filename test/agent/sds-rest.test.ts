/**
 * Envoy's SDS by REST: proto3 JSON in both spellings, 304, and every refusal with its status.
 * @module
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { describe, it } from "node:test";
import { Hono } from "hono";
import { sdsRestRoute } from "../../src/agent/sds/rest.ts";
import { CountingMetrics, createTestSet, KeepingLog, type TestSet } from "./workload-set.ts";

const TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

interface Discovery {
  readonly versionInfo: string;
  readonly typeUrl: string;
  readonly nonce: string;
  readonly resources: readonly Readonly<Record<string, unknown>>[];
}

interface TestRoute {
  readonly set: TestSet;
  readonly metrics: CountingMetrics;
  readonly log: KeepingLog;
  post(body: unknown, headers?: Record<string, string>): Promise<Response>;
  discover(body: unknown): Promise<Discovery>;
}

async function createRoute(options: { empty?: boolean } = {}): Promise<TestRoute> {
  const { empty = false } = options;
  const set = await createTestSet(["web"], empty);
  const [metrics, log] = [new CountingMetrics(), new KeepingLog()];
  const route = sdsRestRoute({ set, log, metrics, clock: set.ca.clock });
  // Mounted as a listener does it, next to routes of others.
  const app = new Hono().get("/healthz", (context) => context.text("ok")).route("/", route);
  const post = async (body: unknown, headers: Record<string, string> = {}) => {
    const response = await app.request("/v3/discovery:secrets", {
      method: "POST",
      body: typeof body === "string" ? body : JSON.stringify(body),
      headers: { "Content-Type": "application/json", ...headers },
    });
    assert.equal(response.headers.get("Cache-Control"), "no-store");
    return response;
  };
  return {
    ...{ set, metrics, log, post },
    async discover(body) {
      const response = await post(body);
      assert.equal(response.status, 200, await response.clone().text());
      return (await response.json()) as Discovery;
    },
  };
}

const decoded = (source: unknown): string => {
  assert.ok(typeof source === "object" && source !== null && "inlineBytes" in source);
  return Buffer.from(String(source.inlineBytes), "base64").toString();
};

describe("POST /v3/discovery:secrets", () => {
  it("answers with the JSON form of DiscoveryResponse", async () => {
    const { discover, set } = await createRoute();
    const response = await discover({
      resource_names: ["default", "ROOTCA", "ALL"],
      type_url: TYPE,
    });
    assert.equal(response.typeUrl, TYPE);
    const [identity, roots, all] = response.resources;
    assert.deepEqual(
      response.resources.map((resource) => [resource["@type"], resource.name]),
      [
        [TYPE, "default"],
        [TYPE, "ROOTCA"],
        [TYPE, "ALL"],
      ],
    );
    const { certificateChain, privateKey } = (identity?.tlsCertificate ?? {}) as Record<
      string,
      unknown
    >;
    const leaf = new X509Certificate(decoded(certificateChain));
    assert.equal(leaf.subjectAltName, `URI:${set.workloads[0]?.svid.current?.spiffeId}`);
    assert.match(decoded(privateKey), /^-----BEGIN PRIVATE KEY-----\n/);
    const { trustedCa } = (roots?.validationContext ?? {}) as Record<string, unknown>;
    assert.equal(new X509Certificate(decoded(trustedCa)).ca, true);
    assert.deepEqual(all?.validationContext, {
      customValidatorConfig: {
        name: "envoy.tls.cert_validator.spiffe",
        typedConfig: {
          "@type":
            "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
          trustDomains: [{ name: set.bundle.current?.trustDomain, trustBundle: trustedCa }],
        },
      },
    });
  });

  it("reads both spellings of a field, null as its default, and skips unknown ones", async () => {
    const { discover } = await createRoute();
    const metadata = Object.fromEntries(
      Array.from({ length: 1500 }, (_, i) => [`extension_${i}`, { version: "x".repeat(20) }]),
    );
    const bodies = [
      { resource_names: ["default"], type_url: TYPE, node: { id: "e", metadata } },
      { resourceNames: ["default"], typeUrl: TYPE, versionInfo: null, errorDetail: null },
      { resourceNames: ["default", "default"], node: null, unknownField: [1], response_nonce: "7" },
    ];
    assert.ok(JSON.stringify(bodies[0]).length > 77_000);
    const versions = await Promise.all(
      bodies.map(async (body) => (await discover(body)).versionInfo),
    );
    assert.equal(new Set(versions).size, 1);
    const everything = await discover({ resourceNames: null });
    assert.equal(everything.resources.length, 2);
  });

  it("is 405 for another method", async () => {
    const { set, metrics, log } = await createRoute();
    const app = sdsRestRoute({ set, log, metrics, clock: set.ca.clock });
    for (const method of ["GET", "PUT", "DELETE"]) {
      const response = await app.request("/v3/discovery:secrets", { method });
      assert.deepEqual([response.status, response.headers.get("Allow")], [405, "OPTIONS,POST"]);
    }
  });

  it("is 304 with the present version until something changes", async () => {
    const { discover, post, set } = await createRoute();
    const resourceNames = ["default"];
    const { versionInfo } = await discover({ resourceNames });
    const unchanged = await post({ resource_names: resourceNames, version_info: versionInfo });
    assert.equal(unchanged.status, 304);
    assert.equal(await unchanged.text(), "");
    // The version of other names is another one.
    assert.equal((await post({ resourceNames: ["ROOTCA"], versionInfo })).status, 200);
    await set.renew();
    const changed = await discover({ resourceNames, versionInfo });
    assert.notEqual(changed.versionInfo, versionInfo);
  });

  it("logs a refusal by Envoy", async () => {
    const { post, log, metrics } = await createRoute();
    const error = {
      resourceNames: ["default"],
      error_detail: { message: "bad" },
      node: { id: "e" },
    };
    for (let i = 0; i < 3; i++) assert.equal((await post(error)).status, 200);
    assert.deepEqual(metrics.refusals, Array(3).fill("sds-rest nack"));
    assert.deepEqual(
      log.lines.map(({ message, fields }) => [message, fields.node, fields.error]),
      [["Envoy refused secrets and keeps its last ones", "e", "bad"]],
    );
  });

  it("is 503 before there is something, and after a leaf expired", async () => {
    const { post, discover, set, metrics } = await createRoute({ empty: true });
    const early = await post({ resourceNames: ["default"] });
    assert.deepEqual(
      [early.status, await early.text()],
      [503, "The roots of the CA are not known yet"],
    );
    await set.rotate();
    await discover({ resourceNames: ["default"] });
    set.workloads[0]?.svid.set(null);
    const late = await post({ resourceNames: ["default"] });
    assert.equal(late.status, 503);
    assert.equal(
      await late.text(),
      'The service "web" has no valid certificate: the last one expired',
    );
    // The roots are there.
    assert.equal((await discover({ resourceNames: ["default", "ROOTCA"] })).resources.length, 1);
    assert.deepEqual(metrics.refusals, ["sds-rest not-ready", "sds-rest not-ready"]);
  });

  for (const [what, body, status, text] of [
    ["an unknown name", { resourceNames: ["web"] }, 404, /no secret with the name "web"; it has/],
    ["another type", { typeUrl: "x" }, 400, /only resources of the type .*, not "x"/],
    ["no JSON", "{", 400, "The body is not JSON"],
    ["an empty body", "", 400, "The body is not JSON"],
    ["an array", [], 400, "The body must be a JSON object"],
    ["a string", '"x"', 400, "The body must be a JSON object"],
    ["null", null, 400, "The body must be a JSON object"],
    [
      "names that are no list",
      { resource_names: "default" },
      400,
      'The field "resourceNames" must be an array of strings',
    ],
    ["a name that is no string", { resourceNames: [1] }, 400, /^The field "resourceNames.0" must/],
    ["a node that is no object", { node: "x" }, 400, 'The field "node" must be an object'],
    [
      "a version that is no string",
      { versionInfo: 1 },
      400,
      /^The field "versionInfo" must be a str/,
    ],
  ] as const)
    it(`is ${status} with ${what}`, async () => {
      const { post } = await createRoute();
      const response = await post(body);
      const sent = await response.text();
      assert.equal(response.status, status, sent);
      if (typeof text === "string") assert.equal(sent, text);
      else assert.match(sent, text);
    });

  it("is 413 with a body over 512 KiB, of known and of unknown length", async () => {
    const { post, metrics } = await createRoute();
    const body = JSON.stringify({ padding: "x".repeat(512 * 1024) });
    const text = "The body of a discovery request may have 524288 octets";
    for (const length of [{ "Content-Length": String(body.length) }, {}]) {
      const response = await post(body, length);
      assert.deepEqual([response.status, await response.text()], [413, text]);
    }
    assert.deepEqual(metrics.refusals, ["sds-rest too-large", "sds-rest too-large"]);
  });

  it("is 415 with a type that a form of a web page can have", async () => {
    const { post } = await createRoute();
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"]) {
      const response = await post({ resourceNames: ["default"] }, { "Content-Type": type });
      assert.equal(response.status, 415);
    }
    const withCharset = { "Content-Type": "application/JSON; charset=utf-8" };
    assert.equal((await post({ resourceNames: ["default"] }, withCharset)).status, 200);
  });
});
