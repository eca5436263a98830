/**
 * Recovery when the root is in a Vault that is sealed or gone, and has expired or not: the built-in
 * provider takes over with a root that an operator supplies.
 * @module
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { createTlsCa } from "../../src/cli/tls/certificates.ts";
import { keyText } from "../../src/cli/tls/command-values.ts";
import { pemOf } from "../../src/core/x509/certificate.ts";
import { meshca } from "../cli/run.ts";
import { requireSigning } from "../core/ca/harness.ts";
import { configuration, createTestCa, opensslCsr, type TestCa, trustDomain } from "../fakes/ca.ts";
import { systemRandom } from "../fakes/clock.ts";
import { createTestApp } from "../fixtures/app.ts";
import { startServer } from "../fixtures/process.ts";
import { TOKEN, WITH_ACL } from "../recovery/expired.ts";
import { VAULT_KINDS } from "../servers/build.ts";
import { bootstrapIn, createVaultCa, csrOf, vaultConfig } from "./harness.ts";
import { noOwnVault, useVault, type VaultServer } from "./server.ts";

const DAY = 86_400_000;

interface Away {
  readonly name: string;
  begin(server: VaultServer): Promise<void>;
  end(server: VaultServer): Promise<void>;
}

const AWAY: readonly Away[] = [
  { name: "sealed", begin: (server) => server.seal(), end: (server) => server.unseal() },
  {
    name: "gone",
    begin: async (server) => server.kill("SIGKILL"),
    end: (server) => server.restart(),
  },
];

/** A root as tls ca create makes it, in the configuration of the built-in provider. */
async function suppliedTo({ manager, clock }: TestCa, force = false) {
  const { certificate, key } = await createTlsCa({
    ...{ key: { type: "ec", bits: 256 }, commonName: null, permitted: null, days: 365 },
    ...{ trustDomain: trustDomain(manager), random: systemRandom, now: clock.now() },
  });
  const config = { RootCert: pemOf(certificate), PrivateKey: await keyText(key) };
  return {
    id: certificate.id,
    request: configuration(config, { forceWithoutCrossSigning: force }),
  };
}

for (const kind of VAULT_KINDS)
  describe(`recovery from an expired root in ${kind}`, { skip: noOwnVault }, () => {
    const server = useVault({ kind, durable: true });

    for (const away of AWAY)
      for (const restarted of [false, true])
        it(`that is ${away.name}${restarted ? ", after a restart" : ""}`, {
          timeout: 120_000,
        }, async () => {
          const first = await createVaultCa({ bootstrap: bootstrapIn(vaultConfig(server)) });
          await requireSigning(first.manager, csrOf(first), first.clock.now());
          await away.begin(server);
          try {
            first.clock.advance(3651 * DAY);
            const ca = restarted ? await restartOf(first) : first;
            await ca.manager.tick().catch(() => undefined);
            const { fetch } = await createTestApp({}, ca);
            const ready = await fetch("/readyz");
            assert.equal(ready.status, 503);
            const { id, request } = await suppliedTo(ca);
            await ca.manager.configure(request);
            assert.equal(ca.manager.require().active.id, id);
            await requireSigning(ca.manager, csrOf(ca), ca.clock.now());
            assert.equal((await fetch("/readyz")).status, 200);
            await ca.manager.close();
          } finally {
            await away.end(server);
          }
        });

    it("a root that is still valid is replaced by force only, which is what the refusal says", {
      timeout: 120_000,
    }, async () => {
      const ca = await createVaultCa({ bootstrap: bootstrapIn(vaultConfig(server)) });
      await server.seal();
      try {
        const { request } = await suppliedTo(ca);
        const before = ca.manager.require().active.id;
        await assert.rejects(
          ca.manager.configure(request),
          /^ProviderError: Root \S+ cannot certify another one now: Vault: .* is sealed/,
        );
        assert.equal(ca.manager.require().active.id, before);
        const forced = await suppliedTo(ca, true);
        await ca.manager.configure(forced.request);
        const { roots } = ca.manager.require().state;
        assert.deepEqual(
          new Map(roots.map(({ id, abandoned }) => [id, abandoned])),
          new Map([
            [before, true],
            [forced.id, false],
          ]),
        );
        await requireSigning(ca.manager, csrOf(ca), ca.clock.now());
      } finally {
        await server.unseal();
        await ca.manager.close();
      }
    });

    it("meshca recover says what is lost, and goes on by force", { timeout: 240_000 }, async () => {
      const folder = mkdtempSync(join(tmpdir(), "meshca-vault-"));
      const running = await startServer({
        ...WITH_ACL,
        MESHCA_VAULT_ALLOW: new URL(server.address).host,
      });
      const put = await fetch(`${running.url}/v1/connect/ca/configuration`, {
        method: "PUT",
        headers: { "X-Consul-Token": TOKEN },
        body: JSON.stringify({ Provider: "vault", Config: vaultConfig(server) }),
      });
      assert.equal(put.status, 200, await put.text());
      await server.seal();
      try {
        // A service notices it.
        const request = {
          method: "PUT",
          headers: { "X-Consul-Token": TOKEN },
          body: opensslCsr(`URI:spiffe://${running.trustDomain}/ns/default/dc/dc1/svc/web`).csr,
        };
        const refused = await fetch(`${running.url}/v1/connect/ca/sign`, request);
        assert.equal(refused.status, 503);
        const environment = { MESHCA_HTTP_ADDR: running.url, MESHCA_HTTP_TOKEN: TOKEN };
        const recover = (args: readonly string[]) =>
          meshca(["recover", "--yes", ...args], environment, "", undefined, folder);
        const first = await recover([]);
        assert.equal(first.code, 75, first.stderr);
        assert.match(
          first.stdout,
          /^leaves {8}cannot be signed: Vault: .* is sealed(?:.|\n)*\n {2}The built-in provider takes the place of vault\.(?:.|\n)*\n {2}Settings of vault that are dropped; note them for the way back:\n {4}Address, IntermediatePKIPath, RootPKIPath, Token\n/m,
        );
        assert.match(
          first.stderr,
          /^Root \S+ cannot certify another one now: Vault: .* is sealed; .*; if that cannot be mended, --force-without-cross-signing goes on without a cross-signature, .*; the CA was not changed\. The root is in /,
        );
        const forced = await recover(["--continue", "--force-without-cross-signing"]);
        assert.equal(forced.code, 0, forced.stderr);
        assert.match(
          forced.stdout,
          /\n==> Deleted meshca-recovery-root-key\.pem\nThe active root is /,
        );
        assert.match(forced.stderr, /^Warning: these roots were abandoned, /);
        const signed = await fetch(`${running.url}/v1/connect/ca/sign`, request);
        assert.equal(signed.status, 200, await signed.text());
      } finally {
        await server.unseal();
        await running.stop();
        rmSync(folder, { recursive: true, force: true });
      }
    });
  });

/** The next process over the same store. */
async function restartOf(
  first: TestCa & Awaited<ReturnType<typeof createVaultCa>>,
): Promise<TestCa> {
  await first.manager.close();
  const { backend, clock, sealer, providers } = first;
  return createTestCa({ backend, clock, sealer, providers, started: false });
}
