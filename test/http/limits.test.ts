/**
 * Limits of one client and of all together, on a clock that the test sets and over real sockets.
 * @module
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { describe, it } from "node:test";
import { DEFAULT_POLICY } from "../../src/core/ca/timing-and-limits.ts";
import { DeniedError, RateLimitedError } from "../../src/core/errors.ts";
import { clientKey } from "../../src/http/client.ts";
import { FailedAuthLimiter } from "../../src/http/failed-auth-limiter.ts";
import { DEFAULT_HTTP_LIMITS, type HttpLimits, RateLimiter } from "../../src/http/limits.ts";
import { TokenBucket } from "../../src/net/token-bucket.ts";
import { providersWith } from "../core/ca/harness.ts";
import { createTestCa, opensslCsr, serviceUri } from "../fakes/ca.ts";
import { createFakeClock, type FakeClock } from "../fakes/clock.ts";
import { createTestApp, settle, until } from "../fixtures/app.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { send } from "../fixtures/raw.ts";
import { put, sign } from "../fixtures/refusals.ts";
import { inNewFolder } from "../tls/harness.ts";

/**
 * Tests that wait for a real server's own time limits: longer than the 5 s that a runner gives a
 * test by default.
 */
const SLOW = { timeout: 120_000 };

function limiterOf(
  limits: Partial<HttpLimits>,
  clock: FakeClock = createFakeClock(),
  exceeded: string[] = [],
) {
  return new RateLimiter({
    limits: { ...DEFAULT_HTTP_LIMITS, ...limits },
    clock,
    onExceeded: (kind) => exceeded.push(kind),
  });
}

const limited = (code: string, retryAfterMs?: number) => (error: unknown) => {
  assert.ok(error instanceof RateLimitedError);
  assert.equal(error.code, code);
  if (retryAfterMs !== undefined) assert.equal(Math.round(error.retryAfterMs ?? 0), retryAfterMs);
  return true;
};

describe("RateLimiter", () => {
  it("enter() lets a client have so many requests in flight, and each client for itself", () => {
    const limiter = limiterOf({ connectionsPerClient: 2 });
    limiter.enter("a", "read");
    limiter.enter("a", "write");
    assert.throws(() => limiter.enter("a", "read"), limited("client_rate_limited", 1000));
    limiter.enter("b", "read");
    limiter.leave("a");
    limiter.enter("a", "read");
    assert.throws(() => limiter.enter("a", "read"), limited("client_rate_limited"));
  });

  it("enter() lets a client send so many a second, as many at once after a pause, and returns when to retry", () => {
    const clock = createFakeClock();
    const limiter = limiterOf({ requestsPerClient: 10, connectionsPerClient: 1000 }, clock);
    const tryMany = (count: number) =>
      Array.from({ length: count }, () => {
        try {
          limiter.enter("a", "read");
          return true;
        } catch (error) {
          limited("client_rate_limited")(error);
          return false;
        }
      }).filter(Boolean).length;
    assert.equal(tryMany(15), 10);
    assert.throws(() => limiter.enter("a", "read"), limited("client_rate_limited", 100));
    clock.advance(300);
    assert.equal(tryMany(15), 3);
    clock.advance(60_000);
    assert.equal(tryMany(15), 10);
    assert.equal(limiterOf({}, clock).clients, 0);
  });

  it("enter() does not limit a client without a key", () => {
    const limiter = limiterOf({ requestsPerClient: 1, connectionsPerClient: 1 });
    for (let i = 0; i < 100; i++) limiter.enter(null, "write");
    assert.equal(limiter.clients, 0);
  });

  it("enter() drops the state of idle clients", () => {
    const clock = createFakeClock();
    const limiter = limiterOf({}, clock);
    const visit = (from: number, to: number) => {
      for (let i = from; i < to; i++) {
        limiter.enter(`client ${i}`, "read");
        limiter.leave(`client ${i}`);
      }
    };
    visit(0, 5000);
    clock.advance(2000);
    visit(5000, 5001);
    assert.ok(limiter.clients < 10, `${limiter.clients} are remembered`);
  });

  it("request_limits: enforcing refuses above the rate of the server, reads and writes apart, permissive only logs", () => {
    const exceeded: string[] = [];
    const rates = { readRate: 1, writeRate: 0.1 } as const;
    const enforcing = limiterOf({ ...rates, requestMode: "enforcing" });
    for (let i = 0; i < 10; i++) enforcing.enter(null, "read");
    assert.throws(() => enforcing.enter("a", "read"), limited("server_rate_limited", 1000));
    enforcing.enter("b", "write");
    assert.throws(() => enforcing.enter(null, "write"), limited("server_rate_limited", 10_000));
    const permissive = limiterOf(
      { ...rates, requestMode: "permissive" },
      createFakeClock(),
      exceeded,
    );
    for (let i = 0; i < 12; i++) permissive.enter(null, "read");
    assert.deepEqual(exceeded, ["read", "read"]);
    const disabled = limiterOf(rates);
    for (let i = 0; i < 100; i++) disabled.enter(null, "write");
  });
});

