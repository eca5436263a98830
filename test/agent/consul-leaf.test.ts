/**
 * GET /v1/agent/connect/ca/leaf/:service of the agent, over a server in the same process.
 * @module
 */
import assert from "node:assert/strict";
import { createPrivateKey, createPublicKey, X509Certificate } from "node:crypto";
import { after, before, describe, it } from "node:test";
import type { ClientError } from "../../src/client/errors.ts";
import { MutableSource } from "../../src/client/source.ts";
import type { X509Svid } from "../../src/client/svid.ts";
import { configuration } from "../fakes/ca.ts";
import { createTestApp, settle, type TestApp, until } from "../fixtures/app.ts";
import { type Guarded, guarded } from "../fixtures/guarded.ts";
import { makeSvid } from "../fixtures/svid.ts";
import { type ConsulAgent, consulAgent } from "./consul-agent.ts";
import { createTestSet, type TestSet } from "./workload-set.ts";

const LEAF = "/v1/agent/connect/ca/leaf/";
const SIGN = "PUT /v1/connect/ca/sign";

interface Leaf {
  readonly SerialNumber: string;
  readonly CertPEM: string;
  readonly PrivateKeyPEM: string;
  readonly Service: string;
  readonly ServiceURI: string;
  readonly ModifyIndex: number;
  readonly CreateIndex: number;
}

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly cache: string | null;
  readonly age: string | null;
  readonly index: string | null;
  readonly retryAfter: string | null;
}

async function read(
  agent: ConsulAgent,
  path: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  const response = await agent.get(`${LEAF}${path}`, headers);
  const header = (name: string) => response.headers.get(name);
  return {
    status: response.status,
    text: await response.text(),
    cache: header("x-cache"),
    age: header("age"),
    index: header("x-consul-index"),
    retryAfter: header("retry-after"),
  };
}

