/**
 * Concurrent changes in Vault, and what a change of ours reads first: another name of the same
 * server, an issuer or a limit that another client changed, a right that the old root's token
 * lacks.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { issuerChainOf } from "../../src/core/ca/cross-chain.ts";
import { DEFAULT_POLICY } from "../../src/core/ca/timing-and-limits.ts";
import { ConfigError } from "../../src/core/errors.ts";
import { requireSigning } from "../core/ca/harness.ts";
import {
  configuration,
  confirmOver,
  opensslCsr,
  serviceUri,
  silentLog,
  type TestCa,
} from "../fakes/ca.ts";
import {
  bootstrapIn,
  connectWith,
  createVaultCa,
  cutting,
  inventory,
  readSent,
  toVault,
  vaultConfig,
} from "./harness.ts";
import { enableApprole, noVault, useVault, vaultKinds } from "./server.ts";

const HOUR = 3_600_000;
const LEFT_FOR = 2 * 72 * HOUR + 1000;
const FORCED = { forceWithoutCrossSigning: true, modifyIndex: null };
const csrOf = (ca: TestCa) => opensslCsr(`URI:${serviceUri(ca.manager, "web")}`).csr;
const signs = (ca: TestCa) => requireSigning(ca.manager, csrOf(ca), ca.clock.now());

/** One to which this machine has a name too. */
const connectByName = connectWith({ resolve: async () => ["127.0.0.1"] });

/** What is needed at the paths of a configuration, but to certify another root. */
function policyOf(
  { RootPKIPath, IntermediatePKIPath }: Record<string, unknown>,
  more: readonly (readonly [string, string])[] = [],
): string {
  const own = [
    "auth/token/lookup-self",
    "auth/token/renew-self",
    "sys/capabilities-self",
    "sys/mounts/R",
    "sys/mounts/I",
  ];
  const paths = [
    ...own,
    "R/root/generate/internal",
    "R/issuer/+",
    "R/key/+",
    "R/issuer/+/sign-intermediate",
    "I/*",
  ];
  const rows = [
    ...paths.map((path) => [path, '"create", "read", "update", "delete", "list"'] as const),
    ...more,
  ];
  const real = (path: string) =>
    path.replace(/\bR\b/, String(RootPKIPath)).replace(/\bI\b/, String(IntermediatePKIPath));
  return rows
    .map(([path, names]) => `path "${real(path)}" { capabilities = [${names}] }`)
    .join("\n");
}

async function settle(ca: TestCa): Promise<void> {
  for (let i = 0; i < 20; i++) {
    ca.clock.advance(1000);
    await ca.manager.tick().catch(() => undefined);
  }
}