describe("TokenBucket", () => {
  const takeAll = (bucket: TokenBucket, now: number) => {
    let taken = 0;
    while (bucket.take(now) === 0) taken++;
    return taken;
  };

  it("take() takes nothing away for a clock that was set back, and refills from there", () => {
    const bucket = new TokenBucket({ perSecond: 1, burst: 10 }, 100_000);
    for (let i = 0; i < 5; i++) bucket.take(100_000);
    assert.equal(takeAll(bucket, 40_000), 5);
    assert.equal(takeAll(bucket, 42_000), 2);
  });

  it("take() fills a bucket no further than its burst, and returns when there will be a token", () => {
    const bucket = new TokenBucket({ perSecond: 2, burst: 10 }, 0);
    assert.equal(takeAll(bucket, 0), 10);
    assert.equal(bucket.take(250), 250);
    assert.equal(takeAll(bucket, 3_600_000), 10);
  });
});

describe("clientKey()", () => {
  const cases: readonly (readonly [string | undefined, boolean, string | null])[] = [
    [undefined, true, null],
    ["127.0.0.1", false, null],
    ["::1", false, null],
    ["::ffff:127.0.0.1", false, null],
    ["127.0.0.1", true, "127.0.0.1"],
    ["10.1.2.3", false, "10.1.2.3"],
    ["::ffff:10.1.2.3", false, "10.1.2.3"],
    ["2001:db8:1:2:3:4:5:6", false, "2001:db8:1:2"],
    ["2001:db8:1:2::6", false, "2001:db8:1:2"],
    ["2001:db8::6", false, "2001:db8:0:0"],
    ["::1", true, "0:0:0:0"],
    ["fe80::", false, "fe80:0:0:0"],
    ["fe80::1%eth0", false, "fe80:0:0:0"],
    ["fe80::2%eth0", false, "fe80:0:0:0"],
  ];
  for (const [address, loopback, key] of cases)
    it(`clientKey(${address}, ${loopback}) is ${key}`, () =>
      assert.equal(clientKey(address, loopback), key));
});