async function leafOf(
  agent: ConsulAgent,
  path: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<Leaf> {
  const { status, text } = await read(agent, path, headers);
  assert.equal(status, 200, text);
  return JSON.parse(text) as Leaf;
}

/** Lets time pass in steps until a promise settles. */
async function passing<T>(agent: ConsulAgent, work: Promise<T>, stepMs: number): Promise<T> {
  let over = false;
  const end = () => {
    over = true;
  };
  work.then(end, end);
  await agent.pass(() => over, stepMs);
  return work;
}

/** Whether a promise has settled once everything ran that waits for no time. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  void promise.finally(() => {
    settled = true;
  });
  await settle();
  return settled;
}

describe("a leaf of the agent's Consul API", () => {
  let server: TestApp;
  let agent: ConsulAgent;
  before(async () => {
    server = await createTestApp();
    agent = await consulAgent(server);
  });
  after(() => agent?.close());

  it("has a certificate, its chain and its key in Consul's fields and order", async () => {
    const response = await agent.get(`${LEAF}web`);
    const text = await response.text();
    assert.equal(response.status, 200, text);
    const leaf = JSON.parse(text) as Leaf;
    assert.deepEqual(Object.keys(leaf), [
      "SerialNumber",
      "CertPEM",
      "PrivateKeyPEM",
      "Service",
      "ServiceURI",
      "ValidAfter",
      "ValidBefore",
      "CreateIndex",
      "ModifyIndex",
    ]);
    const header = (name: string) => response.headers.get(name);
    assert.deepEqual([header("x-cache"), header("age")], ["MISS", null]);
    assert.equal(header("x-consul-index"), String(leaf.ModifyIndex));
    assert.equal(header("x-consul-knownleader"), null);
    assert.equal(header("x-consul-default-acl-policy"), "allow");
    assert.equal(header("content-type"), "application/json");
    assert.equal(header("cache-control"), "no-store");
    assert.equal(leaf.CreateIndex, leaf.ModifyIndex);
    assert.equal(leaf.Service, "web");
    const certificate = new X509Certificate(leaf.CertPEM);
    assert.equal(certificate.subjectAltName, `URI:${leaf.ServiceURI}`);
    const { NotBefore, ValidAfter } = { NotBefore: certificate.validFromDate, ...JSON.parse(text) };
    assert.equal(new Date(ValidAfter).getTime(), NotBefore.getTime());
  });

  it("has an EC key in SEC 1 with its curve, which Go and OpenSSL read", async () => {
    const { PrivateKeyPEM, CertPEM } = await leafOf(agent, "web");
    assert.match(
      PrivateKeyPEM,
      /^-----BEGIN EC PRIVATE KEY-----\n[^-]+-----END EC PRIVATE KEY-----\n$/,
    );
    const key = createPrivateKey(PrivateKeyPEM);
    assert.equal(key.asymmetricKeyDetails?.namedCurve, "prime256v1");
    assert.equal(PrivateKeyPEM, key.export({ type: "sec1", format: "pem" }));
    assert.deepEqual(
      createPublicKey(key).export({ type: "spki", format: "der" }),
      new X509Certificate(CertPEM).publicKey.export({ type: "spki", format: "der" }),
    );
  });

  it("stays the same from read to read, without another signature", async () => {
    const [first, second] = [await leafOf(agent, "web"), await leafOf(agent, "web")];
    assert.deepEqual(second, first);
    const answer = await read(agent, "web?pretty");
    assert.match(answer.text, /^\{\n {4}"SerialNumber": /);
    assert.ok(answer.text.endsWith("\n}\n"));
    assert.equal(agent.asked.get(SIGN), 1);
  });

  it("is a hit with its age at an index below, and at once at an index above", async () => {
    const { ModifyIndex } = await leafOf(agent, "aged");
    server.clock.advance(2000);
    for (const index of [ModifyIndex - 1, ModifyIndex + 500, "18446744073709551615"]) {
      const answer = await read(agent, `aged?index=${index}&wait=60s`);
      assert.deepEqual([answer.status, answer.cache, answer.age], [200, "HIT", "2"]);
      assert.equal(answer.index, String(ModifyIndex));
    }
  });

  it("is held until the wait is over, without jitter, and then is a miss with the same index", async () => {
    const { ModifyIndex } = await leafOf(agent, "held");
    const waiting = read(agent, `held?index=${ModifyIndex}&wait=2s`);
    assert.equal(await isSettled(waiting), false);
    server.clock.advance(1999);
    assert.equal(await isSettled(waiting), false);
    server.clock.advance(1);
    const answer = await waiting;
    assert.deepEqual([answer.status, answer.cache, answer.age], [200, "MISS", null]);
    assert.equal(answer.index, String(ModifyIndex));
  });

  it("is held for ten minutes if the request names no wait, and longer if it asks for more", async () => {
    const { ModifyIndex } = await leafOf(agent, "long");
    const [byDefault, longer] = [
      read(agent, `long?index=${ModifyIndex}`),
      read(agent, `long?index=${ModifyIndex}&wait=20m`),
    ];
    await settle();
    server.clock.advance(599_999);
    assert.equal(await isSettled(byDefault), false);
    server.clock.advance(1);
    assert.equal((await byDefault).status, 200);
    assert.equal(await isSettled(longer), false);
    server.clock.advance(600_000);
    assert.equal((await longer).status, 200);
  });

  it("wakes its reader with a higher index when it was renewed in the same state of the CA", async () => {
    const before = await leafOf(agent, "renewed");
    const waiting = leafOf(agent, `renewed?index=${before.ModifyIndex}&wait=90h`);
    const renewed = await passing(agent, waiting, 3_600_000);
    assert.notEqual(renewed.SerialNumber, before.SerialNumber);
    assert.notEqual(renewed.PrivateKeyPEM, before.PrivateKeyPEM);
    assert.ok(renewed.ModifyIndex > before.ModifyIndex);
  });

  for (const [name, text] of [
    ["", "URI must be either service, agent, server, or kind"],
    ["we/b", /^Invalid service: "we\/b" has a character that a SPIFFE ID cannot carry/],
    ["we%2Fb", /^Invalid service: "we\/b" has a character that a SPIFFE ID cannot carry/],
    ["a%20b", /^Invalid service: "a b" has a character/],
    ["%C3%BC", /^Invalid service: "ü" has a character/],
    ["%ff", "The name of the service is not percent-encoded UTF-8"],
    ["web?index=abc", "Invalid index"],
    ["web?wait=abc", "Invalid wait time"],
    [
      "web?ns=default",
      'Invalid query parameter: "ns" - Namespaces are a Consul Enterprise feature',
    ],
    [
      "web?partition=x",
      'Invalid query parameter: "partition" - Partitions are a Consul Enterprise feature',
    ],
  ] as const)
    it(`is refused for ${JSON.stringify(name)}`, async () => {
      const answer = await read(agent, name);
      assert.equal(answer.status, 400);
      if (typeof text === "string") assert.equal(answer.text, text);
      else assert.match(answer.text, text);
    });

  for (const name of ["WEB", "a.b", "a_b", "x".repeat(70), "..."])
    it(`is issued for ${name}`, async () => {
      assert.equal((await leafOf(agent, name)).Service, name);
    });

  it("is found under a path with a slash only, as Consul redirects", async () => {
    const answer = await agent.get("/v1/agent/connect/ca/leaf");
    assert.deepEqual([answer.status, answer.headers.get("location")], [307, LEAF]);
  });

  it("is not read by other methods", async () => {
    const answer = await agent.post(`${LEAF}web`, "");
    assert.deepEqual(
      [answer.status, answer.headers.get("allow"), await answer.text()],
      [405, "OPTIONS,GET", "method POST not allowed"],
    );
  });

  it("of another datacenter is refused by the server, and never the leaf of ours", async () => {
    const ours = await leafOf(agent, "web?dc=dc1");
    assert.match(ours.ServiceURI, /\/dc\/dc1\//);
    const { status, text } = await read(agent, "web?dc=nowhere");
    assert.equal(status, 400, text);
    assert.match(text, /nowhere/);
  });

  it("that does not come within the wait is 504, not a crash", async () => {
    const signed = Promise.withResolvers<void>();
    agent.instead = (request) =>
      request.url.endsWith("/sign") ? signed.promise.then(() => server.app.fetch(request)) : null;
    const waiting = read(agent, "slow?wait=1ns");
    await settle();
    server.clock.advance(1);
    const { status, text } = await waiting;
    assert.deepEqual(
      [status, text],
      [504, 'No certificate of service "slow" yet: the wait of the request is over'],
    );
    signed.resolve();
    agent.instead = null;
    assert.equal((await leafOf(agent, "slow")).Service, "slow");
  });
});

describe("errors of the CA at the agent's Consul API", () => {
  const start = async () => {
    const server = await createTestApp();
    return { server, agent: await consulAgent(server) };
  };

  for (const [status, body, headers] of [
    [429, "Rate limit reached, try again later", { "Retry-After": "7" }],
    [400, "Invalid request of some kind", {}],
    [403, "Permission denied: this SPIFFE ID is on the denylist", {}],
  ] as const)
    it(`${status} of the server is answered with its text`, async () => {
      const { agent } = await start();
      agent.instead = ({ url }) =>
        url.endsWith("/sign") ? new Response(body, { status, headers }) : null;
      const answer = await read(agent, "web");
      assert.deepEqual([answer.status, answer.text], [status, body]);
      assert.equal(answer.retryAfter, status === 429 ? "7" : null);
      await agent.close();
    });

  it("a refused leaf is asked for again by the next request, a limited one is not", async () => {
    const { agent } = await start();
    for (const [status, signatures] of [
      [403, 2],
      [429, 1],
    ] as const) {
      agent.instead = ({ url }) =>
        url.endsWith("/sign")
          ? new Response("no", { status, headers: { "Retry-After": "60" } })
          : null;
      const before = agent.asked.get(SIGN) ?? 0;
      for (let i = 0; i < 2; i++) assert.equal((await read(agent, `s${status}`)).status, status);
      assert.equal((agent.asked.get(SIGN) ?? 0) - before, signatures);
    }
    await agent.close();
  });

  it("503 names the reason while no server answers, and the leaf that is held is still served", async () => {
    const { agent } = await start();
    const held = await leafOf(agent, "held");
    agent.reachable = false;
    const { status, text, retryAfter } = await read(agent, "new");
    assert.equal(status, 503);
    assert.match(text, /^Cannot get a leaf of service "new": No CA server /);
    assert.notEqual(retryAfter, null);
    assert.deepEqual(await leafOf(agent, "held"), held);
    await agent.close();
  });

  it("503 says that a leaf expired and could not be renewed", async () => {
    const set = await createTestSet(["web"]);
    const agent = await consulAgent(await createTestApp(), set.workloads);
    const { ModifyIndex } = await leafOf(agent, "web");
    const waiting = read(agent, `web?index=${ModifyIndex}`);
    await settle();
    const [workload] = set.workloads;
    if (workload !== undefined) workload.problem = "No CA server answers";
    workload?.svid.set(null);
    for (const answer of [
      await waiting,
      await read(agent, "web"),
      await read(agent, "web?index=1"),
    ])
      assert.deepEqual(
        [answer.status, answer.text],
        [
          503,
          'The leaf of service "web" has expired and could not be renewed: No CA server answers',
        ],
      );
    await set.renew();
    assert.ok((await leafOf(agent, "web")).ModifyIndex > ModifyIndex);
    await agent.close();
  });
});

describe("a leaf of the agent's configuration", () => {
  let set: TestSet;
  let agent: ConsulAgent;
  before(async () => {
    set = await createTestSet(["web", "db"]);
    agent = await consulAgent(await createTestApp(), set.workloads);
  });
  after(() => agent?.close());

  it("is the one that the agent keeps fresh, and no other is signed", async () => {
    for (const path of ["web", "web?dc=dc1", "web?dc=DC1"]) {
      const leaf = await leafOf(agent, path);
      assert.equal(leaf.SerialNumber, set.workloads[0]?.svid.current?.serialNumber, path);
    }
    assert.equal(agent.asked.get(SIGN), undefined);
  });

  it("is not the one of another datacenter, which the server refuses", async () => {
    const { status, text } = await read(agent, "web?dc=nowhere");
    assert.equal(status, 400, text);
    assert.match(text, /nowhere/);
  });

  it("wakes its readers when it is renewed, each with a higher index", async () => {
    const seen = [(await leafOf(agent, "db")).ModifyIndex];
    for (let i = 0; i < 3; i++) {
      const waiting = leafOf(agent, `db?index=${seen.at(-1)}`);
      await settle();
      await set.renew(1);
      seen.push((await waiting).ModifyIndex);
    }
    assert.deepEqual(
      seen,
      [...new Set(seen)].toSorted((a, b) => a - b),
    );
  });

  it("is waited for while there is none yet", async () => {
    const empty = await createTestSet(["late"], true);
    const other = await consulAgent(await createTestApp(), empty.workloads);
    const waiting = leafOf(other, "late");
    assert.equal(await isSettled(waiting), false);
    await empty.renew();
    assert.equal((await waiting).Service, "late");
    await other.close();
  });
});

describe("a leaf of the agent's Consul API with access control", () => {
  let server: Guarded;
  let agent: ConsulAgent;
  let set: TestSet;
  const tokens = { web: "", web2: "", reader: "", accessor: "" };
  before(async () => {
    server = await guarded();
    const token = async (rules: string) => {
      const { id } = await server.access.addPolicy(rules);
      return server.access.addToken({ policies: [id] });
    };
    const web = await token('service "web" { policy = "write" }');
    tokens.web = web.secret;
    tokens.accessor = web.token.accessorId;
    tokens.web2 = (await token('service "web" { policy = "write" }')).secret;
    tokens.reader = (await token('operator = "read" service_prefix "" { policy = "read" }')).secret;
    set = await createTestSet(["configured"]);
    agent = await consulAgent(server, set.workloads);
  });
  after(() => agent?.close());
  const as = (token: string) => ({ "X-Consul-Token": token });

  // Defect Q-1 of Consul 1.16.6: a certificate that is cached is handed with its key to any caller.
  it("does not have Consul's defect Q-1: a cached leaf and key go to no caller without service:write", async () => {
    const leaf = await leafOf(agent, "web", as(tokens.web));
    const refusals = [
      [
        {},
        "Permission denied: anonymous token lacks permission 'service:write' on \"web\". The anonymous token is used implicitly when a request does not specify a token.",
      ],
      [as("22222222-2222-2222-2222-222222222222"), "ACL not found"],
      [
        as(tokens.reader),
        /^Permission denied: token with AccessorID '[0-9a-f-]{36}' lacks permission 'service:write' on "web"$/,
      ],
    ] as const;
    for (const path of [
      "web",
      "web?index=1",
      `web?index=${leaf.ModifyIndex}&wait=1s`,
      "web?dc=dc1",
    ])
      for (const [headers, text] of refusals) {
        const answer = await read(agent, path, headers);
        assert.equal(answer.status, 403, answer.text);
        if (typeof text === "string") assert.equal(answer.text, text);
        else assert.match(answer.text, text);
        assert.equal(answer.index, null);
      }
    for (const [headers] of refusals)
      assert.equal((await read(agent, "configured", headers)).status, 403);
  });

  it("is of its caller's token: another token with the same right gets a leaf and key of its own", async () => {
    const mine = await leafOf(agent, "web", as(tokens.web));
    const theirs = await leafOf(agent, "web", as(tokens.web2));
    assert.notEqual(theirs.SerialNumber, mine.SerialNumber);
    assert.notEqual(theirs.PrivateKeyPEM, mine.PrivateKeyPEM);
    for (const [path, headers] of [
      [`web?token=${tokens.web}`, {}],
      ["web", { Authorization: `Bearer ${tokens.web}` }],
      [`web?token=${tokens.web}`, as(tokens.web2)],
    ] as const)
      assert.deepEqual(await leafOf(agent, path, headers), mine);
  });

  it("is signed with the caller's token, which must be allowed to", async () => {
    const text = `Permission denied: token with AccessorID '${tokens.accessor}' lacks permission 'service:write' on "other"`;
    const answer = await read(agent, "other", as(tokens.web));
    assert.deepEqual([answer.status, answer.text], [403, text]);
  });

  it("of the configuration needs the right, too, and is given to all who have it", async () => {
    const first = await leafOf(agent, "configured", as(server.management));
    assert.equal(first.SerialNumber, set.workloads[0]?.svid.current?.serialNumber);
  });

  it("is not handed out at the end of a wait that its caller's right did not outlast", async () => {
    const { id } = await server.access.addPolicy('service "brief" { policy = "write" }');
    const { secret, token } = await server.access.addToken({ policies: [id] });
    const { ModifyIndex } = await leafOf(agent, "brief", as(secret));
    const waiting = read(agent, `brief?index=${ModifyIndex}&wait=5m`, as(secret));
    await settle();
    await server.call("DELETE", `/v1/acl/token/${token.accessorId}`, undefined);
    server.clock.advance(300_000);
    const answer = await waiting;
    assert.deepEqual([answer.status, answer.text], [403, "ACL not found"]);
  });

  it("is refused with 503 if no server has said yet whether access control is on", async () => {
    const other = await consulAgent(server, set.workloads);
    other.reachable = false;
    const answer = await read(other, "configured", as(server.management));
    assert.equal(answer.status, 503);
    assert.match(answer.text, /^Cannot check what the token of the request allows: /);
    assert.doesNotMatch(answer.text, /PRIVATE KEY/);
    await other.close();
  });

  it("names the servers' default policy", async () => {
    const response = await agent.get(`${LEAF}web`);
    assert.equal(response.headers.get("x-consul-default-acl-policy"), "deny");
  });
});

describe("what the agent keeps of leaves that its configuration does not have", () => {
  it("is dropped an hour after the last read, and the leaf then is a new one", async () => {
    const server = await createTestApp();
    const agent = await consulAgent(server);
    const first = await leafOf(agent, "web");
    server.clock.advance(3_540_000);
    await settle();
    assert.equal((await leafOf(agent, "web")).SerialNumber, first.SerialNumber);
    for (let minute = 0; minute < 62; minute++) {
      server.clock.advance(60_000);
      await settle();
    }
    const second = await leafOf(agent, "web");
    assert.notEqual(second.SerialNumber, first.SerialNumber);
    assert.ok(second.ModifyIndex > first.ModifyIndex);
    await agent.close();
  });

  it("follows a rotation", async () => {
    const server = await createTestApp();
    const agent = await consulAgent(server);
    const before = await leafOf(agent, "web");
    const waiting = leafOf(agent, `web?index=${before.ModifyIndex}&wait=13h`);
    const [source] = agent.leaves;
    assert.ok(source);
    const planned = source.nextAttempt?.getTime();
    await server.manager.configure(configuration({ PrivateKeyType: "ec", PrivateKeyBits: 384 }));
    await agent.roots.refresh();
    await until(() => source.nextAttempt?.getTime() !== planned);
    // The window of a root change is at most a sixth of 72 hours.
    const leaf = await passing(agent, waiting, 60_000);
    assert.notEqual(leaf.SerialNumber, before.SerialNumber);
    assert.equal(leaf.CertPEM.match(/BEGIN CERTIFICATE/g)?.length, 2);
    await agent.close();
  });

  it("is at most 1,024 leaves: the one that was read longest ago is dropped", async () => {
    const server = await createTestApp();
    const svid = await makeSvid(server.manager, "s");
    let opened = 0;
    // Leaves that are not signed, since a thousand signatures take a slow machine a minute.
    const openLeaf = () => {
      const source = new MutableSource<X509Svid>();
      source.set({ ...svid, serialNumber: String(++opened) });
      return Object.assign(source, {
        failure: new MutableSource<ClientError>(),
        close: () => undefined,
      });
    };
    const agent = await consulAgent(server, [], { openLeaf });
    const first = await leafOf(agent, "s0");
    for (let i = 1; i < 1024; i++) await leafOf(agent, `s${i}`);
    server.clock.advance(1000);
    assert.equal((await leafOf(agent, "s0")).SerialNumber, first.SerialNumber);
    server.clock.advance(1000);
    await leafOf(agent, "s1024");
    assert.equal((await leafOf(agent, "s0")).SerialNumber, first.SerialNumber);
    assert.equal(opened, 1025);
    assert.notEqual((await leafOf(agent, "s1")).SerialNumber, "2");
    await agent.close();
  });

  it("a wait ends when the client disconnects, and when the agent closes", async () => {
    const server = await createTestApp();
    const agent = await consulAgent(server);
    const { ModifyIndex } = await leafOf(agent, "web");
    const client = new AbortController();
    const request = new Request(`http://127.0.0.1${LEAF}web?index=${ModifyIndex}`, {
      signal: client.signal,
    });
    const left = agent.app.fetch(request, {});
    const waiting = read(agent, `web?index=${ModifyIndex}`);
    await settle();
    client.abort();
    await until(() => true);
    await left;
    assert.equal(await isSettled(waiting), false);
    agent.app.close();
    assert.equal((await waiting).status, 200);
    await agent.close();
  });
});
