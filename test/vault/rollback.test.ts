/**
 * Rollbacks to, from and within Vault: the root, its issuer and its login come back, nothing new is
 * made in Vault, and a root that is gone there is refused.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { isGarbage } from "../../src/core/ca/garbage.ts";
import { DEFAULT_POLICY } from "../../src/core/ca/timing-and-limits.ts";
import type { CaError } from "../../src/core/errors.ts";
import { pemOf } from "../../src/core/x509/certificate.ts";
import { configuration, confirmOver, type TestCa } from "../fakes/ca.ts";
import {
  bootstrapIn,
  createVaultCa,
  csrOf,
  cutting,
  generateAnother,
  inventory,
  NOW,
  requireAll,
  requireOpenssl,
  settle,
  toVault,
  vaultConfig,
} from "./harness.ts";
import { noVault, useVault, vaultKinds } from "./server.ts";

const HOUR = 3_600_000;
const LOOKS_EACH_TIME = { ...DEFAULT_POLICY, inspectMs: 0 };
const LEFT_FOR = 2 * 72 * HOUR + 1000;

const activeId = ({ manager }: TestCa) => manager.require().active.id;
const issuerOf = ({ manager }: TestCa) => manager.require().provider?.issuer.id;
const configOf = ({ manager }: TestCa) => manager.require().state.config;
const rollBack = (ca: TestCa, to: string) => ca.manager.rollBack({ ...NOW, to });
const garbageOf = ({ manager }: TestCa) =>
  Object.keys(manager.require().state.provider.retired).filter(isGarbage);

/** Sends the configuration back as it was read. */
async function requireSame(ca: TestCa): Promise<void> {
  const { document } = ca.backend;
  const { provider, config } = configOf(ca);
  const sent = configuration({ ...config }, { provider });
  assert.equal(await ca.manager.configure(sent), false);
  assert.equal(ca.backend.document, document);
}

/** Expects a rollback to be refused, and nothing to have changed, in Vault neither. */
async function requireRefused(
  ca: TestCa,
  to: string,
  expected: { readonly code: string; readonly message: RegExp },
  look: () => Promise<unknown>,
): Promise<void> {
  const [{ document }, before] = [ca.backend, await look()];
  await assert.rejects(rollBack(ca, to), (error: CaError) => {
    assert.equal(error.code, expected.code, error.message);
    assert.match(error.message, expected.message);
    return true;
  });
  assert.equal(ca.backend.document, document);
  assert.deepEqual(await look(), before);
  await requireAll(ca);
}

