/**
 * A replica that starts while Redis is away: it serves its last-seen state as a running replica
 * would, or waits and says so. An error that waiting cannot repair ends the start.
 * @module
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, it } from "node:test";
import { redisError } from "../../src/store/redis/error.ts";
import { opensslCsr } from "../fakes/ca.ts";
import { linesOf, makeDataDir, runServer, startServer } from "../fixtures/process.ts";
import { KEK, type ReplicaOptions, startReplica, type TestReplica } from "./replica.ts";
import { freePort, noRedis, type RedisServer, startRedis, until } from "./server.ts";

const ROOTS = "/v1/connect/ca/roots";
const ROTATE = "/v1/connect/ca/rotate";
const TOKEN = "6f3c7b52-6f0c-4a1e-8d0f-5d1b7c3a9e21";
const SEEN = "seen-redis.json";

describe("a replica that starts while Redis is away", { skip: noRedis }, () => {
  const endings: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const end of endings.splice(0).toReversed()) await end();
  });

  const start = async (options: ReplicaOptions): Promise<TestReplica> => {
    const replica = await startReplica(options);
    endings.push(replica.close);
    return replica;
  };
  const sign = (replica: TestReplica, token?: string) => {
    const { csr } = opensslCsr(
      `URI:spiffe://${replica.meshca.ca.require().state.clusterId}.consul/ns/default/dc/dc1/svc/web`,
    );
    return replica.call("PUT", "/v1/connect/ca/sign", csr, token);
  };

  /**
   * A Redis that is killed after a replica has served from it.
   * @returns it with the folder of that replica
   */
  async function lost(
    settings: ReplicaOptions["settings"] = {},
  ): Promise<{ redis: RedisServer; folder: Map<string, string> }> {
    const redis = await startRedis({ config: ["appendonly yes", "appendfsync always"] });
    endings.push(redis.stop);
    const folder = new Map<string, string>();
    const before = await startReplica({ port: redis.port, folder, settings });
    await before.close();
    redis.kill("SIGKILL");
    return { redis, folder };
  }

  it("serves the last-seen state, signs, refuses changes, and follows Redis when it is back", {
    timeout: 60_000,
  }, async () => {
    const { redis, folder } = await lost();
    const replica = await start({ port: redis.port, folder });
    assert.equal((await replica.call("GET", ROOTS)).status, 200);
    assert.equal((await sign(replica)).status, 200);
    const refused = await replica.call("PUT", ROTATE);
    assert.equal(refused.status, 503);
    assert.match(refused.text, /Redis is unavailable/);
    const ready = await replica.call("GET", "/readyz");
    assert.equal(ready.status, 200, ready.text);
    // At once, and not only after the time in which a heartbeat is due.
    assert.match(ready.text, /^store: away since \d{4}-/m);
    assert.match(ready.text, /^changes: not possible: the store has not answered since \d{4}-/m);
    assert.ok(
      replica.lines.some(
        ({ message }) =>
          message === "The store is away: starting from the last-seen state in the data folder",
      ),
    );
    await redis.restart();
    await until(async () => (await replica.call("PUT", ROTATE)).status === 200);
    assert.equal(replica.meshca.ca.snapshot?.state.index, 2);
    await until(async () =>
      /^store: ok\nchanges: possible$/m.test((await replica.call("GET", "/readyz")).text),
    );
  });

  it("says that the store is away as soon as a running replica gets no answer, and that it is back", {
    timeout: 60_000,
  }, async () => {
    const redis = await startRedis({ config: ["appendonly yes", "appendfsync always"] });
    endings.push(redis.stop);
    const replica = await start({ port: redis.port, folder: new Map() });
    assert.match((await replica.call("GET", "/readyz")).text, /^store: ok\nchanges: possible$/m);
    redis.kill("SIGKILL");
    const away =
      /^store: away since \d{4}-.*\nchanges: not possible: the store has not answered since \d{4}-/m;
    await until(async () => away.test((await replica.call("GET", "/readyz")).text));
    await redis.restart();
    await until(async () =>
      /^store: ok\nchanges: possible$/m.test((await replica.call("GET", "/readyz")).text),
    );
  });

  it("counts max_staleness from when the store confirmed that state, not from its own start", async () => {
    const { redis, folder } = await lost();
    const late = await start({ port: redis.port, folder, aheadMs: 301_000 });
    const refused = await sign(late);
    assert.equal(refused.status, 503);
    assert.match(refused.text, /the store has not answered for more than 300 s/);
    assert.equal((await late.call("GET", ROOTS)).status, 200);
    const ready = await late.call("GET", "/readyz");
    assert.equal(ready.status, 503);
    const { confirmedAt } = JSON.parse(folder.get(SEEN) ?? "{}") as { confirmedAt: string };
    assert.ok(ready.text.includes(`\nstore: away since ${confirmedAt}\n`), ready.text);
    assert.ok(
      ready.text.includes(
        `\nchanges: not possible: the store has not answered since ${confirmedAt}\n`,
      ),
      ready.text,
    );
  });

  it("persists periodically when the store confirmed the state, so that a kill costs at most 15 s", async () => {
    const redis = await startRedis();
    endings.push(redis.stop);
    const folder = new Map<string, string>();
    const replica = await start({ port: redis.port, folder, running: false });
    await replica.meshca.start();
    const instant = () =>
      Date.parse((JSON.parse(folder.get(SEEN) ?? "{}") as { confirmedAt: string }).confirmedAt);
    const first = instant();
    // By a clock that stands still, so that the time that the test takes does not count.
    let now = first + 14_000;
    replica.clock.now = () => new Date(now);
    await replica.meshca.ca.refresh();
    assert.equal(instant(), first);
    now = first + 16_000;
    await replica.meshca.ca.refresh();
    await until(() => instant() >= first + 15_000);
  });

  it("serves the last-seen state also if Redis answers that its memory is full, and does not end", async () => {
    const redis = await startRedis();
    endings.push(redis.stop);
    const folder = new Map<string, string>();
    await (await startReplica({ port: redis.port, folder })).close();
    await redis.admin.config("SET", "maxmemory", "1mb");
    const replica = await start({ port: redis.port, folder });
    assert.equal((await sign(replica)).status, 200);
    assert.deepEqual(await replica.call("PUT", ROTATE).then(({ status, text }) => [status, text]), [
      503,
      "Redis is out of memory: maxmemory is reached",
    ]);
    await redis.admin.config("SET", "maxmemory", "0");
    await until(async () => (await replica.call("PUT", ROTATE)).status === 200);
  });

  it("signs nothing by a file of an earlier version, which does not say when the state was confirmed", async () => {
    const { redis, folder } = await lost();
    const { term, document } = JSON.parse(folder.get(SEEN) ?? "{}") as {
      term: number;
      document: string;
    };
    folder.set(SEEN, JSON.stringify({ term, document }));
    const replica = await start({ port: redis.port, folder });
    assert.equal((await replica.call("GET", ROOTS)).status, 200);
    assert.equal((await sign(replica)).status, 503);
  });

  it("signs nothing by a file that was confirmed in the future, which is what a clock that was set back leaves", async () => {
    const { redis, folder } = await lost();
    const replica = await start({ port: redis.port, folder, aheadMs: -600_000 });
    assert.equal((await sign(replica)).status, 503);
  });

  it("answers 503 to requests that need a token, and serves roots without one", async () => {
    const settings = { acl: "deny", managementToken: TOKEN } as const;
    const { redis, folder } = await lost(settings);
    const replica = await start({ port: redis.port, folder, settings });
    assert.equal((await replica.call("GET", ROOTS)).status, 200);
    for (const token of [TOKEN, "another", undefined]) {
      assert.equal((await sign(replica, token)).status, 503);
      assert.equal((await replica.call("GET", "/v1/acl/tokens", undefined, token)).status, 503);
    }
    await redis.restart();
    await until(async () => (await sign(replica, TOKEN)).status === 200);
  });

  it("renews by a leaf's own key, and refuses an identity on the denylist of its last-seen state", async () => {
    const settings = { acl: "deny", managementToken: TOKEN } as const;
    const redis = await startRedis({ config: ["appendonly yes", "appendfsync always"] });
    endings.push(redis.stop);
    const folder = new Map<string, string>();
    const before = await startReplica({ port: redis.port, folder, settings });
    const domain = `${before.meshca.ca.require().state.clusterId}.consul`;
    const csrOf = (name: string) =>
      opensslCsr(`URI:spiffe://${domain}/ns/default/dc/dc1/svc/${name}`).csr;
    const leafOf = async (name: string) => {
      const { text } = await before.call(
        "PUT",
        "/v1/connect/ca/sign",
        JSON.stringify({ CSR: csrOf(name) }),
        TOKEN,
      );
      return new X509Certificate((JSON.parse(text) as { CertPEM: string }).CertPEM).raw;
    };
    const [web, stolen] = [await leafOf("web"), await leafOf("stolen")];
    const denial = JSON.stringify({
      SPIFFEID: `spiffe://${domain}/ns/default/dc/dc1/svc/stolen`,
      Reason: "stolen",
    });
    assert.equal((await before.call("PUT", "/v1/connect/ca/deny", denial, TOKEN)).status, 200);
    await before.close();
    redis.kill("SIGKILL");
    const renewAt = async ({ meshca }: TestReplica, name: string, leaf: Uint8Array) => {
      const request = new Request("http://127.0.0.1/v1/connect/ca/renew", {
        method: "PUT",
        headers: { Host: "127.0.0.1" },
        body: csrOf(name),
      });
      const answer = await meshca.fetch(request, { peerCertificate: leaf });
      return [answer.status, (await answer.text()).slice(0, 40)] as const;
    };
    const replica = await start({ port: redis.port, folder, settings });
    assert.equal((await renewAt(replica, "web", web))[0], 200);
    assert.equal((await renewAt(replica, "stolen", stolen))[0], 403);
    await replica.close();
    endings.pop();
    // What cannot be read may have denied anything.
    folder.set("seen-denials.json", "[");
    const blind = await start({ port: redis.port, folder, settings });
    const [status, text] = await renewAt(blind, "web", web);
    assert.equal(status, 503);
    assert.match(text, /^Cannot renew leaf: the denylist is not/);
    await blind.close();
    endings.pop();
    folder.delete("seen-denials.json");
    const fresh = await start({ port: redis.port, folder, settings });
    assert.deepEqual(await renewAt(fresh, "stolen", stolen), [503, text]);
  });

  it("listens and says what it waits for if it has seen no state, and serves once Redis answers", {
    timeout: 60_000,
  }, async () => {
    const port = await freePort();
    const listen = await freePort();
    const environment = {
      MESHCA_STORE: `redis://127.0.0.1:${port}`,
      MESHCA_KEK: KEK,
      MESHCA_LISTEN: `127.0.0.1:${listen}`,
      MESHCA_DATA_DIR: makeDataDir(),
    };
    const starting = startServer(environment);
    const call = (path: string, method = "GET") =>
      fetch(`http://127.0.0.1:${listen}${path}`, { method }).catch(() => null);
    await until(async () => (await call("/healthz"))?.status === 200);
    assert.equal((await call("/healthz", "HEAD"))?.status, 200);
    const waiting = `The CA is not ready: waiting for the store: Redis is unavailable: ECONNREFUSED (MESHCA_STORE: 127.0.0.1:${port})\n`;
    await until(async () => (await (await call("/readyz"))?.text()) === waiting);
    for (const [path, method] of [
      ["/readyz"],
      [ROOTS],
      ["/metrics"],
      ["/nothing"],
      ["/v1/connect/ca/sign", "PUT"],
      ["/healthz", "PUT"],
    ] as const) {
      const answer = await call(path, method);
      assert.deepEqual([answer?.status, answer?.headers.get("retry-after")], [503, "3"], path);
      assert.match(answer?.headers.get("content-type") ?? "", /^text\/plain/);
    }
    const redis = await startRedis({ port });
    endings.push(redis.stop);
    const server = await starting;
    assert.equal((await call(ROOTS))?.status, 200);
    assert.deepEqual(
      linesOf(server.stdout())
        .map(({ message }) => message)
        .filter((message) =>
          ["Listening", "The store responds again; starting", "Ready"].includes(String(message)),
        ),
      ["Listening", "The store responds again; starting", "Ready"],
    );
    assert.equal(
      linesOf(server.stdout()).filter(({ message }) =>
        String(message).startsWith("Waiting for the store"),
      ).length,
      1,
    );
    assert.deepEqual([(await server.stop()).code, server.stderr()], [0, ""]);
  });

  it("waits for a read-only replica of Redis to be promoted, and says so", {
    timeout: 60_000,
  }, async () => {
    const master = await startRedis();
    endings.push(master.stop);
    const redis = await startRedis({ config: [`replicaof 127.0.0.1 ${master.port}`] });
    endings.push(redis.stop);
    await until(async () => /master_link_status:up/.test(await redis.admin.info("replication")));
    const listen = await freePort();
    const starting = startServer({
      MESHCA_STORE: `redis://127.0.0.1:${redis.port}`,
      MESHCA_KEK: KEK,
      MESHCA_LISTEN: `127.0.0.1:${listen}`,
      MESHCA_DATA_DIR: makeDataDir(),
    });
    const ready = async () =>
      (await fetch(`http://127.0.0.1:${listen}/readyz`).catch(() => null))?.text();
    await until(async () =>
      /^The CA is not ready: waiting for the store: Redis is read-only because it is a replica/.test(
        (await ready()) ?? "",
      ),
    );
    await redis.admin.call("REPLICAOF", "NO", "ONE");
    const server = await starting;
    await until(async () => (await ready())?.startsWith("ok\n") === true);
    assert.equal((await server.stop()).code, 0);
  });

  it("names protected mode as the reason why Redis refuses", () => {
    const denied = new Error(
      "DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user.",
    );
    for (const { code, message } of [
      redisError(denied, null),
      redisError(new Error("Connection is closed."), denied),
    ])
      assert.deepEqual(
        [code, message],
        [
          "store_refused",
          "Redis is in protected mode and serves its own machine only; set a password in Redis (requirepass) and in MESHCA_STORE",
        ],
      );
  });

  it("ends at once and with 0 if it is stopped while it waits", { timeout: 60_000 }, async () => {
    const [port, listen] = [await freePort(), await freePort()];
    const server = startServer({
      MESHCA_STORE: `redis://127.0.0.1:${port}`,
      MESHCA_KEK: KEK,
      MESHCA_LISTEN: `127.0.0.1:${listen}`,
      MESHCA_DATA_DIR: makeDataDir(),
    });
    const ended = server.catch((error: unknown) => String(error));
    await until(
      async () =>
        (await fetch(`http://127.0.0.1:${listen}/healthz`).catch(() => null))?.status === 200,
    );
    const { execFileSync } = await import("node:child_process");
    const pid = execFileSync(
      "sh",
      ["-c", `ss -ltnp 'sport = :${listen}' | sed -n 's/.*pid=\\([0-9]*\\).*/\\1/p'`],
      {
        encoding: "utf8",
      },
    ).trim();
    process.kill(Number(pid), "SIGTERM");
    assert.match(String(await ended), /The server ended with 0 instead of listening: $/);
  });

  it("ends with a clear error for a wrong password, and for a server other than Redis", {
    timeout: 60_000,
  }, async () => {
    const redis = await startRedis({ config: ["requirepass secret"] });
    endings.push(redis.stop);
    const web = createServer((_request, response) => response.end("hello"));
    await new Promise<void>((resolve) => web.listen(0, "127.0.0.1", resolve));
    endings.push(async () => web.close());
    const run = async (store: string) => {
      const { code, stderr } = await runServer({
        MESHCA_STORE: store,
        MESHCA_KEK: KEK,
        MESHCA_LISTEN: "127.0.0.1:0",
        MESHCA_DATA_DIR: makeDataDir(),
      });
      return `${code} ${stderr.trim()}`;
    };
    const refused = `69 Redis refused the user or the password (MESHCA_STORE: 127.0.0.1:${redis.port})`;
    assert.equal(await run(`redis://127.0.0.1:${redis.port}`), refused);
    assert.equal(await run(`redis://:wrongpassword@127.0.0.1:${redis.port}`), refused);
    const { port } = web.address() as AddressInfo;
    assert.equal(
      await run(`redis://127.0.0.1:${port}`),
      `69 The server of MESHCA_STORE does not speak the protocol of Redis (MESHCA_STORE: 127.0.0.1:${port})`,
    );
    assert.match(
      await run(`redis+cluster://:secret@127.0.0.1:${redis.port}`),
      /^69 The Redis of MESHCA_STORE is not a Cluster/,
    );
  });
});
