/**
 * Workers through a failover: one is promoted with the backup of the lost primary datacenter, and
 * another one follows it. The built bundle in workerd, over a real Redis.
 * @module
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "node:test";
import { getRequestListener } from "@hono/node-server";
import { makeKek } from "../../src/seal/kek.ts";
import { meshca } from "../cli/run.ts";
import { KEK as KEK_1, startReplica } from "../redis/replica.ts";
import { noRedis, startRedis, until } from "../redis/server.ts";
import {
  activeOf,
  caller,
  makeServerCertificate,
  ok,
  readyOf,
  replicationToken,
  requireMutual,
  TOKEN,
} from "./worker-mesh.ts";
import { type Bindings, buildWorker, type RunningWorker, startWorker } from "./workerd.ts";

it("a Worker is promoted with a backup, and another one follows it", {
  skip: noRedis,
  timeout: 240_000,
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), "meshca-worker-promotion-"));
  const tls = makeServerCertificate(folder);
  const bundle = buildWorker();
  const redis = await startRedis({ config: ["appendonly yes"] });
  const workers: RunningWorker[] = [];
  const deploy = async (isolates: readonly Bindings[]) => {
    const worker = await startWorker({ bundle, isolates, tls, trusted: tls.cert });
    workers.push(worker);
    return worker;
  };
  const dc1 = await startReplica({
    settings: {
      ...{ datacenter: "dc1", primaryDatacenter: "dc1", store: { kind: "memory" } },
      ...{ acl: "deny", managementToken: TOKEN },
    },
  });
  const server = createServer(
    tls,
    // Without it the globals of all later tests of the process are replaced.
    getRequestListener((request) => dc1.meshca.fetch(request), {
      overrideGlobalObjects: false,
    }),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const url = `https://localhost:${(server.address() as AddressInfo).port}`;
    const primary = caller(url);
    const [KEK_2, KEK_3] = [makeKek(), makeKek()];
    const common = {
      MESHCA_STORE: `redis://127.0.0.1:${redis.port}`,
      MESHCA_INITIAL_MANAGEMENT_TOKEN: TOKEN,
      MESHCA_PRIMARY_DATACENTER: "dc1",
      MESHCA_PRIMARY_SERVERS: url,
      MESHCA_REPLICATION_TOKEN: await replicationToken(primary),
    };
    const two = { ...common, MESHCA_DATACENTER: "dc2", MESHCA_KEK: `${KEK_2},${KEK_1}` };
    const three = { ...common, MESHCA_DATACENTER: "dc3", MESHCA_KEK: KEK_3 };
    const worker2 = await deploy([two, two]);
    const worker3 = await deploy([three]);
    const [asked, other, third] = [...worker2.urls, ...worker3.urls].map(caller);
    assert.ok(asked !== undefined && other !== undefined && third !== undefined);
    await requireMutual(folder, [asked, "dc2"], [other, "dc2"], [third, "dc3"]);
    writeFileSync(join(folder, "dc1.backup"), await ok(primary, "GET", "/v1/connect/ca/backup"));
    server.close();
    server.closeAllConnections();

    const active = await activeOf(asked);
    const promoted = await meshca(
      ["datacenter", "promote", "--backup", join(folder, "dc1.backup"), "--yes", "--json"],
      {
        MESHCA_HTTP_ADDR: worker2.urls[0] ?? "",
        MESHCA_CACERT: join(folder, "cert.pem"),
        MESHCA_HTTP_TOKEN: TOKEN,
      },
    );
    assert.equal(promoted.code, 0, promoted.stderr);
    const { Promotions, ActiveRootID } = JSON.parse(promoted.stdout) as Record<string, unknown>;
    assert.deepEqual([Promotions, ActiveRootID], [1, active]);
    await until(async () => !/^primary: /m.test(await readyOf(other)));
    await requireMutual(folder, [asked, "dc2"], [other, "dc2"], [third, "dc3"]);

    // The settings of a Worker change with a new deployment.
    await worker3.stop();
    const repointed = await deploy([
      {
        ...three,
        MESHCA_PRIMARY_DATACENTER: "dc2",
        MESHCA_PRIMARY_SERVERS: worker2.urls.join(","),
        MESHCA_REPLICATION_TOKEN: await replicationToken(asked),
      },
    ]);
    const again = caller(repointed.urls[0] ?? "");
    await until(async () => /^primary: dc2, .*followed index \d+$/m.test(await readyOf(again)));
    await ok(again, "PUT", "/v1/connect/ca/rotate");
    await requireMutual(folder, [asked, "dc2"], [again, "dc3"]);
    await ok(other, "PUT", "/v1/connect/ca/rotate");
    const rotated = await activeOf(other);
    assert.notEqual(rotated, active);
    await until(async () => {
      assert.equal(await repointed.cron(0), "ok");
      return (await activeOf(again)) === rotated && (await activeOf(asked)) === rotated;
    });
    await requireMutual(folder, [asked, "dc2"], [other, "dc2"], [again, "dc3"]);

    // Deployed as the primary that it is, without the key of dc1.
    const { MESHCA_PRIMARY_SERVERS: _, MESHCA_REPLICATION_TOKEN: __, ...rest } = two;
    await worker2.stop();
    const own = await deploy([{ ...rest, MESHCA_PRIMARY_DATACENTER: "dc2", MESHCA_KEK: KEK_2 }]);
    const last = caller(own.urls[0] ?? "");
    await ok(last, "PUT", "/v1/connect/ca/rotate");
    assert.notEqual(await activeOf(last), rotated);
    await requireMutual(folder, [last, "dc2"]);
  } finally {
    for (const worker of workers) await worker.stop();
    server.close();
    server.closeAllConnections();
    await dc1.close();
    await redis.stop();
    bundle.remove();
    rmSync(folder, { recursive: true, force: true });
  }
});