describe("the app under limits", () => {
  it("roots, health and metrics are answered however many requests a client has sent", async () => {
    const test = await createTestApp({
      limits: { requestsPerClient: 1, limitLoopback: true },
    });
    const ask = (path: string) =>
      test.app.fetch(new Request(`http://127.0.0.1${path}`, { headers: { Host: "127.0.0.1" } }), {
        remoteAddress: "127.0.0.1",
      });
    assert.equal((await ask("/v1/connect/ca/configuration")).status, 200);
    const refused = await ask("/v1/connect/ca/configuration");
    assert.equal(refused.status, 429);
    assert.equal(refused.headers.get("retry-after"), "1");
    for (const path of [
      "/v1/connect/ca/roots",
      "/v1/agent/connect/ca/roots",
      "/healthz",
      "/readyz",
      "/metrics",
    ])
      assert.equal((await ask(path)).status, 200, path);
  });

  it("blocked queries are limited for each client and in all (consul#7527)", async () => {
    const test = await createTestApp({
      limits: { watchersPerClient: 2, watchers: 3 },
    });
    const index = (await test.fetch("/v1/connect/ca/roots")).headers.get("x-consul-index");
    const gone = new AbortController();
    const watch = (remoteAddress: string) =>
      test.app.fetch(
        new Request(`http://127.0.0.1/v1/connect/ca/roots?index=${index}`, {
          headers: { Host: "127.0.0.1" },
          signal: gone.signal,
        }),
        { remoteAddress },
      );
    const waiting = [watch("10.0.0.1"), watch("10.0.0.1")];
    await until(() => test.app.watchers.count === 2);
    const third = await watch("10.0.0.1");
    assert.deepEqual(
      [third.status, await third.text()],
      [
        429,
        "Cannot wait for a change of the roots: 2 blocking queries of this client are waiting already",
      ],
    );
    waiting.push(watch("10.0.0.2"));
    await until(() => test.app.watchers.count === 3);
    const fourth = await watch("10.0.0.3");
    assert.deepEqual(
      [fourth.status, await fourth.text()],
      [429, "Cannot wait for a change of the roots: 3 blocking queries are waiting already"],
    );
    gone.abort();
    for (const response of await Promise.all(waiting)) assert.equal(response.status, 200);
    await settle();
    const again = new AbortController();
    void test.app.fetch(
      new Request(`http://127.0.0.1/v1/connect/ca/roots?index=${index}`, {
        headers: { Host: "127.0.0.1" },
        signal: again.signal,
      }),
      { remoteAddress: "10.0.0.1" },
    );
    await until(() => test.app.watchers.count === 1);
    again.abort();
  });

  it("signing sheds with 429 and Retry-After before it reads the body, and roots are answered concurrently (consul#12593)", async () => {
    const gate = Promise.withResolvers<void>();
    const slow = providersWith((type) => ({
      ...type,
      async open(...opening) {
        const provider = await type.open(...opening);
        return {
          ...provider,
          async signLeaf(...args) {
            await gate.promise;
            return provider.signLeaf(...args);
          },
        };
      },
    }));
    const policy = { ...DEFAULT_POLICY, maxPendingLeaves: 8, maxWorkingLeaves: 2 };
    const first = await createTestCa();
    const { manager } = await createTestCa({ started: false, ...first, providers: slow, policy });
    await manager.refresh();
    const test = await createTestApp({}, { ...first, manager });
    const { csr } = opensslCsr(`URI:${serviceUri(manager, "web")}`);
    const asked = Array.from({ length: 6 }, () =>
      test.fetch("/v1/connect/ca/sign", { method: "PUT", body: csr }),
    );
    await until(() => manager.signing === 6);
    // Its body never comes.
    const shed = await test.fetch("/v1/connect/ca/sign", {
      method: "PUT",
      body: new ReadableStream({}),
    });
    assert.deepEqual([shed.status, shed.headers.get("retry-after")], [429, "1"]);
    assert.equal((await test.fetch("/v1/connect/ca/roots")).status, 200);
    const renewals = [
      manager.sign(csr, { priority: "renewal" }),
      manager.sign(csr, { priority: "renewal" }),
    ];
    await assert.rejects(manager.sign(csr, { priority: "renewal" }), limited("sign_rate_limited"));
    gate.resolve();
    assert.deepEqual(
      (await Promise.all(asked)).map(({ status }) => status),
      [200, 200, 200, 200, 200, 200],
    );
    await Promise.all(renewals);
    assert.equal(manager.signing, 0);
  });
});

/** A connection that sends the test's octets, with what came back and when it was closed. */
async function open(
  port: number,
): Promise<{ socket: Socket; text(): string; closed: Promise<number> }> {
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  const started = performance.now();
  let text = "";
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
  });
  socket.on("error", () => undefined);
  const closed = new Promise<number>((resolve) =>
    socket.on("close", () => resolve(performance.now() - started)),
  );
  return { socket, text: () => text, closed };
}

