/**
 * A secondary against a real HTTPS server that does not answer as its primary: broken, hostile, a
 * proxy, or a secondary itself. Each answer is refused with the reason in `/readyz` and in the log,
 * the stored document stays as it is, and the secondary follows by itself when the primary answers.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createTestCa } from "../fakes/ca.ts";
import { type Guarded, guarded } from "../fixtures/guarded.ts";
import { hostile, requireHealed, served } from "./hostile.ts";
import { primaryOf } from "./pair.ts";
import { answering, Peer, type Script } from "./peer.ts";

const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };
const SIGN = "/v1/connect/ca/sign-intermediate";
const ROOTS = "/v1/connect/ca/roots";
const TEXT = { "Content-Type": "text/plain; charset=utf-8" };
const PAGE = "<html><body>Bad gateway: <b>proxy</b></body></html>";
const HTML = { "Content-Type": "text/html" };

const raw =
  (text: string): Script =>
  (socket) =>
    void socket.end(text);
const INDEX = { "X-Consul-Index": "7" };

describe("a server that answers the roots otherwise is refused", () => {
  const ANSWERS: readonly (readonly [what: string, script: Script, reason: RegExp])[] = [
    ["a page of a proxy", answering(200, PAGE, HTML), /has no X-Consul-Index$/],
    [
      "a page with an index",
      answering(200, PAGE, { ...HTML, ...INDEX }),
      /the listing of roots is not JSON$/,
    ],
    ["nothing", answering(200, "", INDEX), /the listing of roots is not JSON$/],
    [
      "another object",
      answering(200, '{"a":1}', INDEX),
      /the listing of roots has no valid ActiveRootID$/,
    ],
    [
      "no roots",
      answering(200, '{"ActiveRootID":"","TrustDomain":"a.consul","Roots":[]}', INDEX),
      /the listing of roots has no root$/,
    ],
    [
      "an index that is no number",
      answering(200, "{}", { "X-Consul-Index": "7e1" }),
      /has no X-Consul-Index$/,
    ],
    ["not modified", answering(304, "", INDEX), /has no X-Consul-Index$/],
    ["an error", answering(500, "out of\r\n\tmemory", TEXT), /answered 500: out of memory$/],
    ["a page of an error", answering(502, PAGE, HTML), /answered 502$/],
    [
      "a refusal",
      answering(403, "Permission denied", TEXT),
      /refused \(403\): Permission denied; give the replication token \(MESHCA_REPLICATION_TOKEN_FILE\) intermediate = "write" there$/,
    ],
    ["not found", answering(404, "404 page not found", TEXT), /answered 404$/],
    [
      "more than a listing can have",
      answering(200, "x".repeat(1024 * 1024 + 1), INDEX),
      /answered more than 1048576 octets$/,
    ],
    [
      "less than it says",
      raw("HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\nContent-Length: 900\r\n\r\n{"),
      /closed the connection too early$|cannot be reached \(\w+\)$/,
    ],
    ["in another protocol", raw("SSH-2.0-OpenSSH\r\n"), /did not answer in HTTP|cannot be reached/],
    [
      "by closing the connection",
      (socket) => void socket.destroy(),
      /cannot be reached \([\w ]+\)$/,
    ],
    [
      "in text that is not UTF-8",
      (socket) =>
        void socket.end(
          Buffer.from(
            "HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\nContent-Length: 2\r\n\r\n\xff\xfe",
            "latin1",
          ),
        ),
      /answered text that is not UTF-8$/,
    ],
  ];
  for (const [what, script, reason] of ANSWERS)
    it(`with ${what}`, async () => {
      const test = await hostile();
      await test.one.manager.rotate(NOW);
      test.peer.script = script;
      await requireHealed(test, new RegExp(`^Datacenter dc1: .*${reason.source}`));
      await test.stop();
    });

  it("with a redirect, which is not followed", async () => {
    const test = await hostile();
    await test.one.manager.rotate(NOW);
    const elsewhere = await Peer.start(test.good);
    test.peer.script = answering(307, "", { Location: `${elsewhere.url.origin}${ROOTS}` });
    await requireHealed(test, /answered 307, a redirect, which is not followed$/);
    assert.deepEqual(elsewhere.received, []);
    await elsewhere.stop();
    await test.stop();
  });

  it("so slowly that it does not end in time", async () => {
    const test = await hostile();
    await test.one.manager.rotate(NOW);
    test.peer.script = (socket) => {
      socket.write("HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\nContent-Length: 900\r\n\r\n");
      const timer = setInterval(() => socket.write("x"), 50);
      socket.on("close", () => clearInterval(timer));
    };
    const { document } = test.two.backend;
    test.two.clock.advance(300_000);
    await test.two.manager.heartbeat();
    await test.two.manager.tick();
    assert.match(await test.readyz(), /did not answer within 10 s/);
    assert.equal(test.two.backend.document, document);
    test.peer.script = test.good;
    await test.settle();
    assert.notEqual(test.two.backend.document, document);
    await test.stop();
  });
});

describe("a server that answers a request for an intermediate otherwise is refused", () => {
  const pem = (label: string) => `-----BEGIN ${label}-----\\nAAAA\\n-----END ${label}-----\\n`;
  const ANSWERS: readonly (readonly [what: string, script: Script, reason: RegExp])[] = [
    [
      "a page of a proxy",
      answering(200, PAGE, HTML),
      /the response for an intermediate has no CertPEM$/,
    ],
    [
      "another object",
      answering(200, '{"Cert":"x"}'),
      /the response for an intermediate has no CertPEM$/,
    ],
    ["no certificate", answering(200, '{"CertPEM":""}'), /the answer has no certificate$/],
    [
      "what is no certificate",
      answering(200, `{"CertPEM":"${pem("CERTIFICATE")}"}`),
      /sent an unexpected response: /,
    ],
    [
      "a private key",
      answering(200, `{"CertPEM":"${pem("PRIVATE KEY")}"}`),
      /sent an unexpected response: /,
    ],
    [
      "an error",
      answering(500, "CA is already in state RECONFIGURING", TEXT),
      /answered 500: CA is already in state RECONFIGURING$/,
    ],
    [
      "a redirect",
      answering(302, "", { Location: SIGN }),
      /answered 302, a redirect, which is not followed$/,
    ],
    [
      "an unknown token",
      answering(403, "ACL not found", TEXT),
      /refused \(403\): ACL not found; give the replication token/,
    ],
    [
      "the limit of requests",
      answering(429, "", { "Retry-After": "1" }),
      /limits the rate of requests \(429\)$/,
    ],
    [
      "more than a path can have",
      answering(200, JSON.stringify({ CertPEM: "x".repeat(256 * 1024) })),
      /answered more than 262144 octets$/,
    ],
  ];
  for (const [what, script, reason] of ANSWERS)
    it(`with ${what}`, async () => {
      const test = await hostile();
      await test.one.manager.rotate(NOW);
      test.peer.script = (socket, request) =>
        (request.target.startsWith(SIGN) ? script : test.good)(socket, request);
      await requireHealed(test, reason);
      await test.stop();
    });

  it("if it is itself a secondary, which names the primary", async () => {
    const test = await hostile();
    // It shows the primary's roots as its own, and is reached at the address of a primary.
    const relay = await guarded(
      await createTestCa({
        ...{ clock: test.one.clock, datacenter: "dc3", hasDatacenters: true },
        ...{ primary: primaryOf(test.one), started: false },
      }),
    );
    await relay.manager.tick();
    await test.one.manager.rotate(NOW);
    test.one.clock.advance(10_000);
    await relay.manager.heartbeat();
    for (let i = 0; i < 3; i++) await relay.manager.tick();
    const { token: _, secret } = await relay.access.addToken({
      policies: [(await relay.access.addPolicy('intermediate = "write"')).id],
    });
    const app = {
      fetch: (request: Request) => {
        const headers = new Headers(request.headers);
        headers.set("X-Consul-Token", secret);
        return relay.app.fetch(new Request(request, { headers }));
      },
    };
    test.peer.script = served({ app } as Pick<Guarded, "app">);
    await requireHealed(
      test,
      /rejected the request \(409\): not the primary datacenter: ask datacenter dc1 for an intermediate$/,
    );
    await relay.manager.close();
    await test.stop();
  });
});
