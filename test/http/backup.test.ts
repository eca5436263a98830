/**
 * Backup and restore, import, and the end of a conflict: which roots are published afterwards, and
 * that every leaf that is out there still verifies.
 * @module
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { readPem } from "../../src/core/pem.ts";
import { readCertificate } from "../../src/core/x509/certificate.ts";
import { findPath } from "../../src/core/x509/chain.ts";
import { makeKek } from "../../src/seal/kek.ts";
import { abandonedRoot } from "../core/ca/abandoned.ts";
import { readChain } from "../core/ca/harness.ts";
import { opensslCsr } from "../fakes/ca.ts";
import { createTestApp } from "../fixtures/app.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { noRedis, type RedisServer, startRedis } from "../redis/server.ts";

interface WireRoots {
  readonly ActiveRootID: string;
  readonly TrustDomain: string;
  readonly Roots: readonly {
    readonly ID: string;
    readonly RootCert: string;
    readonly Active: boolean;
  }[];
}

const KEK = makeKek();
const BACKUP = "/v1/connect/ca/backup";

async function call(
  server: ServerProcess,
  method: string,
  path: string,
  body?: string,
): Promise<{ status: number; text: string }> {
  const answer = await fetch(`${server.url}${path}`, {
    method,
    ...(body === undefined ? {} : { body }),
  });
  return { status: answer.status, text: await answer.text() };
}
const roots = async (server: ServerProcess) =>
  JSON.parse((await call(server, "GET", "/v1/connect/ca/roots")).text) as WireRoots;
const rotate = async (server: ServerProcess) =>
  assert.equal((await call(server, "PUT", "/v1/connect/ca/rotate")).status, 200);

/** Signs a leaf, which must verify under each published root by itself. @returns its chain */
async function sign(server: ServerProcess): Promise<string> {
  const { TrustDomain, Roots } = await roots(server);
  const { csr } = opensslCsr(`URI:spiffe://${TrustDomain}/ns/default/dc/dc1/svc/web`);
  const answer = await fetch(`${server.url}/v1/connect/ca/sign`, {
    method: "PUT",
    body: csr,
    headers: { Accept: "application/pem-certificate-chain" },
  });
  const pem = await answer.text();
  for (const { RootCert, ID } of Roots)
    assert.ok(await verifies(pem, RootCert), `no path to root ${ID}`);
  return pem;
}

async function verifies(pem: string, root: string): Promise<boolean> {
  const { leaf, intermediates } = readChain(pem);
  const [anchor] = readPem(root).map(({ bytes }) => readCertificate(bytes));
  assert.ok(anchor !== undefined);
  return (await findPath(leaf, intermediates, anchor, new Date())) !== null;
}

/** Every store, with what starts a server on a fresh one. */
function onBothStores(
  name: string,
  work: (environment: () => Promise<Record<string, string>>) => Promise<void>,
): void {
  it(`${name} (SQLite)`, () => work(async () => ({ MESHCA_KEK: KEK })));
  it(`${name} (Redis)`, { skip: noRedis }, async () => {
    const servers: RedisServer[] = [];
    try {
      await work(async () => {
        const server = await startRedis();
        servers.push(server);
        return { MESHCA_STORE: `redis://127.0.0.1:${server.port}`, MESHCA_KEK: KEK };
      });
    } finally {
      for (const server of servers) await server.stop();
    }
  });
}