async function withServer(
  environment: Readonly<Record<string, string>>,
  work: (server: ServerProcess) => Promise<void>,
): Promise<void> {
  const server = await startServer({ MESHCA_STORE: "memory:", ...environment });
  try {
    await work(server);
  } finally {
    await server.stop();
  }
}

describe("limits over sockets", () => {
  it("a URL of more than MESHCA_LIMITS_MAX_URL_LENGTH is 414, a head of more than 16 KiB is 431", () =>
    withServer({ MESHCA_LIMITS_MAX_URL_LENGTH: "1000" }, async ({ port }) => {
      const get = async (target: string, headers = {}) =>
        (await send(port, { method: "GET", target, headers }))?.status;
      assert.equal(await get(`/v1/connect/ca/roots?x=${"a".repeat(500)}`), 200);
      assert.equal(await get(`/v1/connect/ca/roots?x=${"a".repeat(1000)}`), 414);
      assert.equal(await get("/v1/connect/ca/roots", { X: "a".repeat(12_000) }), 200);
      assert.equal(await get("/v1/connect/ca/roots", { X: "a".repeat(17_000) }), 431);
      const many = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`X-${i}`, "a"]));
      assert.equal(await get("/v1/connect/ca/roots", many), 431);
    }));

  it("each kind of route has its own MESHCA_LIMITS_MAX_BODY_*, also without a Content-Length", () =>
    withServer(
      {
        MESHCA_LIMITS_MAX_BODY_SIGN: "2048",
        MESHCA_LIMITS_MAX_BODY_CONFIGURATION: "200000",
        MESHCA_LIMITS_MAX_BODY_BACKUP: "4096",
      },
      async ({ port }) => {
        const status = async (request: Parameters<typeof send>[1]) =>
          (await send(port, request))?.status;
        for (const chunked of [{}, { chunkSize: 1000 }]) {
          assert.equal(await status({ ...sign("x".repeat(2049)), ...chunked }), 413);
          assert.equal(await status({ ...sign("x".repeat(2048)), ...chunked }), 400);
          assert.equal(
            await status({
              method: "PUT",
              target: "/v1/connect/ca/backup",
              body: "x".repeat(4097),
              ...chunked,
            }),
            413,
          );
          assert.equal(await status({ ...put("x".repeat(200_001)), ...chunked }), 413);
          assert.equal(await status({ ...put(`{"x":"${"x".repeat(150_000)}"}`), ...chunked }), 400);
        }
      },
    ));

  it("the connections of a client are limited by what is in flight on them", SLOW, () =>
    withServer(
      { MESHCA_LIMITS_HTTP_MAX_CONNS_PER_CLIENT: "2", MESHCA_LIMITS_BODY_TIME: "2s" },
      async ({ port }) => {
        const slow = await Promise.all([open(port), open(port)]);
        for (const { socket } of slow)
          socket.write(
            "PUT /v1/connect/ca/configuration HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx",
          );
        const get = async () =>
          send(port, { method: "GET", target: "/v1/connect/ca/configuration" });
        let answer = await get();
        for (let i = 0; i < 50 && answer?.status !== 429; i++) answer = await get();
        assert.deepEqual([answer?.status, answer?.header("Retry-After")], [429, "1"]);
        assert.equal(
          (await send(port, { method: "GET", target: "/v1/connect/ca/roots" }))?.status,
          200,
        );
        await Promise.all(slow.map(({ closed }) => closed));
        assert.equal((await get())?.status, 200);
      },
    ),
  );

  it("a client that sends more than MESHCA_LIMITS_REQUESTS_PER_CLIENT is answered 429", () =>
    withServer({ MESHCA_LIMITS_REQUESTS_PER_CLIENT: "20" }, async ({ port }) => {
      const statuses: (number | undefined)[] = [];
      const ask = async () =>
        statuses.push(
          (await send(port, { method: "GET", target: "/v1/connect/ca/configuration" }))?.status,
        );
      // Concurrently, until one is refused: a slow machine may not send 20 in a second otherwise.
      while (!statuses.includes(429)) await Promise.all(Array.from({ length: 60 }, ask));
      assert.ok(statuses.filter((status) => status === 200).length >= 20);
      assert.ok(statuses.every((status) => status === 200 || status === 429));
    }));

  it(
    "slow-loris: a body that drips ends with 400 after MESHCA_LIMITS_BODY_TIME, and its connection is closed",
    SLOW,
    () =>
      withServer({ MESHCA_LIMITS_BODY_TIME: "1s" }, async (server) => {
        const heads = ["Content-Length: 1000", "Transfer-Encoding: chunked"];
        await Promise.all(
          heads.map(async (length) => {
            const { socket, text, closed } = await open(server.port);
            socket.write(
              `PUT /v1/connect/ca/sign HTTP/1.1\r\nHost: localhost\r\n${length}\r\n\r\n`,
            );
            const drip = setInterval(
              () => socket.write(length.startsWith("T") ? "1\r\nx\r\n" : "x"),
              100,
            );
            await closed.finally(() => clearInterval(drip));
            assert.match(text(), /^HTTP\/1\.1 400 [\s\S]*Cannot read body: it took more than 1 s$/);
          }),
        );
      }),
  );

  it("slow-loris: a head that drips is cut off, others are served concurrently", SLOW, () =>
    withServer({}, async (server) => {
      const slow = await Promise.all(Array.from({ length: 200 }, () => open(server.port)));
      for (const { socket } of slow)
        socket.write("GET /v1/connect/ca/roots HTTP/1.1\r\nHost: localhost\r\n");
      const drip = setInterval(() => {
        for (const { socket } of slow) socket.write("X: y\r\n");
      }, 1000);
      const csr = opensslCsr(`URI:spiffe://${server.trustDomain}/ns/default/dc/dc1/svc/web`).csr;
      for (let i = 0; i < 20; i++) assert.equal((await send(server.port, sign(csr)))?.status, 200);
      const took = await Promise.all(slow.map(({ closed }) => closed)).finally(() =>
        clearInterval(drip),
      );
      assert.ok(Math.max(...took) < 60_000, `the last was closed after ${Math.max(...took)} ms`);
    }),
  );

  it("a silent connection is closed after MESHCA_LIMITS_IDLE_TIME", SLOW, () =>
    withServer({ MESHCA_LIMITS_IDLE_TIME: "4s" }, async ({ port }) => {
      const { socket, closed } = await open(port);
      socket.write("GET /v1/connect/ca/roots HTTP/1.1\r\nHost: localhost\r\n\r\n");
      const took = await closed;
      assert.ok(took > 2000 && took < 60_000, `closed after ${took} ms`);
    }),
  );

  it("MESHCA_HOSTS are the names that a Host may have, besides loopback names while only loopback is served", () =>
    withServer({ MESHCA_HOSTS: "ca.example.com,[fd00::1]" }, async ({ port }) => {
      const status = async (host: string) =>
        (
          await send(port, {
            method: "GET",
            target: "/v1/connect/ca/roots",
            headers: { Host: host },
          })
        )?.status;
      for (const host of [
        "ca.example.com",
        "CA.example.com:8500",
        "ca.example.com.",
        "[fd00::1]:1",
        "localhost",
      ])
        assert.equal(await status(host), 200, host);
      // Also a second time: only a Host that is allowed is remembered.
      for (const host of [
        "example.com",
        "x.ca.example.com",
        "ca.example.com.evil.org",
        "ca.example.com, evil",
        "fd00::1",
        "",
      ])
        for (let i = 0; i < 2; i++) assert.notEqual(await status(host), 200, host);
    }));
});

