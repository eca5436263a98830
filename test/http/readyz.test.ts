/**
 * Who sees more of GET /readyz than whether leaves can be signed: names of roots, addresses of
 * replicas and notes of the provider are for operators.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Acl } from "../../src/core/acl/ports.ts";
import { DeniedError, NotReadyError } from "../../src/core/errors.ts";
import type { RequestEnvironment } from "../../src/http/route.ts";
import { createTestCa } from "../fakes/ca.ts";
import { accessThat } from "../fixtures/access.ts";
import { createTestApp, type Overrides } from "../fixtures/app.ts";

const DETAILS = /^ok\nrole: leader\n/;
const operators = accessThat({
  allows: (resource, access) => resource === "operator" && access === "read",
});
const nobody = accessThat({ allows: () => false });

async function ask(
  overrides: Overrides,
  headers: Readonly<Record<string, string>> = {},
  environment: RequestEnvironment = { remoteAddress: "127.0.0.1" },
): Promise<string> {
  const { app } = await createTestApp(overrides);
  const answer = await app.fetch(
    new Request("http://127.0.0.1/readyz", { headers: { Host: "127.0.0.1", ...headers } }),
    environment,
  );
  return answer.text();
}

describe("GET /readyz with access control", () => {
  it("a caller on this machine, and one with operator:read, see the details of the replica", async () => {
    for (const remoteAddress of ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
      assert.match(
        await ask({ acl: { control: nobody } }, {}, { remoteAddress }),
        DETAILS,
        remoteAddress,
      );
    assert.match(
      await ask(
        { acl: { control: operators }, server: { loopbackOnly: false } },
        {},
        { remoteAddress: "10.0.0.1" },
      ),
      DETAILS,
    );
  });

  for (const [what, overrides, headers, remoteAddress] of [
    ["another address", {}, {}, "10.0.0.1"],
    ["no address at all", {}, {}, undefined],
    [
      "loopback while more than loopback is served",
      { server: { loopbackOnly: false } },
      {},
      "127.0.0.1",
    ],
    [
      "loopback behind a proxy that is configured",
      { server: { behindProxy: true } },
      {},
      "127.0.0.1",
    ],
    ...[
      ...[
        "Forwarded",
        "Via",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Real-IP",
        "X-Forwarded-Port",
      ],
      ...[
        "X-Envoy-Expected-Rq-Timeout-Ms",
        "X-Amzn-Trace-Id",
        "X-Original-For",
        "True-Client-IP",
        "CF-Connecting-IP",
        "CDN-Loop",
        // By a server of another datacenter on this machine.
        "X-Meshca-Forwarded",
      ],
    ].map((name) => [`loopback with ${name}`, {}, { [name]: "x" }, "127.0.0.1"] as const),
    ["loopback by nginx in its default configuration", {}, { Connection: "close" }, "127.0.0.1"],
    [
      "loopback for a name that is served besides loopback names",
      { server: { hosts: ["ca.example"] } },
      { Host: "ca.example" },
      "127.0.0.1",
    ],
  ] as const)
    it(`a caller from ${what} gets ok, and no details`, async () => {
      assert.equal(
        await ask({ acl: { control: nobody }, ...overrides }, headers, { remoteAddress }),
        "ok\n",
      );
    });

  it("a caller without rights gets not ready, without the reason", async () => {
    const { app } = await createTestApp(
      { acl: { control: nobody }, server: { loopbackOnly: false } },
      await createTestCa({ started: false }),
    );
    const answer = await app.fetch(new Request("http://127.0.0.1/readyz"), {
      remoteAddress: "10.0.0.1",
    });
    assert.deepEqual(
      [answer.status, await answer.text(), answer.headers.get("retry-after")],
      [503, "not ready\n", "1"],
    );
  });

  it("an invalid token is refused and counted, so that tokens cannot be guessed here", async () => {
    let counted = 0;
    const control = {
      ...nobody,
      authorize: () => {
        throw new DeniedError("token_unknown", "ACL not found");
      },
    } as Acl;
    assert.equal(
      await ask(
        { acl: { control }, metrics: { countWrongToken: () => counted++ } },
        { "X-Consul-Token": "guess" },
      ),
      "ACL not found",
    );
    assert.equal(counted, 1);
  });

  it("readiness is answered while tokens cannot be read", async () => {
    const control = {
      ...nobody,
      authorize: () => {
        throw new NotReadyError("ca_uninitialized", "not read yet");
      },
    } as Acl;
    assert.equal(
      await ask(
        { acl: { control }, server: { loopbackOnly: false } },
        {},
        { remoteAddress: "10.0.0.1" },
      ),
      "ok\n",
    );
  });
});

describe("GET /readyz without access control", () => {
  it("every caller sees the details of the replica", async () => {
    assert.match(await ask({ acl: { control: null } }, { "X-Forwarded-For": "10.0.0.1" }), DETAILS);
  });
});
