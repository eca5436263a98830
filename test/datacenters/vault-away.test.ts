/**
 * Datacenters whose Vault is sealed or gone: what cannot be done is refused with the reason, leaves
 * everything as it is, and is done once Vault is back.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { createProviders } from "../../providers/index.ts";
import { ProviderError } from "../../src/core/errors.ts";
import { NOBODY } from "../../src/core/ports/audit.ts";
import { type FlatCaOptions, opensslCsr } from "../fakes/ca.ts";
import { VAULT_KINDS } from "../servers/build.ts";
import {
  bootstrapIn,
  clockNow,
  connectReal,
  inventory,
  NOW,
  vaultConfig,
} from "../vault/harness.ts";
import { BUILD_MS, noOwnVault, startVault, type VaultServer } from "../vault/server.ts";
import { requireMutual } from "./leaves.ts";
import { type Pair, pair } from "./pair.ts";

for (const kind of VAULT_KINDS)
  describe(`datacenters without their ${kind}`, { skip: noOwnVault }, () => {
    let server: VaultServer;
    const running: Pair[] = [];
    before(
      async () => {
        server = await startVault({ kind, durable: true });
      },
      { timeout: BUILD_MS },
    );
    after(async () => {
      for (const { one, two } of running) for (const ca of [two, one]) await ca.manager.close();
      await server.stop();
    });

    /** How Vault goes away, and comes back. */
    const ABSENCES = [
      ["sealed", () => server.seal(), () => server.unseal(), /Vault is sealed/],
      ["gone", async () => server.kill("SIGKILL"), () => server.restart(), /cannot be reached/],
    ] as const;

    async function start(one: Partial<FlatCaOptions>, two: Partial<FlatCaOptions>): Promise<Pair> {
      const clock = clockNow();
      const providers = createProviders({ connect: connectReal, clock });
      const both = await pair({ clock, one: { providers, ...one }, two: { providers, ...two } });
      running.push(both);
      return both;
    }

    const mutual = ({ one, two }: Pair) =>
      requireMutual([
        { ...one, name: "dc1" },
        { ...two, name: "dc2" },
      ]);

    for (const [how, leave, comeBack, reason] of ABSENCES) {
      it(`a secondary one whose Vault is ${how} follows once it is back`, async () => {
        const { RootPKIPath: _, ...config } = vaultConfig(server);
        const both = await start({}, { bootstrap: bootstrapIn(config) });
        await mutual(both);
        await leave();
        const { state } = both.two.manager.require();
        await both.one.manager.rotate(NOW);
        await both.settle();
        assert.equal(both.two.manager.require().state.commitId, state.commitId);
        assert.match(both.two.manager.status.primary?.fault?.reason ?? "", reason);
        await comeBack();
        await both.settle();
        assert.equal(both.two.manager.status.primary?.fault, null);
        await mutual(both);
      });

      it(`a secondary one with keys of its own follows while its Vault is ${how}`, async () => {
        const { RootPKIPath: _, ...config } = vaultConfig(server, { LeafSigning: "local" });
        const both = await start({}, { bootstrap: bootstrapIn(config) });
        await leave();
        await both.one.manager.rotate(NOW);
        await both.settle();
        await mutual(both);
        await comeBack();
      });

      it(`a primary one whose Vault is ${how} signs no intermediate, and the secondary one gets it later`, async () => {
        const both = await start({ bootstrap: bootstrapIn(vaultConfig(server)) }, {});
        const { one, two } = both;
        await one.manager.rotate(NOW);
        await leave();
        const { state } = two.manager.require();
        const before = one.manager.require().state.commitId;
        await both.settle();
        assert.equal(two.manager.require().state.commitId, state.commitId);
        assert.match(two.manager.status.primary?.fault?.reason ?? "", reason);
        await assert.rejects(two.manager.rotate(NOW), reason);
        assert.equal(one.manager.require().state.commitId, before);
        await comeBack();
        await both.settle();
        assert.equal(two.manager.status.primary?.fault, null);
        await mutual(both);
        assert.equal(two.manager.require().active.id, one.manager.require().active.id);
      });
    }

    /** What the primary answers, so that an intermediate is not taken. */
    const REFUSALS: readonly (readonly [
      what: string,
      change: (both: Pair) => Pair["primary"]["change"],
      reason: RegExp,
    ])[] = [
      [
        "the primary signs none",
        () => ({
          sign: async () => {
            throw new ProviderError("provider_unavailable", "No CA server answered");
          },
        }),
        /No CA server answered/,
      ],
      [
        "the answer is of another key",
        ({ one: { manager } }) => ({
          sign: async () => {
            const name = `URI:spiffe://${manager.require().state.trustDomain}`;
            const { csr } = opensslCsr(name, undefined, ["-subj", "/CN=x"]);
            return manager.signIntermediate({ csr, caller: NOBODY, permit: () => undefined });
          },
        }),
        /subjectPublicKeyInfo: Must be the one of the request/,
      ],
      [
        "its leaves would not verify under a root",
        () => ({
          listing: (listing) => ({
            ...listing,
            roots: listing.roots.map((root) => ({ ...root, intermediates: [] })),
          }),
        }),
        /would not verify under root/,
      ],
    ];
    for (const [what, change, reason] of REFUSALS)
      it(`a secondary one leaves nothing in its Vault if ${what}`, async () => {
        const { RootPKIPath: _, ...config } = vaultConfig(server);
        const both = await start({}, { bootstrap: bootstrapIn(config) });
        const { one, two, primary } = both;
        const found = await inventory(server);
        await one.manager.rotate(NOW);
        primary.change = change(both);
        for (let i = 0; i < 3; i++) {
          await both.settle();
          assert.match(two.manager.status.primary?.fault?.reason ?? "", reason);
          assert.deepEqual(await inventory(server), found);
        }
        primary.change = {};
        await both.settle();
        await mutual(both);
      });
  });
