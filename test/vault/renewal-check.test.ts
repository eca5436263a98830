/**
 * Which leaves are ours if Vault has the root: those of the issuers that signed for us, earlier
 * ones and those of a retired root too, and none that hangs below the same root by other ways.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { withKeptIssuers } from "../../src/core/ca/leaf-issuers.ts";
import { isOwnLeaf } from "../../src/core/ca/renewal-check.ts";
import { generateCaKey, signingUri } from "../../src/core/x509/authority.ts";
import { type Certificate, readCertificatePem } from "../../src/core/x509/certificate.ts";
import { findPath } from "../../src/core/x509/chain.ts";
import { makeCaRequest } from "../../src/core/x509/request.ts";
import { createCodec } from "../../src/store/state-document.ts";
import { readChain } from "../core/ca/harness.ts";
import { makeLeaf } from "../core/ca/pool.ts";
import { serviceUri, type TestCa } from "../fakes/ca.ts";
import { bootstrapIn, createVaultCa, csrOf, NOW, toVault, vaultConfig } from "./harness.ts";
import { noVault, useVault, vaultKinds } from "./server.ts";

const isOurs = (ca: TestCa, leaf: Certificate, state = ca.manager.require().state) =>
  isOwnLeaf(leaf, state, ca.clock.now());
const signed = async (ca: TestCa) =>
  readChain((await ca.manager.sign(csrOf(ca))).certificatePem).leaf;

for (const kind of vaultKinds)
  describe(`leaves of ours with the root in ${kind}`, { skip: noVault }, () => {
    const server = useVault({ kind });

    it("are those of each issuer that signed for us, through new issuers and roots, and as an older schema stored it", async () => {
      const config = vaultConfig(server);
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
      const first = await signed(ca);
      await ca.manager.configure(toVault({ ...config, LeafSigning: "local" }));
      const second = await signed(ca);
      assert.notDeepEqual(first.authorityKeyId, second.authorityKeyId);
      await ca.manager.rotate(NOW);
      const third = await signed(ca);
      for (const leaf of [first, second, third]) assert.equal(await isOurs(ca, leaf), true);

      // Schema 2 has no record: the retired root's last issuer stands in what Vault's provider
      // keeps.
      const codec = createCodec(ca.sealer);
      const old = await codec.decode(
        await codec.encode({ ...ca.manager.require().state, schema: 2 }),
      );
      assert.equal(await isOurs(ca, second, old), false);
      const complete = withKeptIssuers(old, ca.providers);
      for (const [leaf, known] of [
        [first, false],
        [second, true],
        [third, true],
      ] as const)
        assert.equal(await isOurs(ca, leaf, complete), known);
      await ca.manager.close();
    });

    it("do not include leaves below an intermediate for another datacenter, nor certificates that the root or its mount signs for others", async () => {
      const config = vaultConfig(server);
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
      const { active, provider, state } = ca.manager.require();
      const [now, root] = [ca.clock.now(), active.certificate];
      const key = await generateCaKey({ type: "ec", bits: 256 });
      const request = await makeCaRequest(key, "sec.example", signingUri(state));
      const [theirs] = (await provider?.crossSigner?.signIntermediate(request, now)) ?? [];
      assert.ok(theirs !== undefined);
      const below = await makeLeaf(
        { certificate: theirs, privateKey: key.privateKey },
        now,
        new Date(now.getTime() + 60_000),
      );
      assert.notEqual(await findPath(below, [theirs], root, now), null);
      assert.equal(await isOurs(ca, below), false);

      const uri = serviceUri(ca.manager, "web");
      const role = {
        allow_any_name: true,
        allowed_uri_sans: "spiffe://*",
        key_type: "ec",
        key_bits: 256,
        require_cn: false,
        ttl: "1h",
        not_before_duration: "10m",
      };
      await server.must("POST", `${config.RootPKIPath}/roles/other`, role);
      const { data } = await server.must("POST", `${config.RootPKIPath}/issue/other`, {
        uri_sans: uri,
      });
      const direct = readCertificatePem(String(data.certificate));
      assert.deepEqual(direct.uris, [uri]);
      assert.equal(await isOurs(ca, direct), false);
      assert.equal(await isOurs(ca, await signed(ca)), true);
      await ca.manager.close();
    });
  });
