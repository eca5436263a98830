/**
 * `meshca doctor` against a server whose provider is Vault: well, sealed, gone, with permissions and
 * limits that were taken away, and with a token that ends.
 * @module
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { doctor } from "../cli/doctor.ts";
import { meshca } from "../cli/run.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { ROOT } from "../fixtures/root.ts";
import { until } from "../redis/server.ts";
import { VAULT_KINDS } from "../servers/build.ts";
import { vaultConfig } from "./harness.ts";
import { BUILD_MS, noOwnVault, useVault } from "./server.ts";

const OPTIONS = { timeout: 180_000 };
const ALL = `path "*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }`;
const IDS = [
  "provider.available",
  "provider.token",
  "provider.permissions",
  "provider.lifetimes",
] as const;

for (const kind of VAULT_KINDS)
  describe(`meshca doctor and ${kind}`, { skip: noOwnVault }, () => {
    const vault = useVault({ kind, durable: true });
    const policy = "doctor";
    const folder = mkdtempSync(join(tmpdir(), "meshca-doctor-"));
    let server: ServerProcess;
    let environment: Readonly<Record<string, string>>;
    let config: Record<string, unknown>;
    const allow = (...more: readonly string[]) =>
      vault.must("PUT", `sys/policies/acl/${policy}`, { policy: [ALL, ...more].join("\n") });
    const tokenWith = async (fields: object): Promise<string> =>
      (await vault.must("POST", "auth/token/create", { policies: [policy], ...fields })).auth
        .client_token;
    const configure = async (more: object) => {
      const file = join(folder, "config.json");
      writeFileSync(file, JSON.stringify({ Provider: "vault", Config: { ...config, ...more } }));
      const args = ["connect", "ca", "set-config", "-config-file", file];
      const { code, stderr } = await meshca(args, environment);
      assert.equal(code, 0, stderr);
    };
    before(
      async () => {
        await allow();
        server = await startServer({});
        environment = { MESHCA_HTTP_ADDR: server.url };
        config = vaultConfig(vault);
        await configure({ Token: await tokenWith({ period: "24h" }) });
      },
      { timeout: BUILD_MS },
    );
    after(async () => {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    });

    it("finds nothing wrong with one that answers and allows all", OPTIONS, async () => {
      const found = await doctor(environment);
      for (const id of IDS) assert.equal(found.of(id).outcome, "ok", id);
    });

    it("issuer.expiry: an intermediate lives a year", OPTIONS, async () => {
      assert.equal((await doctor(environment)).of("issuer.expiry").outcome, "ok");
      const inDays = (days: number) =>
        doctor(
          { ...environment, TEST_CLOCK_SHIFT_MS: String(days * 86_400_000) },
          [],
          [...[process.execPath, "--preload", join(ROOT, "test/recovery/shifted-clock.ts")]],
        );
      const soon = (await inDays(350)).finding("issuer.expiry");
      assert.equal(soon.severity, "warning");
      assert.match(soon.what, /^The issuer (?:[0-9a-f]{2}:)+[0-9a-f]{2}: 14d .* left$/);
      assert.equal((await inDays(362)).finding("issuer.expiry").severity, "critical");
    });

    it("provider.permissions", OPTIONS, async () => {
      const [root, intermediate] = [config.RootPKIPath, config.IntermediatePKIPath];
      await allow(
        `path "${intermediate}/issuer/+/sign/leaf-cert" { capabilities = ["deny"] }`,
        `path "${root}/issuer/+/sign-self-issued" { capabilities = ["deny"] }`,
      );
      const { findings } = (await doctor(environment)).of("provider.permissions");
      await allow(`path "sys/capabilities-self" { capabilities = ["deny"] }`);
      const blind = await doctor(environment);
      await allow();
      assert.deepEqual(
        findings.map(({ severity, why }) => [severity, why]),
        [
          ["critical", "It is needed to sign leaves"],
          ["warning", "A rotation fails: it is needed to certify the new root by the old one"],
        ],
      );
      assert.match(
        findings[0]?.fix ?? "",
        /path "int-.*\/sign\/leaf-cert" \{ capabilities = \["update"\] \}$/,
      );
      assert.equal(blind.of("provider.permissions").outcome, "unchecked");
    });

    it("provider.lifetimes", OPTIONS, async () => {
      const mount = String(config.IntermediatePKIPath);
      const tune = (max_lease_ttl: string) =>
        vault.must("POST", `sys/mounts/${mount}/tune`, { max_lease_ttl });
      await tune("1h");
      const { what, fix } = (await doctor(environment)).finding("provider.lifetimes");
      // The fix, as it is shown.
      const seconds = /-max-lease-ttl=(\d+s) /.exec(fix)?.[1] ?? "";
      await tune(seconds);
      assert.equal(
        what,
        `The mount ${JSON.stringify(mount)} of Vault allows 1h, and LeafCertTTL is 3d`,
      );
      assert.equal((await doctor(environment)).of("provider.lifetimes").outcome, "ok");
    });

    it("provider.token: one that cannot be renewed", OPTIONS, async () => {
      await configure({ Token: await tokenWith({ ttl: "2h", renewable: false }) });
      const { severity, what } = (await doctor(environment)).finding("provider.token");
      assert.equal(severity, "critical");
      assert.match(what, /^Vault's token cannot be renewed: (?:1h|2h)/);
      await configure({ Token: await tokenWith({ period: "24h" }) });
      assert.equal((await doctor(environment)).of("provider.token").outcome, "ok");
    });

    it("provider.available: sealed, and gone", OPTIONS, async () => {
      const found = async () => (await doctor(environment)).of("provider.available").outcome;
      await vault.seal();
      await until(async () => (await found()) === "found");
      const sealed = await doctor(environment);
      const [first] = sealed.of("provider.available").findings;
      assert.deepEqual([first?.severity, first?.fix], ["critical", "vault operator unseal"]);
      // What Vault has is not known, and not ok.
      for (const id of IDS.slice(1)) assert.equal(sealed.of(id).outcome, "unchecked", id);
      await vault.unseal();
      await until(async () => (await found()) === "ok");
      vault.kill("SIGKILL");
      await until(async () => (await found()) === "found");
      const gone = await doctor(environment);
      assert.match(
        gone.of("provider.available").findings[0]?.fix ?? "",
        /^vault status; .*meshca recover/,
      );
      await vault.restart();
    });
  });
