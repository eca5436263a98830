/**
 * Datacenters whose providers differ, with real Vaults and the clock of the test: renewal, changes of
 * the provider on either side, and what a secondary one leaves in Vault.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { createProviders } from "../../providers/index.ts";
import { configuration, confirmOver, type FlatCaOptions } from "../fakes/ca.ts";
import { createFakeClock, type FakeClock } from "../fakes/clock.ts";
import { VAULT_KINDS } from "../servers/build.ts";
import {
  bootstrapIn,
  connectReal,
  inventory,
  NOW,
  toVault,
  vaultConfig,
} from "../vault/harness.ts";
import { BUILD_MS, noOwnVault, startVault, type VaultServer } from "../vault/server.ts";
import { startVerifiers } from "../verifiers/x509/verifiers.ts";
import { memberOf, requireAllVerify, type SentLeaf } from "./members.ts";
import { type Pair, pair } from "./pair.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const SHORT = { IntermediateCertTTL: "6h", LeafCertTTL: "1h" };
type Config = Readonly<Record<string, unknown>>;
/** Whether Vault signs leaves, or only holds the root. */
type Kind = "built-in" | "Vault" | "Vault, local";
const MIXES: readonly (readonly [primary: Kind, secondary: Kind])[] = [
  ["built-in", "built-in"],
  // Vault's clock does not move: the leaves that it signs would be of the past.
  ["built-in", "Vault, local"],
  ["Vault, local", "built-in"],
  ["Vault, local", "Vault, local"],
];

