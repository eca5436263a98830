/**
 * The root in Vault: made, adopted, under an external one; leaves in both modes; switches there and
 * back.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { issuerChainOf } from "../../src/core/ca/cross-chain.ts";
import { generateCaKey, signingUri } from "../../src/core/x509/authority.ts";
import { pemOf } from "../../src/core/x509/certificate.ts";
import { lint } from "../../src/core/x509/lint.ts";
import { makeCaRequest } from "../../src/core/x509/request.ts";
import { requireSigning } from "../core/ca/harness.ts";
import { configuration, confirmOver, opensslCsr } from "../fakes/ca.ts";
import {
  bootstrapIn,
  createVaultCa,
  csrOf,
  inventory,
  NOW,
  readSent,
  requireAll,
  requireOpenssl,
  toVault,
  vaultConfig,
} from "./harness.ts";
import { noVault, useVault, vaultKinds } from "./server.ts";

const HOUR = 3_600_000;

for (const kind of vaultKinds)
  describe(`the root in ${kind}`, { skip: noVault }, () => {
    const server = useVault({ kind });

    for (const mode of ["vault", "local"] as const)
      it(`bootstrap makes root and intermediate, and leaves are signed with LeafSigning ${mode}`, async () => {
        const ca = await createVaultCa({
          bootstrap: bootstrapIn(vaultConfig(server, { LeafSigning: mode })),
        });
        const leaf = await requireSigning(ca.manager, csrOf(ca), ca.clock.now());
        const { state, active } = ca.manager.require();
        assert.equal(active.certificate.uris[0], `spiffe://${state.clusterId}.consul`);
        assert.equal(issuerChainOf(active).length, 1);
        const { certificatePem } = await ca.manager.sign(csrOf(ca, "api"));
        const { intermediates } = readSent(certificatePem);
        assert.deepEqual(
          intermediates.map(({ id }) => id),
          issuerChainOf(active).map(({ id }) => id),
        );
        assert.ok(leaf.notAfter <= (issuerChainOf(active)[0]?.notAfter as Date));
        requireOpenssl(certificatePem, pemOf(active.certificate), ca.clock.now());
        // A given server's token may be a word, such as "root", that the state has for other
        // reasons.
        if (kind !== "given") assert.ok(!JSON.stringify(state).includes(server.token));
        await ca.manager.close();
      });

    for (const mode of ["vault", "local"] as const)
      it(`a trust domain of its own is in roots, intermediates, role and leaves with LeafSigning ${mode}, also of a CSR without a URI`, async () => {
        const bootstrap = {
          ...bootstrapIn(vaultConfig(server, { LeafSigning: mode })),
          trustDomain: "mesh.example.com",
        };
        const ca = await createVaultCa({ bootstrap });
        const requireOwn = async () => {
          const { active } = ca.manager.require();
          for (const { uris } of [active.certificate, ...active.intermediates])
            assert.deepEqual(uris, ["spiffe://mesh.example.com"]);
          await requireAll(ca);
          const { csr } = opensslCsr(null);
          const { uri, certificatePem } = await ca.manager.sign(csr, { service: "api" });
          assert.equal(uri, "spiffe://mesh.example.com/ns/default/dc/dc1/svc/api");
          assert.deepEqual(readSent(certificatePem).leaf.uris, [uri]);
        };
        await requireOwn();
        await ca.manager.rotate(NOW);
        await requireOwn();
        await ca.manager.configure(configuration({ PrivateKeyBits: 384 }));
        await requireOwn();
        const other = opensslCsr("URI:spiffe://other.example.com/ns/default/dc/dc1/svc/web").csr;
        await assert.rejects(ca.manager.sign(other), /different trust domain/);
        await ca.manager.close();
      });

    it("signIntermediate() certifies another datacenter's key, and no other name", async () => {
      const ca = await createVaultCa({ bootstrap: bootstrapIn(vaultConfig(server)) });
      const { active, provider, state } = ca.manager.require();
      const crossSigner = provider?.crossSigner;
      assert.ok(crossSigner);
      const key = await generateCaKey({ type: "ec", bits: 384 });
      const uri = signingUri(state);
      const [made] = await crossSigner.signIntermediate(
        await makeCaRequest(key, "sec.example", uri),
        ca.clock.now(),
      );
      assert.ok(made !== undefined);
      assert.deepEqual(await lint(made, "intermediate", active.certificate), []);
      assert.deepEqual(made.key.spki, key.info.spki);
      requireOpenssl(pemOf(made), pemOf(active.certificate), ca.clock.now());
      const other = await makeCaRequest(key, "sec.example", "spiffe://elsewhere.consul");
      await assert.rejects(
        crossSigner.signIntermediate(other, ca.clock.now()),
        /must have the one name/,
      );
      await ca.manager.close();
    });

    it("built-in to Vault and back keeps every published root in reach", async () => {
      const ca = await createVaultCa();
      const before = await inventory(server);
      const config = vaultConfig(server);
      assert.ok(await ca.manager.configure(toVault(config)));
      await requireSigning(ca.manager, csrOf(ca), ca.clock.now());
      assert.ok(await ca.manager.configure(configuration({ LeafCertTTL: "72h" })));
      await requireSigning(ca.manager, csrOf(ca), ca.clock.now());
      // What it leaves is deleted when no leaf of that root is alive: the intermediate's mount, not
      // the root's.
      ca.clock.advance(2 * 72 * HOUR + 1000);
      await confirmOver(ca);
      while ((await ca.manager.tick()).kind !== "wait") {}
      const left = await inventory(server);
      assert.deepEqual(
        new Set(Object.keys(left)),
        new Set([...Object.keys(before), `${config.RootPKIPath}/`]),
      );
      await ca.manager.close();
    });
  });
