/**
 * Requests for another datacenter, over real sockets to scripted servers: what is sent, what is
 * passed on, and what a hostile or broken server cannot do.
 * @module
 */
import assert from "node:assert/strict";
import { afterEach, describe, it } from "node:test";
import { FetchTransport } from "../../src/client/fetch-transport.ts";
import { NodeTransport } from "../../src/client/node/transport.ts";
import type { Transport } from "../../src/client/transport.ts";
import { ConfiguredDatacenters } from "../../src/compose/other-datacenters.ts";
import type { DatacenterServers } from "../../src/config/datacenters.ts";
import type { Log } from "../../src/core/ports/log.ts";
import { processClock } from "../../src/entry/system.ts";
import type { ForwardedRequest } from "../../src/http/forwarding.ts";
import { silentLog } from "../fakes/ca.ts";
import { accessThat } from "../fixtures/access.ts";
import { createTestApp, type Overrides, type TestApp, until } from "../fixtures/app.ts";
import { freePort } from "../redis/server.ts";
import { answering, Peer } from "./peer.ts";

const ROOTS = "/v1/connect/ca/roots";
const CONFIGURATION = "/v1/connect/ca/configuration";
const TOKEN = "11111111-2222-3333-4444-555555555555";

interface Forwarding {
  readonly others: ConfiguredDatacenters;
  /** Replaces the configuration. */
  use(datacenters: Readonly<Record<string, readonly URL[]>>): void;
  readonly outcomes: string[];
  readonly logged: string[];
  /** Moves the clock of the cooldown. */
  later(ms: number): void;
}

const settingsOf = (datacenters: Readonly<Record<string, readonly URL[]>>) => ({
  ...{ primary: null, primaryDatacenter: null },
  datacenters: new Map<string, DatacenterServers>(
    Object.entries(datacenters).map(([name, servers]) => [
      name,
      { servers, caPem: null, caPin: null },
    ]),
  ),
});

function forwardTo(
  datacenters: Readonly<Record<string, readonly URL[]>>,
  openTransport: () => Transport = () => new NodeTransport(),
): Forwarding {
  const settings = { current: settingsOf(datacenters) };
  const outcomes: string[] = [];
  const logged: string[] = [];
  let offset = 0;
  const note: Log["warn"] = (message, fields) =>
    void logged.push(`${message} ${JSON.stringify(fields)}`);
  const others = new ConfiguredDatacenters({
    ...{ settings, openTransport, isVerifiedByPlatform: false, snapshot: () => null },
    countForwarded: (...outcome) => void outcomes.push(outcome.join(" ")),
    clock: { ...processClock, now: () => new Date(Date.now() + offset) },
    log: { ...silentLog, warn: note, info: note },
  });
  return {
    others,
    use: (next) => {
      settings.current = settingsOf(next);
    },
    outcomes,
    logged,
    later: (ms) => {
      offset += ms;
    },
  };
}

