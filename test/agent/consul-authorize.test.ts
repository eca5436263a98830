/**
 * The agent's Consul API besides leaves: authorize, roots and self.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { NO_ACCESS_CONTROL } from "../../src/agent/consul-api/caller-rights.ts";
import type { ConsulApiOptions } from "../../src/agent/consul-api/options.ts";
import { ConsulApi } from "../../src/agent/consul-api/routes.ts";
import { MutableSource } from "../../src/client/source.ts";
import { configuration, trustDomain } from "../fakes/ca.ts";
import { createFakeClock, systemRandom } from "../fakes/clock.ts";
import { createTestApp, settle, type TestApp } from "../fixtures/app.ts";
import { type Guarded, guarded } from "../fixtures/guarded.ts";
import { tableOf } from "../fixtures/tables.ts";
import { type ConsulAgent, consulAgent } from "./consul-agent.ts";
import { createTestSet, KeepingLog } from "./workload-set.ts";

/** Of an agent that nobody asks. */
const NO_AGENT: ConsulApiOptions = {
  set: { workloads: [], bundle: new MutableSource() },
  contact: { reachable: null, lostAt: null, problem: null },
  rights: NO_ACCESS_CONTROL,
  openLeaf: () => {
    throw new Error("No leaf is asked for");
  },
  defaultPolicy: () => "allow",
  defaultIntentionPolicy: null,
  datacenter: null,
  nodeName: "node-1",
  version: "1.2.3",
  overSocket: false,
  clock: createFakeClock(),
  random: systemRandom,
  log: new KeepingLog(),
  metrics: { refused: () => undefined },
};
const AUTHORIZE = "/v1/agent/connect/authorize";
const ROOTS = "/v1/agent/connect/ca/roots";
const SELF = "/v1/agent/self";

async function ask(
  agent: ConsulAgent,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
  query = "",
): Promise<{ status: number; text: string; cache: string | null }> {
  const response = await agent.post(`${AUTHORIZE}${query}`, body, headers);
  const cache = response.headers.get("x-cache");
  return { status: response.status, text: await response.text(), cache };
}

