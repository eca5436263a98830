/**
 * Requests for another datacenter on Cloudflare Workers: the built bundle in workerd, over a real
 * Redis, to a real server and to one that a test scripts.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { makeKek } from "../../src/seal/kek.ts";
import { answering, Peer } from "../datacenters/peer.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { noRedis, type RedisServer, startRedis, until } from "../redis/server.ts";
import { type Bundle, buildWorker, type RunningWorker, startWorker } from "./workerd.ts";

const ROOTS = "/v1/connect/ca/roots";
const CONFIGURATION = "/v1/connect/ca/configuration";
/** Of the Worker, and of dc2. */
const [TOKEN, OTHER_TOKEN] = [
  "0123456789abcdef0123456789abcdef",
  "abcdef0123456789abcdef0123456789",
];

describe("another datacenter on Cloudflare Workers", { skip: noRedis }, () => {
  let bundle: Bundle;
  let redis: RedisServer;
  let worker: RunningWorker;
  let second: ServerProcess;
  let peer: Peer;

  const call = (path: string, { token = "", ...init }: RequestInit & { token?: string } = {}) =>
    fetch(`${worker.urls[0]}${path}`, { ...init, headers: { "X-Consul-Token": token } });
  /** The blocking queries that wait in dc2. */
  const waiting = async () => {
    const response = await fetch(`${second.url}/metrics`, {
      headers: { "X-Consul-Token": OTHER_TOKEN },
    });
    return Number(/^meshca_watchers (\d+)$/m.exec(await response.text())?.[1]);
  };

  before(
    async () => {
      bundle = buildWorker();
      redis = await startRedis({ config: ["appendonly yes"] });
      second = await startServer({
        ...{ MESHCA_DATACENTER: "dc2", MESHCA_ACL: "deny" },
        MESHCA_INITIAL_MANAGEMENT_TOKEN: OTHER_TOKEN,
      });
      peer = await Peer.start(answering(302, "", { Location: `${second.url}${ROOTS}` }));
      const datacenters = {
        dc2: { servers: [second.url] },
        dc3: { servers: [peer.url.origin] },
      };
      worker = await startWorker({
        bundle,
        isolates: [
          {
            MESHCA_STORE: `redis://127.0.0.1:${redis.port}`,
            MESHCA_KEK: makeKek(),
            MESHCA_INITIAL_MANAGEMENT_TOKEN: TOKEN,
            MESHCA_DATACENTERS: JSON.stringify(datacenters),
          },
        ],
      });
    },
    { timeout: 120_000 },
  );
  after(async () => {
    await worker?.stop();
    await second?.stop();
    await peer?.stop();
    await redis?.stop();
    bundle?.remove();
  });

  it("is listed, and its roots and configuration are read and changed by its own tokens", async () => {
    const names = await call("/v1/catalog/datacenters");
    assert.deepEqual(await names.json(), ["dc1", "dc2", "dc3"]);
    const there = await fetch(`${second.url}${ROOTS}`);
    const roots = await call(`${ROOTS}?dc=dc2`);
    assert.deepEqual([roots.status, await roots.text()], [200, await there.text()]);
    assert.equal(roots.headers.get("x-consul-index"), there.headers.get("x-consul-index"));
    const own = await call(`${CONFIGURATION}?dc=dc2`, { token: TOKEN });
    assert.deepEqual([own.status, await own.text()], [403, "ACL not found"]);
    const body = JSON.stringify({ Provider: "consul", Config: { LeafCertTTL: "7h" } });
    const put = await call(`${CONFIGURATION}?dc=dc2`, { method: "PUT", token: OTHER_TOKEN, body });
    assert.deepEqual([put.status, await put.text()], [200, ""]);
    const config = await call(`${CONFIGURATION}?dc=dc2`, { token: OTHER_TOKEN });
    assert.match(await config.text(), /"LeafCertTTL":"7h"/);
    assert.match(await (await call(CONFIGURATION, { token: TOKEN })).text(), /"LeafCertTTL":"72h"/);
  });

  it("answers a blocking query when it changes, and ends it with its caller", async () => {
    const { headers } = await call(`${ROOTS}?dc=dc2`);
    const path = `${ROOTS}?dc=dc2&wait=10m&index=${headers.get("x-consul-index")}`;
    const caller = new AbortController();
    const left = call(path, { signal: caller.signal }).catch(() => null);
    const blocked = call(path);
    await until(async () => (await waiting()) === 2);
    caller.abort();
    await left;
    await until(async () => (await waiting()) === 1);
    const rotated = await fetch(`${second.url}/v1/connect/ca/rotate`, {
      method: "PUT",
      headers: { "X-Consul-Token": OTHER_TOKEN },
    });
    assert.equal(rotated.status, 200);
    const { Roots } = (await (await blocked).json()) as { Roots: unknown[] };
    assert.equal(Roots.length, 2);
  });

  it("is not followed to where it redirects, and cannot answer without an end", async () => {
    const redirected = await call(`${ROOTS}?dc=dc3`);
    assert.equal(redirected.status, 503);
    assert.match(await redirected.text(), /answered 302, a redirect, which is not followed$/);
    assert.equal(peer.received.length, 1);
    peer.script = (socket) => {
      socket.write(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
      );
      const chunk = `10000\r\n${"x".repeat(0x10000)}\r\n`;
      const more = () => {
        while (!socket.destroyed && socket.write(chunk));
      };
      socket.on("drain", more);
      more();
    };
    await until(async () =>
      /answered more than 1048576 octets$/.test(await (await call(`${ROOTS}?dc=dc3`)).text()),
    );
    await peer.received.at(-1)?.closed;
  });
});
