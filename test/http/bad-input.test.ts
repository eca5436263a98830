/**
 * Bad requests to a real server: the status, a message with the remedy, and nothing changed.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { opensslCsr } from "../fakes/ca.ts";
import { createTestApp, until } from "../fixtures/app.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { type RawRequest, send } from "../fixtures/raw.ts";
import { put, refuses, sign } from "../fixtures/refusals.ts";
import { type BadRequest, badIdentities, badKeys, badTexts } from "./bad-requests.ts";

const SIGN = "/v1/connect/ca/sign";
const CONFIGURATION = "/v1/connect/ca/configuration";
/**
 * Names come before the server does: those of requests, which need its trust domain, are made for a
 * stand-in first.
 */
const STAND_IN = "11111111-2222-3333-4444-555555555555.consul";

const FORM = 'the body must be {"CSR": "<PEM>"}';

describe("bad input", () => {
  let server: ServerProcess;
  let uri = "";
  before(async () => {
    server = await startServer();
    uri = `spiffe://${server.trustDomain}/ns/default/dc/dc1/svc/web`;
  });
  after(() => server.stop());

  const web = (trustDomain: string) => `spiffe://${trustDomain}/ns/default/dc/dc1/svc/web`;
  const tables: readonly (readonly [string, (trustDomain: string) => BadRequest[]])[] = [
    ["form", (trustDomain) => badTexts(web(trustDomain))],
    ["key", (trustDomain) => badKeys(web(trustDomain))],
    ["identity", badIdentities],
  ];
  for (const [what, table] of tables) {
    let cases: BadRequest[] | undefined;
    table(STAND_IN).forEach(({ name }, at) => {
      it(`PUT /v1/connect/ca/sign refuses a request by its ${what}: ${name}`, async () => {
        cases ??= table(server.trustDomain);
        const { csr = "", says = "" } = cases[at] ?? {};
        await refuses(server, sign(csr), 400, says);
      });
    });
  }

  const bodies: readonly (readonly [string, string, number, string | RegExp])[] = [
    ["an empty body", "", 400, `Cannot read CSR: the body is not valid JSON (EOF); ${FORM}`],
    ["null", "null", 400, `Cannot read CSR: the body is not a JSON object; ${FORM}`],
    ["an array", "[]", 400, `Cannot read CSR: the body is not a JSON object; ${FORM}`],
    ["a string", '"x"', 400, `Cannot read CSR: the body is not a JSON object; ${FORM}`],
    ["no CSR", "{}", 400, `Cannot read CSR: the body has no CSR; ${FORM}`],
    [
      "a CSR that is a number",
      '{"CSR":1}',
      400,
      `Cannot read CSR: the body's CSR is not a string; ${FORM}`,
    ],
    [
      "a CSR that is null",
      '{"CSR":null}',
      400,
      `Cannot read CSR: the body's CSR is not a string; ${FORM}`,
    ],
    [
      "an unknown field",
      '{"CSR":"x","Life":"1h"}',
      400,
      /^Cannot read CSR: the body has an unknown key "Life", known are CSR, Service, TTL;/,
    ],
    [
      "a lifetime that is not text",
      JSON.stringify({
        CSR: opensslCsr("URI:spiffe://x.consul/ns/default/dc/dc1/svc/web").csr,
        TTL: 1,
      }),
      400,
      "Cannot sign leaf: TTL in the body must be a string",
    ],
    [
      "a lifetime that is no duration",
      JSON.stringify({ CSR: "MII=", TTL: "1 day" }),
      400,
      'Cannot sign leaf: TTL "1 day" must be a duration such as "30m" or "12h"',
    ],
    [
      "an empty lifetime",
      JSON.stringify({ CSR: "MII=", TTL: "" }),
      400,
      'Cannot sign leaf: TTL "" must be a duration such as "30m" or "12h"',
    ],
    [
      "the field twice",
      '{"CSR":"x","csr":"y"}',
      400,
      `Cannot read CSR: the body has the key CSR more than once; ${FORM}`,
    ],
    [
      "broken JSON",
      '{"CSR":"x"',
      400,
      `Cannot read CSR: the body is not valid JSON (unexpected EOF); ${FORM}`,
    ],
    [
      "a CSR whose line ends are lost",
      '{"CSR":"-----BEGIN CERTIFICATE REQUEST-----AAAA-----END CERTIFICATE REQUEST-----"}',
      400,
      "Cannot read CSR: the line ends of the PEM text are lost; write each of them as \\n in the JSON string",
    ],
    ["an empty CSR", '{"CSR":""}', 400, "Cannot read CSR: no PEM-encoded data found"],
    [
      "a CSR of 17 KiB",
      JSON.stringify({ CSR: "x".repeat(17 * 1024) }),
      413,
      "Cannot read CSR: it is longer than 16384 characters",
    ],
    [
      "a body of 33 KiB",
      JSON.stringify({ CSR: "x".repeat(33 * 1024) }),
      413,
      "Cannot read body: it is longer than 32768 bytes",
    ],
  ];
  for (const [name, body, status, says] of bodies)
    it(`PUT /v1/connect/ca/sign answers ${status} to JSON with ${name}`, async () => {
      await refuses(server, sign(body, "application/json"), status, says);
    });

  const long = "x".repeat(17 * 1024);
  const huge = "x".repeat(65 * 1024);
  const limits: readonly (readonly [string, RawRequest, string])[] = [
    [
      "PUT /v1/connect/ca/sign answers 413 to a body of 17 KiB",
      sign(long),
      "Cannot read body: it is longer than 16384 bytes",
    ],
    [
      "PUT /v1/connect/ca/sign answers 413 to 17 KiB in chunks",
      { ...sign(long), chunkSize: 1000 },
      "Cannot read body: it is longer than 16384 bytes",
    ],
    [
      "PUT /v1/connect/ca/configuration answers 413 to a body of 65 KiB",
      put(huge),
      "Cannot read body: it is longer than 65536 bytes",
    ],
    [
      "PUT /v1/connect/ca/configuration answers 413 to 65 KiB in chunks",
      { ...put(huge), chunkSize: 4096 },
      "Cannot read body: it is longer than 65536 bytes",
    ],
  ];
  for (const [name, request, says] of limits)
    it(name, async () => {
      await refuses(server, request, 413, says);
    });

  it("a body of a megabyte is refused with 413 before it is read", async () => {
    for (const request of [sign("x".repeat(1 << 20)), put("x".repeat(1 << 20))])
      assert.equal((await send(server.port, request))?.status, 413);
  });

  for (const type of [
    "text/html",
    "application/xml",
    "multipart/form-data; boundary=x",
    "application/jsonx",
    "json",
  ])
    it(`PUT /v1/connect/ca/sign and PUT /v1/connect/ca/configuration answer 415 to ${type}`, async () => {
      const { csr } = opensslCsr(`URI:${uri}`);
      const says =
        /^Cannot read body: media type "[^"]+" is not one of application\/json, .*text\/plain$/;
      await refuses(server, sign(csr, type), 415, says);
      await refuses(
        server,
        {
          ...put({ Provider: "consul", Config: { LeafCertTTL: "50h" } }),
          headers: { "Content-Type": type },
        },
        415,
        says,
      );
    });

  for (const host of [
    "example.com",
    "example.com:8500",
    "192.168.1.1",
    "127.0.0.1.example.com",
    "localhost.example.com",
    "0.0.0.0",
    "[::2]",
    "127.1",
  ])
    it(`every route answers 403 to the Host ${host}`, async () => {
      const headers = { Host: host };
      const says =
        "Host is not a loopback name: use 127.0.0.1 or localhost, or add the name to MESHCA_HOSTS";
      const change = put({ Provider: "consul", Config: { LeafCertTTL: "50h" } });
      await refuses(server, { ...change, headers }, 403, says);
      for (const target of [
        "/v1/connect/ca/roots",
        CONFIGURATION,
        "/metrics",
        "/healthz",
        "/v1/status/leader",
      ])
        await refuses(server, { method: "GET", target, headers }, 403, says);
      await refuses(server, { method: "OPTIONS", target: CONFIGURATION, headers }, 403, says);
      await refuses(server, { ...sign(opensslCsr(`URI:${uri}`).csr), headers }, 403, says);
    });

  it("loopback names are accepted as Host, in any case and with any port", async () => {
    for (const host of [
      "localhost",
      "LOCALHOST:1",
      "127.0.0.1:8500",
      "127.9.9.9",
      "[::1]:8500",
      "meshca.localhost",
      "localhost.",
    ])
      assert.equal(
        (
          await send(server.port, {
            method: "GET",
            target: "/v1/connect/ca/roots",
            headers: { Host: host },
          })
        )?.status,
        200,
        host,
      );
  });

  const queries: readonly (readonly [string, number, string])[] = [
    ["?index=abc", 400, "Invalid index"],
    ["?index=18446744073709551616", 400, "Invalid index"],
    ["?index=1.5", 400, "Invalid index"],
    ["?wait=10", 400, "Invalid wait time"],
    ["?stale&consistent", 400, "Cannot specify ?stale with ?consistent, conflicting semantics."],
    [
      "?max_stale=1s&consistent",
      400,
      "Cannot specify ?stale with ?consistent, conflicting semantics.",
    ],
    ["?dc=dc2", 400, "No path to datacenter"],
    ["?a=%", 400, ""],
    ["?a;b", 400, ""],
  ];
  for (const [query, status, says] of queries)
    it(`every route of the CA answers ${status} to the query ${query}`, async () => {
      const { csr } = opensslCsr(`URI:${uri}`);
      for (const request of [
        { method: "GET", target: `/v1/connect/ca/roots${query}` },
        { method: "GET", target: `/v1/agent/connect/ca/roots${query}` },
        { method: "GET", target: CONFIGURATION + query },
        {
          ...put({ Provider: "consul", Config: { LeafCertTTL: "50h" } }),
          target: CONFIGURATION + query,
        },
        { method: "PUT", target: `/v1/connect/ca/rotate${query}`, body: "" },
        { ...sign(csr), target: SIGN + query },
      ])
        await refuses(server, request, status, says);
    });

  const rotations: readonly (readonly [string, string, number, string])[] = [
    ["null", "null", 400, "Request decode failed: null where an object belongs"],
    [
      "an unknown field",
      '{"Provider":"consul"}',
      400,
      'Request decode failed: json: unknown field "Provider"',
    ],
    ["a stale ModifyIndex", '{"ModifyIndex":999}', 409, "ModifyIndex did not match existing"],
  ];
  for (const [name, body, status, says] of rotations)
    it(`PUT /v1/connect/ca/rotate answers ${status} to ${name}`, async () => {
      await refuses(server, { method: "PUT", target: "/v1/connect/ca/rotate", body }, status, says);
    });

  it("the server signs as before after all of that", async () => {
    assert.equal((await send(server.port, sign(opensslCsr(`URI:${uri}`).csr)))?.status, 200);
    assert.equal(server.stderr(), "");
  });
});

describe("a body that does not come", () => {
  for (const path of [SIGN, CONFIGURATION])
    it(`PUT ${path} answers 400 once its body has taken more than 10 s`, async () => {
      const test = await createTestApp();
      const body = new ReadableStream({
        start: (controller) => controller.enqueue(new TextEncoder().encode("{")),
      });
      const asked = test.fetch(path, { method: "PUT", body });
      await until(() => test.clock.sleepers === 1);
      test.clock.advance(10_000);
      const answer = await asked;
      assert.deepEqual(
        [answer.status, await answer.text()],
        [400, "Cannot read body: it took more than 10 s"],
      );
      assert.equal(test.clock.sleepers, 0);
    });
});
