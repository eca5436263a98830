/**
 * Switches to, from and within Vault that fail half-way: at whichever call, signing goes on and
 * nothing is left, and the next try does its work.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { ConfigurationRequest } from "../../src/core/ca/plan-change.ts";
import { configuration, type TestCa } from "../fakes/ca.ts";
import {
  bootstrapIn,
  type Cut,
  createVaultCa,
  cutting,
  generateAnother,
  importBelowExternal,
  inventory,
  NOW,
  requireAll,
  settle,
  toVault,
  vaultConfig,
} from "./harness.ts";
import { noVault, useVault, type VaultServer, vaultKinds } from "./server.ts";

const MINUTE = 60_000;

type Config = Readonly<Record<string, unknown>>;

interface Servers {
  readonly server: VaultServer;
  readonly other: VaultServer;
}

/** One try of a change. */
type Try = (ca: TestCa) => Promise<unknown>;

interface Switch {
  readonly name: string;
  /** Null: the built-in provider. */
  from(servers: Servers): Config | null;
  /** Has an operator do their part in Vault, and brings the CA to where it starts, once. */
  ready(servers: Servers, from: Config, ca: TestCa): Promise<Try>;
  /** What must be among the calls to Vault. */
  readonly calls: readonly string[];
}

const inVault = ({ server }: Servers) => vaultConfig(server);
const local = ({ server }: Servers) => vaultConfig(server, { LeafSigning: "local" });

const configuring =
  (to: (servers: Servers, from: Config) => ConfigurationRequest): Switch["ready"] =>
  async (servers, from) =>
  ({ manager }) =>
    manager.configure(to(servers, from));

/** A rollback of another change. */
const rollingBack =
  (change: (servers: Servers) => ConfigurationRequest): Switch["ready"] =>
  async (servers, _, ca) => {
    const to = ca.manager.require().active.id;
    await ca.manager.configure(change(servers));
    ca.clock.advance(1000);
    return ({ manager }) => manager.rollBack({ ...NOW, to });
  };

const SWITCHES: readonly Switch[] = [
  {
    name: "built-in to Vault",
    from: () => null,
    ready: configuring((servers) => toVault(inVault(servers))),
    calls: ["enablePki", "generateRoot", "signIntermediate", "setSigned", "writeRole"],
  },
  {
    name: "built-in to Vault with LeafSigning local",
    from: () => null,
    ready: configuring((servers) => toVault(local(servers))),
    calls: ["enablePki", "generateRoot", "signIntermediate"],
  },
  {
    name: "built-in to below an external root",
    from: () => null,
    async ready({ server }) {
      const config = vaultConfig(server);
      await importBelowExternal(server, config);
      return ({ manager }) => manager.configure(toVault(config));
    },
    calls: ["readCaChain", "enablePki", "signIntermediate", "setSigned", "writeRole"],
  },
  {
    name: "Vault to built-in",
    from: inVault,
    ready: configuring(() => configuration({ LeafCertTTL: "72h" })),
    calls: ["signSelfIssued"],
  },
  {
    name: "path A to path B",
    from: inVault,
    ready: configuring((servers) => toVault(inVault(servers))),
    calls: [
      "enablePki",
      "generateRoot",
      "signIntermediate",
      "setSigned",
      "writeRole",
      "signSelfIssued",
    ],
  },
  {
    name: "a server to another server",
    from: inVault,
    ready: configuring(({ other }) => toVault(vaultConfig(other))),
    calls: [
      "enablePki",
      "generateRoot",
      "signIntermediate",
      "setSigned",
      "writeRole",
      "signSelfIssued",
    ],
  },
  {
    name: "Vault to local",
    from: inVault,
    ready: configuring((_, from) => toVault({ ...from, Token: "hidden", LeafSigning: "local" })),
    calls: ["capabilities", "signIntermediate"],
  },
  {
    name: "local to Vault",
    from: local,
    ready: configuring((_, from) => toVault({ ...from, Token: "hidden", LeafSigning: "vault" })),
    calls: ["enablePki", "generateIntermediate", "signIntermediate", "setSigned", "writeRole"],
  },
  {
    name: "a root to one that an operator generates next to it",
    from: inVault,
    async ready({ server }, from) {
      await generateAnother(server, from);
      return async ({ clock, manager }) => {
        // Longer than from one look to the next, and than a failure is waited out.
        clock.advance(5 * MINUTE);
        // A Vault that a look found away is asked for leaves again after a second.
        await manager.tick().finally(() => clock.advance(1000));
      };
    },
    calls: [
      "listIssuers",
      "readCa",
      "generateIntermediate",
      "signIntermediate",
      "setSigned",
      "signSelfIssued",
    ],
  },
  {
    name: "a root to one that we make next to it",
    from: inVault,
    ready:
      async () =>
      ({ manager }) =>
        manager.rotate(NOW),
    calls: [
      "generateRoot",
      "generateIntermediate",
      "signIntermediate",
      "setSigned",
      "signSelfIssued",
    ],
  },
  {
    name: "a rollback from built-in to Vault",
    from: inVault,
    ready: rollingBack(() => configuration({ LeafCertTTL: "72h" })),
    calls: ["listIssuers", "capabilities", "readRole"],
  },
  {
    name: "a rollback from Vault to built-in",
    from: () => null,
    ready: rollingBack((servers) => toVault(inVault(servers))),
    calls: ["signSelfIssued"],
  },
  {
    name: "a rollback from path B to path A",
    from: inVault,
    ready: rollingBack((servers) => toVault(inVault(servers))),
    calls: ["listIssuers", "capabilities", "readRole", "signSelfIssued"],
  },
];

