/**
 * One result on every runtime: the same bytes to be signed, and replicas on all of them that are
 * one CA.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { makeKek } from "../../src/seal/kek.ts";
import { makeDataDir } from "../fixtures/process.ts";
import { noRedis, type RedisServer, startRedis, until } from "../redis/server.ts";
import { json, type Leaf, leaf, roots, SETTINGS, verifies } from "./client.ts";
import { COMMANDS, type Running, TARGETS } from "./targets.ts";
import type { KeyVector } from "./tbs.ts";
import { buildWorker, startWorker } from "./workerd.ts";

/** Leaves that each replica signs while the root changes. */
const DURING = 4;

function vector(
  name: string,
  { privateKey, publicKey }: { readonly privateKey: KeyObject; readonly publicKey: KeyObject },
): KeyVector {
  const der = (bytes: Buffer) => bytes.toString("base64");
  return {
    name,
    pkcs8: der(privateKey.export({ type: "pkcs8", format: "der" })),
    spki: der(publicKey.export({ type: "spki", format: "der" })),
  };
}

/** The same from a Worker, which has no command line. */
async function onWorkers(keys: readonly KeyVector[]): Promise<unknown> {
  const bundle = buildWorker("test/runtimes/tbs-worker.ts");
  const worker = await startWorker({ bundle, isolates: [{}] });
  try {
    return await (
      await fetch(worker.urls[0] ?? "", { method: "POST", body: JSON.stringify(keys) })
    ).json();
  } finally {
    await worker.stop();
    bundle.remove();
  }
}

describe("toBeSigned()", () => {
  it("gives the same bytes on Bun, Node, Deno and Workers for roots, cross-signed roots, intermediates and leaves on every key", async () => {
    const keys = [
      ...["P-256", "P-384", "P-521"].map((namedCurve) =>
        vector(`EC ${namedCurve}`, generateKeyPairSync("ec", { namedCurve })),
      ),
      vector("RSA-2048", generateKeyPairSync("rsa", { modulusLength: 2048 })),
    ];
    const dataDir = makeDataDir();
    try {
      const printed = (["bun", "node", "deno"] as const).map((name) => {
        const [program, ...flags] = COMMANDS[name](dataDir);
        const child = join(import.meta.dirname, "tbs-child.ts");
        return execFileSync(program, [...flags, child, JSON.stringify(keys)], { encoding: "utf8" });
      });
      const [bun = "", node, deno] = printed.map(
        (text) => JSON.parse(text) as Record<string, string>,
      );
      // 4 roots, intermediates and key identifiers each, 3 cross-signed roots, 16 leaves.
      assert.equal(Object.keys(bun).length, 31);
      assert.deepEqual(node, bun);
      assert.deepEqual(deno, bun);
      assert.deepEqual(await onWorkers(keys), bun);
    } finally {
      rmSync(dataDir, { recursive: true, force: true });
    }
  });
});

describe("replicas on every runtime at once", { skip: noRedis }, () => {
  let redis: RedisServer | null = null;
  let replicas: readonly Running[] = [];
  before(async () => {
    redis = await startRedis();
    const settings = {
      ...SETTINGS,
      MESHCA_STORE: `redis://127.0.0.1:${redis.port}`,
      MESHCA_KEK: makeKek(),
    };
    replicas = await Promise.all(TARGETS.map((target) => target.start(settings)));
  });
  after(async () => {
    await Promise.all(replicas.map((replica) => replica.stop()));
    await redis?.stop();
  });

  it("a leaf that any of them signs before, during and after a rotation verifies with the roots of all others", {
    timeout: 300_000,
  }, async () => {
    const onAll = <T>(work: (url: string) => Promise<T>): Promise<T[]> =>
      Promise.all(replicas.map(({ url }) => work(url)));
    for (const { url } of replicas) {
      const old = await onAll(roots);
      for (const other of old) assert.deepEqual(other, old[0]);
      const leavesBefore = await onAll((own) => leaf(own, "web"));

      const during: Leaf[] = [];
      const signing = onAll(async (own) => {
        for (let i = 0; i < DURING; i++) during.push(await leaf(own, "web"));
      });
      const { ActiveRootID } = await json<{ ActiveRootID: string }>(
        url,
        "PUT",
        "/v1/connect/ca/rotate",
      );
      await signing;
      await until(async () =>
        (await onAll(roots)).every((published) => published.ActiveRootID === ActiveRootID),
      );

      const fresh = await onAll(roots);
      for (const other of fresh) assert.deepEqual(other, fresh[0]);
      assert.equal(during.length, DURING * replicas.length);
      const published = fresh[0]?.Roots ?? [];
      const all = published.map(({ RootCert }) => RootCert).join("");
      for (const { RootCert } of old[0]?.Roots ?? [])
        for (const { chain } of [...leavesBefore, ...during]) verifies(chain, RootCert);
      for (const { chain } of [...leavesBefore, ...during]) verifies(chain, all);
      for (const { chain } of await onAll((own) => leaf(own, "web")))
        for (const { RootCert } of published) verifies(chain, RootCert);
    }
  });
});
