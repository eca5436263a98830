/**
 * Consul's routes of an agent on the port of a server, over real sockets: which servers answer them,
 * and to whom.
 * @module
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { after, before, describe, it } from "node:test";
import { makeKek } from "../../src/seal/kek.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { send } from "../fixtures/raw.ts";

const LEAF = "/v1/agent/connect/ca/leaf/web";
const AUTHORIZE = "/v1/agent/connect/authorize";

interface Leaf {
  readonly CertPEM: string;
  readonly SerialNumber: string;
  readonly ServiceURI: string;
  readonly ModifyIndex: number;
}

describe("Consul's agent routes on the port of a server", () => {
  let server: ServerProcess;
  before(async () => {
    server = await startServer();
  });
  after(() => server?.stop());

  const get = (target: string, headers: Readonly<Record<string, string>> = {}) =>
    send(server.port, { method: "GET", target, headers });

  it("hand out a leaf with its key, never to be stored, and the same to the next reader", async () => {
    const first = await get(LEAF);
    assert.equal(first?.status, 200, first?.body ?? "");
    assert.equal(first?.header("cache-control"), "no-store");
    const leaf = JSON.parse(first?.body ?? "") as Leaf;
    const { subjectAltName } = new X509Certificate(leaf.CertPEM);
    assert.equal(subjectAltName, `URI:${leaf.ServiceURI}`);
    assert.equal((await get(LEAF))?.body, first?.body);
  });

  it("hold a request at the leaf's index until its wait is over", async () => {
    const leaf = JSON.parse((await get(LEAF))?.body ?? "") as Leaf;
    const timed = performance.now();
    const held = await get(`${LEAF}?index=${leaf.ModifyIndex}&wait=1s`);
    assert.ok(performance.now() - timed > 900);
    assert.equal(held?.header("x-consul-index"), String(leaf.ModifyIndex));
  });

  it("say whether a client may connect, and what the agent is", async () => {
    const uri = `spiffe://${server.trustDomain}/ns/default/dc/dc1/svc/web`;
    const body = JSON.stringify({ Target: "db", ClientCertURI: uri });
    const answer = await send(server.port, { method: "POST", target: AUTHORIZE, body });
    assert.deepEqual(
      [answer?.status, answer?.body],
      [200, '{"Authorized":true,"Reason":"Default behavior configured by ACLs"}'],
    );
    const self = JSON.parse((await get("/v1/agent/self"))?.body ?? "") as {
      Config: { Datacenter: string; NodeName: string };
    };
    assert.equal(self.Config.Datacenter, "dc1");
    assert.notEqual(self.Config.NodeName, "");
  });

  for (const [what, headers, reason] of [
    ["an Origin", { Origin: "http://127.0.0.1:8500" }, /has an Origin header/],
    ["a page of another site", { "Sec-Fetch-Site": "cross-site" }, /comes from a web page/],
    ["a proxy that is not declared", { "X-Forwarded-For": "10.0.0.1" }, /was forwarded by a proxy/],
    ["a proxy with Forwarded", { Forwarded: "for=10.0.0.1" }, /was forwarded by a proxy/],
    ["a proxy with Via", { Via: "1.1 proxy" }, /was forwarded by a proxy/],
    ["nginx in its default configuration", { Connection: "close" }, /has Connection: close/],
    ["a rebound name", { Host: "site.example" }, /is not a loopback name/],
  ] as const)
    it(`refuse ${what}`, async () => {
      const answer = await get(LEAF, headers);
      assert.equal(answer?.status, 403);
      assert.match(answer?.body ?? "", reason);
    });

  it("end with the server while requests are held", async () => {
    const own = await startServer();
    const first = await send(own.port, { method: "GET", target: LEAF });
    const { ModifyIndex } = JSON.parse(first?.body ?? "") as Leaf;
    const target = `${LEAF}?index=${ModifyIndex}&wait=300s`;
    const waiting = send(own.port, { method: "GET", target });
    // What was sent later is answered, so the request before it is held.
    for (let turn = 0; turn < 3; turn++) await send(own.port, { method: "GET", target: LEAF });
    const { code } = await own.stop();
    assert.equal(code, 0);
    assert.equal((await waiting)?.status, 200);
  });
});

describe("Consul's agent routes on a server where others could reach them", () => {
  const MANAGEMENT = "11111111-2222-4333-8444-555555555555";
  const guarded = { MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT };
  for (const [what, settings, host] of [
    ["with access control", { MESHCA_ACL: "deny", ...guarded }, "127.0.0.1"],
    [
      "with access control that allows by default",
      { MESHCA_ACL: "allow", ...guarded },
      "127.0.0.1",
    ],
    ["behind a declared proxy", { MESHCA_PLAIN_HTTP: "behind-proxy" }, "127.0.0.1"],
    ["with names of its own", { MESHCA_HOSTS: "ca.example" }, "ca.example"],
    [
      "on all addresses",
      {
        MESHCA_LISTEN: "0.0.0.0:0",
        MESHCA_PLAIN_HTTP: "behind-proxy",
        MESHCA_KEK: makeKek(),
        ...guarded,
      },
      "127.0.0.1",
    ],
  ] as const)
    it(`are 404 ${what}, and name meshca agent`, async () => {
      const server = await startServer({ ...settings });
      try {
        for (const [method, target] of [
          ["GET", LEAF],
          ["GET", "/v1/agent/connect/ca/leaf/"],
          ["GET", "/v1/agent/self"],
          ["POST", AUTHORIZE],
        ] as const) {
          const headers = { Host: host, "X-Consul-Token": MANAGEMENT };
          const answer = await send(server.port, { method, target, headers, body: "{}" });
          assert.equal(answer?.status, 404, target);
          assert.match(answer?.body ?? "", /^Run meshca agent next to the service for this route/);
        }
        const roots = await send(server.port, {
          method: "GET",
          target: "/v1/agent/connect/ca/roots",
          headers: { Host: host },
        });
        assert.equal(roots?.status, 200);
      } finally {
        await server.stop();
      }
    });
});
