/**
 * Configurations of a root in Vault as real tools make them: each file of test/vectors/odd-inputs
 * that is about Vault, with what it should get.
 * @module
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { vaultConfig } from "./harness.ts";
import { BUILD_MS, noVault, startVault, type VaultServer, vaultKinds } from "./server.ts";

const read = (name: string): string =>
  readFileSync(new URL(`../vectors/odd-inputs/${name}`, import.meta.url), "utf8");

for (const kind of vaultKinds)
  describe(`odd inputs over ${kind}`, { skip: noVault }, () => {
    let vault: VaultServer;
    let server: ServerProcess;
    before(
      async () => {
        vault = await startVault({ kind });
        server = await startServer();
      },
      { timeout: BUILD_MS },
    );
    after(async () => {
      await server?.stop();
      await vault?.stop();
    });

    const configure = async (body: unknown) => {
      const answer = await fetch(`${server.url}/v1/connect/ca/configuration`, {
        method: "PUT",
        body: JSON.stringify(body),
      });
      return { status: answer.status, text: await answer.text() };
    };
    const configuration = async () =>
      (await (await fetch(`${server.url}/v1/connect/ca/configuration`)).json()) as Record<
        string,
        unknown
      >;

    for (const LeafSigning of ["vault", "local"])
      it(`an external root with path length 1 is refused with 400 that names it, with leaves by ${LeafSigning}`, async () => {
        const config = vaultConfig(vault, { LeafSigning });
        await vault.must("POST", `sys/mounts/${config.RootPKIPath}`, {
          type: "pki",
          config: { max_lease_ttl: "87600h" },
        });
        await vault.must("POST", `${config.RootPKIPath}/config/ca`, {
          pem_bundle: read("vault-ext-pathlen1.bundle.pem"),
        });
        const before = await configuration();
        const { status, text } = await configure({
          Provider: "vault",
          Config: config,
          ForceWithoutCrossSigning: true,
        });
        assert.match(text, /path length/i);
        assert.equal(status, 400, text);
        assert.deepEqual(await configuration(), before);
      });

    it("Consul's own get-config of a Vault CA, with RotationPeriod, is taken", async () => {
      const sent = JSON.parse(read("vault-rotationperiod.json")) as {
        Provider: string;
        Config: Record<string, unknown>;
      };
      const { RootPKIPath, IntermediatePKIPath, Address, Token } = vaultConfig(vault);
      const Config = { ...sent.Config, Address, Token, RootPKIPath, IntermediatePKIPath };
      const { status, text } = await configure({ ...sent, Config });
      assert.equal(status, 200, text);
      assert.equal((await configuration()).Provider, "vault");
    });
  });