describe("backup and restore", () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "meshca-backup-"));
  });
  after(() => rmSync(folder, { recursive: true }));

  onBothStores(
    "a backup put back makes its root active again, and keeps what came since as retired",
    async (environment) => {
      const server = await startServer(await environment());
      try {
        await rotate(server);
        const then = await roots(server);
        const backup = await fetch(`${server.url}${BACKUP}`);
        assert.match(
          backup.headers.get("content-disposition") ?? "",
          /^attachment; filename="meshca-[0-9a-f-]{36}-2\.backup"$/,
        );
        const file = await backup.text();
        assert.ok(!file.includes("PRIVATE KEY"));
        await rotate(server);
        await rotate(server);
        const between = [await sign(server), (await roots(server)).ActiveRootID] as const;
        assert.deepEqual(JSON.parse((await call(server, "PUT", BACKUP, file)).text), {
          ActiveRootID: then.ActiveRootID,
          ModifyIndex: 5,
        });
        const now = await roots(server);
        assert.equal(now.ActiveRootID, then.ActiveRootID);
        assert.equal(now.Roots.filter(({ Active }) => Active).length, 1);
        assert.ok(now.Roots.some(({ ID }) => ID === between[1]));
        for (const { ID } of then.Roots) assert.ok(now.Roots.some((root) => root.ID === ID));
        await sign(server);
        // What was signed since verifies for a peer with the roots that are published now.
        const found = await Promise.all(
          now.Roots.map(({ RootCert }) => verifies(between[0], RootCert)),
        );
        assert.ok(found.includes(true));
        await rotate(server);
        await sign(server);
      } finally {
        await server.stop();
      }
    },
  );

  onBothStores(
    "a backup is put back only under the ModifyIndex that is named, and says which root becomes active",
    async (environment) => {
      const server = await startServer(await environment());
      try {
        const file = (await call(server, "GET", BACKUP)).text;
        const then = await roots(server);
        await rotate(server);
        const now = await roots(server);
        const { ModifyIndex } = JSON.parse(
          (await call(server, "GET", "/v1/connect/ca/configuration")).text,
        ) as { ModifyIndex: number };
        assert.equal(ModifyIndex, 2);
        for (const stale of ["1", "3", "18446744073709551615"]) {
          const refused = await call(server, "PUT", `${BACKUP}?ModifyIndex=${stale}`, file);
          const text = `ModifyIndex did not match existing: it is 2. Nothing was restored; the backup would make root ${then.ActiveRootID} active, and root ${now.ActiveRootID} is active now`;
          assert.deepEqual([refused.status, refused.text], [409, text]);
        }
        for (const [wrong, text] of [
          [
            "ModifyIndex=",
            /^The 'ModifyIndex' query parameter must be a whole number below 2\^64$/,
          ],
          ["ModifyIndex=-1", /must be a whole number/],
          ["ModifyIndex=2.0", /must be a whole number/],
          ["ModifyIndex=18446744073709551616", /must be a whole number/],
          ["ModifyIndex=2&modifyindex=3", /is given twice$/],
          ["ModifyIndex=2&ModifyIndex=3", /is given twice$/],
          ["force=false&force=true", /^The 'force' query parameter is given twice$/],
        ] as const) {
          const refused = await call(server, "PUT", `${BACKUP}?${wrong}`, file);
          assert.deepEqual(
            [refused.status, text.test(refused.text)],
            [400, true],
            `${wrong}: ${refused.text}`,
          );
        }
        assert.deepEqual(await roots(server), now);
        const done = await call(server, "PUT", `${BACKUP}?modifyindex=${ModifyIndex}`, file);
        assert.deepEqual(JSON.parse(done.text), {
          ActiveRootID: then.ActiveRootID,
          ModifyIndex: 3,
        });
        assert.equal(
          (await call(server, "PUT", `${BACKUP}?ModifyIndex=${ModifyIndex}`, file)).status,
          409,
        );
        assert.equal((await call(server, "PUT", `${BACKUP}?ModifyIndex=0`, file)).status, 200);
        await sign(server);
      } finally {
        await server.stop();
      }
    },
  );

  onBothStores(
    "a backup begins an empty store with MESHCA_IMPORT, and is refused by another CA",
    async (environment) => {
      const server = await startServer(await environment());
      await rotate(server);
      const expected = await roots(server);
      const path = join(folder, `${crypto.randomUUID()}.backup`);
      writeFileSync(path, (await call(server, "GET", BACKUP)).text);
      await server.stop();
      const again = await startServer({
        ...(await environment()),
        MESHCA_IMPORT: `backup:${path}`,
      });
      try {
        const found = await roots(again);
        assert.deepEqual(
          [found.ActiveRootID, found.TrustDomain],
          [expected.ActiveRootID, expected.TrustDomain],
        );
        await sign(again);
      } finally {
        await again.stop();
      }
      const other = await startServer(await environment());
      try {
        const refused = await call(other, "PUT", BACKUP, readFileSync(path, "utf8"));
        assert.equal(refused.status, 409);
        assert.match(
          refused.text,
          /^Cannot restore: the backup is of cluster \S+, this is \S+; start on an empty store with MESHCA_IMPORT/,
        );
      } finally {
        await other.stop();
      }
    },
  );

  it("PUT /v1/connect/ca/backup refuses a file that is not a backup of this CA, and changes nothing", async () => {
    const server = await startServer({ MESHCA_KEK: KEK });
    try {
      const file = (await call(server, "GET", BACKUP)).text;
      const before = (await call(server, "GET", "/v1/connect/ca/roots")).text;
      const bad: readonly (readonly [string, number, RegExp])[] = [
        ["", 400, /^Cannot read backup: .* its document is not JSON$/],
        [
          "{}",
          400,
          /^Cannot read backup: .* its document does not have the fields of a state document$/,
        ],
        [
          file.replace('\\"retired\\":{}', '\\"retired\\":{ }'),
          400,
          /^Cannot read backup: .* the MAC of its document is invalid$/,
        ],
        [
          file.replace(/"schema":\d+/, '"schema":99'),
          400,
          /^Cannot read backup: .* it has schema 99/,
        ],
        [
          file.replace(/"mac":"[^:]+/, '"mac":"other'),
          400,
          /^Cannot read backup: .*key-encryption key "other"/,
        ],
        ["x".repeat(129 * 1024), 413, /longer than/],
      ];
      for (const [body, status, says] of bad) {
        const answer = await call(server, "PUT", BACKUP, body);
        assert.equal(answer.status, status, answer.text);
        if (body.length < 128 * 1024) assert.match(answer.text, says);
      }
      assert.equal((await call(server, "GET", "/v1/connect/ca/roots")).text, before);
    } finally {
      await server.stop();
    }
  });

  it("MESHCA_IMPORT=sqlite:PATH imports a CA from SQLite into Redis, and encrypts its keys again", {
    skip: noRedis,
  }, async () => {
    const data = mkdtempSync(join(folder, "data-"));
    const alone = await startServer({ MESHCA_DATA_DIR: data });
    await rotate(alone);
    const [expected, leaf] = [await roots(alone), await sign(alone)];
    await alone.stop();
    const redis = await startRedis();
    try {
      const environment = {
        MESHCA_STORE: `redis://127.0.0.1:${redis.port}`,
        MESHCA_KEK: KEK,
        MESHCA_IMPORT: `sqlite:${join(data, "meshca.db")}`,
      };
      const replicas = await Promise.all([startServer(environment), startServer(environment)]);
      for (const replica of replicas) {
        const found = await roots(replica);
        assert.deepEqual(
          [found.ActiveRootID, found.TrustDomain],
          [expected.ActiveRootID, expected.TrustDomain],
        );
        assert.deepEqual(
          found.Roots.map(({ ID }) => ID),
          expected.Roots.map(({ ID }) => ID),
        );
        assert.ok(await verifies(leaf, found.Roots.find(({ Active }) => Active)?.RootCert ?? ""));
        await sign(replica);
      }
      const use = JSON.parse((await call(replicas[0], "GET", "/v1/connect/ca/rewrap")).text) as {
        InUse: string[];
      };
      assert.deepEqual(use.InUse, [KEK.split(":")[0]]);
      await Promise.all(replicas.map((replica) => replica.stop()));
      // The store is not empty any more: the import has nothing to do, and the file may be gone.
      const later = await startServer({ ...environment, MESHCA_IMPORT: "sqlite:/nowhere.db" });
      assert.equal((await roots(later)).ActiveRootID, expected.ActiveRootID);
      await later.stop();
    } finally {
      await redis.stop();
    }
  });
});

describe("a backup from before its root was abandoned", () => {
  it("is restored only by force, and the refusal names the reason", async () => {
    const { ca, backup } = await abandonedRoot(new Date());
    const test = await createTestApp({}, ca);
    const file = await test.options.codec.encode(backup);
    const put = (query: string) => test.fetch(`${BACKUP}${query}`, { method: "PUT", body: file });
    const before = ca.backend.document;
    const refused = await put("");
    assert.equal(refused.status, 409);
    assert.match(
      await refused.text(),
      /^Cannot make root [0-9a-f:]+ active: a forced rotation abandoned it since, as is done if a key may be stolen\. ForceWithoutCrossSigning makes it active nevertheless$/,
    );
    assert.equal(ca.backend.document, before);
    const forced = await put("?force=true");
    assert.equal(forced.status, 200);
    assert.equal(
      ((await forced.json()) as { ActiveRootID: string }).ActiveRootID,
      backup.roots.find(({ status }) => status === "active")?.id,
    );
  });
});
