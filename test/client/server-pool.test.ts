/**
 * Failover, backoff and bounds of the connection to several servers, over real sockets.
 * @module
 */
import assert from "node:assert/strict";
import { afterEach, describe, it } from "node:test";
import { ClientError } from "../../src/client/errors.ts";
import { NodeTransport } from "../../src/client/node/transport.ts";
import { type PoolRequest, ServerPool } from "../../src/client/server-pool.ts";
import { ServerTrust } from "../../src/client/server-trust.ts";
import { FormatError } from "../../src/core/errors.ts";
import { createFakeClock, createSeededRandom } from "../fakes/clock.ts";
import { LogBook } from "./agent-parts.ts";
import { type Act, type Script, ScriptedServer } from "./scripted-server.ts";

const started: { stop(): Promise<void> }[] = [];
const pools: ServerPool[] = [];

async function server(script: Script): Promise<ScriptedServer> {
  const made = await new ScriptedServer().start();
  made.script = script;
  started.push(made);
  return made;
}

const trust = () => new ServerTrust({ readCaFile: null, pin: null, datacenter: null });

function poolOf(servers: readonly ScriptedServer[], clock = createFakeClock()) {
  const log = new LogBook();
  const pool = new ServerPool({
    servers: servers.map(({ url }) => url),
    trust: trust(),
    transport: new NodeTransport(),
    clock,
    random: createSeededRandom(1),
    log,
  });
  pools.push(pool);
  return { pool, clock, log };
}

const ok: Act = { status: 200, body: "fine" };
const read: PoolRequest<string> = {
  method: "GET",
  path: "/v1/x",
  timeoutMs: 60_000,
  maxBytes: 1000,
  read: (response) => {
    if (response.body !== "fine") throw new FormatError("the body is not fine");
    return response.body;
  },
};
const write: PoolRequest<string> = { ...read, method: "PUT", body: "{}" };

afterEach(async () => {
  for (const pool of pools.splice(0)) pool.close();
  for (const each of started.splice(0)) await each.stop();
});

