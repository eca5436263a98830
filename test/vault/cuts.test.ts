/**
 * Switches to, from and within Vault that fail half-way: wherever it is, what signs goes on and nothing is left, and the
 * next try does its work.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { ConfigurationRequest } from "../../src/core/ca/reconfigure.ts";
import { configuration } from "../fakes/ca.ts";
import { bootstrapIn, type Cut, createVaultCa, cutting, inventory, requireAll, settle, toVault, vaultConfig } from "./harness.ts";
import { BUILD_MS, noVault, startVault, type VaultServer, vaultKinds } from "./server.ts";

type Config = Readonly<Record<string, unknown>>;

interface Switch {
  readonly name: string;
  /** Null: the built-in provider. */
  from(server: VaultServer): Config | null;
  to(server: VaultServer, from: Config | null): ConfigurationRequest;
  /** What must be among the calls to Vault. */
  readonly calls: readonly string[];
}

const local = (server: VaultServer) => vaultConfig(server, { LeafSigning: "local" });

const SWITCHES: readonly Switch[] = [
  {
    name: "built-in to Vault",
    from: () => null,
    to: (server) => toVault(vaultConfig(server)),
    calls: ["enableMount", "generateRoot", "signIntermediate", "setSigned", "writeRole"],
  },
  {
    name: "built-in to Vault with LeafSigning local",
    from: () => null,
    to: (server) => toVault(local(server)),
    calls: ["enableMount", "generateRoot", "signIntermediate"],
  },
  {
    name: "Vault to built-in",
    from: (server) => vaultConfig(server),
    to: () => configuration({ LeafCertTTL: "72h" }),
    calls: ["signSelfIssued"],
  },
  {
    name: "path A to path B",
    from: (server) => vaultConfig(server),
    to: (server) => toVault(vaultConfig(server)),
    calls: ["enableMount", "generateRoot", "signIntermediate", "setSigned", "writeRole", "signSelfIssued"],
  },
  {
    name: "Vault to local",
    from: (server) => vaultConfig(server),
    to: (_, from) => toVault({ ...from, Token: "hidden", LeafSigning: "local" }),
    calls: ["capabilities", "signIntermediate"],
  },
  {
    name: "local to Vault",
    from: local,
    to: (_, from) => toVault({ ...from, Token: "hidden", LeafSigning: "vault" }),
    calls: ["enableMount", "generateIntermediate", "signIntermediate", "setSigned", "writeRole"],
  },
];

for (const kind of vaultKinds)
  describe(`cuts with ${kind}`, { skip: noVault }, () => {
    let server: VaultServer;
    before(
      async () => {
        server = await startVault({ kind });
      },
      { timeout: BUILD_MS },
    );
    after(() => server.stop());

    for (const { name, from, to, calls } of SWITCHES)
      for (const how of ["refuse", "lose"] as const satisfies readonly Cut[])
        it(`${name}, cut (${how}) at every call, signs on and leaves nothing`, { timeout: 240_000 }, async () => {
          const cuts = cutting();
          const start = async () => {
            const config = from(server);
            const ca = await createVaultCa({ connect: cuts.connect, ...(config === null ? {} : { bootstrap: bootstrapIn(config) }) });
            return { ca, config, old: ca.manager.require().state.config, before: await inventory(server) };
          };
          let { ca, config, old, before } = await start();
          const hits: string[] = [];
          for (let n = 1; ; n++) {
            cuts.arm(n, how);
            const failed = await ca.manager.configure(to(server, config)).then(
              () => null,
              (error: unknown) => error,
            );
            const { hit } = cuts;
            cuts.disarm();
            if (hit === null) {
              assert.equal(failed, null);
              break;
            }
            hits.push(hit);
            if (failed === null) {
              // It did without that call.
              await requireAll(ca);
              await ca.manager.close();
              ({ ca, config, old, before } = await start());
              continue;
            }
            assert.deepEqual(ca.manager.require().state.config, old, hit);
            await requireAll(ca);
            await settle(ca);
            assert.deepEqual(await inventory(server), before, `cut at ${hit} leaves something`);
          }
          for (const call of calls) assert.ok(hits.includes(call), `${call} is not among ${hits.join()}`);
          await requireAll(ca);
          await ca.manager.close();
        });

    it("what a switch made before Vault went away is not undone once a second try has put it to use", { timeout: 240_000 }, async () => {
      const cuts = cutting();
      for (let n = 1; ; n++) {
        const ca = await createVaultCa({ connect: cuts.connect });
        const to = toVault(vaultConfig(server));
        cuts.arm(n, "away");
        const failed = await ca.manager.configure(to).then(
          () => null,
          (error: unknown) => error,
        );
        const { hit } = cuts;
        cuts.disarm();
        if (failed !== null) assert.ok(await ca.manager.configure(to), String(hit));
        const made = await inventory(server);
        await settle(ca);
        assert.deepEqual(await inventory(server), made, `after ${hit} something in use was undone`);
        await requireAll(ca);
        await ca.manager.close();
        if (hit === null) break;
      }
    });
  });
