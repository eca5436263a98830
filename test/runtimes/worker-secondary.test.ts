/**
 * Datacenters of which one is a Worker: the built bundle in workerd over a real Redis, and servers
 * whose certificates are verified by a CA that the runtime trusts.
 * @module
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { getRequestListener } from "@hono/node-server";
import { makeKek } from "../../src/seal/kek.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { startReplica, type TestReplica } from "../redis/replica.ts";
import { noRedis, type RedisServer, startRedis, until } from "../redis/server.ts";
import {
  activeOf,
  type Call,
  caller,
  keyOf,
  makeServerCertificate,
  ok,
  readyOf,
  replicationToken,
  requireMutual,
  rootsOf,
  TOKEN,
} from "./worker-mesh.ts";
import {
  type Bindings,
  type Bundle,
  buildWorker,
  type RunningWorker,
  startWorker,
} from "./workerd.ts";

const OPTIONS = { timeout: 120_000 };
const HOUR = 3_600_000;
/** Of the primary; the certificate of a CA is valid from an hour before. */
const [INTERMEDIATE_HOURS, BACKDATED_HOURS] = [4, 1];

describe("datacenters on Cloudflare Workers", { skip: noRedis }, () => {
  let folder: string;
  let tls: { readonly cert: string; readonly key: string };
  let bundle: Bundle;
  let redis: RedisServer;

  before(() => {
    folder = mkdtempSync(join(tmpdir(), "meshca-worker-dc-"));
    tls = makeServerCertificate(folder);
    bundle = buildWorker();
  }, OPTIONS);
  before(async () => {
    redis = await startRedis({ config: ["appendonly yes"] });
  });
  after(async () => {
    await redis?.stop();
    bundle?.remove();
    rmSync(folder, { recursive: true, force: true });
  });

  describe("a Worker as a secondary", () => {
    let replica: TestReplica;
    let server: Server;
    let primary: Call;
    let bindings: Bindings;
    let worker: RunningWorker;
    let one: Call;
    let two: Call;

    const listen = async (port = 0) => {
      server = createServer(
        tls,
        // Without it the globals of all later tests of the process are replaced.
        getRequestListener((request) => replica.meshca.fetch(request), {
          overrideGlobalObjects: false,
        }),
      );
      await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
      return (server.address() as AddressInfo).port;
    };
    const hangUp = () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      });

    before(async () => {
      // Its clock is behind: the intermediate that the Worker gets is soon at half of its life.
      replica = await startReplica({
        aheadMs: 12_000 - ((INTERMEDIATE_HOURS - BACKDATED_HOURS) / 2) * HOUR,
        settings: {
          ...{ datacenter: "dc1", primaryDatacenter: "dc1", store: { kind: "memory" } },
          ...{ acl: "deny", managementToken: TOKEN },
          bootstrap: {
            ...{ clusterId: null, trustDomain: null, provider: "consul" },
            config: { LeafCertTTL: "1h", IntermediateCertTTL: `${INTERMEDIATE_HOURS}h` },
          },
        },
      });
      const port = await listen();
      primary = caller(`https://localhost:${port}`);
      bindings = {
        MESHCA_STORE: `redis://127.0.0.1:${redis.port}`,
        MESHCA_KEK: makeKek(),
        MESHCA_INITIAL_MANAGEMENT_TOKEN: TOKEN,
        MESHCA_DATACENTER: "dc2",
        // More rotations than an operator makes while a leaf lives.
        MESHCA_MAX_CHAIN_LENGTH: "32",
        MESHCA_PRIMARY_DATACENTER: "dc1",
        MESHCA_PRIMARY_SERVERS: `https://localhost:${port}`,
        MESHCA_REPLICATION_TOKEN: await replicationToken(primary),
      };
      worker = await startWorker({ bundle, isolates: [bindings, bindings], trusted: tls.cert });
      [one, two] = [caller(worker.urls[0] ?? ""), caller(worker.urls[1] ?? "")];
    }, OPTIONS);
    after(async () => {
      await worker?.stop();
      await hangUp();
      await replica?.close();
    });

    it(
      "does not join a primary whose certificate is not verified, and says so",
      OPTIONS,
      async () => {
        const doubting = await startWorker({ bundle, isolates: [bindings] });
        try {
          const { status } = await caller(doubting.urls[0] ?? "")("GET", "/readyz");
          assert.equal(status, 503);
          // Without a CA no caller can be authenticated: the reason is in the log.
          assert.match(
            doubting.output(),
            /"Failed to read the roots of the primary datacenter.*No CA server answered: https:\/\/localhost:\d+ failed/,
          );
        } finally {
          await doubting.stop();
        }
      },
    );

    it(
      "joins at its first request, in every isolate, and keeps an intermediate that arrived late in its life",
      OPTIONS,
      async () => {
        const roots = await rootsOf(one);
        assert.equal(roots.ActiveRootID, await activeOf(primary));
        assert.equal(roots.TrustDomain, (await rootsOf(primary)).TrustDomain);
        const first = await keyOf(one);
        assert.equal(await keyOf(two), first);
        assert.notEqual(first, await keyOf(primary));
        // By the primary's clock its own leaves expire before they are used.
        await requireMutual(folder, [one, "dc2"], [two, "dc2"]);
        assert.deepEqual(
          (await redis.admin.keys("*:state")).toSorted((a, b) => a.localeCompare(b)),
          ["{meshca:dc2}:state"],
        );
        replica.clock.aheadMs = 0;
        for (let i = 0; i < 3; i++) assert.equal(await worker.cron(i % 2), "ok");
        assert.deepEqual([await keyOf(one), await keyOf(two)], [first, first]);
        await requireMutual(folder, [primary, "dc1"], [one, "dc2"], [two, "dc2"]);
      },
    );

    it("follows a rotation by cron, without a request", OPTIONS, async () => {
      await ok(primary, "PUT", "/v1/connect/ca/rotate");
      const active = await activeOf(primary);
      await until(async () => {
        assert.equal(await worker.cron(1), "ok");
        return (
          (await redis.admin.hget("{meshca:dc2}:state", "document"))?.includes(active) === true
        );
      });
      await until(async () => (await activeOf(one)) === active && (await activeOf(two)) === active);
      await requireMutual(folder, [primary, "dc1"], [one, "dc2"], [two, "dc2"]);
    });

    it(
      "follows a rotation by requests, without cron, and answers blocked queries",
      OPTIONS,
      async () => {
        const listing = await fetch(`${worker.urls[0]}/v1/connect/ca/roots`);
        const index = listing.headers.get("x-consul-index");
        const blocked = rootsOf((method, path) => one(method, `${path}?wait=5m&index=${index}`));
        await ok(primary, "PUT", "/v1/connect/ca/rotate");
        const active = await activeOf(primary);
        assert.equal((await blocked).ActiveRootID, active);
        await ok(primary, "PUT", "/v1/connect/ca/rotate");
        const next = await activeOf(primary);
        await until(async () => (await activeOf(one)) === next && (await activeOf(two)) === next);
        await requireMutual(folder, [primary, "dc1"], [one, "dc2"], [two, "dc2"]);
      },
    );

    it("takes a new intermediate for another type of key, and on request", OPTIONS, async () => {
      const before = await keyOf(one);
      const Config = { PrivateKeyType: "rsa", PrivateKeyBits: 2048 };
      await ok(one, "PUT", "/v1/connect/ca/configuration", { Provider: "consul", Config });
      const configured = await keyOf(one);
      assert.notEqual(configured, before);
      await ok(one, "PUT", "/v1/connect/ca/rotate");
      assert.notEqual(await keyOf(one), configured);
      await requireMutual(folder, [primary, "dc1"], [one, "dc2"]);
    });

    it(
      "signs while the primary is away, says since when, and follows it when it is back",
      OPTIONS,
      async () => {
        const { port } = server.address() as AddressInfo;
        await hangUp();
        const refused = await one("PUT", "/v1/connect/ca/rotate");
        assert.equal(refused.status, 503, refused.text);
        assert.match(
          await readyOf(one),
          /^primary: dc1, last contact \S+, index \d+, followed index \d+; not followed since \S+ \(unreachable\): .*No CA server answered/m,
        );
        assert.match(await readyOf(one), /^ok\n/);
        await requireMutual(folder, [one, "dc2"], [two, "dc2"]);
        await replica.call("PUT", "/v1/connect/ca/rotate", undefined, TOKEN);
        await listen(port);
        const active = await activeOf(primary);
        await until(async () => (await activeOf(one)) === active);
        assert.match(
          await readyOf(one),
          /^primary: dc1, last contact \S+, index \d+, followed index \d+$/m,
        );
        await requireMutual(folder, [primary, "dc1"], [one, "dc2"]);
      },
    );

    it(
      "is one datacenter with a process on the same Redis: either follows, both sign",
      OPTIONS,
      async () => {
        const caFile = join(folder, "cert.pem");
        const { MESHCA_KEK = "", ...rest } = bindings;
        let process: ServerProcess | null = await startServer({
          ...rest,
          MESHCA_KEK,
          MESHCA_ACL: "deny",
          MESHCA_PRIMARY_CA_FILE: caFile,
        });
        try {
          const other = caller(process.url);
          assert.equal(await keyOf(other), await keyOf(one));
          await ok(primary, "PUT", "/v1/connect/ca/rotate");
          const active = await activeOf(primary);
          await until(
            async () => (await activeOf(other)) === active && (await activeOf(one)) === active,
          );
          assert.equal(await keyOf(other), await keyOf(one));
          await requireMutual(folder, [primary, "dc1"], [one, "dc2"], [other, "dc2"]);
          await process.stop();
          process = null;
          await ok(primary, "PUT", "/v1/connect/ca/rotate");
          const next = await activeOf(primary);
          await until(async () => {
            await worker.cron(0);
            return (await activeOf(two)) === next;
          });
          await requireMutual(folder, [primary, "dc1"], [one, "dc2"]);
        } finally {
          await process?.stop();
        }
      },
    );
  });

  it(
    "a Worker is the primary of a process, which joins it and follows a rotation within seconds",
    OPTIONS,
    async () => {
      await redis.admin.flushall();
      const worker = await startWorker({
        ...{ bundle, tls },
        isolates: [
          {
            MESHCA_STORE: `redis://127.0.0.1:${redis.port}`,
            MESHCA_KEK: makeKek(),
            MESHCA_INITIAL_MANAGEMENT_TOKEN: TOKEN,
            MESHCA_PRIMARY_DATACENTER: "dc1",
          },
        ],
      });
      const primary = caller(worker.urls[0] ?? "");
      await ok(primary, "GET", "/v1/connect/ca/roots");
      // It records access control in the CA document, which a policy of this schema needs.
      assert.equal(await worker.cron(0), "ok");
      let secondary: ServerProcess | null = null;
      try {
        secondary = await startServer({
          MESHCA_ACL: "deny",
          MESHCA_INITIAL_MANAGEMENT_TOKEN: TOKEN,
          MESHCA_DATACENTER: "dc2",
          MESHCA_PRIMARY_DATACENTER: "dc1",
          MESHCA_PRIMARY_SERVERS: worker.urls[0] ?? "",
          MESHCA_PRIMARY_CA_FILE: join(folder, "cert.pem"),
          MESHCA_REPLICATION_TOKEN: await replicationToken(primary),
        });
        const other = caller(secondary.url);
        await until(async () => /^ok\n/.test(await readyOf(other)));
        await requireMutual(folder, [primary, "dc1"], [other, "dc2"]);
        const issued = JSON.parse(
          await ok(primary, "GET", "/v1/connect/ca/intermediates"),
        ) as unknown[];
        assert.equal(issued.length, 1);
        for (let i = 0; i < 2; i++) {
          await ok(primary, "PUT", "/v1/connect/ca/rotate");
          const active = await activeOf(primary);
          await until(async () => (await activeOf(other)) === active);
          await requireMutual(folder, [primary, "dc1"], [other, "dc2"]);
        }
      } finally {
        await secondary?.stop();
        await worker.stop();
      }
    },
  );
});
