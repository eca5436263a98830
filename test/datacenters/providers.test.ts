/**
 * A primary and a secondary datacenter as processes, for each pair of providers: joined, rotated, and
 * with their providers changed, while leaves of both verify by what each of them publishes.
 * @module
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { ServerProcess } from "../fixtures/process.ts";
import { until } from "../redis/server.ts";
import { VAULT_KINDS } from "../servers/build.ts";
import { vaultConfig } from "../vault/harness.ts";
import { BUILD_MS, noOwnVault, startVault, type VaultServer } from "../vault/server.ts";
import { startVerifiers } from "../verifiers/x509/verifiers.ts";
import { memberAt, requireAllVerify, rootsOf, type SentLeaf } from "./members.ts";
import { ask, call, startDatacenters } from "./servers.ts";

const CONFIGURATION = "/v1/connect/ca/configuration";
type Kind = "built-in" | "Vault";
type Config = Readonly<Record<string, unknown>>;
const MIXES: readonly (readonly [primary: Kind, secondary: Kind])[] = [
  ["built-in", "built-in"],
  ["built-in", "Vault"],
  ["Vault", "built-in"],
  ["Vault", "Vault"],
];

for (const kind of VAULT_KINDS)
  describe(`processes with ${kind} and the built-in provider`, { skip: noOwnVault }, () => {
    let vault: VaultServer;
    let tools: ReturnType<typeof startVerifiers>;
    let folder: string;
    before(
      async () => {
        folder = mkdtempSync(join(tmpdir(), "meshca-providers-"));
        vault = await startVault({ kind });
        tools = startVerifiers(["OpenSSL, strict", "Go"]);
      },
      { timeout: BUILD_MS },
    );
    after(async () => {
      tools?.close();
      await vault?.stop();
      rmSync(folder, { recursive: true, force: true });
    });

    function requestOf(provider: Kind, more: Config = {}): { Provider: string; Config: Config } {
      return provider === "Vault"
        ? { Provider: "vault", Config: vaultConfig(vault, more) }
        : { Provider: "consul", Config: { LeafCertTTL: "72h", ...more } };
    }

    /** The variables of a server whose CA is created with a provider. */
    function environmentOf(name: string, provider: Kind): Record<string, string> {
      const { Provider, Config: ca_config } = requestOf(provider);
      const file = join(folder, `${name}.json`);
      writeFileSync(file, JSON.stringify({ connect: { ca_provider: Provider, ca_config } }));
      return { MESHCA_CONFIG: file, MESHCA_VAULT_ALLOW: new URL(vault.address).host };
    }

    const activeOf = async (server: ServerProcess) => {
      const { ActiveRootID, Roots } = await rootsOf(server);
      return Roots.find(({ ID }) => ID === ActiveRootID) ?? assert.fail("There is no active root");
    };

    /** What a process of each does, one after the other. */
    async function live([one, two]: readonly [Kind, Kind], run: string): Promise<void> {
      const all = await startDatacenters(environmentOf(`${run}-dc1`, one));
      try {
        const { primary } = all;
        const secondary = await all.start("dc2", environmentOf(`${run}-dc2`, two));
        const members = [memberAt(primary, "dc1"), memberAt(secondary, "dc2")];
        let leaves: readonly SentLeaf[] = [];
        const mutual = async () => {
          leaves = await requireAllVerify(members, tools.verifiers, new Date(), leaves);
        };
        const followed = async () => {
          await mutual();
          const { ID } = await activeOf(primary);
          await until(async () => (await activeOf(secondary)).ID === ID);
          await mutual();
        };
        const configure = async (server: ServerProcess, body: object) => {
          const { SigningKeyID } = await activeOf(server);
          await call(server, "PUT", CONFIGURATION, body);
          assert.notEqual((await activeOf(server)).SigningKeyID, SigningKeyID);
        };
        await mutual();
        await call(primary, "PUT", "/v1/connect/ca/rotate");
        await followed();

        // Nothing in the secondary changes the root.
        const { ID, SigningKeyID } = await activeOf(secondary);
        await call(secondary, "PUT", "/v1/connect/ca/rotate");
        assert.notEqual((await activeOf(secondary)).SigningKeyID, SigningKeyID);
        await mutual();
        const other = (provider: Kind): Kind => (provider === "Vault" ? "built-in" : "Vault");
        const rsa = { PrivateKeyType: "rsa", PrivateKeyBits: 2048 };
        for (const [provider, more] of [
          [other(two), {}],
          [other(two), rsa],
          [two, {}],
        ] as const) {
          await configure(secondary, requestOf(provider, more));
          await mutual();
        }
        assert.equal((await activeOf(secondary)).ID, ID);

        for (const provider of [other(one), one]) {
          await configure(primary, requestOf(provider));
          await followed();
        }
        assert.match((await ask(secondary, "GET", "/readyz")).text, /^ok\n/);
      } finally {
        await all.stop();
      }
    }

    for (const mix of kind === "openbao" ? MIXES : MIXES.slice(-1))
      it(`${mix[1]} under ${mix[0]}`, { timeout: 240_000 }, () => live(mix, mix.join("-")));

    if (kind === "openbao")
      it("a secondary one joins once the Vault of the primary is unsealed", {
        timeout: 240_000,
      }, async () => {
        const all = await startDatacenters(environmentOf("sealed-dc1", "Vault"));
        try {
          await vault.seal();
          const secondary = await all.start("dc2");
          const ready = async () => (await ask(secondary, "GET", "/readyz")).text;
          await until(async () => /Vault is sealed/.test(await ready()));
          assert.match(
            await ready(),
            /it waits for the primary datacenter dc1: Datacenter dc1: No CA server answered: \S+ answered 503: Vault: .*Vault is sealed; unseal it/,
          );
          assert.equal((await ask(secondary, "GET", "/v1/connect/ca/roots")).status, 503);
          await vault.unseal();
          await until(async () => (await ask(secondary, "GET", "/readyz")).status === 200);
          const members = [memberAt(all.primary, "dc1"), memberAt(secondary, "dc2")];
          await requireAllVerify(members, tools.verifiers);
        } finally {
          await all.stop();
        }
      });
  });