describe("FailedAuthLimiter", () => {
  const wrong = () => new DeniedError("token_unknown", "ACL not found");
  function wrongTokensOf(limit: number, limitLoopback = false) {
    const clock = createFakeClock();
    const counted = { count: 0 };
    const limits = { wrongTokensPerClient: limit, limitLoopback };
    const tokens = new FailedAuthLimiter({
      limits,
      clock,
      countWrongToken: () => counted.count++,
    });
    return { clock, counted, tokens };
  }

  it("refused() limits invalid tokens per minute and client, an IPv6 one by its first 64 bits", () => {
    const { clock, counted, tokens } = wrongTokensOf(3);
    const [one, same, other] = ["2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1"];
    for (const address of [one, same, one, other, other])
      assert.ok(tokens.refused(wrong(), address) instanceof DeniedError);
    limited("token_rate_limited", 20_000)(tokens.refused(wrong(), same));
    assert.ok(tokens.refused(wrong(), other) instanceof DeniedError);
    clock.advance(20_000);
    assert.ok(tokens.refused(wrong(), one) instanceof DeniedError);
    limited("token_rate_limited")(tokens.refused(wrong(), one));
    assert.equal(counted.count, 9);
  });

  it("refused() counts only invalid tokens, and on loopback only if a limit is configured", () => {
    const { counted, tokens } = wrongTokensOf(1);
    const denied = new DeniedError("permission_denied", "Permission denied");
    for (let i = 0; i < 10; i++) {
      assert.equal(tokens.refused(denied, "10.0.0.1"), denied);
      assert.ok(tokens.refused(wrong(), "127.0.0.1") instanceof DeniedError);
    }
    assert.deepEqual([counted.count, tokens.clients], [10, 0]);
    const set = wrongTokensOf(1, true).tokens;
    set.refused(wrong(), "127.0.0.1");
    limited("token_rate_limited")(set.refused(wrong(), "127.0.0.1"));
  });

  it("refused() remembers a bounded number of clients, and the latest of them", () => {
    const { tokens } = wrongTokensOf(1);
    for (let i = 0; i < 30_000; i++)
      tokens.refused(wrong(), `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`);
    assert.equal(tokens.clients, 10_000);
    limited("token_rate_limited")(tokens.refused(wrong(), "10.0.117.47"));
  });
});

