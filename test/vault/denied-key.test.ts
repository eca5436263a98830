/**
 * A leaf that Vault signed is denied by its key, by whichever of its identifiers: Vault's is SHA-1,
 * ours is SHA-256.
 * @module
 */
import assert from "node:assert/strict";
import { createHash, createPublicKey, X509Certificate } from "node:crypto";
import { describe, it } from "node:test";
import { readCertificate } from "../../src/core/x509/certificate.ts";
import { opensslCsr, serviceUri } from "../fakes/ca.ts";
import { guarded } from "../fixtures/guarded.ts";
import { bootstrapIn, createVaultCa, vaultConfig } from "./harness.ts";
import { noVault, useVault, vaultKinds } from "./server.ts";

for (const kind of vaultKinds)
  describe(`a leaf signed by ${kind}`, { skip: noVault }, () => {
    const server = useVault({ kind });

    it("does not renew, and its key gets no leaf, when its key is denied by SHA-1 or by SHA-256", async () => {
      const test = await guarded(
        await createVaultCa({ bootstrap: bootstrapIn(vaultConfig(server)) }),
      );
      const uri = serviceUri(test.manager, "web");
      const { csr, key } = opensslCsr(`URI:${uri}`);
      const signed = await test.call("PUT", "/v1/connect/ca/sign", csr);
      assert.equal(signed.status, 200, signed.text);
      const leaf = new X509Certificate((JSON.parse(signed.text) as { CertPEM: string }).CertPEM);
      const renew = async () => {
        const init = {
          method: "PUT",
          body: opensslCsr(`URI:${uri}`).csr,
          headers: { Host: "127.0.0.1:8500" },
        };
        const request = new Request("http://127.0.0.1:8500/v1/connect/ca/renew", init);
        const response = await test.app.fetch(request, {
          peerCertificate: new Uint8Array(leaf.raw),
        });
        return { status: response.status, text: await response.text() };
      };
      const renewed = await renew();
      assert.equal(renewed.status, 200, renewed.text);
      const spki = createPublicKey(key).export({ type: "spki", format: "der" });
      const sha1 = createHash("sha1").update(spki.subarray(-65)).digest("hex");
      assert.equal(
        Buffer.from(readCertificate(new Uint8Array(leaf.raw)).subjectKeyId ?? []).toString("hex"),
        sha1,
      );
      const denied = { status: 403, text: "Permission denied: this key is on the denylist" };
      for (const id of [sha1, createHash("sha256").update(spki).digest("hex")]) {
        const denial = JSON.parse(
          (await test.call("PUT", "/v1/connect/ca/deny", { KeyID: id })).text,
        ) as { ID: string };
        assert.deepEqual(await renew(), denied);
        assert.deepEqual(await test.call("PUT", "/v1/connect/ca/sign", csr), denied);
        await test.call("DELETE", `/v1/connect/ca/deny/${denial.ID}`, undefined);
      }
      const again = await renew();
      assert.equal(again.status, 200, again.text);
    });
  });
