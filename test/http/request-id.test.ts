/**
 * Every answer has the id of its request, the server's own, and every line of the log of that
 * request has it too.
 * @module
 */
import assert from "node:assert/strict";
import { renameSync, rmSync } from "node:fs";
import { describe, it } from "node:test";
import type { Log } from "../../src/core/ports/log.ts";
import { systemClock } from "../../src/entry/system.ts";
import { Logger } from "../../src/telemetry/logger.ts";
import { createTestCa, opensslCsr } from "../fakes/ca.ts";
import { accessThat } from "../fixtures/access.ts";
import { createTestApp, leafTtl } from "../fixtures/app.ts";
import { makeDataDir, startServer } from "../fixtures/process.ts";
import { send } from "../fixtures/raw.ts";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/;

type Line = Readonly<Record<string, unknown>>;

/** A log that records its lines. */
function recorder(): { readonly log: Log; readonly lines: Line[] } {
  const lines: Line[] = [];
  const write = (message: string, fields = {}) => void lines.push({ message, ...fields });
  return { log: { debug: write, info: write, warn: write, error: write }, lines };
}

describe("X-Request-Id", () => {
  const cases: readonly (readonly [status: number, target: string, init?: RequestInit])[] = [
    [200, "/v1/connect/ca/roots"],
    [200, "/v1/connect/ca/roots?pem=true"],
    [304, "/v1/connect/ca/roots", { headers: { "If-None-Match": "*" } }],
    [200, "/v1/connect/ca/configuration"],
    [200, "/v1/connect/ca/configuration", leafTtl("50h")],
    [200, "/healthz"],
    [200, "/healthz", { method: "HEAD" }],
    [200, "/v1/connect/ca/roots", { method: "OPTIONS" }],
    [301, "//v1/connect/ca/roots"],
    [400, "/v1/connect/ca/roots?index=x"],
    [400, "/v1/connect/ca/roots?a;b"],
    [400, "/v1/connect/ca/sign", { method: "PUT", body: "x" }],
    [400, "/%00"],
    [400, "/v1/connect/ca/roots", { headers: { "Transfer-Encoding": "gzip" } }],
    [404, "/v1/nosuch"],
    [404, "/"],
    [405, "/v1/connect/ca/roots", { method: "DELETE" }],
    [413, "/v1/connect/ca/sign", { method: "PUT", body: "x".repeat(20_000) }],
    [414, `/${"x".repeat(9000)}`],
    [
      415,
      "/v1/connect/ca/sign",
      { method: "PUT", body: "x", headers: { "Content-Type": "image/png" } },
    ],
  ];
  for (const [status, target, init] of cases)
    it(`${init?.method ?? "GET"} ${target.slice(0, 40)} with ${status} has one, which the log has too`, async () => {
      const { log, lines } = recorder();
      const { app } = await createTestApp({ runtime: { log } });
      const headers = { ...init?.headers, Host: "127.0.0.1", "X-Request-Id": "mine" };
      const answer = await app.fetch(
        new Request(`http://127.0.0.1${target}`, { ...init, headers }),
        { remoteAddress: "127.0.0.1" },
      );
      const id = answer.headers.get("x-request-id") ?? "";
      assert.equal(answer.status, status);
      assert.match(id, UUID);
      const requests = lines.filter(({ message }) => message === "Request");
      assert.deepEqual(
        requests.map(({ requestId, address, status: logged }) => [requestId, address, logged]),
        [[id, "127.0.0.1", status]],
      );
      for (const line of lines) assert.equal(line.requestId, id, JSON.stringify(line));
    });

  it("refusals by the name of the host, by rights and by limits have one", async () => {
    const { app } = await createTestApp({
      acl: { control: accessThat({ allows: () => false }) },
      limits: { requestsPerClient: 1, limitLoopback: true },
    });
    const ask = (host: string, path: string) =>
      app.fetch(new Request(`http://127.0.0.1${path}`, { headers: { Host: host } }), {
        remoteAddress: "127.0.0.1",
      });
    const answers = [
      await ask("evil.example", "/healthz"),
      await ask("127.0.0.1", "/v1/connect/ca/configuration"),
      await ask("127.0.0.1", "/v1/connect/ca/configuration"),
    ];
    assert.deepEqual(
      answers.map(({ status }) => status),
      [403, 403, 429],
    );
    const ids = answers.map(({ headers }) => headers.get("x-request-id") ?? "");
    for (const id of ids) assert.match(id, UUID);
    assert.equal(new Set(ids).size, 3);
  });

  it("the lines of a change have it, and a failure of ours has it in its text", async () => {
    const { log, lines } = recorder();
    const ca = await createTestCa({ log });
    const { app } = await createTestApp(
      {
        runtime: { log },
        metrics: { render: () => Promise.reject(new RangeError("x")) },
      },
      ca,
    );
    lines.length = 0;
    const changed = await app.fetch(
      new Request("http://127.0.0.1/v1/connect/ca/rotate", {
        method: "PUT",
        headers: { Host: "127.0.0.1" },
      }),
    );
    assert.equal(changed.status, 200);
    const made = lines.filter(({ message }) => message === "CA changed: rotated the root");
    assert.deepEqual(
      made.map(({ requestId }) => requestId),
      [changed.headers.get("x-request-id")],
    );
    const failed = await app.fetch(
      new Request("http://127.0.0.1/metrics", { headers: { Host: "127.0.0.1" } }),
    );
    assert.match(
      await failed.text(),
      new RegExp(`under request ${failed.headers.get("x-request-id")}$`),
    );
  });

  it("log lines of stores, providers and tasks that a request starts have its id, and others have none", async () => {
    const written: Line[] = [];
    const log = new Logger({
      level: "info",
      clock: systemClock,
      write: (line) => void written.push(JSON.parse(line)),
    });
    let later: Promise<void> = Promise.resolve();
    const render = async () => {
      await null;
      log.warn("from a provider");
      later = new Promise((resolve) => {
        setImmediate(() => {
          log.error("behind the answer", { code: "x" });
          resolve();
        });
      });
      return { type: "text/plain", text: "" };
    };
    const { app } = await createTestApp({
      runtime: { log, inRequest: (requestId, work) => log.inRequest(requestId, work) },
      metrics: { render },
    });
    const ask = async () => {
      const answer = await app.fetch(
        new Request("http://127.0.0.1/metrics", { headers: { Host: "127.0.0.1" } }),
      );
      await later;
      return answer.headers.get("x-request-id");
    };
    // A level that is set again keeps it.
    log.setLevel("warning");
    const ids = [await ask(), await ask()];
    log.warn("by itself");
    assert.deepEqual(
      written.map(({ message, requestId }) => [message, requestId]),
      [
        ...ids.flatMap((id) => [
          ["from a provider", id],
          ["behind the answer", id],
        ]),
        ["by itself", undefined],
      ],
    );
  });

  it("the log line of an internal failure has it", async () => {
    const dataDir = makeDataDir();
    const server = await startServer({ MESHCA_DATA_DIR: dataDir });
    let id: string | undefined;
    try {
      // What was seen last cannot be written any more.
      renameSync(dataDir, `${dataDir}-gone`);
      id = (await send(server.port, { method: "PUT", target: "/v1/connect/ca/rotate" }))?.header(
        "X-Request-Id",
      );
    } finally {
      await server.stop();
      rmSync(`${dataDir}-gone`, { recursive: true, force: true });
    }
    const line = server
      .stdout()
      .split("\n")
      .find((written) => written.includes("Failed to persist the last-seen state"));
    assert.equal((JSON.parse(line ?? "{}") as Line).requestId, id);
  });

  it("failures of one kind have one line a second, with the number of the others, and unexpected ones a line each", async () => {
    const { log, lines } = recorder();
    const ca = await createTestCa({ started: false });
    const { app } = await createTestApp(
      {
        runtime: { log },
        metrics: { render: () => Promise.reject(new RangeError("x")) },
      },
      ca,
    );
    const ask = (path: string) =>
      app.fetch(new Request(`http://127.0.0.1${path}`, { headers: { Host: "127.0.0.1" } }));
    const failed = () => lines.filter(({ message }) => message === "Request failed");
    for (let i = 0; i < 100; i++) assert.equal((await ask("/v1/connect/ca/roots")).status, 503);
    assert.equal(failed().length, 1);
    ca.clock.advance(1000);
    await ask("/v1/connect/ca/roots");
    assert.deepEqual(
      failed().map(({ code, omitted }) => [code, omitted]),
      [
        ["ca_uninitialized", undefined],
        ["ca_uninitialized", 99],
      ],
    );
    for (let i = 0; i < 5; i++) await ask("/metrics");
    assert.equal(failed().length, 7);
  });

  it("requests above a rate in permissive mode have one line a second, with the number of the others", async () => {
    const { log, lines } = recorder();
    const test = await createTestApp({
      runtime: { log },
      limits: { requestMode: "permissive", readRate: 0.1 },
    });
    const ask = () => test.fetch("/v1/connect/ca/configuration");
    const told = () =>
      lines.filter(
        ({ message }) => message === "Request exceeds the server rate limit (permissive mode)",
      );
    for (let i = 0; i < 100; i++) assert.equal((await ask()).status, 200);
    test.clock.advance(1000);
    const last = (await ask()).headers.get("x-request-id");
    assert.deepEqual(
      told().map(({ kind, omitted }) => [kind, omitted]),
      [
        ["read", undefined],
        ["read", 98],
      ],
    );
    assert.equal(told()[1]?.requestId, last);
  });

  it("over a real server, leaves, errors and blocked queries have it, and the log at debug the client's address", async () => {
    const server = await startServer({ MESHCA_STORE: "memory:", MESHCA_LOG_LEVEL: "debug" });
    const ids: (string | undefined)[] = [];
    try {
      const { csr } = opensslCsr(`URI:spiffe://${server.trustDomain}/ns/default/dc/dc1/svc/web`);
      for (const request of [
        { method: "PUT", target: "/v1/connect/ca/sign", body: csr },
        { method: "GET", target: "/v1/connect/ca/roots?index=1&wait=10ms" },
        { method: "GET", target: "/nosuch" },
      ])
        ids.push((await send(server.port, request))?.header("X-Request-Id"));
    } finally {
      await server.stop();
    }
    const lines = server
      .stdout()
      .split("\n")
      .filter((line) => line.includes('"Request"'))
      .map((line) => JSON.parse(line) as Line);
    assert.deepEqual(
      lines.map(({ requestId, address }) => [requestId, address]),
      ids.map((id) => [id, "127.0.0.1"]),
    );
  });
});