describe("POST /v1/agent/connect/authorize", () => {
  let server: TestApp;
  let agent: ConsulAgent;
  let ours: string;
  before(async () => {
    server = await createTestApp();
    agent = await consulAgent(server);
    ours = `spiffe://${trustDomain(server.manager)}`;
  });
  after(() => agent?.close());
  const from = (path: string, domain = ours) => ({
    Target: "db",
    ClientCertURI: `${domain}${path}`,
  });
  const WEB = "/ns/default/dc/dc1/svc/web";

  it("allows if the servers' default policy does, in Consul's words", async () => {
    const { status, text } = await ask(agent, { ...from(WEB), ClientCertSerial: "04:00" });
    assert.deepEqual(
      [status, text],
      [200, '{"Authorized":true,"Reason":"Default behavior configured by ACLs"}'],
    );
    const body = { target: "db", clientcerturi: `${ours}${WEB}` };
    assert.equal((await ask(agent, body)).text, text);
    assert.equal((await ask(agent, from(WEB))).cache, "HIT");
    const pretty = await ask(agent, from(WEB), {}, "?pretty");
    assert.match(pretty.text, /^\{\n {4}"Authorized": true,\n/);
  });

  it("refuses a certificate of another trust domain, which Consul does not compare", async () => {
    const { status, text } = await ask(agent, from(WEB, "spiffe://other.consul"));
    assert.equal(status, 200);
    assert.deepEqual(JSON.parse(text), {
      Authorized: false,
      Reason: `Mismatched trust domains: "other.consul" != "${ours.slice("spiffe://".length)}"`,
    });
  });

  it("takes the trust domain in any case", async () => {
    const { text } = await ask(agent, from(WEB, ours.toUpperCase()));
    assert.match(text, /"Authorized":true/);
  });

  it("refuses a certificate of another partition", async () => {
    const { text, cache } = await ask(agent, from(`/ap/other${WEB}`));
    assert.deepEqual(
      [JSON.parse(text), cache],
      [{ Authorized: false, Reason: 'Mismatched partitions: "other" != "default"' }, null],
    );
  });

  for (const [body, text] of [
    ["", "Request decode failed: EOF"],
    ["{", "Request decode failed: unexpected EOF"],
    ["null", "Target service must be specified"],
    [
      "[]",
      "Request decode failed: json: cannot unmarshal array into Go value of type structs.ConnectAuthorizeRequest",
    ],
    ['{"Nope":1}', 'Request decode failed: json: unknown field "Nope"'],
    ["{}", "Target service must be specified"],
    ['{"Target":"db"}', "ClientCertURI not a valid Connect identifier"],
    ['{"Target":"db","ClientCertURI":"nope"}', "ClientCertURI not a valid Connect identifier"],
    [
      '{"Target":"db","ClientCertURI":"http://x/ns/default/dc/dc1/svc/web"}',
      "ClientCertURI not a valid Connect identifier",
    ],
    [
      '{"Target":"db","ClientCertURI":"spiffe://%zz"}',
      "ClientCertURI not a valid Connect identifier",
    ],
    [
      '{"Target":"db","ClientCertURI":"spiffe://a.consul/foo"}',
      "ClientCertURI not a valid Connect identifier",
    ],
    [
      '{"Target":"db","ClientCertURI":"spiffe://a.consul"}',
      "ClientCertURI not a valid Service identifier",
    ],
    [
      '{"Target":"db","ClientCertURI":"spiffe://a.consul/agent/client/dc/dc1/id/x"}',
      "ClientCertURI not a valid Service identifier",
    ],
    [
      '{"Target":1}',
      "Request decode failed: json: cannot unmarshal number into Go struct field ConnectAuthorizeRequest.Target of type string",
    ],
  ] as const)
    it(`refuses ${JSON.stringify(body)}`, async () => {
      assert.deepEqual(await ask(agent, body), { status: 400, text, cache: null });
    });

  it("refuses other namespaces, media types, methods and long bodies", async () => {
    const namespace = await ask(agent, from(WEB), {}, "?ns=x");
    assert.equal(namespace.status, 400);
    assert.match(namespace.text, /Namespaces are a Consul Enterprise feature/);
    assert.equal((await ask(agent, "a", { "Content-Type": "image/png" })).status, 415);
    assert.equal((await ask(agent, `"${"x".repeat(20_000)}"`)).status, 413);
    const get = await agent.get(AUTHORIZE);
    assert.deepEqual([get.status, get.headers.get("allow")], [405, "OPTIONS,POST"]);
  });

  for (const [policy, allowed] of [
    ["allow", true],
    ["deny", false],
  ] as const)
    it(`answers by default_intention_policy = ${policy} if it is set`, async () => {
      const log = new KeepingLog();
      const other = await consulAgent(server, [], { defaultIntentionPolicy: policy, log });
      assert.deepEqual(JSON.parse((await ask(other, from(WEB))).text), {
        Authorized: allowed,
        Reason: "Default intention policy",
      });
      const warned = log.lines.some(({ message }) => message.includes("refuses every connection"));
      assert.equal(warned, !allowed);
      await other.close();
    });

  it("is 503 before the trust domain is known", async () => {
    const set = await createTestSet([], true);
    const other = await consulAgent(server, [], { set });
    assert.equal((await ask(other, from(WEB))).status, 503);
    await other.close();
  });
});

describe("POST /v1/agent/connect/authorize with access control", () => {
  let server: Guarded;
  let agent: ConsulAgent;
  let body: { Target: string; ClientCertURI: string };
  const log = new KeepingLog();
  before(async () => {
    server = await guarded();
    agent = await consulAgent(server, [], { log });
    const id = `spiffe://${trustDomain(server.manager)}/ns/default/dc/dc1/svc/web`;
    body = { Target: "db", ClientCertURI: id };
  });
  after(() => agent?.close());

  it("needs a token with service:write on the target, after the body was checked", async () => {
    const { id } = await server.access.addPolicy('service "db" { policy = "write" }');
    const { secret } = await server.access.addToken({ policies: [id] });
    assert.deepEqual(await ask(agent, body), {
      status: 403,
      text: "Permission denied: anonymous token lacks permission 'service:write' on \"db\". The anonymous token is used implicitly when a request does not specify a token.",
      cache: null,
    });
    assert.equal((await ask(agent, {})).text, "Target service must be specified");
    const unknown = { "X-Consul-Token": "22222222-2222-2222-2222-222222222222" };
    assert.equal((await ask(agent, body, unknown)).text, "ACL not found");
    const allowed = await ask(agent, body, { "X-Consul-Token": secret });
    assert.deepEqual(
      [allowed.status, allowed.text, allowed.cache],
      [200, '{"Authorized":false,"Reason":"Default behavior configured by ACLs"}', "MISS"],
    );
    assert.equal((await ask(agent, body, { "X-Consul-Token": secret })).cache, "HIT");
  });

  it("warns at the start that the servers' default policy of deny refuses every connection", () => {
    const warned = log.lines.filter(({ message }) => message.includes("refuses every connection"));
    assert.deepEqual(
      warned.map(({ level }) => level),
      ["warn"],
    );
  });
});

describe("GET /v1/agent/connect/ca/roots of an agent", () => {
  let server: TestApp;
  let agent: ConsulAgent;
  before(async () => {
    server = await createTestApp();
    agent = await consulAgent(server);
  });
  after(() => agent?.close());
  const read = async (query = "") => {
    const response = await agent.get(`${ROOTS}${query}`);
    const header = (name: string) => response.headers.get(name);
    return { text: await response.text(), status: response.status, header };
  };

  it("is the server's listing, octet for octet, a miss at first and then a hit", async () => {
    const theirs = await (await server.fetch("/v1/connect/ca/roots")).text();
    for (const [cache, age] of [
      ["MISS", null],
      ["HIT", "0"],
    ]) {
      const { text, header } = await read();
      assert.equal(text, theirs);
      assert.deepEqual([header("x-cache"), header("age")], [cache, age]);
      assert.equal(header("x-consul-knownleader"), "true");
      assert.equal(header("x-consul-lastcontact"), "0");
      assert.equal(header("x-consul-query-backend"), "blocking-query");
    }
    const pretty = await (await server.fetch("/v1/connect/ca/roots?pretty")).text();
    assert.equal((await read("?pretty")).text, pretty);
  });

  it("needs no token, and ignores one", async () => {
    assert.equal((await read("?token=unknown")).status, 200);
  });

  it("is held at its index, without jitter, and answered by a rotation", async () => {
    const index = Number((await read()).header("x-consul-index"));
    const timed = read(`?index=${index}&wait=2s`);
    await settle();
    server.clock.advance(2000);
    const { header } = await timed;
    assert.deepEqual([header("x-cache"), header("age")], ["MISS", null]);
    assert.equal(header("x-consul-index"), String(index));
    const waiting = read(`?index=${index}&wait=5m`);
    await settle();
    await server.manager.configure(configuration({ PrivateKeyType: "ec", PrivateKeyBits: 384 }));
    const woken = await waiting;
    assert.ok(Number(woken.header("x-consul-index")) > index);
    assert.equal((JSON.parse(woken.text) as { Roots: unknown[] }).Roots.length, 2);
  });

  it("is answered at once at an index ahead", async () => {
    const { status, header } = await read("?index=99999&wait=5m");
    assert.deepEqual([status, header("x-cache")], [200, "HIT"]);
  });

  it("stays while the servers are away, with the seconds since they were lost as its age", async () => {
    const before = (await read()).text;
    agent.reachable = false;
    await assert.rejects(agent.roots.refresh());
    server.clock.advance(90_000);
    const { text, header } = await read();
    assert.equal(text, before);
    assert.deepEqual([header("x-cache"), header("age")], ["HIT", "90"]);
    assert.equal(header("x-consul-knownleader"), "false");
    agent.reachable = true;
    server.clock.advance(1000);
    await agent.roots.refresh();
    assert.equal((await read()).header("age"), "0");
  });

  it("is 503 before the first roots", async () => {
    const set = await createTestSet([], true);
    const other = await consulAgent(server, [], { set });
    const waiting = other.get(ROOTS);
    await settle();
    server.clock.advance(10_000);
    const response = await waiting;
    assert.equal(response.status, 503);
    assert.equal(await response.text(), "no CA roots: no CA server has answered yet");
    await other.close();
  });
});

describe("GET /v1/agent/self", () => {
  it("has the datacenter, the node and the version", async () => {
    const set = await createTestSet(["web"]);
    const agent = await consulAgent(await createTestApp(), set.workloads);
    const response = await agent.get(SELF);
    const { Config, Member } = (await response.json()) as {
      Config: Readonly<Record<string, unknown>>;
      Member: Readonly<Record<string, unknown>>;
    };
    assert.deepEqual(Config, {
      Datacenter: "dc1",
      PrimaryDatacenter: "dc1",
      NodeName: "node-1",
      Server: false,
      Version: "1.2.3",
    });
    assert.equal(Member.Name, "node-1");
    await agent.close();
  });

  it("needs agent:read on the node's name with access control, as Consul", async () => {
    const server = await guarded();
    const agent = await consulAgent(server);
    const response = await agent.get(SELF);
    assert.equal(response.status, 403);
    assert.match(await response.text(), /lacks permission 'agent:read' on "node-1"/);
    const { id } = await server.access.addPolicy('agent_prefix "" { policy = "read" }');
    const { secret } = await server.access.addToken({ policies: [id] });
    assert.equal((await agent.get(SELF, { "X-Consul-Token": secret })).status, 200);
    await agent.close();
  });
});

describe("the agent's Consul API", () => {
  it("has the routes of docs/http-api.md, and no others", async () => {
    const { roots, own } = new ConsulApi(NO_AGENT);
    const routes = [roots, ...own].flatMap(({ path, methods }) =>
      Object.keys(methods).map((method) => `${method} ${path}`),
    );
    const rows = tableOf("Routes of the agent").map(
      ([method = "", path = ""]) => `${method} ${path}`,
    );
    assert.deepEqual(new Set(rows), new Set(routes));
    assert.equal(rows.length, routes.length);
  });

  it("answers OPTIONS, 405 to HEAD and unknown paths as Consul, and no web page", async () => {
    const agent = await consulAgent(await createTestApp());
    const send = async (
      method: string,
      path: string,
      headers: Readonly<Record<string, string>> = {},
    ) => agent.app.fetch(new Request(`http://127.0.0.1:8502${path}`, { method, headers }), {});
    for (const [path, allow] of [
      [ROOTS, "OPTIONS,GET"],
      ["/v1/agent/connect/ca/leaf/web", "OPTIONS,GET"],
      [AUTHORIZE, "OPTIONS,POST"],
      [SELF, "OPTIONS,GET"],
    ] as const) {
      const options = await send("OPTIONS", path);
      assert.deepEqual([options.status, options.headers.get("allow")], [200, allow]);
      assert.equal((await send("HEAD", path)).status, 405);
      const method = allow.endsWith("POST") ? "POST" : "GET";
      const page = await send(method, path, { Origin: "https://site.example" });
      assert.equal(page.status, 403, path);
      assert.match(await page.text(), /^Request has an Origin header/);
      const rebound = await send(method, path, { Host: "agent.example" });
      assert.equal(rebound.status, 403, path);
    }
    const unknown = await send("GET", "/v1/agent/nothing");
    assert.deepEqual(
      [unknown.status, await unknown.text()],
      [404, "Invalid URL path: not a recognized HTTP API endpoint\n"],
    );
    await agent.close();
  });
});
