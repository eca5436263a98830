/**
 * Three datacenters as real processes on their runtimes: the others join the primary over TLS with a
 * token, follow its rotation within seconds, and their leaves verify everywhere by OpenSSL.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { makeKek } from "../../src/seal/kek.ts";
import { opensslCsr } from "../fakes/ca.ts";
import { linesOf, makeDataDir, type ServerProcess } from "../fixtures/process.ts";
import { noRedis, startRedis, until } from "../redis/server.ts";
import { COMMANDS } from "../runtimes/targets.ts";
import { rootsOf } from "./members.ts";
import { ask, call, type Datacenters, startDatacenters } from "./servers.ts";

const OPTIONS = { timeout: 120_000 };

describe("datacenters as processes", () => {
  let all: Datacenters;
  let folder: string;
  const dataDirs: string[] = [];
  before(async () => {
    all = await startDatacenters();
    folder = mkdtempSync(join(tmpdir(), "meshca-dc-"));
  });
  after(async () => {
    await all.stop();
    for (const each of [folder, ...dataDirs]) rmSync(each, { recursive: true, force: true });
  });

  /** Requires that a leaf of each verifies under each root of each, alone, by openssl. */
  async function requireMutual(servers: readonly (readonly [ServerProcess, string])[]) {
    for (const [server, datacenter] of servers) {
      const { TrustDomain } = await rootsOf(server);
      const uri = `URI:spiffe://${TrustDomain}/ns/default/dc/${datacenter}/svc/web`;
      const { csr } = opensslCsr(uri);
      const { CertPEM } = JSON.parse(await call(server, "PUT", "/v1/connect/ca/sign", csr)) as {
        CertPEM: string;
      };
      const [leaf = "", ...chain] =
        CertPEM.match(/-----BEGIN[\s\S]*?-----END CERTIFICATE-----\n/g) ?? [];
      writeFileSync(join(folder, "leaf.pem"), leaf);
      writeFileSync(join(folder, "chain.pem"), chain.join(""));
      for (const [publisher] of servers)
        for (const { RootCert, ID } of (await rootsOf(publisher)).Roots) {
          writeFileSync(join(folder, "root.pem"), RootCert);
          const untrusted = chain.length === 0 ? [] : ["-untrusted", "chain.pem"];
          const files = ["-CAfile", "root.pem", ...untrusted, "leaf.pem"];
          const verified = execFileSync("openssl", ["verify", "-x509_strict", ...files], {
            cwd: folder,
            encoding: "utf8",
          });
          assert.match(verified, /: OK\n$/, `${datacenter} under ${ID}`);
        }
    }
  }

  it("join, sign, follow a rotation", OPTIONS, async () => {
    const denoDir = makeDataDir();
    dataDirs.push(denoDir);
    const two = await all.start("dc2", {}, COMMANDS.node());
    // By the pin of the root in place of a file.
    const pinned = { MESHCA_PRIMARY_CA_FILE: "", MESHCA_PRIMARY_CA_PIN: all.caPin };
    const three = await all.start(
      "dc3",
      { MESHCA_DATA_DIR: denoDir, ...pinned },
      COMMANDS.deno(denoDir),
    );
    const each = [
      [all.primary, "dc1"],
      [two, "dc2"],
      [three, "dc3"],
    ] as const;
    const first = await rootsOf(all.primary);
    for (const [server, name] of each) {
      const { TrustDomain, ActiveRootID, Roots } = await rootsOf(server);
      assert.deepEqual([TrustDomain, ActiveRootID], [first.TrustDomain, first.ActiveRootID], name);
      const isOwn = Roots[0]?.SigningKeyID !== first.Roots[0]?.SigningKeyID;
      assert.equal(isOwn, name !== "dc1", name);
    }
    await requireMutual(each);
    const issued = JSON.parse(
      await call(all.primary, "GET", "/v1/connect/ca/intermediates"),
    ) as unknown[];
    assert.equal(issued.length, 2);

    await call(all.primary, "PUT", "/v1/connect/ca/rotate");
    const { ActiveRootID } = await rootsOf(all.primary);
    await until(async () =>
      (await Promise.all([two, three].map(rootsOf))).every(
        (roots) => roots.ActiveRootID === ActiveRootID,
      ),
    );
    await requireMutual(each);

    const ready = (await ask(two, "GET", "/readyz")).text;
    assert.match(ready, /^ok\n/);
    assert.match(ready, /^primary: dc1, last contact \S+, index (\d+), followed index \1$/m);
  });

  it("are sets of replicas on a Redis: one of them follows, all sign, and another takes over", {
    ...OPTIONS,
    skip: noRedis,
  }, async () => {
    const redis = await startRedis();
    const store = {
      // One for all: each datacenter has its own without it.
      MESHCA_STORE: `redis://127.0.0.1:${redis.port}?prefix=shared`,
      MESHCA_KEK: makeKek(),
    };
    try {
      const replicas = [await all.start("dc5", store), await all.start("dc5", store)] as const;
      const keys = async () =>
        (await Promise.all(replicas.map(rootsOf))).map(({ Roots }) => Roots[0]?.SigningKeyID);
      await until(async () => new Set(await keys()).size === 1);
      await requireMutual([
        [all.primary, "dc1"],
        ...replicas.map((each) => [each, "dc5"] as const),
      ]);
      const leader = async () =>
        (
          await Promise.all(replicas.map(async (each) => (await ask(each, "GET", "/readyz")).text))
        ).findIndex((text) => /^role: leader$/m.test(text));
      await until(async () => (await leader()) >= 0);
      const at = await leader();
      await replicas[at]?.stop();
      const other = replicas[1 - at] ?? assert.fail();
      await call(all.primary, "PUT", "/v1/connect/ca/rotate");
      const { ActiveRootID } = await rootsOf(all.primary);
      await until(async () => (await rootsOf(other)).ActiveRootID === ActiveRootID);
      await requireMutual([
        [all.primary, "dc1"],
        [other, "dc5"],
      ]);
      // The state is of dc5: a server of another datacenter does not take it.
      await assert.rejects(
        all.start("dc6", store),
        /Cannot use the stored CA state: it is of datacenter dc5, and this is dc6/,
      );
    } finally {
      await redis.stop();
    }
  });

  it(
    "need no restart after a promotion: SIGHUP takes the settings of a primary",
    OPTIONS,
    async () => {
      const config = join(folder, "dc5.json");
      const servers = { primary_servers: [all.primary.url], primary_ca_file: all.caFile };
      const write = (file: object) => writeFileSync(config, JSON.stringify(file));
      write({ datacenter: "dc5", primary_datacenter: "dc1", ...servers });
      const server = await all.start("dc5", {
        MESHCA_CONFIG: config,
        // The file has them.
        ...{
          MESHCA_PRIMARY_DATACENTER: "",
          MESHCA_PRIMARY_SERVERS: "",
          MESHCA_PRIMARY_CA_FILE: "",
        },
      });
      await until(async () => (await ask(server, "GET", "/readyz")).status === 200);
      const reload = async () => {
        const reloads = () =>
          linesOf(server.stdout()).filter(({ message }) =>
            String(message).includes("after SIGHUP"),
          );
        const before = reloads().length;
        write({ datacenter: "dc5", primary_datacenter: "dc5" });
        process.kill(server.pid, "SIGHUP");
        await until(() => reloads().length > before);
        return reloads().at(-1)?.needRestart;
      };
      // Before, a secondary does not become a primary one by its settings.
      assert.deepEqual(await reload(), ["primaryDatacenter"]);
      await call(server, "PUT", "/v1/connect/ca/promote", { NewRoot: true, Soak: "1m" });
      assert.equal(await reload(), undefined);
      assert.equal((await ask(server, "GET", "/readyz")).status, 200);
    },
  );

  it("do not join without the right in the primary, and say what is missing", OPTIONS, async () => {
    const server = await all.start("dc4", {
      MESHCA_REPLICATION_TOKEN: "22222222-2222-4333-8444-555555555555",
    });
    await until(async () => /ACL not found/.test((await ask(server, "GET", "/readyz")).text));
    const { status, text } = await ask(server, "GET", "/readyz");
    assert.equal(status, 503);
    assert.match(
      text,
      /^Cannot sign: CA has not finished initializing: it waits for the primary datacenter dc1: Datacenter dc1: The CA server \S+ refused \(403\): ACL not found; give the replication token \(MESHCA_REPLICATION_TOKEN_FILE\) intermediate = "write" there\n/,
    );
    assert.equal((await ask(server, "GET", "/v1/connect/ca/roots")).status, 503);
  });
});
