/**
 * The client's calls against each real server: what they return, and how each failure is reported
 * from the others.
 * @module
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { Mount } from "../../../providers/vault/config.ts";
import { VaultError } from "../../../providers/vault/errors.ts";
import {
  missingPermissions,
  type Permission,
  requirePermissions,
} from "../../../providers/vault/permissions.ts";
import type { PkiApi, RootRequest } from "../../../providers/vault/pki-api.ts";
import { ConfigError, RateLimitedError } from "../../../src/core/errors.ts";
import { until } from "../../redis/server.ts";
import {
  BUILD_MS,
  enableApprole,
  noVault,
  startVault,
  type VaultServer,
  vaultKinds,
} from "../server.ts";
import { failure, freshMount, logged, openClient } from "./open.ts";

const HOUR = 3_600_000;
const ROOT: RootRequest = {
  commonName: "pri-test.vault.ca.11111111.consul",
  uri: "spiffe://11111111-2222-3333-4444-555555555555.consul",
  keySpec: { type: "ec", bits: 256 },
  keyName: "mesh-root-key",
  issuerName: "mesh-root",
  ttlMs: 24 * HOUR,
};

async function reason(act: Promise<unknown>): Promise<string> {
  const error = await failure(act);
  assert.ok(error instanceof VaultError, String(error));
  return error.reason;
}

for (const kind of vaultKinds)
  describe(`the client of Vault with ${kind}`, { skip: noVault }, () => {
    let server: VaultServer;
    let client: PkiApi;
    let folder: string;
    const log = logged();
    before(
      async () => {
        server = await startVault({ kind });
        client = openClient({ Address: server.address, Token: server.token }, log);
        folder = mkdtempSync(join(tmpdir(), "meshca-vault-client-"));
      },
      { timeout: BUILD_MS },
    );
    after(async () => {
      client?.close();
      await server?.stop();
      if (folder !== undefined) rmSync(folder, { recursive: true });
    });
    const enable = async (mount: Mount) =>
      client.enablePki(mount, {
        description: "test",
        maxLeaseTtlMs: 48 * HOUR,
        defaultLeaseTtlMs: null,
      });

    it("mounts, reads and deletes an engine", async () => {
      const mount = freshMount();
      assert.equal(await client.readMount(mount), null);
      await enable(mount);
      const info = await client.readMount(mount);
      assert.deepEqual(
        [info?.type, info?.description, info?.maxLeaseTtlMs],
        ["pki", "test", 48 * HOUR],
      );
      assert.equal(await reason(enable(mount)), "refused");
      assert.equal(await client.readCa(mount), null);
      assert.equal(await client.readCaChain(mount), null);
      assert.deepEqual(await client.listIssuers(mount), []);
      await client.disableMount(mount);
      await client.disableMount(mount);
      assert.equal(await reason(client.readCa(mount)), "mount_missing");
    });

    it("creates a root and an intermediate, signs a CSR, cross-signs another root, and cleans up", async () => {
      const [root, int] = [freshMount("root"), freshMount("int")];
      await Promise.all([enable(root), enable(int)]);
      const made = await client.generateRoot(root, ROOT, false);
      assert.equal(await client.readCa(root), made.certificate);
      const { csr, keyId } = await client.generateIntermediate(int, {
        ...ROOT,
        keyName: "mesh-key",
      });
      const signed = await client.signIntermediate(root, made.issuerId, csr, 12 * HOUR);
      for (const hours of [200, 201])
        await client.signIntermediate(root, made.issuerId, csr, hours * HOUR);
      const cut = log.lines.filter((line) => /longer than permitted/.test(line));
      assert.equal(cut.length, 1, "a warning of Vault is logged once");
      assert.match(cut[0] ?? "", /^Vault answered with a warning \{"call":"POST (?:root|int)-/);
      const mapping = await client.setSigned(int, signed + made.certificate);
      const [issuerId = ""] = Object.entries(mapping).find(([, key]) => key === keyId) ?? [];
      const issuerAt = async (ref: string) =>
        (await server.must("GET", `${int.path}/issuer/${ref}`)).data;
      assert.equal((await issuerAt(issuerId)).certificate.trim(), signed.trim());
      const keysOf = async () => (await server.call("GET", `${int.path}/keys?list=true`)).body.data;
      assert.deepEqual(
        Object.entries((await keysOf()).key_info).map(([id, info]) => [
          id,
          (info as { key_name: string }).key_name,
        ]),
        [[keyId, "mesh-key"]],
      );
      assert.equal((await client.listIssuers(int)).length, 2);

      await client.updateIssuer(int, issuerId, { leaf_not_after_behavior: "truncate" });
      await client.updateIssuer(int, issuerId, { issuer_name: "mesh" });
      const issuer = await issuerAt("mesh");
      assert.deepEqual(
        [issuer.issuer_id, issuer.issuer_name, issuer.leaf_not_after_behavior],
        [issuerId, "mesh", "truncate"],
      );

      assert.equal(await client.readRole(int, "leaf"), null);
      const leaf = {
        role: "leaf",
        issuerId,
        csr,
        uri: "spiffe://11111111-2222-3333-4444-555555555555.consul/ns/default/dc/dc1/svc/web",
        dnsNames: [],
        ipAddresses: [],
        ttlMs: HOUR,
      };
      assert.equal(await reason(client.signLeaf(int, leaf)), "role_missing");
      await client.writeRole(int, "leaf", {
        allowed_uri_sans: "spiffe://*",
        use_csr_sans: false,
        use_csr_common_name: false,
        require_cn: false,
        key_type: "any",
        max_ttl: "2h",
        no_store: true,
      });
      assert.equal((await client.readRole(int, "leaf"))?.no_store, true);
      assert.match(
        await client.signLeaf(int, leaf),
        /^-----BEGIN CERTIFICATE-----\n[\s\S]*-----END CERTIFICATE-----\n$/,
      );
      assert.equal(await reason(client.signLeaf(int, { ...leaf, csr: "garbage" })), "refused");
      assert.equal(
        await reason(client.signLeaf(int, { ...leaf, role: "../../sys/seal" })),
        "refused",
      );

      const names = { keyName: "other-key", issuerName: "other" };
      const other = await client.generateRoot(root, { ...ROOT, ...names }, true);
      const defaultOf = async () => (await client.listIssuers(root)).find((each) => each.isDefault);
      assert.equal((await defaultOf())?.id, made.issuerId);
      for (const by of [made.issuerId, null])
        assert.match(await client.signSelfIssued(root, by, other.certificate), /CERTIFICATE/);
      await client.setDefaultIssuer(root, other.issuerId);
      assert.equal((await defaultOf())?.id, other.issuerId);
      assert.equal(await client.readCa(root), other.certificate);

      await client.deleteIssuer(int, issuerId);
      await client.deleteKey(int, keyId);
      await client.deleteIssuer(int, issuerId);
      await client.deleteKey(int, keyId);
      assert.ok((await client.listIssuers(int)).every(({ id }) => id !== issuerId));
      assert.equal((await keysOf())?.keys ?? null, null);
      await Promise.all([client.disableMount(root), client.disableMount(int)]);
    });

    it("distinguishes an unknown token, a token without the permission, and a mount of another type", async () => {
      const mount = freshMount();
      await enable(mount);
      const bad = openClient({ Address: server.address, Token: "hvs.PlantedTokenThatIsUnknown" });
      const error = await failure(bad.readRole(mount, "leaf"));
      assert.ok(error instanceof VaultError);
      assert.deepEqual(
        [error.reason, error.code, error.retryAfterMs],
        ["token_invalid", "provider_unavailable", 5000],
      );
      // A token that is not allowed to look itself up is distinguished from a dead one.
      const policy = 'path "sys/capabilities-self" { capabilities = ["update"] }';
      const mute = openClient({
        Address: server.address,
        Token: await server.tokenWith(policy, { no_default_policy: true }),
      });
      const silent = await failure(mute.readRole(mount, "leaf"));
      assert.ok(silent instanceof VaultError);
      assert.equal(silent.reason, "denied");
      assert.match(silent.message, /auth\/token\/lookup-self/);
      mute.close();
      const poor = openClient({
        Address: server.address,
        Token: await server.tokenWith(`path "other/*" { capabilities = ["read"] }`),
      });
      await poor.connect();
      assert.equal(await reason(poor.readRole(mount, "leaf")), "denied");
      // Seen valid, then revoked.
      const dying = await server.tokenWith(`path "${mount.path}/*" { capabilities = ["read"] }`);
      const revoked = openClient({ Address: server.address, Token: dying });
      await revoked.readRole(mount, "leaf");
      await server.must("POST", "auth/token/revoke", { token: dying });
      const dead = await failure(revoked.readRole(mount, "leaf"));
      assert.ok(dead instanceof VaultError);
      assert.deepEqual(
        [dead.reason, dead.code, dead.retryAfterMs],
        ["token_invalid", "provider_unavailable", 5000],
      );
      assert.match(revoked.token.failure?.message ?? "", /unknown, expired or revoked/);
      assert.equal(await reason(client.readCa({ path: "cubbyhole", namespace: "" })), "not_found");
      assert.equal(
        await reason(client.generateRoot({ path: "cubbyhole", namespace: "" }, ROOT, false)),
        "malformed_response",
      );
      for (const each of [bad, poor, revoked]) each.close();
      await client.disableMount(mount);
    });

    it("names what a token lacks, with the policy that gives it, and changes nothing", async () => {
      const mount = freshMount();
      const token = await server.tokenWith(
        `path "${mount.path}/issuer/+" { capabilities = ["read"] }`,
      );
      const poor = openClient({ Address: server.address, Token: token });
      const needs: Permission[] = (
        [
          [`sys/mounts/${mount.path}`, ["create", "update"], "mount the engine"],
          [`${mount.path}/issuer/+`, ["read", "delete"], "clean up"],
          [`${mount.path}/root/sign-self-issued`, ["sudo", "update"], "certify another root"],
        ] as const
      ).map(([path, capabilities, purpose]) => ({ namespace: "", path, capabilities, purpose }));
      assert.deepEqual(await missingPermissions(client, needs), []);
      const error = await failure(requirePermissions(poor, needs));
      assert.ok(error instanceof ConfigError);
      assert.deepEqual(
        error.violations.map(({ field }) => field),
        [
          `sys/mounts/${mount.path}`,
          `${mount.path}/issuer/+`,
          `${mount.path}/root/sign-self-issued`,
        ],
      );
      const [, policy = ""] = error.message.split("after that:\n");
      assert.match(policy, /issuer\/\+" \{\n {2}capabilities = \["read", "delete"\]\n\}/);
      assert.equal(await client.readMount(mount), null);
      const rich = openClient({
        Address: server.address,
        Token: await server.tokenWith(policy),
      });
      assert.deepEqual(await missingPermissions(rich, needs), []);
      poor.close();
      rich.close();
    });

    it("logs in by approle and userpass, reads their files at each login, and logs in again before the token expires", async () => {
      const userpass = freshMount("userpass").path;
      const approle = await enableApprole(server, { token_ttl: "2s", token_max_ttl: "3s" });
      const [roleFile, secretFile] = [join(folder, "role"), join(folder, "secret")];
      writeFileSync(roleFile, `${approle.role_id}\n`);
      writeFileSync(secretFile, "PlantedWrongSecret\n");
      const files = {
        Type: "approle",
        MountPath: approle.MountPath,
        Params: { role_id_file_path: roleFile, secret_id_file_path: secretFile },
      };
      const lines = logged();
      const by = openClient({ Address: server.address, AuthMethod: files }, lines);
      const refused = await failure(by.connect());
      assert.ok(
        refused instanceof VaultError && refused.reason === "login_refused",
        String(refused),
      );
      assert.ok(!refused.message.includes("Planted"));
      writeFileSync(secretFile, `${approle.secret_id}\n`);
      await by.connect();
      const expiry = () => by.token.expiresAt?.getTime() ?? 0;
      const first = expiry();
      assert.equal(by.token.failure, null);
      // Beyond the maximum of the first token's life.
      await until(() => expiry() > first + 4000);
      await by.capabilities("", ["sys/health"]);
      by.close();
      await until(() => expiry() < Date.now());
      assert.equal(await reason(by.capabilities("", ["sys/health"])), "unreachable");
      assert.ok(!lines.lines.join().includes(approle.secret_id));

      await server.must("POST", `sys/auth/${userpass}`, { type: "userpass" });
      await server.must("POST", `auth/${userpass}/users/mesh`, { password: "PlantedPassword" });
      const user = (password: string) =>
        openClient({
          Address: server.address,
          AuthMethod: {
            Type: "userpass",
            MountPath: userpass,
            Params: { username: "mesh", password },
          },
        });
      const good = user("PlantedPassword");
      await Promise.all([good.connect(), good.connect()]);
      await good.revoke();
      good.close();
      const wrong = user("PlantedOther");
      const error = await failure(wrong.connect());
      assert.ok(
        error instanceof VaultError &&
          error.reason === "login_refused" &&
          !error.message.includes("Planted"),
        String(error),
      );
      wrong.close();
    });

    it("renews a token that lives for two seconds, and logs that one is not renewable", async () => {
      const policy = `path "sys/mounts/*" { capabilities = ["read"] }`;
      const periodic = openClient({
        Address: server.address,
        Token: await server.tokenWith(policy, { period: "2s" }),
      });
      await periodic.connect();
      const began = periodic.token.expiresAt?.getTime() ?? 0;
      await until(() => (periodic.token.expiresAt?.getTime() ?? 0) > began + 4000);
      await periodic.readMount(freshMount()).catch((error: unknown) => assert.fail(String(error)));
      periodic.close();
      const lines = logged();
      const fixed = openClient(
        {
          Address: server.address,
          Token: await server.tokenWith(policy, { ttl: "2s", renewable: false }),
        },
        lines,
      );
      await fixed.connect();
      await until(() =>
        lines.lines.some((line) =>
          /^Vault: the token is not renewable and will expire; configure another one/.test(line),
        ),
      );
      await until(() => fixed.token.failure !== null);
      assert.equal(await reason(fixed.readMount(freshMount())), "token_invalid");
      fixed.close();
    });

    it("takes a token from a file, and reads the next one if that one was revoked", async () => {
      const path = join(folder, "token");
      const policy = `path "sys/mounts/*" { capabilities = ["read"] }`;
      const [one, two] = [await server.tokenWith(policy), await server.tokenWith(policy)];
      writeFileSync(path, `${one}\n`);
      const by = openClient({ Address: server.address, TokenFile: path });
      await by.readMount(freshMount());
      writeFileSync(path, two);
      await server.must("POST", "auth/token/revoke", { token: one });
      await by.readMount(freshMount());
      by.close();
    });

    it("uses a namespace, and refuses one that the server would ignore", {
      skip: kind === "given",
    }, async () => {
      const name = `ns-${crypto.randomUUID().slice(0, 8)}`;
      const inside = freshMount("pki", name);
      if (kind === "vault") {
        assert.equal(await reason(client.readMount(inside)), "namespace_missing");
        return;
      }
      assert.equal(await reason(client.readMount(inside)), "namespace_missing");
      await server.must("POST", `sys/namespaces/${name}`, {});
      await enable(inside);
      assert.equal((await client.readMount(inside))?.type, "pki");
      assert.equal(await client.readMount({ ...inside, namespace: "" }), null);
      await client.disableMount(inside);
    });

    it("maps a quota to a rate limit", async () => {
      const mount = freshMount();
      await enable(mount);
      const quota = `sys/quotas/rate-limit/${mount.path}`;
      await server.must("POST", quota, { rate: 1, path: mount.path });
      const results = await Promise.allSettled(
        [1, 2, 3, 4].map(() => client.readRole(mount, "leaf")),
      );
      const limited = results.flatMap((result) =>
        result.status === "rejected" ? [result.reason] : [],
      );
      assert.ok(limited.length > 0);
      for (const error of limited)
        assert.ok(error instanceof RateLimitedError && error.retryAfterMs === 1000, String(error));
      await server.must("DELETE", quota);
      await client.disableMount(mount);
    });

    it("reports a sealed, an unreachable and a slow server, and recovers by itself afterwards", {
      skip: kind === "given",
    }, async () => {
      const mount = freshMount();
      await enable(mount);
      await server.seal();
      const error = await failure(client.readRole(mount, "leaf"));
      assert.ok(error instanceof VaultError);
      assert.deepEqual(
        [error.reason, error.code, error.retryAfterMs],
        ["sealed", "provider_unavailable", 5000],
      );
      assert.equal((await client.health()).sealed, true);
      await server.unseal();
      await client.readRole(mount, "leaf");
      await server.suspend();
      assert.equal(await reason(client.readRole(mount, "leaf")), "timeout");
      server.kill("SIGCONT");
      await client.readRole(mount, "leaf");
      server.kill("SIGKILL");
      assert.equal(await reason(client.readRole(mount, "leaf")), "unreachable");
      await server.restart();
      // Another root token, nothing mounted.
      assert.equal(await reason(client.readRole(mount, "leaf")), "token_invalid");
    });
  });