for (const kind of vaultKinds)
  describe(`changes in ${kind}`, { skip: noVault }, () => {
    const server = useVault({ kind });

    const byName = () => server.address.replace("127.0.0.1", "localhost");
    const issuersAt = async (path: unknown): Promise<number> =>
      ((await inventory(server)) as Record<string, { issuers: number }>)[`${path}/`]?.issuers ?? 0;

    it("another name of the same server keeps root and issuer, and obsolete objects are deleted by that name", async () => {
      const config = vaultConfig(server);
      const ca = await createVaultCa({ connect: connectByName, bootstrap: bootstrapIn(config) });
      assert.ok(await ca.manager.configure(toVault({ ...config, LeafSigning: "local" })));
      assert.ok(await ca.manager.configure(toVault(config)));
      assert.equal(await issuersAt(config.IntermediatePKIPath), 2);
      const { active } = ca.manager.require();
      assert.ok(await ca.manager.configure(toVault({ ...config, Address: byName() })));
      const now = ca.manager.require().active;
      assert.equal(now.id, active.id);
      assert.deepEqual(issuerChainOf(now), issuerChainOf(active));
      await signs(ca);
      ca.clock.advance(LEFT_FOR);
      await confirmOver(ca);
      await settle(ca);
      assert.equal(await issuersAt(config.IntermediatePKIPath), 1);
      // By the CA's clock that leaf is over: Vault has another one.
      await ca.manager.sign(csrOf(ca));
      await ca.manager.close();
    });

    it("a change after the intermediate's mount was deleted creates mount and intermediate again", async () => {
      const config = vaultConfig(server);
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
      const { active } = ca.manager.require();
      await server.must("DELETE", `sys/mounts/${config.IntermediatePKIPath}`);
      assert.ok(await ca.manager.configure(toVault({ ...config, LeafCertTTL: "71h" })));
      const now = ca.manager.require().active;
      assert.equal(now.id, active.id);
      assert.notDeepEqual(issuerChainOf(now), issuerChainOf(active));
      assert.equal(await issuersAt(config.IntermediatePKIPath), 1);
      await signs(ca);
      await ca.manager.close();
    });

    it("a mount that is in use by another name of the server is not taken for an obsolete one", async () => {
      const config = vaultConfig(server);
      const ca = await createVaultCa({ connect: connectByName, bootstrap: bootstrapIn(config) });
      const { RootPKIPath } = vaultConfig(server);
      assert.ok(await ca.manager.configure(toVault({ ...config, Address: byName(), RootPKIPath })));
      assert.equal(ca.manager.require().state.roots.length, 2);
      ca.clock.advance(LEFT_FOR);
      await confirmOver(ca);
      await settle(ca);
      assert.equal(ca.manager.require().state.roots.length, 1);
      assert.equal(await issuersAt(config.IntermediatePKIPath), 1);
      // By the CA's clock that leaf is over: Vault has another one.
      await ca.manager.sign(csrOf(ca));
      await ca.manager.close();
    });

    it("a missing permission to certify the next root is named before anything is created", async () => {
      const config = vaultConfig(server);
      const cuts = cutting();
      const token = await server.tokenWith(policyOf(config));
      const ca = await createVaultCa({
        connect: cuts.connect,
        bootstrap: bootstrapIn({ ...config, Token: token }),
      });
      const before = await inventory(server);
      const next = toVault(vaultConfig(server));
      for (const refused of [
        () => ca.manager.configure(next),
        () => ca.manager.configure(configuration({ LeafCertTTL: "72h" })),
      ]) {
        cuts.arm(0, "refuse");
        await assert.rejects(refused(), (error: unknown) => {
          assert.ok(error instanceof ConfigError, String(error));
          assert.match(
            error.message,
            new RegExp(`${config.RootPKIPath}/issuer/[0-9a-f-]{36}/sign-self-issued`),
          );
          assert.match(error.message, /update/);
          return true;
        });
        for (const made of ["enablePki", "generateRoot", "generateIntermediate"])
          assert.ok(!cuts.calls.includes(made), made);
      }
      assert.deepEqual(await inventory(server), before);
      const better = await server.tokenWith(
        policyOf(config, [["R/root/sign-self-issued", '"sudo", "update"']]),
      );
      assert.ok(await ca.manager.configure(toVault({ ...config, Token: better })));
      assert.ok(await ca.manager.configure(next));
      assert.equal(ca.manager.require().state.roots.length, 2);
      await signs(ca);
      await ca.manager.close();
    });

    it("a root whose issuer was deleted is reported, and is abandoned by force", async () => {
      const config = vaultConfig(server);
      const Token = await server.tokenWith(
        policyOf(config, [["R/root/rotate/internal", '"update"']]),
      );
      const ca = await createVaultCa({
        policy: { ...DEFAULT_POLICY, inspectMs: 0 },
        bootstrap: bootstrapIn({ ...config, Token }),
      });
      await settle(ca);
      assert.deepEqual(ca.manager.status.notes, []);
      const { data } = await server.must("GET", `${config.RootPKIPath}/issuers?list=true`);
      await server.must("DELETE", `${config.RootPKIPath}/issuer/${data.keys[0]}`);
      await settle(ca);
      assert.match(
        ca.manager.status.notes.join(),
        /the root's issuer was deleted from Vault, noticed at \d{4}-\S+: leaves are signed until the intermediate expires at \d{4}-\S+, and it cannot be renewed; PUT \/v1\/connect\/ca\/rotate with \{"ForceWithoutCrossSigning": true\} creates another root/,
      );
      assert.equal(ca.manager.obstacle(), null);
      await signs(ca);
      await ca.manager.rotate(FORCED);
      await settle(ca);
      assert.deepEqual(ca.manager.status.notes, []);
      await signs(ca);
      // The whole mount is no other case, though its path is denied then.
      await server.must("DELETE", `sys/mounts/${config.RootPKIPath}`);
      await settle(ca);
      assert.match(ca.manager.status.notes.join(), /the root's issuer was deleted from Vault/);
      assert.equal(ca.manager.obstacle(), null);
      await signs(ca);
      await ca.manager.close();
    });

    it("leaves that a limit in Vault cuts short are reported, and a mount with too low a limit is refused", async () => {
      const config = vaultConfig(server);
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
      const role = `${config.IntermediatePKIPath}/roles/leaf-cert`;
      const { data } = await server.must("GET", role);
      const lifeOf = async () => {
        const { leaf } = readSent((await ca.manager.sign(csrOf(ca))).certificatePem);
        return leaf.notAfter.getTime() - leaf.notBefore.getTime();
      };
      await server.must("POST", role, { ...data, max_ttl: "1h" });
      assert.ok((await lifeOf()) < 2 * HOUR);
      assert.match(
        ca.manager.status.notes.join(),
        /leaves live shorter than LeafCertTTL since \d{4}-\S+: the mount "int-[0-9a-f]+" or its role leaf-cert in Vault has a lower limit; raise it/,
      );
      await server.must("POST", role, data);
      assert.ok((await lifeOf()) > 71 * HOUR);
      assert.deepEqual(ca.manager.status.notes, []);

      await server.must("POST", `sys/mounts/${config.IntermediatePKIPath}/tune`, {
        max_lease_ttl: "2h",
      });
      await assert.rejects(
        ca.manager.configure(toVault({ ...config, LeafCertTTL: "71h" })),
        /LeafCertTTL: 255600s is beyond max_lease_ttl of the mount "int-[0-9a-f]+", which is 7200s; raise it \(vault secrets tune/,
      );
      assert.deepEqual(ca.manager.require().state.config.config?.LeafCertTTL, "72h");
      await ca.manager.close();
    });

    it("the warnings of a renewal are logged", async () => {
      const config = vaultConfig(server, { LeafSigning: "local" });
      const warnings: string[] = [];
      const log = {
        ...silentLog,
        warn: (_: string, fields?: Readonly<Record<string, unknown>>) =>
          void warnings.push(String(fields?.warning)),
      };
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config), log });
      await server.must("POST", `sys/mounts/${config.RootPKIPath}/tune`, {
        max_lease_ttl: "300h",
        default_lease_ttl: "300h",
      });
      const [issuer] = issuerChainOf(ca.manager.require().active);
      assert.deepEqual(warnings, []);
      ca.clock.advance(365 * 12 * HOUR + HOUR);
      await settle(ca);
      assert.notEqual(issuerChainOf(ca.manager.require().active)[0]?.id, issuer?.id);
      assert.match(
        warnings.join(),
        /The intermediate expires at \d{4}-\S+, earlier than IntermediateCertTTL requires: the root's mount "root-[0-9a-f]+" in Vault has a lower max_lease_ttl/,
      );
      await ca.manager.close();
    });

    it("the token of a login does not outlive the provider that it was for", async () => {
      const config = vaultConfig(server);
      const name = `approle-${config.RootPKIPath}`;
      await server.must("PUT", `sys/policies/acl/${name}`, {
        policy:
          'path "*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }',
      });
      const { MountPath, ...Params } = await enableApprole(server, {
        token_policies: [name],
        token_ttl: "1h",
      });
      const { Token: _, ...rest } = config;
      const login = { ...rest, AuthMethod: { Type: "approle", MountPath, Params } };
      const tokens = async () =>
        (await server.must("GET", "auth/token/accessors?list=true")).data.keys.length as number;
      const before = await tokens();
      const ca = await createVaultCa({ bootstrap: bootstrapIn(login) });
      await signs(ca);
      assert.equal(await tokens(), before + 1);
      assert.ok(await ca.manager.configure(toVault({ ...login, LeafCertTTL: "71h" })));
      await signs(ca);
      await until(async () => (await tokens()) === before + 1);
      await ca.manager.close();
      assert.equal(await tokens(), before);
    });
  });

async function until(holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (!(await holds()))
    if (performance.now() > deadline) throw new Error("It never became true");
}
