/**
 * What gets lost or expires in Vault is noticed in time, is logged, and is repaired without a
 * request that would show it.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseVaultConfig } from "../../providers/vault/config.ts";
import { issuerChainOf } from "../../src/core/ca/cross-chain.ts";
import { DEFAULT_POLICY } from "../../src/core/ca/timing-and-limits.ts";
import { ConfigError, ProviderError } from "../../src/core/errors.ts";
import { requireSigning } from "../core/ca/harness.ts";
import { configuration, type TestCa } from "../fakes/ca.ts";
import { createTestApp } from "../fixtures/app.ts";
import { until } from "../redis/server.ts";
import {
  bootstrapIn,
  clockNow,
  connectWith,
  createVaultCa,
  csrOf,
  cutting,
  generateAnother,
  importBelowExternal,
  inventory,
  NOW,
  readSent,
  settle,
  toVault,
  vaultConfig,
} from "./harness.ts";
import { enableApprole, noVault, useVault, vaultKinds } from "./server.ts";

const DAY = 86_400_000;
const ALL = 'path "*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }';
const POLICY = { ...DEFAULT_POLICY, inspectMs: 0 };
const issuerOf = (ca: TestCa) => issuerChainOf(ca.manager.require().active)[0]?.id;

for (const kind of vaultKinds)
  describe(`recovery with ${kind}`, { skip: noVault }, () => {
    const server = useVault({ kind });

    it("another intermediate of the same external root is taken up by itself, and by rotate()", async () => {
      const config = vaultConfig(server);
      await importBelowExternal(server, config);
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config), policy: POLICY });
      const { id } = ca.manager.require().active;
      const replace = async () => {
        const { RootPKIPath } = config;
        const { data } = await server.must(
          "POST",
          `${RootPKIPath}/intermediate/generate/internal`,
          { common_name: "next issuer" },
        );
        const certify = {
          csr: data.csr,
          use_csr_values: true,
          format: "pem_bundle",
          ttl: "60000h",
        };
        const signed = await server.must(
          "POST",
          `${RootPKIPath}-above/root/sign-intermediate`,
          certify,
        );
        const set = await server.must("POST", `${RootPKIPath}/intermediate/set-signed`, {
          certificate: signed.data.certificate,
        });
        const [issuer] =
          Object.entries(set.data.mapping as Record<string, string>).find(
            ([, key]) => key === data.key_id,
          ) ?? [];
        await server.must("POST", `${RootPKIPath}/config/issuers`, { default: issuer });
      };
      for (const takeUp of [() => settle(ca), () => ca.manager.rotate(NOW)]) {
        const old = issuerChainOf(ca.manager.require().active);
        await replace();
        await takeUp();
        const { active } = ca.manager.require();
        assert.equal(active.id, id);
        const now = issuerChainOf(active);
        assert.deepEqual(
          now.map((issuer, i) => issuer.id === old[i]?.id),
          [false, false],
        );
        await requireSigning(ca.manager, csrOf(ca), ca.clock.now());
      }
      assert.ok(await ca.manager.configure(toVault({ ...config, LeafCertTTL: "71h" })));
      await ca.manager.close();
    });

    it("a deleted issuer is created again while requests come in", async () => {
      const config = vaultConfig(server);
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
      await ca.manager.tick();
      const lost = issuerOf(ca);
      const { data } = await server.must("GET", `${config.IntermediatePKIPath}/issuers?list=true`);
      await server.must("DELETE", `${config.IntermediatePKIPath}/issuer/${data.keys[0]}`);
      // Ten requests a second; the leader checks its Vault resources once a minute.
      for (let tenths = 0; tenths < 900 && issuerOf(ca) === lost; tenths++) {
        ca.clock.advance(100);
        await ca.manager.sign(csr(ca)).catch(() => undefined);
        if (tenths % 40 === 20) await ca.manager.tick().catch(() => undefined);
      }
      assert.notEqual(issuerOf(ca), lost);
      await ca.manager.sign(csr(ca));
      await ca.manager.close();
    });

    it("readiness recovers without a request some seconds after a refusal by Vault", async () => {
      const token = await server.tokenWith(ALL);
      const config = vaultConfig(server, { Token: token });
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
      const app = await createTestApp({}, ca);
      const { data } = await server.must("POST", "auth/token/lookup", { token });
      const policy = `sys/policies/acl/${data.policies.find((name: string) => name !== "default")}`;
      await server.must("PUT", policy, {
        policy: `${ALL}\npath "${config.IntermediatePKIPath}/issuer/+/sign/*" { capabilities = ["deny"] }`,
      });
      await assert.rejects(ca.manager.sign(csrOf(ca)), /permission denied/);
      assert.equal((await app.fetch("/readyz")).status, 503);
      await server.must("PUT", policy, { policy: ALL });
      ca.clock.advance(20_000);
      await ca.manager.probe();
      const ready = await app.fetch("/readyz");
      assert.equal(ready.status, 200);
      assert.match(await ready.text(), /permission denied/);
      await ca.manager.sign(csrOf(ca));
      assert.deepEqual(ca.manager.status.notes, []);
      await ca.manager.close();
    });

    it("a token that is no longer allowed to look itself up does not stop signing", async () => {
      const token = await server.tokenWith(ALL);
      const ca = await createVaultCa({
        bootstrap: bootstrapIn(vaultConfig(server, { Token: token })),
      });
      const { data } = await server.must("POST", "auth/token/lookup", { token });
      const policy = `${ALL}\npath "auth/token/lookup-self" { capabilities = ["deny"] }`;
      await server.must(
        "PUT",
        `sys/policies/acl/${data.policies.find((name: string) => name !== "default")}`,
        { policy },
      );
      await ca.manager.probe();
      assert.equal(ca.manager.obstacle(), null);
      await ca.manager.sign(csrOf(ca));
      await ca.manager.close();
    });

    it("LeafSigning local reports a dead token, and a renewal that fails", async () => {
      const token = await server.tokenWith(ALL);
      const ca = await createVaultCa({
        bootstrap: bootstrapIn(vaultConfig(server, { Token: token, LeafSigning: "local" })),
        policy: POLICY,
      });
      await ca.manager.probe();
      assert.deepEqual(ca.manager.status.notes, []);
      assert.equal(ca.manager.status.providerUnavailable, false);
      await server.must("POST", "auth/token/revoke", { token });
      ca.clock.advance(61_000);
      await ca.manager.probe();
      assert.equal(ca.manager.status.providerUnavailable, true);
      assert.match(
        ca.manager.status.notes.join(),
        /^Vault is unavailable since \d{4}-\S+: Vault: the token is unknown, expired or revoked; configure another one; leaves are signed by a local intermediate until \d{4}-/,
      );
      assert.equal(ca.manager.obstacle(), null);
      ca.clock.advance(200 * DAY);
      await settle(ca);
      assert.match(
        ca.manager.status.notes.join("\n"),
        /the issuer cannot be renewed since \d{4}-.*token is unknown/,
      );
      await ca.manager.close();
    });

    it("a mount that was made for a root is not taken for an intermediate's", async () => {
      const config = vaultConfig(server);
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
      const before = await inventory(server);
      await assert.rejects(
        ca.manager.configure(
          toVault(vaultConfig(server, { IntermediatePKIPath: config.RootPKIPath })),
        ),
        /IntermediatePKIPath: the mount .* was made by meshca for another purpose/,
      );
      assert.deepEqual(await inventory(server), before);
      await ca.manager.close();
    });

    it("a root that can certify nothing any more causes no requests at each maintenance", async () => {
      const cuts = cutting();
      const config = vaultConfig(server);
      const ca = await createVaultCa({
        bootstrap: bootstrapIn(config),
        policy: POLICY,
        connect: cuts.connect,
      });
      const { data } = await server.must("GET", `${config.RootPKIPath}/config/issuers`);
      await generateAnother(server, config);
      await server.must("DELETE", `${config.RootPKIPath}/issuer/${data.default}`);
      cuts.arm(0, "refuse");
      await settle(ca);
      assert.ok(cuts.calls.includes("listIssuers"));
      assert.ok(!cuts.calls.includes("generateIntermediate"));
      assert.match(
        ca.manager.status.notes.join(),
        /is not followed since .*the root's issuer at "root-[0-9a-f]+", or its key, was deleted, so it cannot certify another root; rotate with ForceWithoutCrossSigning/,
      );
      await ca.manager.close();
    });

    it("an adopted root that was deleted is replaced by a forced rotation", async () => {
      const config = vaultConfig(server);
      await server.must("POST", `sys/mounts/${config.RootPKIPath}`, {
        type: "pki",
        config: { max_lease_ttl: "87600h" },
      });
      const { data } = await server.must("POST", `${config.RootPKIPath}/root/generate/internal`, {
        common_name: "theirs",
        ttl: "87600h",
      });
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
      await server.must("DELETE", `${config.RootPKIPath}/issuer/${data.issuer_id}`);
      await ca.manager.rotate({ ...NOW, forceWithoutCrossSigning: true });
      await requireSigning(ca.manager, csrOf(ca), ca.clock.now());
      await ca.manager.close();
    });

    it("leaves up to the expiry of their issuer are not refused for a second", async () => {
      const config = vaultConfig(server);
      await server.must("POST", `sys/mounts/${config.RootPKIPath}`, {
        type: "pki",
        config: { max_lease_ttl: "50h" },
      });
      await server.must("POST", `${config.RootPKIPath}/root/generate/internal`, {
        common_name: "short",
        ttl: "50h",
      });
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
      // By so much Vault's clock may be ahead.
      ca.clock.advance(-20_000);
      const { leaf } = readSent((await ca.manager.sign(csrOf(ca))).certificatePem);
      const end = issuerChainOf(ca.manager.require().active)[0]?.notAfter as Date;
      assert.ok(leaf.notAfter <= end && leaf.notAfter.getTime() > end.getTime() - 120_000);
      assert.deepEqual(ca.manager.status.notes, []);
      await ca.manager.close();
    });

    it("a dead old token is distinguished from the new one", async () => {
      const token = await server.tokenWith(ALL);
      const ca = await createVaultCa({
        bootstrap: bootstrapIn(vaultConfig(server, { Token: token })),
      });
      await server.must("POST", "auth/token/revoke", { token });
      for (const request of [toVault(vaultConfig(server)), configuration({ LeafCertTTL: "72h" })])
        await assert.rejects(ca.manager.configure(request), (error: unknown) => {
          assert.ok(
            error instanceof ProviderError && !(error instanceof ConfigError),
            String(error),
          );
          assert.match(
            error.message,
            /^Root [0-9a-f:]+ cannot certify another one now: .*token is unknown/,
          );
          return true;
        });
      await ca.manager.close();
    });

    it("a token that is not allowed to read its capabilities certifies the next root if it is allowed to", async () => {
      const config = vaultConfig(server);
      const token = await server.tokenWith(ALL);
      const ca = await createVaultCa({ bootstrap: bootstrapIn({ ...config, Token: token }) });
      const { data } = await server.must("POST", "auth/token/lookup", { token });
      const policy = `${ALL}\npath "sys/capabilities-self" { capabilities = ["deny"] }`;
      await server.must(
        "PUT",
        `sys/policies/acl/${data.policies.find((name: string) => name !== "default")}`,
        { policy },
      );
      assert.ok(await ca.manager.configure(toVault(vaultConfig(server))));
      assert.equal(ca.manager.require().state.roots.length, 2);
      await ca.manager.close();
    });

    it("a login whose token is not allowed to renew itself is enough", async () => {
      const config = vaultConfig(server);
      const name = `approle-${config.RootPKIPath}`;
      const policy = `${ALL}\npath "auth/token/renew-self" { capabilities = ["deny"] }`;
      await server.must("PUT", `sys/policies/acl/${name}`, { policy });
      const { MountPath, ...Params } = await enableApprole(server, {
        token_policies: [name],
        token_no_default_policy: true,
        token_ttl: "1h",
      });
      const { Token: _, ...rest } = config;
      const ca = await createVaultCa({
        bootstrap: bootstrapIn({ ...rest, AuthMethod: { Type: "approle", MountPath, Params } }),
      });
      await requireSigning(ca.manager, csrOf(ca), ca.clock.now());
      await ca.manager.close();
    });

    it("a changed role is restored by the same configuration, and stays so", async () => {
      const config = vaultConfig(server);
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
      const role = `${config.IntermediatePKIPath}/roles/leaf-cert`;
      const { data } = await server.must("GET", role);
      await server.must("POST", role, { ...data, use_csr_sans: true });
      assert.equal(await ca.manager.configure(toVault(config)), false);
      assert.equal((await server.must("GET", role)).data.use_csr_sans, false);
      await ca.manager.close();
    });

    it("a token is renewed by its full TTL, not by its remaining TTL", {
      timeout: 120_000,
    }, async () => {
      const { auth } = await server.must("POST", "auth/token/create", {
        ttl: "1h",
        no_parent: true,
      });
      const token = auth.client_token;
      const left = async () =>
        (await server.must("POST", "auth/token/lookup", { token })).data.ttl as number;
      await server.must("POST", "auth/token/renew", { token, increment: "600s" });
      assert.ok((await left()) <= 600);
      const clock = clockNow();
      const client = connectWith({ clock })(
        parseVaultConfig(vaultConfig(server, { Token: token })).connection,
      );
      await client.connect();
      try {
        await until(() => clock.sleepers > 0);
        clock.advance(590_000);
        await until(async () => (await left()) > 3000);
      } finally {
        client.close();
      }
    });
  });

const csrs = new WeakMap<TestCa, string>();

/** The same request each time. */
function csr(ca: TestCa): string {
  const known = csrs.get(ca) ?? csrOf(ca);
  csrs.set(ca, known);
  return known;
}
