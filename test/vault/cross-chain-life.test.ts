/**
 * Cross-signed certificates that Vault makes: they expire when no leaf can need them, whatever
 * kinds of keys the two roots have.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { crossChainOf } from "../../src/core/ca/cross-chain.ts";
import { pemOf } from "../../src/core/x509/certificate.ts";
import { lint } from "../../src/core/x509/lint.ts";
import { requireSigning } from "../core/ca/harness.ts";
import { configuration, type TestCa } from "../fakes/ca.ts";
import {
  bootstrapIn,
  createVaultCa,
  csrOf,
  importBelowExternal,
  NOW,
  requireOpenssl,
  toVault,
  vaultConfig,
} from "./harness.ts";
import { noVault, useVault, vaultKinds } from "./server.ts";

const HOUR = 3_600_000;

/** Checks the one cross-signed certificate of the active root, and a leaf under both roots. */
async function requireShortCrossing(ca: TestCa): Promise<void> {
  const { active, state } = ca.manager.require();
  const [crossed] = crossChainOf(active);
  const old = state.roots.find(({ status }) => status === "retired");
  assert.ok(crossed !== undefined && old !== undefined);
  const life = (crossed.notAfter.getTime() - ca.clock.now().getTime()) / HOUR;
  assert.ok(life > 3 * 72 - 1 && life <= 3 * 72, `it lives for ${life} hours`);
  assert.notEqual(crossed.serial.join(), active.certificate.serial.join());
  await requireSigning(ca.manager, csrOf(ca), ca.clock.now());
  const { certificatePem, notAfter } = await ca.manager.sign(csrOf(ca, "api"));
  assert.ok(notAfter.getTime() > ca.clock.now().getTime() + 70 * HOUR, "the leaf was cut short");
  for (const { certificate } of [active, old])
    requireOpenssl(certificatePem, pemOf(certificate), ca.clock.now());
}

for (const kind of vaultKinds)
  describe(`cross-signed certificates by ${kind}`, { skip: noVault }, () => {
    const server = useVault({ kind });

    for (const [by, of] of [
      [
        { PrivateKeyType: "ec", PrivateKeyBits: 256 },
        { PrivateKeyType: "ec", PrivateKeyBits: 384 },
      ],
      [
        { PrivateKeyType: "ec", PrivateKeyBits: 384 },
        { PrivateKeyType: "rsa", PrivateKeyBits: 2048 },
      ],
      [
        { PrivateKeyType: "rsa", PrivateKeyBits: 2048 },
        { PrivateKeyType: "ec", PrivateKeyBits: 256 },
      ],
      [
        { PrivateKeyType: "rsa", PrivateKeyBits: 4096 },
        { PrivateKeyType: "rsa", PrivateKeyBits: 2048 },
      ],
    ] as const)
      it(`of a built-in ${of.PrivateKeyType} ${of.PrivateKeyBits} root by an ${by.PrivateKeyType} ${by.PrivateKeyBits} root in Vault`, async () => {
        const ca = await createVaultCa({ bootstrap: bootstrapIn(vaultConfig(server, by)) });
        const { certificate } = ca.manager.require().active;
        await ca.manager.configure(configuration(of));
        await requireShortCrossing(ca);
        const [crossed] = crossChainOf(ca.manager.require().active);
        assert.deepEqual(await lint(crossed ?? assert.fail(), "cross-signed", certificate), []);
        await ca.manager.close();
      });

    it("of a root in Vault by another one there, by rotation and by another path", async () => {
      const config = vaultConfig(server);
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
      await ca.manager.rotate(NOW);
      await requireShortCrossing(ca);
      await ca.manager.configure(toVault(vaultConfig(server)));
      assert.equal(crossChainOf(ca.manager.require().active).length, 2);
      await requireSigning(ca.manager, csrOf(ca), ca.clock.now());
      await ca.manager.close();
    });

    it("by an issuer in Vault below an external root", async () => {
      const config = vaultConfig(server);
      await importBelowExternal(server, config);
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
      await ca.manager.configure(configuration({}));
      await requireShortCrossing(ca);
      await ca.manager.close();
    });
  });