describe("a server that did not do its part", () => {
  for (const [what, act, reason] of [
    ["answers 500", { status: 500, body: "boom" }, /answered 500: boom/],
    ["answers 502 with a page", page(502), /answered 502;|answered 502$/],
    ["answers 404", { status: 404, body: "no such page" }, /answered 404/],
    ["answers 200 with a page", page(200), /sent an unexpected response: the body is not fine/],
    ["answers nothing", { status: 200 }, /sent an unexpected response/],
    ["answers 204", { status: 204 }, /answered 204/],
    [
      "redirects",
      { status: 302, headers: { Location: "/v1/y" } },
      /302, a redirect, which is not followed/,
    ],
    ["redirects by 307", { status: 307, headers: { Location: "/v1/y" } }, /307, a redirect/],
    ["resets the connection", "reset", /cannot be reached/],
    ["closes the connection", { raw: "" }, /cannot be reached/],
    [
      "is no HTTP server",
      { raw: "220 ftp ready\r\n\r\n" },
      /did not answer in HTTP|cannot be reached/,
    ],
    [
      "cuts its body short",
      { raw: "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfine" },
      /cannot be reached|closed the connection too early/,
    ],
    [
      "cuts its chunks short",
      { raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n" },
      /cannot be reached|closed the connection too early/,
    ],
    ["answers too much", { status: 200, body: "x".repeat(1001) }, /answered more than 1000 octets/],
    ["is not UTF-8", { octets: [0xff, 0xfe] }, /answered text that is not UTF-8/],
  ] as const)
    it(`${what}: the next one is asked, and stays the preferred one`, async () => {
      const [odd, good] = [await server(() => act), await server(() => ok)];
      const { pool } = poolOf([odd, good]);
      assert.equal(await pool.request(read), "fine");
      assert.equal(await pool.request(write), "fine");
      assert.equal(odd.asked.length, 1, "the odd server is not asked again while the other works");
      assert.equal(odd.count("/v1/y"), 0, "a redirect is not followed");
      const { pool: only } = poolOf([odd]);
      await assert.rejects(only.request(read), (error: ClientError) => {
        assert.equal(error.code, "unreachable");
        assert.match(error.message, reason);
        assert.ok(!error.message.includes("<html>"));
        return true;
      });
    });

  it("is silent: the request ends after its time, and the next one is asked", async () => {
    const [silent, good] = [await server(() => "silence"), await server(() => ok)];
    const { pool } = poolOf([silent, good]);
    // Long enough for the one that answers, on any machine.
    assert.equal(await pool.request({ ...read, timeoutMs: 3000 }), "fine");
    assert.match(
      (await rejection(poolOf([silent]).pool.request({ ...read, timeoutMs: 100 }))).message,
      /did not answer within 0.1 s/,
    );
  });

  it("sends its body without an end: the request ends after its time", async () => {
    const raw = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfine";
    const drip = await server(() => ({ raw, end: false }));
    const failed = await rejection(poolOf([drip]).pool.request({ ...read, timeoutMs: 100 }));
    assert.match(failed.message, /did not answer within/);
  });

  it("is gone: the next one is asked", async () => {
    const [gone, good] = [await server(() => ok), await server(() => ok)];
    await gone.stop();
    const { pool } = poolOf([gone, good]);
    assert.equal(await pool.request(read), "fine");
    started.splice(started.indexOf(gone), 1);
  });
});

describe("an answer that is no failure of the server", () => {
  for (const [status, code] of [
    [400, "rejected"],
    [401, "refused"],
    [403, "refused"],
    [409, "rejected"],
    [413, "rejected"],
    [415, "rejected"],
  ] as const)
    it(`${status} is ${code}, with the server's text, and nobody else is asked`, async () => {
      const [first, second] = [
        await server(() => ({
          status,
          body: "Permission\ndenied",
          headers: { "Content-Type": "text/plain" },
        })),
        await server(() => ok),
      ];
      const { pool } = poolOf([first, second]);
      const error = await rejection(pool.request(write));
      assert.equal(error.code, code);
      assert.equal(error.status, status);
      assert.match(error.message, /Permission denied/);
      assert.equal(second.asked.length, 0);
      assert.equal(pool.reachable, true);
    });

  it("429 to a request to sign goes round no limit; 429 to a read does", async () => {
    const limit: Act = { status: 429, headers: { "Retry-After": "7" }, body: "later" };
    const [first, second] = [await server(() => limit), await server(() => ok)];
    const { pool } = poolOf([first, second]);
    const error = await rejection(pool.request(write));
    assert.equal(error.code, "limited");
    assert.equal(error.retryAfterMs, 7000);
    assert.equal(second.asked.length, 0);
    assert.equal(await pool.request(read), "fine");
  });

  it("503 of all: the shortest Retry-After counts, seconds or date", async () => {
    const clock = createFakeClock();
    const date = (ms: number) => new Date(clock.now().getTime() + ms).toUTCString();
    const [first, second] = [
      await server(() => ({ status: 503, headers: { "Retry-After": "9" } })),
      await server(() => ({ status: 503, headers: { "Retry-After": date(4000), Date: date(0) } })),
    ];
    const error = await rejection(poolOf([first, second], clock).pool.request(write));
    assert.equal(error.code, "unreachable");
    assert.equal(error.retryAfterMs, 4000);
  });
});

describe("backoff", () => {
  it("a server that cannot be reached is asked again after at most half a second", async () => {
    const only = await server(() => ok);
    await only.stop();
    const { pool, clock, log } = poolOf([only]);
    const delays: number[] = [];
    for (let i = 0; i < 8; i++) {
      const { retryAfterMs } = await rejection(pool.request(read));
      assert.equal(retryAfterMs, undefined);
      const wait = (await rejection(pool.request(read))).retryAfterMs ?? 0;
      delays.push(wait);
      clock.advance(wait);
    }
    assert.ok(
      delays.every((delay) => delay >= 50 && delay <= 500),
      String(delays),
    );
    assert.ok((delays[0] ?? 0) <= 100);
    assert.ok((delays.at(-1) ?? 0) >= 250);
    await only.start();
    let recovered = 0;
    pool.onRecovery(() => recovered++);
    assert.equal(await pool.request(read), "fine");
    assert.equal(recovered, 1);
    assert.equal(pool.problem, null);
    assert.equal(log.lines.filter(({ message }) => message.startsWith("No CA server")).length, 1);
  });

  it("a clock that is set back does not prolong it", async () => {
    const only = await server(() => ok);
    await only.stop();
    const { pool, clock } = poolOf([only]);
    await rejection(pool.request(read));
    clock.jump(-3_600_000);
    await only.start();
    assert.equal(await pool.request(read), "fine");
  });

  it("a blocking query moves on when another request finds its server away", async () => {
    let away = false;
    const first = await server(({ path }) => {
      if (path === "/v1/block") return "silence";
      return away ? "reset" : ok;
    });
    const second = await server(() => ok);
    const { pool } = poolOf([first, second]);
    await pool.request(read);
    const blocked = pool.request({ ...read, path: "/v1/block", blocking: true });
    while (first.count("/v1/block") === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    away = true;
    assert.equal(await pool.request(read), "fine");
    assert.equal(await blocked, "fine");
    assert.equal(second.count("/v1/block"), 1);
  });

  it("a request that is cancelled counts against no server", async () => {
    const only = await server(() => "silence");
    const { pool } = poolOf([only]);
    const cancel = new AbortController();
    const request = pool.request({ ...read, signal: cancel.signal });
    while (only.asked.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    cancel.abort();
    assert.match((await rejection(request)).message, /cancelled/);
    only.script = () => ok;
    assert.equal(await pool.request(read), "fine");
  });
});

describe("the clock", () => {
  const dated = (clock: ReturnType<typeof createFakeClock>, ms: number, age?: string) => () => ({
    ...ok,
    headers: {
      Date: new Date(clock.now().getTime() + ms).toUTCString(),
      ...(age === undefined ? {} : { Age: age }),
    },
  });

  it("that is far from the server's is a problem until it agrees", async () => {
    const clock = createFakeClock();
    const only = await server(dated(clock, 3_600_000));
    const { pool, log } = poolOf([only], clock);
    await pool.request(read);
    assert.match(
      pool.clockProblem ?? "",
      /The clock of this machine is 36\d\d s behind the clock of the CA/,
    );
    only.script = dated(clock, -120_000);
    await pool.request(read);
    assert.match(pool.clockProblem ?? "", /120 s ahead of/);
    only.script = dated(clock, 29_000);
    await pool.request(read);
    assert.equal(pool.clockProblem, null);
    assert.equal(log.lines.filter(({ message }) => message.includes("set it right")).length, 1);
  });

  it("is not compared with the date of a cache", async () => {
    const clock = createFakeClock();
    const only = await server(dated(clock, -3_600_000, "3600"));
    const { pool } = poolOf([only], clock);
    await pool.request(read);
    assert.equal(pool.clockProblem, null);
  });
});

describe("connections", () => {
  it("are kept, and a request on one that the server has closed is sent again", async () => {
    const only = await server(() => ok);
    const { pool } = poolOf([only]);
    for (let i = 0; i < 5; i++) assert.equal(await pool.request(write), "fine");
    assert.equal(only.connections, 1);
    await only.stop();
    await only.start();
    assert.equal(await pool.request(write), "fine");
  });

  it("do not use the proxy of the environment", async () => {
    const [only, proxy] = [await server(() => ok), await server(() => page(502))];
    const names = ["http_proxy", "HTTP_PROXY", "all_proxy", "NODE_USE_ENV_PROXY"];
    const before = names.map((name) => process.env[name]);
    for (const name of names) process.env[name] = name.startsWith("NODE") ? "1" : proxy.url;
    try {
      assert.equal(await poolOf([only]).pool.request(read), "fine");
      assert.equal(proxy.asked.length, 0);
    } finally {
      for (const [i, name] of names.entries()) {
        const value = before[i];
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
    }
  });

  it("keep the path of an address", async () => {
    const only = await server(() => ok);
    const { pool } = poolOf([{ url: `${only.url}/ca/` } as ScriptedServer]);
    await pool.request(read);
    assert.equal(only.asked[0]?.path, "/ca/v1/x");
  });
});

it("a pool needs a server, and names the address that it refuses", () => {
  const make = (...servers: string[]) =>
    new ServerPool({
      servers,
      trust: trust(),
      transport: new NodeTransport(),
      clock: createFakeClock(),
      random: createSeededRandom(1),
      log: new LogBook(),
    });
  assert.throws(() => make(), /at least one server address/);
  assert.throws(
    () => make("http://ca.example:8500"),
    /^FormatError: Server address "http:\/\/ca\.example:8500" is plain HTTP to another machine/,
  );
});

function page(status: number): Act {
  return { status, headers: { "Content-Type": "text/html" }, body: "<html>Bad gateway</html>" };
}

async function rejection(promise: Promise<unknown>): Promise<ClientError> {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof ClientError, String(error));
    return error;
  }
  throw new assert.AssertionError({ message: "It did not fail" });
}