for (const kind of VAULT_KINDS)
  describe(`datacenters with ${kind} and the built-in provider`, { skip: noOwnVault }, () => {
    let server: VaultServer;
    /** Another one. */
    let other: VaultServer;
    let tools: ReturnType<typeof startVerifiers>;
    const running: Pair[] = [];
    before(
      async () => {
        [server, other] = await Promise.all([startVault({ kind }), startVault({ kind })]);
        tools = startVerifiers(["OpenSSL, strict", "Go"]);
      },
      { timeout: BUILD_MS },
    );
    after(async () => {
      for (const { one, two } of running) for (const ca of [two, one]) await ca.manager.close();
      tools.close();
      for (const each of [server, other]) await each.stop();
    });

    /** Of a secondary datacenter too: it needs no root's mount. */
    function configOf(
      datacenter: "primary" | "secondary",
      more: Record<string, unknown> = {},
    ): Config {
      const { RootPKIPath, ...config } = vaultConfig(server, more);
      return datacenter === "primary" ? { ...config, RootPKIPath } : config;
    }

    function optionsOf(
      provider: Kind,
      datacenter: "primary" | "secondary",
      more: Record<string, unknown>,
      clock: FakeClock,
    ): Partial<FlatCaOptions> {
      const providers = createProviders({ connect: connectReal, clock });
      if (provider === "built-in")
        return { providers, bootstrap: { ...bootstrapIn(more), provider: "consul" } };
      const LeafSigning = provider === "Vault" ? "vault" : "local";
      return { providers, bootstrap: bootstrapIn(configOf(datacenter, { LeafSigning, ...more })) };
    }

    async function start(
      [one, two]: readonly [Kind, Kind],
      more: Record<string, unknown> = {},
      { at = new Date(), started = true } = {},
    ): Promise<Pair & { mutual(before?: readonly SentLeaf[]): Promise<readonly SentLeaf[]> }> {
      const clock = createFakeClock(at);
      const both = await pair({
        ...{ clock, started },
        one: optionsOf(one, "primary", more, clock),
        two: optionsOf(two, "secondary", more, clock),
      });
      running.push(both);
      const members = [memberOf(both.one, "dc1"), memberOf(both.two, "dc2")];
      return {
        ...both,
        mutual: (before) => requireAllVerify(members, tools.verifiers, clock.now(), before),
      };
    }

    const issuerOf = ({ manager }: Pair["two"]) => manager.require().active.signingKeyId;

    /** How many issuers are in the mount of a datacenter's intermediates. */
    async function issuersOf(
      { manager }: Pair["two"],
      path = manager.require().state.config.config?.IntermediatePKIPath,
    ) {
      const { [`${path}/`]: found } = (await inventory(server)) as Record<
        string,
        { readonly issuers: number }
      >;
      return found?.issuers ?? 0;
    }

    /** Lets a secondary delete what no leaf needs any more. */
    async function collect({ one, two }: Pair): Promise<void> {
      one.clock.advance(7 * DAY);
      for (let i = 0; i < 2; i++) {
        await two.manager.heartbeat();
        await confirmOver(two);
        await two.manager.heartbeat();
        for (let tick = 0; tick < 4; tick++) await two.manager.tick();
      }
    }

    for (const mix of MIXES)
      it(`${mix[1]} under ${mix[0]}: renews at half of the intermediate's life, and follows`, async () => {
        const both = await start(mix, {
          ...SHORT,
        });
        await both.mutual();
        const first = issuerOf(both.two);
        await both.settle();
        assert.equal(issuerOf(both.two), first, "renewed before it was due");
        both.one.clock.advance(3 * HOUR);
        await both.settle();
        assert.notEqual(issuerOf(both.two), first);
        assert.equal(both.two.manager.status.primary?.fault, null);
        await both.mutual();
        const { id } = both.two.manager.require().active;
        await both.one.manager.rotate(NOW);
        await both.settle();
        assert.notEqual(both.two.manager.require().active.id, id);
        await both.mutual();
      });

    it("an intermediate whose leaves Vault signs is renewed when it is due", async () => {
      // Vault's clock cannot be moved: an intermediate arrives that is renewed half an hour later, at
      // half of what is left of its life.
      const usedMs = 365 * DAY - 62 * 60_000;
      const past = new Date(Date.now() - usedMs);
      const both = await start(["built-in", "Vault"], {}, { at: past, started: false });
      const { one, two, primary } = both;
      one.clock.advance(usedMs);
      primary.change.sign = async (csr) => {
        const signer = one.manager.require().provider?.crossSigner ?? assert.fail();
        return signer.signIntermediate(csr, past);
      };
      await two.manager.tick();
      const first = issuerOf(two);
      const leaves = await both.mutual();
      primary.change = {};
      await two.manager.tick();
      assert.equal(issuerOf(two), first, "renewed before it was due");
      one.clock.advance(32 * 60_000);
      for (const ca of [one, two]) await ca.manager.heartbeat();
      await two.manager.tick();
      assert.notEqual(issuerOf(two), first);
      await both.mutual(leaves);
      assert.equal(await issuersOf(two), 2);
      await collect(both);
      assert.equal(await issuersOf(two), 1);
    });

    it("a secondary one whose issuer was deleted in Vault has another one certified", async () => {
      const both = await start(["built-in", "Vault"]);
      const { two } = both;
      await both.mutual();
      const first = issuerOf(two);
      const path = two.manager.require().state.config.config?.IntermediatePKIPath;
      const { keys } = (await server.must("GET", `${path}/issuers?list=true`)).data;
      for (const id of keys) await server.must("DELETE", `${path}/issuer/${id}`);
      // Past the pause between two looks at what is in Vault.
      both.one.clock.advance(120_000);
      await two.manager.heartbeat();
      for (let i = 0; i < 3; i++) await two.manager.tick();
      assert.notEqual(issuerOf(two), first);
      assert.equal(both.primary.signed, 2);
      await both.mutual();
    });

    it("a secondary one changes to Vault, within it and back, and leaves nothing there", async () => {
      const both = await start(["built-in", "built-in"]);
      const { two } = both;
      const [first, second] = [configOf("secondary"), configOf("secondary")];
      const elsewhere: Config = {
        ...configOf("secondary"),
        Address: other.address,
        Token: other.token,
      };
      const root = two.manager.require().active.id;
      let leaves = await both.mutual();
      const changes = [
        toVault(first),
        // Leaves are signed here; the mount is not needed any more.
        toVault({ ...first, LeafSigning: "local" }),
        toVault(first),
        toVault(second),
        toVault(elsewhere),
        configuration({ PrivateKeyType: "rsa", PrivateKeyBits: 2048 }),
        toVault({ ...first, PrivateKeyType: "rsa", PrivateKeyBits: 2048 }),
        configuration({}),
      ];
      for (const change of changes) {
        const issuer = issuerOf(two);
        assert.equal(await two.manager.configure(change), true);
        assert.notEqual(issuerOf(two), issuer);
        const { active, provider } = two.manager.require();
        assert.equal(active.id, root);
        assert.equal(provider?.issuer.key.type, change.config?.PrivateKeyType ?? "ec");
        leaves = await both.mutual(leaves);
      }
      for (let i = 0; i < changes.length; i++) await collect(both);
      const paths = [first, second].map(({ IntermediatePKIPath }) => `${IntermediatePKIPath}/`);
      assert.deepEqual(
        Object.keys(await inventory(server)).filter((path) => paths.includes(path)),
        [],
      );
      const left = Object.keys(await inventory(other));
      assert.ok(!left.includes(`${elsewhere.IntermediatePKIPath}/`), left.join());
      assert.deepEqual(two.manager.require().state.provider.retired, {});
    });

    for (const secondary of ["built-in", "Vault"] as const)
      it(`a primary one changes to Vault and back, and ${secondary} below it follows`, async () => {
        const both = await start(["built-in", secondary]);
        const { one, two } = both;
        let leaves = await both.mutual();
        for (const change of [toVault(configOf("primary")), configuration({})]) {
          assert.equal(await one.manager.configure(change), true);
          leaves = await both.mutual(leaves);
          await two.manager.heartbeat();
          // Past the age of the last look at the primary.
          one.clock.advance(20_000);
          await two.manager.tick();
          assert.equal(two.manager.require().active.id, one.manager.require().active.id);
          leaves = await both.mutual(leaves);
        }
      });
  });