describe("invalid tokens over a real connection", () => {
  it(
    "a client that guesses is answered 429, while its own tokens, the roots and its neighbours are served",
    SLOW,
    async () => {
      const token = "11111111-2222-4333-8444-555555555555";
      await inNewFolder(async (folder) => {
        const audit = join(folder, "audit.jsonl");
        const server = await startServer({
          MESHCA_STORE: "memory:",
          MESHCA_ACL: "deny",
          MESHCA_INITIAL_MANAGEMENT_TOKEN: token,
          MESHCA_LIMITS_WRONG_TOKENS_PER_CLIENT: "5",
          MESHCA_AUDIT: audit,
        });
        try {
          const get = (target: string, secret: string) =>
            send(server.port, { method: "GET", target, headers: { "X-Consul-Token": secret } });
          const guess = () => get("/v1/acl/tokens", crypto.randomUUID());
          for (let i = 0; i < 5; i++) assert.equal((await guess())?.status, 403);
          assert.equal((await guess())?.status, 429);
          // Where requests are not counted, wrong tokens are.
          const refused = await get("/metrics", crypto.randomUUID());
          assert.deepEqual(
            [refused?.status, refused?.header("Content-Type")],
            [429, "text/plain; charset=utf-8"],
          );
          assert.match(
            refused?.body ?? "",
            /^Cannot serve request: its token is invalid, and this client sent more than 5 invalid tokens within a minute$/,
          );
          assert.ok(
            Number(refused?.header("Retry-After")) >= 1 &&
              Number(refused?.header("Retry-After")) <= 12,
          );
          assert.equal((await get("/v1/acl/tokens", token))?.status, 200);
          assert.equal((await get("/v1/connect/ca/roots", crypto.randomUUID()))?.status, 200);
          for (let i = 0; i < 300; i++) await guess();
          assert.match(
            (await get("/metrics", token))?.body ?? "",
            /^meshca_wrong_tokens_total 307$/m,
          );
        } finally {
          await server.stop();
        }
        const lines =
          readFileSync(audit, "utf8").match(/"code":"token_(unknown|rate_limited)"/g) ?? [];
        // Within the seconds that it took: of each code the first and a count, again every second.
        assert.ok(lines.length >= 2 && lines.length < 40, `${lines.length} lines`);
      });
    },
  );
});
