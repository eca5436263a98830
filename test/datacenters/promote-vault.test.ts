/**
 * The failover of a primary datacenter whose root is in Vault: the promoted one signs with that Vault,
 * deletes nothing of the lost one, and the lost one comes back as a secondary. As processes.
 * @module
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { makeKek } from "../../src/seal/kek.ts";
import { meshca } from "../cli/run.ts";
import { makeDataDir, type ServerProcess, startServer } from "../fixtures/process.ts";
import { until } from "../redis/server.ts";
import { VAULT_KINDS } from "../servers/build.ts";
import { vaultConfig } from "../vault/harness.ts";
import { BUILD_MS, noOwnVault, startVault, type VaultServer } from "../vault/server.ts";
import { startVerifiers } from "../verifiers/x509/verifiers.ts";
import { memberAt, requireAllVerify, rootsOf } from "./members.ts";
import { ask, call, MANAGEMENT } from "./servers.ts";

const CONFIGURATION = "/v1/connect/ca/configuration";

for (const kind of VAULT_KINDS)
  describe(`the failover of a primary datacenter whose root is in ${kind}`, {
    skip: noOwnVault,
  }, () => {
    let vault: VaultServer;
    let tools: ReturnType<typeof startVerifiers>;
    let folder: string;
    const servers: ServerProcess[] = [];
    const folders: string[] = [];
    before(
      async () => {
        folder = mkdtempSync(join(tmpdir(), "meshca-promote-vault-"));
        vault = await startVault({ kind });
        tools = startVerifiers(["OpenSSL, strict"]);
      },
      { timeout: BUILD_MS },
    );
    after(async () => {
      for (const server of servers) await server.stop();
      tools?.close();
      await vault?.stop();
      for (const each of [folder, ...folders]) rmSync(each, { recursive: true, force: true });
    });

    const start = async (environment: Readonly<Record<string, string>>) => {
      const server = await startServer({
        MESHCA_ACL: "deny",
        MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT,
        MESHCA_TLS: "self",
        MESHCA_VAULT_ALLOW: new URL(vault.address).host,
        ...environment,
      });
      servers.push(server);
      return server;
    };
    /** Names of the issuers in a mount. */
    async function names(path: unknown): Promise<string[]> {
      const { body } = await vault.call("GET", `${path}/issuers?list=true`);
      const info = (body?.data?.key_info ?? {}) as Record<string, { issuer_name: string }>;
      return Object.values(info).map(({ issuer_name }) => issuer_name);
    }
    const of = async (path: unknown, datacenter: string) =>
      (await names(path)).filter((name) => name.includes(`-${datacenter}-`));
    const activeOf = async (server: ServerProcess) => (await rootsOf(server)).ActiveRootID;
    let policies = 0;
    const newToken = async (server: ServerProcess) => {
      const rules = { Name: `dc-${++policies}`, Rules: 'intermediate = "write"' };
      const { ID } = JSON.parse(await call(server, "PUT", "/v1/acl/policy", rules)) as {
        ID: string;
      };
      const token = await call(server, "PUT", "/v1/acl/token", { Policies: [{ ID }] });
      return (JSON.parse(token) as { SecretID: string }).SecretID;
    };
    const readyOf = async (server: ServerProcess) => (await ask(server, "GET", "/readyz")).text;

    it("the promoted one signs there, and the lost one follows with a mount of its own", {
      timeout: 240_000,
    }, async () => {
      const dataDir = () => {
        const made = makeDataDir();
        folders.push(made);
        return made;
      };
      const config = vaultConfig(vault);
      const { RootPKIPath: rootPath, IntermediatePKIPath: path } = config;
      const file = join(folder, "vault.json");
      const connect = { connect: { ca_provider: "vault", ca_config: config } };
      writeFileSync(file, JSON.stringify(connect));
      const [kek1, kek2] = [makeKek(), makeKek()];
      const one = { MESHCA_DATA_DIR: dataDir(), MESHCA_KEK: kek1, MESHCA_CONFIG: file };
      const dc1 = await start({ ...one, MESHCA_PRIMARY_DATACENTER: "dc1" });
      const caFile = join(folder, "ca.pem");
      writeFileSync(caFile, await call(dc1, "GET", "/v1/connect/ca/roots?pem=true"));
      const following = (server: ServerProcess, datacenter: string, token: string) => ({
        MESHCA_PRIMARY_DATACENTER: datacenter,
        MESHCA_PRIMARY_SERVERS: server.url,
        MESHCA_PRIMARY_CA_FILE: caFile,
        MESHCA_REPLICATION_TOKEN: token,
      });
      const dc2 = await start({
        ...following(dc1, "dc1", await newToken(dc1)),
        ...{ MESHCA_DATACENTER: "dc2", MESHCA_KEK: `${kek2},${kek1}` },
      });
      await until(async () => (await ask(dc2, "GET", "/readyz")).status === 200);
      const cli = (server: ServerProcess, ...args: readonly string[]) =>
        meshca(args, {
          ...{ MESHCA_HTTP_ADDR: server.url, MESHCA_CACERT: caFile, MESHCA_HTTP_TOKEN: MANAGEMENT },
        });
      const backup = join(folder, "dc1.backup");
      assert.equal((await cli(dc1, "backup", "save", backup)).code, 0);
      await dc1.stop();
      const before = { root: await names(rootPath), int: await names(path) };

      const promoted = await cli(dc2, "datacenter", "promote", "--backup", backup, "--yes");
      assert.deepEqual([promoted.code, promoted.stderr], [0, ""]);
      assert.deepEqual({ root: await names(rootPath), int: await names(path) }, before);
      const dc3 = await start({
        ...following(dc2, "dc2", await newToken(dc2)),
        MESHCA_DATACENTER: "dc3",
      });
      await until(async () => (await ask(dc3, "GET", "/readyz")).status === 200);
      const members = [memberAt(dc2, "dc2"), memberAt(dc3, "dc3")];
      const leaves = await requireAllVerify(members, tools.verifiers);
      await call(dc2, "PUT", "/v1/connect/ca/rotate");
      const active = await activeOf(dc2);
      await until(async () => (await activeOf(dc3)) === active);
      await requireAllVerify(members, tools.verifiers, new Date(), leaves);
      for (const [mount, existing] of [
        [rootPath, before.root],
        [path, before.int],
      ] as const)
        for (const name of existing)
          assert.ok((await names(mount)).includes(name), `${name} was deleted`);
      assert.equal((await of(rootPath, "dc2")).length, 1);
      assert.equal((await of(path, "dc2")).length, 1);

      // dc1 comes back, in the mount in which dc2 signs too, and then with another one.
      const again = await start({
        ...{ ...one, MESHCA_DATACENTER: "dc1" },
        ...following(dc2, "dc2", await newToken(dc2)),
      });
      await until(async () => /^primary: dc2, .*followed index \d+$/m.test(await readyOf(again)));
      const all = [...members, memberAt(again, "dc1")];
      await requireAllVerify(all, tools.verifiers, new Date(), leaves);
      const own = { ...config, IntermediatePKIPath: `${path}-dc1` };
      await call(again, "PUT", CONFIGURATION, { Provider: "vault", Config: own });
      assert.equal((await names(own.IntermediatePKIPath)).length, 1);
      await call(dc2, "PUT", "/v1/connect/ca/rotate");
      const latest = await activeOf(dc2);
      for (const each of [again, dc3]) await until(async () => (await activeOf(each)) === latest);
      await requireAllVerify(all, tools.verifiers, new Date(), leaves);
      assert.deepEqual(await of(path, "dc2").then(({ length }) => length), 2);
    });
  });