for (const kind of vaultKinds)
  describe(`rollbacks with ${kind}`, { skip: noVault }, () => {
    const server = useVault({ kind });
    const look = () => inventory(server);

    it("between built-in and Vault, back and forth, brings back root, issuer and configuration, and makes nothing new", {
      timeout: 120_000,
    }, async () => {
      const config = vaultConfig(server);
      const { LeafCertTTL: _, Token, ...located } = config;
      const ca = await createVaultCa({ policy: LOOKS_EACH_TIME });
      const builtIn = activeId(ca);
      const leaves = [await ca.manager.sign(csrOf(ca))];
      assert.ok(await ca.manager.configure(toVault({ ...config, CSRMaxConcurrent: 9 })));
      const [inVault, issuer] = [activeId(ca), issuerOf(ca)];
      leaves.push(await ca.manager.sign(csrOf(ca)));
      const made = await look();
      const kept = { LeafCertTTL: "72h", CSRMaxConcurrent: 9 };
      for (let i = 0; i < 3; i++) {
        ca.clock.advance(1000);
        await rollBack(ca, builtIn);
        assert.deepEqual(
          [activeId(ca), configOf(ca).provider, configOf(ca).config],
          [builtIn, "consul", kept],
        );
        await requireAll(ca);
        await requireSame(ca);
        leaves.push(await ca.manager.sign(csrOf(ca)));
        ca.clock.advance(1000);
        await rollBack(ca, inVault);
        assert.deepEqual(
          [activeId(ca), issuerOf(ca), configOf(ca).provider, configOf(ca).config],
          [inVault, issuer, "vault", { ...kept, ...located, Token: "hidden" }],
        );
        await requireAll(ca);
        await requireSame(ca);
      }
      assert.equal(
        await ca.manager.configure(toVault({ ...kept, ...located, Token })),
        false,
        "the secrets in full are another configuration",
      );
      assert.deepEqual(await look(), made);
      assert.deepEqual(garbageOf(ca), []);
      for (const { certificatePem } of leaves)
        for (const { certificate } of ca.manager.require().state.roots)
          if (certificatePem !== leaves[0]?.certificatePem || certificate.id === builtIn)
            requireOpenssl(certificatePem, pemOf(certificate), ca.clock.now());
      // What is in use stays when all else is removed.
      ca.clock.advance(LEFT_FOR);
      await confirmOver(ca);
      await settle(ca);
      assert.deepEqual(
        [activeId(ca), issuerOf(ca), ca.manager.require().state.roots.length],
        [inVault, issuer, 1],
      );
      assert.deepEqual(await look(), made);
      await ca.manager.close();
    });

    it("from mount B to mount A brings back mounts and login, and leaves what is set now", async () => {
      const token = await server.must("POST", "auth/token/create", { policies: ["root"] });
      const a = vaultConfig(server, { Token: token.auth?.client_token });
      const b = vaultConfig(server, { LeafCertTTL: "48h", leafsigning: "local" });
      const ca = await createVaultCa({ bootstrap: bootstrapIn(a) });
      const [first, issuer] = [activeId(ca), issuerOf(ca)];
      assert.ok(await ca.manager.configure(toVault(b)));
      const second = activeId(ca);
      ca.clock.advance(1000);
      await rollBack(ca, first);
      assert.deepEqual([activeId(ca), issuerOf(ca)], [first, issuer]);
      assert.deepEqual(configOf(ca).config, { ...a, LeafCertTTL: "48h", Token: "hidden" });
      await requireAll(ca);
      ca.clock.advance(1000);
      await rollBack(ca, second);
      assert.deepEqual(configOf(ca).config, { ...b, Token: "hidden" });
      assert.equal(ca.manager.require().provider?.remote, false);
      await requireAll(ca);
      await requireSame(ca);
      // A login that is gone since.
      await server.must("POST", "auth/token/revoke", { token: token.auth?.client_token });
      await requireRefused(ca, first, { code: "config_invalid", message: /token/i }, look);
      await ca.manager.close();
    });

    it("within one mount the former root stays the active one at every look", async () => {
      const config = vaultConfig(server);
      const ca = await createVaultCa({
        bootstrap: bootstrapIn(config),
        policy: LOOKS_EACH_TIME,
      });
      const first = activeId(ca);
      await ca.manager.rotate(NOW);
      const made = await look();
      ca.clock.advance(1000);
      await rollBack(ca, first);
      await settle(ca);
      assert.equal(activeId(ca), first);
      assert.deepEqual(await look(), made);
      await requireAll(ca);
      await ca.manager.close();
    });

    it("an issuer past half of its life is renewed", async () => {
      // Leaves are signed here, by the clock that is ahead of Vault's.
      const config = vaultConfig(server, { IntermediateCertTTL: "216h", LeafSigning: "local" });
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
      const [first, issuer] = [activeId(ca), issuerOf(ca)];
      assert.ok(await ca.manager.configure(configuration({ IntermediateCertTTL: "216h" })));
      ca.clock.advance(110 * HOUR);
      await rollBack(ca, first);
      assert.equal(activeId(ca), first);
      assert.notEqual(issuerOf(ca), issuer);
      await requireAll(ca);
      await requireSame(ca);
      await ca.manager.close();
    });

    it("is refused once the issuer of the root is deleted in Vault, or its mount", async () => {
      const config = vaultConfig(server);
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
      const first = activeId(ca);
      assert.ok(await ca.manager.configure(configuration({ LeafCertTTL: "72h" })));
      const { data } = await server.must("GET", `${config.RootPKIPath}/issuers?list=true`);
      await server.must("DELETE", `${config.RootPKIPath}/issuer/${(data.keys as string[])[0]}`);
      const gone = {
        code: "transition_invalid",
        message: /^Cannot use the root at "root-\w+" in Vault again: its issuer is gone there/,
      };
      await requireRefused(ca, first, gone, look);
      await server.must("DELETE", `sys/mounts/${config.RootPKIPath}`);
      await requireRefused(ca, first, gone, look);
      await ca.manager.close();
    });

    it("is refused while another root, which would be followed, is the default of the mount", async () => {
      const config = vaultConfig(server);
      const ca = await createVaultCa({
        bootstrap: bootstrapIn(config),
        policy: LOOKS_EACH_TIME,
      });
      const first = activeId(ca);
      assert.ok(await ca.manager.configure(configuration({ LeafCertTTL: "72h" })));
      await generateAnother(server, config);
      let hint = "";
      await requireRefused(
        ca,
        first,
        {
          code: "transition_invalid",
          message:
            /another root, not made by meshca, is the default issuer there and would be followed\. Make the root the default \(vault write root-\w+\/config\/issuers default=\S+\)$/,
        },
        look,
      );
      await rollBack(ca, first).catch((error: Error) => {
        hint = /default=(\S+)\)$/.exec(error.message)?.[1] ?? "";
      });
      await server.must("POST", `${config.RootPKIPath}/config/issuers`, { default: hint });
      await rollBack(ca, first);
      await settle(ca);
      assert.equal(activeId(ca), first);
      await requireAll(ca);
      await ca.manager.close();
    });

    it("is refused while Vault is unreachable, and a lost Vault is left by force", async () => {
      const cuts = cutting();
      const ca = await createVaultCa({ connect: cuts.connect });
      const first = activeId(ca);
      assert.ok(await ca.manager.configure(toVault(vaultConfig(server))));
      const second = activeId(ca);
      const { document } = ca.backend;
      cuts.arm(1, "away");
      await assert.rejects(rollBack(ca, first), { code: "provider_unavailable" });
      assert.equal(ca.backend.document, document);
      await ca.manager.rollBack({ ...NOW, to: first, forceWithoutCrossSigning: true });
      assert.equal(activeId(ca), first);
      cuts.disarm();
      await requireAll(ca);
      await assert.rejects(rollBack(ca, second), { code: "root_abandoned" });
      await ca.manager.close();
    });

    it("is refused if the issuer of Vault would make the chain too long", async () => {
      const ca = await createVaultCa({
        bootstrap: bootstrapIn(vaultConfig(server)),
        policy: { ...DEFAULT_POLICY, maxChainLength: 3 },
      });
      const first = activeId(ca);
      for (const PrivateKeyBits of [384, 256]) {
        ca.clock.advance(1000);
        assert.ok(
          await ca.manager.configure(configuration({ LeafCertTTL: "72h", PrivateKeyBits })),
        );
      }
      await requireRefused(
        ca,
        first,
        { code: "budget_exceeded", message: /would have 4 certificates, and at most 3 are/ },
        look,
      );
      await ca.manager.close();
    });
  });