for (const kind of vaultKinds)
  describe(`cuts with ${kind}`, { skip: noVault }, () => {
    const server = useVault({ kind });
    const other = useVault({ kind });
    const inventories = () => Promise.all([inventory(server), inventory(other)]);

    for (const { name, from, ready, calls } of SWITCHES)
      for (const how of ["refuse", "lose"] as const satisfies readonly Cut[])
        it(`${name}, cut (${how}) at every call, signs on and leaves nothing`, {
          timeout: 240_000,
        }, async () => {
          const cuts = cutting();
          const start = async () => {
            const config = from({ server, other });
            const ca = await createVaultCa({
              connect: cuts.connect,
              ...(config === null ? {} : { bootstrap: bootstrapIn(config) }),
            });
            const attempt = await ready({ server, other }, { ...config }, ca);
            return {
              ca,
              attempt,
              old: ca.manager.require().state.commitId,
              before: await inventories(),
            };
          };
          let { ca, attempt, old, before } = await start();
          const hits: string[] = [];
          for (let n = 1; ; n++) {
            cuts.arm(n, how);
            const failed = await attempt(ca).then(
              () => null,
              (error: unknown) => error,
            );
            const { hit } = cuts;
            cuts.disarm();
            if (hit === null) assert.equal(failed, null);
            else hits.push(hit);
            assert.equal(
              ca.manager.require().state.commitId === old,
              failed !== null,
              `cut at ${hit}`,
            );
            await requireAll(ca);
            if (hit === null) break;
            if (failed !== null) {
              await settle(ca);
              assert.deepEqual(await inventories(), before, `cut at ${hit} leaves something`);
            }
            // It did without that call, or is so far ahead of Vault's clock that what Vault signs
            // would soon be dead by its own.
            if (failed === null || ca.clock.now().getTime() > Date.now() + 30 * MINUTE) {
              await ca.manager.close();
              ({ ca, attempt, old, before } = await start());
            }
          }
          for (const call of calls)
            assert.ok(hits.includes(call), `${call} is not among ${hits.join()}`);
          await ca.manager.close();
        });

    it("objects of a switch made before Vault became unavailable are not rolled back once a retry uses them", {
      timeout: 240_000,
    }, async () => {
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