describe("a request for another datacenter", () => {
  const peers: Peer[] = [];
  const apps: { readonly app: TestApp; readonly forwarding: Forwarding }[] = [];
  afterEach(async () => {
    for (const { app, forwarding } of apps.splice(0)) {
      app.app.close();
      forwarding.others.close();
      await app.manager.close();
    }
    for (const peer of peers.splice(0)) await peer.stop();
  });

  async function peerThat(script: Parameters<typeof Peer.start>[0]): Promise<Peer> {
    const peer = await Peer.start(script);
    peers.push(peer);
    return peer;
  }

  async function appFor(
    forwarding: Forwarding,
    overrides: Overrides = {},
  ): Promise<TestApp["fetch"]> {
    const app = await createTestApp({ others: forwarding.others, ...overrides });
    apps.push({ app, forwarding });
    return app.fetch;
  }

  it("is sent with the path and its query, the name of this datacenter, and nothing of the caller", async () => {
    const peer = await peerThat(answering(200, '{"Roots":[]}', { "X-Consul-Index": "17" }));
    const fetch = await appFor(forwardTo({ dc2: [peer.url] }));
    const response = await fetch(`${ROOTS}?pretty&dc=DC2&index=0&x=a%20b%26c&token=${TOKEN}`, {
      headers: {
        "X-Consul-Token": TOKEN,
        Authorization: `Bearer ${TOKEN}`,
        Cookie: "a=b",
        "X-Forwarded-For": "10.1.1.1",
        Forwarded: "for=10.1.1.1",
        "If-None-Match": 'W/"abc"',
        "User-Agent": "caller",
      },
    });
    assert.deepEqual([response.status, await response.text()], [200, '{"Roots":[]}']);
    assert.equal(response.headers.get("x-consul-index"), "17");
    const [sent, ...more] = peer.received;
    assert.ok(sent !== undefined && more.length === 0);
    assert.deepEqual(
      [sent.method, sent.target, sent.body],
      ["GET", `${ROOTS}?pretty=&index=0&x=a+b%26c&dc=dc2`, ""],
    );
    const names = sent.head
      .split("\r\n")
      .slice(1)
      .map((line) => line.split(":")[0]?.toLowerCase() ?? "");
    assert.deepEqual(names.toSorted(), [
      "accept-encoding",
      "connection",
      "host",
      "if-none-match",
      "x-meshca-forwarded",
    ]);
    assert.equal(sent.header("x-meshca-forwarded"), "dc1");
    assert.equal(sent.header("if-none-match"), 'W/"abc"');
    assert.ok(!sent.head.includes(TOKEN), "a public route needs no token");
  });

  for (const [where, target, headers] of [
    ["the query", `${CONFIGURATION}?dc=dc2&token=${TOKEN}`, {}],
    ["its header", `${CONFIGURATION}?dc=dc2`, { "X-Consul-Token": TOKEN }],
    ["Authorization", `${CONFIGURATION}?dc=dc2`, { Authorization: `Bearer ${TOKEN}` }],
  ] as const)
    it(`carries the caller's token from ${where} in its header, and asks for no right here`, async () => {
      const peer = await peerThat(answering(200, "{}"));
      const control = accessThat({ allows: () => false });
      const fetch = await appFor(forwardTo({ dc2: [peer.url] }), { acl: { control } });
      assert.equal((await fetch(target, { headers })).status, 200);
      const [sent] = peer.received;
      assert.equal(sent?.header("x-consul-token"), TOKEN);
      assert.equal(sent?.target, `${CONFIGURATION}?dc=dc2`);
      assert.equal(sent?.header("authorization"), null);
      // For this datacenter the right is asked for here.
      assert.equal((await fetch(CONFIGURATION, { headers })).status, 403);
    });

  it("is not sent with a token that would be another header", async () => {
    const peer = await peerThat(answering(200, "{}"));
    const fetch = await appFor(forwardTo({ dc2: [peer.url] }), {
      limits: { wrongTokensPerClient: 100 },
    });
    for (const token of ["a%0d%0aX-Injected:%201", "a%00", "a%20b", "%C3%BC", "x".repeat(1025)]) {
      const response = await fetch(`${CONFIGURATION}?dc=dc2&token=${token}`);
      assert.deepEqual([response.status, await response.text()], [403, "ACL not found"], token);
    }
    // A public route ignores it.
    assert.equal((await fetch(`${ROOTS}?dc=dc2&token=a%0d%0aX:%201`)).status, 200);
    assert.deepEqual(
      peer.received.map(({ target }) => target),
      [`${ROOTS}?dc=dc2`],
    );
  });

  it("keeps what its query has from becoming another line, path or parameter", async () => {
    const peer = await peerThat(answering(200, "{}"));
    const fetch = await appFor(forwardTo({ dc2: [peer.url] }));
    await fetch(`${ROOTS}?dc=dc2&pretty=%0d%0aX-Injected:%201%20HTTP/1.1&x=%23%26dc%3Ddc3&%26=1`);
    const [sent] = peer.received;
    assert.equal(
      sent?.target,
      `${ROOTS}?pretty=%0D%0AX-Injected%3A+1+HTTP%2F1.1&x=%23%26dc%3Ddc3&%26=1&dc=dc2`,
    );
    assert.equal(sent?.header("x-injected"), null);
  });

  it("has a name that the configuration has; every other one is unknown", async () => {
    const peer = await peerThat(answering(200, "{}"));
    const fetch = await appFor(forwardTo({ dc2: [peer.url] }));
    const { host } = peer.url;
    for (const name of [
      ...["dc3", "dc2%00", "dc2/", "..", "dc2%0d%0a", "%20dc2", "dc2.", "__proto__", "constructor"],
      ...[host, `http://${host}`, encodeURIComponent(peer.url.href), "dc1,dc2", "ｄｃ2", "*"],
    ])
      for (const path of [ROOTS, CONFIGURATION, "/v1/agent/connect/ca/roots"]) {
        const response = await fetch(`${path}?dc=${name}`);
        assert.deepEqual(
          [response.status, await response.text()],
          [400, "No path to datacenter"],
          name,
        );
      }
    assert.deepEqual(peer.received, []);
    // As in Consul: `datacenter` before `dc`, and an empty one does not count.
    for (const query of [
      "datacenter=dc2&dc=dc3",
      "datacenter=&dc=dc2",
      "%64c=Dc2",
      "dc=dc2&dc=dc1",
    ])
      assert.equal((await fetch(`${ROOTS}?${query}`)).status, 200, query);
    assert.equal(peer.received.length, 4);
    assert.equal((await fetch(`${ROOTS}?datacenter=dc1&dc=dc2`)).status, 200);
    assert.equal(peer.received.length, 4);
  });

  it("is refused if its query is malformed, before it is sent", async () => {
    const peer = await peerThat(answering(200, "{}"));
    const fetch = await appFor(forwardTo({ dc2: [peer.url] }));
    for (const [query, expected] of [
      ["dc=dc2&index=x", "Invalid index"],
      ["dc=dc2&index=1&wait=x", "Invalid wait time"],
      ["dc=dc2&stale&consistent", "Cannot specify ?stale with ?consistent, conflicting semantics."],
      ["dc=dc2&x=%zz", ""],
    ] as const) {
      const response = await fetch(`${ROOTS}?${query}`);
      assert.deepEqual([response.status, await response.text()], [400, expected], query);
    }
    assert.deepEqual(peer.received, []);
  });

  it("is sent on once: one that was forwarded here is for this datacenter or for none", async () => {
    const peer = await peerThat(answering(200, "{}"));
    const fetch = await appFor(forwardTo({ dc2: [peer.url] }));
    const headers = { "X-Meshca-Forwarded": "dc3" };
    const other = await fetch(`${ROOTS}?dc=dc2`, { headers });
    assert.deepEqual([other.status, await other.text()], [400, "No path to datacenter"]);
    assert.equal((await fetch(`${ROOTS}?dc=dc1`, { headers })).status, 200);
    assert.deepEqual(peer.received, []);
  });

  it("has no right here by its address: without access control only public routes answer it", async () => {
    const peer = await peerThat(answering(200, "{}"));
    const fetch = await appFor(forwardTo({ dc2: [peer.url] }));
    const headers = { "X-Meshca-Forwarded": "dc2" };
    assert.equal((await fetch(`${ROOTS}?dc=dc1`, { headers })).status, 200);
    const before = await (await fetch(CONFIGURATION)).text();
    for (const init of [{}, { method: "PUT", body: before }]) {
      const response = await fetch(`${CONFIGURATION}?dc=dc1`, { ...init, headers });
      assert.deepEqual(
        [response.status, await response.text()],
        [
          403,
          "Permission denied: a request of another datacenter needs a token of this one, whose access control is off; set MESHCA_ACL=deny here",
        ],
      );
      // By a caller of this machine it is answered.
      assert.equal((await fetch(`${CONFIGURATION}?dc=dc1`, init)).status, 200);
    }
    assert.equal(await (await fetch(CONFIGURATION)).text(), before);
  });

  it("is answered with 503 if the servers are of another datacenter, so that no loop is closed", async () => {
    const peer = await peerThat(
      answering(400, "No path to datacenter", { "Content-Type": "text/plain" }),
    );
    const fetch = await appFor(forwardTo({ dc2: [peer.url] }));
    const response = await fetch(`${ROOTS}?dc=dc2`);
    assert.deepEqual(
      [response.status, await response.text()],
      [
        503,
        'Cannot reach datacenter "dc2": server 1 is a server of another datacenter than the configuration names',
      ],
    );
  });

  it("for a route that is not forwarded is answered as before", async () => {
    const peer = await peerThat(answering(200, "{}"));
    const fetch = await appFor(forwardTo({ dc2: [peer.url] }));
    for (const [method, path] of [
      ["POST", "/v1/connect/ca/sign"],
      ["PUT", "/v1/connect/ca/rotate"],
      ["GET", "/v1/connect/ca/backup"],
    ] as const) {
      const init = method === "GET" ? {} : { method, body: "{}" };
      const response = await fetch(`${path}?dc=dc2`, init);
      assert.deepEqual(
        [response.status, await response.text()],
        [400, "No path to datacenter"],
        path,
      );
    }
    assert.deepEqual(peer.received, []);
  });

  it("that changes the configuration carries its body, within the limit of a body", async () => {
    const peer = await peerThat(answering(200, "", { "X-Meshca-Abandoned-Roots": "aa, bb" }));
    const fetch = await appFor(forwardTo({ dc2: [peer.url] }), {
      limits: { maxBodyConfiguration: 100 },
    });
    const body = '{"Provider":"consul","Config":{"LeafCertTTL":"1h ü"}}';
    const response = await fetch(`${CONFIGURATION}?dc=dc2`, { method: "PUT", body });
    assert.deepEqual([response.status, await response.text()], [200, ""]);
    assert.equal(response.headers.get("x-meshca-abandoned-roots"), "aa, bb");
    const [sent] = peer.received;
    assert.equal(Buffer.from(sent?.body ?? "", "latin1").toString("utf8"), body);
    assert.equal(sent?.header("content-type"), "application/json");
    const long = { method: "PUT", body: "x".repeat(101) };
    assert.equal((await fetch(`${CONFIGURATION}?dc=dc2`, long)).status, 413);
    const media = { method: "PUT", body: "{}", headers: { "Content-Type": "text/html" } };
    assert.equal((await fetch(`${CONFIGURATION}?dc=dc2`, media)).status, 415);
    assert.equal(peer.received.length, 1);
  });

  it("passes on status, text, metadata and entity tag, and no other header", async () => {
    const peer = await peerThat(
      answering(403, "Permission denied: token lacks permission", {
        "Content-Type": "text/plain; charset=latin1",
        "Set-Cookie": "a=b",
        "Access-Control-Allow-Origin": "*",
        "Content-Security-Policy": "x",
        "X-Request-Id": "theirs",
        "X-Consul-Default-Acl-Policy": "deny",
        "Retry-After": "7",
        ETag: 'W/"x"',
        Age: "1",
      }),
    );
    const fetch = await appFor(forwardTo({ dc2: [peer.url] }));
    const response = await fetch(`${CONFIGURATION}?dc=dc2`);
    assert.deepEqual(
      [response.status, await response.text()],
      [403, "Permission denied: token lacks permission"],
    );
    const { headers } = response;
    assert.deepEqual(
      ["content-type", "retry-after", "etag", "age", "x-consul-default-acl-policy"].map((name) =>
        headers.get(name),
      ),
      ["text/plain; charset=utf-8", "7", 'W/"x"', "1", "allow"],
    );
    for (const name of ["set-cookie", "access-control-allow-origin", "content-security-policy"])
      assert.equal(headers.get(name), null, name);
    assert.notEqual(headers.get("x-request-id"), "theirs");
    peer.script = answering(304, "", { ETag: 'W/"y"' });
    const same = await fetch(`${ROOTS}?dc=dc2`);
    assert.deepEqual([same.status, same.headers.get("etag")], [304, 'W/"y"']);
  });

  it("counts an invalid token of the other datacenter against the client here", async () => {
    const peer = await peerThat(
      answering(403, "ACL not found", { "Content-Type": "text/plain; charset=utf-8" }),
    );
    let wrong = 0;
    const fetch = await appFor(forwardTo({ dc2: [peer.url] }), {
      metrics: { countWrongToken: () => void wrong++ },
    });
    const response = await fetch(`${CONFIGURATION}?dc=dc2`, {
      headers: { "X-Consul-Token": TOKEN },
    });
    assert.deepEqual([response.status, await response.text(), wrong], [403, "ACL not found", 1]);
  });

  for (const [what, script, reason] of [
    [
      "redirects",
      answering(302, "", { Location: "http://127.0.0.1:1/" }),
      "answered 302, a redirect, which is not followed",
    ],
    [
      "redirects to itself",
      answering(307, "{}", { Location: ROOTS }),
      "answered 307, a redirect, which is not followed",
    ],
    ["answers 204", answering(204, ""), "answered 204, which no CA server does"],
    [
      "answers more than a response can have",
      answering(200, "x".repeat(1024 * 1024 + 1)),
      "answered more than 1048576 octets",
    ],
    [
      "never ends its response",
      (socket: Parameters<Peer["script"]>[0]) => {
        socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        const chunk = `10000\r\n${"x".repeat(0x10000)}\r\n`;
        const more = () => {
          while (!socket.destroyed && socket.write(chunk));
        };
        socket.on("drain", more);
        more();
      },
      "answered more than 1048576 octets",
    ],
    [
      "does not answer in HTTP",
      (socket: Parameters<Peer["script"]>[0]) => void socket.end("SSH-2.0-x\r\n"),
      "",
    ],
    ["closes the connection", (socket: Parameters<Peer["script"]>[0]) => void socket.destroy(), ""],
  ] as const)
    it(`is answered with 503 if the server ${what}`, async () => {
      const peer = await peerThat(script);
      const forwarding = forwardTo({ dc2: [peer.url] });
      const fetch = await appFor(forwarding);
      const response = await fetch(`${ROOTS}?dc=dc2`);
      const text = await response.text();
      assert.equal(response.status, 503, text);
      assert.ok(text.startsWith(`Cannot reach datacenter "dc2": server 1 ${reason}`), text);
      assert.equal(response.headers.get("retry-after"), "1");
      // The caller must not learn addresses, which the log names.
      assert.ok(!text.includes(peer.url.port), text);
      assert.ok(forwarding.logged.join().includes(peer.url.origin));
      assert.deepEqual(forwarding.outcomes, ["dc2 unavailable"]);
      // A body was not read to its end: the connection is not used again.
      assert.ok(peer.received.length >= 1);
    });

  it("is not answered with a page for a browser", async () => {
    const peer = await peerThat(
      answering(200, "<script>alert(1)</script>", { "Content-Type": "text/html" }),
    );
    const fetch = await appFor(forwardTo({ dc2: [peer.url] }));
    for (const status of [200, 404, 502]) {
      peer.script = answering(status, "<script>", { "Content-Type": "text/html" });
      const response = await fetch(`${ROOTS}?dc=dc2`);
      assert.equal(response.status, 503);
      assert.equal(
        await response.text(),
        `Datacenter "dc2" sent a response (${status}) that is not one of a CA server`,
      );
    }
  });

  it("is answered with 503 if the server does not answer in time", async () => {
    const peer = await peerThat(() => undefined);
    const { others } = forwardTo({ dc2: [peer.url] });
    const request: ForwardedRequest = {
      method: "GET",
      ...{ path: ROOTS, headers: {}, body: null, timeoutMs: 300 },
      signal: new AbortController().signal,
    };
    await assert.rejects(others.send("dc2", request), {
      code: "datacenter_unavailable",
      message: 'Cannot reach datacenter "dc2": server 1 did not answer within 0.3 s',
    });
    // One that sends an octet now and then does not last longer.
    peer.script = (socket) => {
      socket.write("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
      const timer = setInterval(() => socket.write("x"), 20);
      socket.on("close", () => clearInterval(timer));
    };
    const slow = forwardTo({ dc2: [peer.url] });
    await assert.rejects(slow.others.send("dc2", request), {
      message: 'Cannot reach datacenter "dc2": server 1 did not answer within 0.3 s',
    });
    for (const each of [others, slow.others]) each.close();
  });

  it("goes to the next server if one is away, not ready or not asked again yet", async () => {
    const [away, notReady, ready] = [
      new URL(`http://127.0.0.1:${await freePort()}`),
      await peerThat(answering(503, "starting", { "Content-Type": "text/plain" })),
      await peerThat(answering(200, '{"ok":1}')),
    ];
    const forwarding = forwardTo({ dc2: [away, notReady.url, ready.url] });
    const fetch = await appFor(forwarding);
    for (let i = 0; i < 3; i++)
      assert.equal(await (await fetch(`${ROOTS}?dc=dc2`)).text(), '{"ok":1}');
    assert.deepEqual([notReady.received.length, ready.received.length], [3, 3]);
    // A reason of theirs is passed on if no server has another.
    ready.script = notReady.script;
    const response = await fetch(`${ROOTS}?dc=dc2`);
    assert.deepEqual([response.status, await response.text()], [503, "starting"]);
    assert.deepEqual(forwarding.outcomes, Array(4).fill("dc2 answered"));
  });

  it("names the reasons if no server can be reached, and tries again a moment later", async () => {
    const [one, two] = [await freePort(), await freePort()];
    const forwarding = forwardTo({
      dc2: [new URL(`http://127.0.0.1:${one}`), new URL(`http://127.0.0.1:${two}`)],
    });
    const fetch = await appFor(forwarding);
    const refused = await (await fetch(`${ROOTS}?dc=dc2`)).text();
    assert.match(
      refused,
      /^Cannot reach datacenter "dc2": server 1 cannot be reached \(ECONNREFUSED\); server 2 cannot be reached \(ECONNREFUSED\)$/,
    );
    const soon = await (await fetch(`${ROOTS}?dc=dc2`)).text();
    assert.match(soon, /server 1 was not reached a moment ago: it cannot be .*; server 2 was not/);
    forwarding.later(501);
    assert.match(await (await fetch(`${ROOTS}?dc=dc2`)).text(), /ECONNREFUSED/);
    // A clock that is set back does not prolong it.
    forwarding.later(-3_600_000);
    assert.match(await (await fetch(`${ROOTS}?dc=dc2`)).text(), /ECONNREFUSED/);
    assert.equal(forwarding.logged.length, 1, forwarding.logged.join("\n"));
    const peer = await peerThat(answering(200, "{}"));
    forwarding.use({ dc2: [peer.url] });
    assert.equal((await fetch(`${ROOTS}?dc=dc2`)).status, 200);
  });

  it("that changes something is not repeated if a server may have received it", async () => {
    const away = new URL(`http://127.0.0.1:${await freePort()}`);
    const broken = await peerThat((socket) => void socket.destroy());
    const other = await peerThat(answering(200, ""));
    const put = { method: "PUT", body: "{}" };
    const after = await appFor(forwardTo({ dc2: [away, other.url] }));
    assert.equal((await after(`${CONFIGURATION}?dc=dc2`, put)).status, 200);
    const elsewhere = await peerThat(
      answering(400, "No path to datacenter", { "Content-Type": "text/plain" }),
    );
    const past = await appFor(forwardTo({ dc2: [elsewhere.url, other.url] }));
    assert.equal((await past(`${CONFIGURATION}?dc=dc2`, put)).status, 200);
    other.received.splice(0);
    const fetch = await appFor(forwardTo({ dc2: [broken.url, other.url] }));
    const response = await fetch(`${CONFIGURATION}?dc=dc2`, put);
    assert.equal(response.status, 503);
    assert.match(
      await response.text(),
      /^Cannot tell whether the change was made in datacenter "dc2": its server .*\. Read its configuration before a retry$/,
    );
    // Nor if the connection was used before, whose end could have met the request.
    broken.script = answering(200, "{}");
    const used = await appFor(forwardTo({ dc2: [broken.url] }));
    assert.equal((await used(`${CONFIGURATION}?dc=dc2`)).status, 200);
    const before = broken.received.length;
    broken.script = (socket) => void socket.destroy();
    assert.equal((await used(`${CONFIGURATION}?dc=dc2`, put)).status, 503);
    assert.equal(broken.received.length, before + 1);
    // Nor if it answered that it could not do it.
    broken.script = answering(503, "running", { "Content-Type": "text/plain" });
    const again = await appFor(forwardTo({ dc2: [broken.url, other.url] }));
    assert.equal(await (await again(`${CONFIGURATION}?dc=dc2`, put)).text(), "running");
    assert.equal(other.received.length, 0);
  });

  it("goes to the servers of a new configuration, and to none of a datacenter that was removed", async () => {
    const [before, after] = [
      await peerThat(answering(200, '"before"')),
      await peerThat(answering(200, '"after"')),
    ];
    const forwarding = forwardTo({ dc2: [before.url] });
    const fetch = await appFor(forwarding);
    assert.equal(await (await fetch(`${ROOTS}?dc=dc2`)).text(), '"before"');
    forwarding.use({ dc2: [after.url], dc3: [before.url] });
    assert.equal(await (await fetch(`${ROOTS}?dc=dc2`)).text(), '"after"');
    assert.equal(await (await fetch(`${ROOTS}?dc=dc3`)).text(), '"before"');
    forwarding.use({});
    assert.equal((await fetch(`${ROOTS}?dc=dc2`)).status, 400);
  });

  it("is limited like another request of its client, though roots are not", async () => {
    const peer = await peerThat(answering(200, "{}"));
    const fetch = await appFor(forwardTo({ dc2: [peer.url] }), {
      limits: { requestMode: "enforcing", readRate: 0.1 },
    });
    for (let i = 0; i < 3; i++) assert.equal((await fetch(ROOTS)).status, 200);
    assert.equal((await fetch(`${ROOTS}?dc=dc2`)).status, 200);
    const over = await fetch(`${ROOTS}?dc=dc2`);
    assert.equal(over.status, 429);
    assert.equal(peer.received.length, 1);
  });

  it("is refused if 256 are in flight, and served again after that", async () => {
    const held: (() => void)[] = [];
    const peer = await peerThat((socket, request) => {
      held.push(() => answering(200, "{}")(socket, request));
    });
    const fetch = await appFor(forwardTo({ dc2: [peer.url] }));
    const waiting = Array.from({ length: 256 }, () => fetch(`${ROOTS}?dc=dc2`));
    await until(() => held.length === 256);
    const over = await fetch(`${ROOTS}?dc=dc2`);
    assert.deepEqual(
      [over.status, await over.text()],
      [429, "Cannot forward request: 256 requests to other datacenters are in flight"],
    );
    for (const answer of held.splice(0)) answer();
    for (const response of await Promise.all(waiting)) assert.equal(response.status, 200);
    peer.script = answering(200, "{}");
    assert.equal((await fetch(`${ROOTS}?dc=dc2`)).status, 200);
  });

  it("over fetch, as in a Worker, is not redirected, bounded, and ended with its caller", async () => {
    const peer = await peerThat(answering(302, "", { Location: ROOTS }));
    const forwarding = forwardTo(
      { dc2: [peer.url] },
      () => new FetchTransport((request) => fetch(request)),
    );
    const app = await appFor(forwarding);
    const redirected = await (await app(`${ROOTS}?dc=dc2`)).text();
    assert.match(redirected, /server 1 answered 302, a redirect, which is not followed/);
    assert.equal(peer.received.length, 1);
    forwarding.later(1000);
    peer.script = answering(200, "x".repeat(1024 * 1024 + 1));
    assert.match(await (await app(`${ROOTS}?dc=dc2`)).text(), /answered more than 1048576 octets/);
    forwarding.later(1000);
    peer.script = answering(200, '{"a":1}', { "X-Consul-Index": "3" });
    const response = await app(`${ROOTS}?dc=dc2`);
    assert.deepEqual(
      [response.status, response.headers.get("x-consul-index"), await response.text()],
      [200, "3", '{"a":1}'],
    );
    peer.script = () => undefined;
    const caller = new AbortController();
    const blocked = app(`${ROOTS}?dc=dc2&index=3`, { signal: caller.signal });
    await until(() => peer.received.length === 4);
    caller.abort();
    await blocked.catch(() => undefined);
    await peer.received.at(-1)?.closed;
  });
});

describe("a blocking query for another datacenter", () => {
  const peers: Peer[] = [];
  const apps: TestApp[] = [];
  const forwardings: Forwarding[] = [];
  afterEach(async () => {
    for (const app of apps.splice(0)) {
      app.app.close();
      await app.manager.close();
    }
    for (const { others } of forwardings.splice(0)) others.close();
    for (const peer of peers.splice(0)) await peer.stop();
  });

  async function waitingApp(overrides: Overrides = {}): Promise<{ app: TestApp; peer: Peer }> {
    const peer = await Peer.start(() => undefined);
    peers.push(peer);
    const forwarding = forwardTo({ dc2: [peer.url] });
    forwardings.push(forwarding);
    const app = await createTestApp({ others: forwarding.others, ...overrides });
    apps.push(app);
    return { app, peer };
  }

  it("counts as a watcher here, of its client too, until it is answered", async () => {
    const { app, peer } = await waitingApp({
      limits: { watchers: 3, watchersPerClient: 2, limitLoopback: true },
    });
    const of = (remoteAddress: string) =>
      app.app.fetch(new Request(`http://127.0.0.1:8500${ROOTS}?dc=dc2&index=5`), { remoteAddress });
    const [one, two, three] = [of("10.0.0.1"), of("10.0.0.1"), of("10.0.0.2")];
    await until(() => peer.received.length === 3);
    assert.equal(app.app.watchers.count, 3);
    const over = await of("10.0.0.3");
    assert.equal(over.status, 429);
    assert.match(await over.text(), /3 blocking queries are waiting already$/);
    // A local one shares the limit.
    const local = await app.fetch(`${ROOTS}?index=${app.manager.require().state.index}`);
    assert.equal(local.status, 429);
    app.app.close();
    for (const response of await Promise.all([one, two, three]))
      assert.deepEqual([response.status, await response.text()], [503, "The server is stopping"]);
    assert.equal(app.app.watchers.count, 0);
  });

  it("is limited for one client", async () => {
    const { app, peer } = await waitingApp({
      limits: { watchersPerClient: 1, limitLoopback: true },
    });
    const of = () =>
      app.app.fetch(new Request(`http://127.0.0.1:8500${ROOTS}?dc=dc2&index=5`), {
        remoteAddress: "10.0.0.1",
      });
    const first = of();
    await until(() => peer.received.length === 1);
    const over = await of();
    assert.equal(over.status, 429);
    assert.match(await over.text(), /1 blocking queries of this client are waiting already$/);
    app.app.close();
    await first;
  });

  it("ends at the other side when its caller leaves", async () => {
    const { app, peer } = await waitingApp();
    const caller = new AbortController();
    const blocked = app.fetch(`${ROOTS}?dc=dc2&index=5&wait=10m`, { signal: caller.signal });
    await until(() => peer.received.length === 1);
    assert.equal(peer.received[0]?.target, `${ROOTS}?index=5&wait=10m&dc=dc2`);
    caller.abort();
    await peer.received[0]?.closed;
    assert.equal((await blocked).status, 499);
    assert.equal(app.app.watchers.count, 0);
  });

  it("is answered when the other side answers", async () => {
    const { app, peer } = await waitingApp();
    let answer: (() => void) | null = null;
    peer.script = (socket, request) => {
      answer = () => answering(200, '{"x":1}', { "X-Consul-Index": "6" })(socket, request);
    };
    const blocked = app.fetch(`/v1/agent/connect/ca/roots?dc=dc2&index=5`);
    await until(() => answer !== null);
    assert.equal(app.app.watchers.count, 1);
    (answer as (() => void) | null)?.();
    const response = await blocked;
    assert.deepEqual(
      [response.status, response.headers.get("x-consul-index"), await response.text()],
      [200, "6", '{"x":1}'],
    );
    assert.equal(app.app.watchers.count, 0);
  });
});

describe("GET /v1/catalog/datacenters", () => {
  it("lists this datacenter, then the others by name, as they are configured now", async () => {
    const forwarding = forwardTo({ west: [], east: [] });
    const { fetch, manager } = await createTestApp({
      others: forwarding.others,
      acl: { control: accessThat({ allows: () => false }) },
    });
    const list = async () => (await fetch("/v1/catalog/datacenters")).text();
    assert.equal(await list(), '["dc1","east","west"]');
    forwarding.use({});
    assert.equal(await list(), '["dc1"]');
    await manager.close();
  });
});
