/**
 * The agent's HTTP listener over real sockets: whom it answers, and what every answer has.
 * @module
 */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { AgentListener, type AgentListenerOptions } from "../../src/agent/listener.ts";
import { ConfigError } from "../../src/core/errors.ts";
import { silentLog } from "../fakes/ca.ts";
import { send } from "../fixtures/raw.ts";

const refused: string[] = [];
const echo = (name: string) => ({
  fetch: async (request: Request) => new Response(`${name}:${await request.text()}`),
});

const SDS = "/v3/discovery:secrets";
const OPTIONS: Omit<AgentListenerOptions, "listen"> = {
  app: echo("app"),
  mounted: [
    { paths: ["/healthz", "/readyz"], ...echo("status") },
    { paths: [SDS], forEnvoy: true, ...echo("sds") },
  ],
  log: silentLog,
  metrics: { refused: (_delivery, reason) => refused.push(reason) },
};

function createListener(listen: AgentListenerOptions["listen"]): AgentListener {
  return new AgentListener({ ...OPTIONS, listen });
}

describe("the agent's listener", () => {
  let listener: AgentListener;
  let port: number;
  before(async () => {
    listener = createListener({ host: "127.0.0.1", port: 0 });
    await listener.listen();
    port = Number(new URL(listener.address).port);
  });
  after(() => listener?.close());

  it("answers by the path of a mounted app, else by the app, never to be stored", async () => {
    for (const [target, app] of [
      ["/healthz", "status"],
      ["/readyz?pretty", "status"],
      ["/healthz/", "app"],
      ["/v1/agent/self", "app"],
    ] as const) {
      const answer = await send(port, { method: "POST", target, body: "x" });
      assert.deepEqual([answer?.status, answer?.body], [200, `${app}:x`], target);
      assert.equal(answer?.header("cache-control"), "no-store");
      assert.match(answer?.header("x-request-id") ?? "", /^[0-9a-f-]{36}$/);
    }
  });

  it("gives each request an id of its own, never the client's", async () => {
    const headers = { "X-Request-Id": "mine" };
    const ids = await Promise.all(
      [1, 2].map(async () =>
        (await send(port, { method: "GET", target: "/", headers }))?.header("x-request-id"),
      ),
    );
    assert.notEqual(ids[0], ids[1]);
    assert.ok(!ids.includes("mine"));
  });

  for (const [what, headers] of [
    ["a Host that is not loopback", { Host: "agent.example" }],
    ["an Origin", { Origin: "http://127.0.0.1" }],
    ["another site's page", { "Sec-Fetch-Site": "cross-site" }],
    ["a proxy", { "X-Forwarded-For": "10.0.0.1" }],
  ] as const)
    for (const target of ["/healthz", "/v1/agent/connect/ca/leaf/web", "/nowhere"])
      it(`refuses ${what} at ${target}, before any app sees the request`, async () => {
        refused.length = 0;
        const answer = await send(port, { method: "GET", target, headers });
        assert.equal(answer?.status, 403);
        assert.doesNotMatch(answer?.body ?? "", /^(app|status):/);
        assert.equal(answer?.header("cache-control"), "no-store");
        assert.equal(answer?.header("access-control-allow-origin"), undefined);
        assert.deepEqual(refused, ["not_local"]);
      });

  const ownAddress = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .at(-1)?.address;
  const envoys = { "X-Envoy-Internal": "true", "X-Envoy-Expected-Rq-Timeout-Ms": "1000" };

  it("answers Envoy's own requests for secrets, and only there", async () => {
    for (const address of ["127.0.0.1", ownAddress ?? ""])
      for (const [target, status] of [
        [SDS, 200],
        ["/healthz", 403],
        ["/v1/agent/connect/ca/leaf/web", 403],
      ] as const) {
        const headers = { ...envoys, "X-Forwarded-For": address };
        const answer = await send(port, { method: "POST", target, headers });
        assert.equal(answer?.status, status, `${target} ${address}`);
      }
  });

  for (const [what, more] of [
    ["of another machine", { "X-Forwarded-For": "192.0.2.77" }],
    ["of two machines", { "X-Forwarded-For": "192.0.2.77, 127.0.0.1" }],
    ["of no address", { "X-Forwarded-For": "unknown" }],
    ["of a listener", { "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http" }],
    ["of another proxy too", { "X-Forwarded-For": "127.0.0.1", Via: "1.1 proxy" }],
    ["of another name", { "X-Forwarded-For": "127.0.0.1", Host: "agent.example" }],
  ] as const)
    it(`refuses requests for secrets that Envoy forwards: ${what}`, async () => {
      const headers = { ...envoys, ...more };
      const answer = await send(port, { method: "POST", target: SDS, headers });
      assert.equal(answer?.status, 403);
    });

  it("refuses a preflight of a browser", async () => {
    const headers = { Origin: "https://site.example", "Access-Control-Request-Method": "GET" };
    const answer = await send(port, { method: "OPTIONS", target: "/v1/agent/self", headers });
    assert.equal(answer?.status, 403);
  });

  it("refuses a second Host header", async () => {
    const answer = await raw(
      `GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: agent.example\r\nConnection: close\r\n\r\n`,
    );
    assert.doesNotMatch(answer, /app:/);
  });

  it("refuses too many header lines", async () => {
    const lines = Array.from({ length: 250 }, (_, i) => `X-H-${i}: 1\r\n`).join("");
    const answer = await raw(`GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n${lines}\r\n`);
    assert.match(answer, /^HTTP\/1\.1 431 /);
  });

  /** Sends octets, and resolves with what came until the connection ended. */
  function raw(text: string): Promise<string> {
    return new Promise((resolve) => {
      let received = "";
      const socket: Socket = connect(port, "127.0.0.1", () => socket.write(text));
      socket.setEncoding("latin1");
      socket.on("data", (chunk: string) => {
        received += chunk;
      });
      socket.on("close", () => resolve(received));
      socket.on("error", () => resolve(received));
    });
  }

  it("is not heard on another address of this machine", async () => {
    const wildcard = createListener({ host: "localhost", port: 0 });
    await wildcard.listen();
    try {
      assert.match(wildcard.address, /^http:\/\/localhost:\d+$/);
      const answer = await send(Number(new URL(wildcard.address).port), {
        method: "GET",
        target: "/",
      });
      assert.equal(answer?.status, 200);
    } finally {
      await wildcard.close();
    }
  });

  for (const host of ["0.0.0.0", "::", "10.0.0.1", "agent.example", "::ffff:127.0.0.1"])
    it(`refuses to listen on ${host}`, () => {
      assert.throws(() => createListener({ host, port: 0 }), ConfigError);
    });

  it("says that an address is in use", async () => {
    await assert.rejects(createListener({ host: "127.0.0.1", port }).listen(), /EADDRINUSE|in use/);
  });

  it("sees that a client disconnected", async () => {
    const gone = Promise.withResolvers<void>();
    const began = Promise.withResolvers<void>();
    const waiting = new AgentListener({
      ...OPTIONS,
      listen: { host: "127.0.0.1", port: 0 },
      app: {
        fetch: async ({ signal }) => {
          signal.addEventListener("abort", () => gone.resolve());
          began.resolve();
          await gone.promise;
          return new Response();
        },
      },
    });
    await waiting.listen();
    const socket = connect(Number(new URL(waiting.address).port), "127.0.0.1");
    socket.write("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    await began.promise;
    socket.destroy();
    await gone.promise;
    await waiting.close();
  });

  it("ends when a client holds a connection without a request", async () => {
    const held = createListener({ host: "127.0.0.1", port: 0 });
    await held.listen();
    const socket = connect(Number(new URL(held.address).port), "127.0.0.1");
    socket.on("error", () => undefined);
    await new Promise((resolve) => socket.once("connect", resolve));
    await held.close();
    socket.destroy();
  });
});

describe("the agent's listener on a Unix socket", () => {
  const folder = mkdtempSync(join(tmpdir(), "meshca-listener-"));
  const path = join(folder, "agent.sock");
  after(() => rmSync(folder, { recursive: true }));

  /** Sends a request with a Host, and resolves with all that came. */
  const ask = (host: string, more = "", target = "/healthz") =>
    new Promise<string>((resolve, reject) => {
      let received = "";
      const socket = connect({ path });
      socket.setEncoding("latin1");
      socket.write(`GET ${target} HTTP/1.1\r\nHost: ${host}\r\n${more}Connection: close\r\n\r\n`);
      socket.on("data", (chunk: string) => {
        received += chunk;
      });
      socket.on("close", () => resolve(received));
      socket.on("error", reject);
    });

  it("answers Envoy of another network namespace, and nothing that it forwards", async () => {
    const listener = createListener({ path });
    await listener.listen();
    const own = "X-Envoy-Internal: true\r\nX-Forwarded-For: 192.0.2.77\r\n";
    assert.match(await ask("meshca-agent", own, SDS), /^HTTP\/1\.1 200 .*sds:$/s);
    for (const more of ["X-Forwarded-Proto: http\r\n", "X-Forwarded-For: 192.0.2.78\r\n"])
      assert.match(await ask("meshca-agent", own + more, SDS), /^HTTP\/1\.1 403 /);
    assert.match(await ask("meshca-agent", own), /^HTTP\/1\.1 403 /);
    await listener.close();
  });

  it("answers any Host, since no browser gets there, and still no web page", async () => {
    const listener = createListener({ path });
    await listener.listen();
    assert.equal(listener.address, `unix:${path}`);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    for (const host of ["localhost", "agent.example"])
      assert.match(await ask(host), /^HTTP\/1\.1 200 OK\r\n.*status:$/s);
    assert.match(await ask("localhost", "Origin: null\r\n"), /^HTTP\/1\.1 403 /);
    await listener.close();
    assert.equal(existsSync(path), false);
  });

  it("has the mode that it is given", async () => {
    const listener = createListener({ path, mode: 0o660 });
    await listener.listen();
    assert.equal(statSync(path).mode & 0o777, 0o660);
    await listener.close();
  });

  it("refuses a socket on which another process answers", async () => {
    const first = createListener({ path });
    await first.listen();
    await assert.rejects(createListener({ path }).listen(), ConfigError);
    assert.match(await ask("localhost"), /^HTTP\/1\.1 200 /);
    await first.close();
  });
});
