/**
 * Switches to, from and within Vault: every root keeps a path, and obsolete objects are deleted
 * when no leaf needs them any more.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Connect } from "../../providers/vault/context.ts";
import type { PkiApi } from "../../providers/vault/pki-api.ts";
import { issuerChainOf } from "../../src/core/ca/cross-chain.ts";
import { DEFAULT_POLICY } from "../../src/core/ca/timing-and-limits.ts";
import { pemOf } from "../../src/core/x509/certificate.ts";
import { replica, requireSigning } from "../core/ca/harness.ts";
import { configuration, confirmOver } from "../fakes/ca.ts";
import {
  bootstrapIn,
  connectReal,
  createVaultCa,
  csrOf,
  cutting,
  generateAnother,
  importBelowExternal,
  inventory,
  NOW,
  requireAll,
  requireOpenssl,
  settle,
  toVault,
  vaultConfig,
} from "./harness.ts";
import { noVault, startVault, useVault, vaultKinds } from "./server.ts";

const LOOKS_EACH_TIME = { ...DEFAULT_POLICY, inspectMs: 0 };
const DAY = 86_400_000;
const LEFT_FOR = 2 * 72 * 3_600_000 + 1000;

for (const kind of vaultKinds)
  describe(`switches with ${kind}`, { skip: noVault }, () => {
    const server = useVault({ kind });

    it("a Vault that is lost for good is abandoned only by force", async () => {
      const cuts = cutting();
      const ca = await createVaultCa({
        connect: cuts.connect,
        bootstrap: bootstrapIn(vaultConfig(server)),
      });
      const old = ca.manager.require().active.id;
      cuts.arm(1, "away");
      const away = configuration({ LeafCertTTL: "72h" });
      await assert.rejects(ca.manager.configure(away), { code: "provider_unavailable" });
      assert.equal(ca.manager.require().active.id, old);
      assert.ok(await ca.manager.configure({ ...away, forceWithoutCrossSigning: true }));
      assert.notEqual(ca.manager.require().active.id, old);
      await requireSigning(ca.manager, csrOf(ca), ca.clock.now());
      await ca.manager.close();
    });

    it("obsolete objects in a lost Vault delay no other deletion", {
      timeout: 60_000,
    }, async () => {
      const gone = await startVault({ kind });
      const config = vaultConfig(server);
      const ca = await createVaultCa({ bootstrap: bootstrapIn(vaultConfig(gone)) });
      assert.ok(await ca.manager.configure(toVault(config)));
      assert.ok(await ca.manager.configure(configuration({ LeafCertTTL: "72h" })));
      await gone.stop();
      const mounts = async () => Object.keys((await inventory(server)) as object);
      assert.ok((await mounts()).includes(`${config.IntermediatePKIPath}/`));
      ca.clock.advance(LEFT_FOR);
      await confirmOver(ca);
      await settle(ca);
      assert.ok(!(await mounts()).includes(`${config.IntermediatePKIPath}/`));
      await ca.manager.close();
    });

    it("a token of a login does not outlive the change that it was made for", async () => {
      const path = `userpass-${crypto.randomUUID().slice(0, 8)}`;
      await server.must("POST", `sys/auth/${path}`, { type: "userpass" });
      await server.must("POST", `sys/policies/acl/${path}`, {
        policy:
          'path "*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }',
      });
      await server.must("POST", `auth/${path}/users/mesh`, {
        password: "secret of mesh",
        token_policies: path,
      });
      const AuthMethod = {
        Type: "userpass",
        MountPath: path,
        Params: { username: "mesh", password: "secret of mesh" },
      };
      const ca = await createVaultCa();
      const tokens = async () =>
        ((await server.must("GET", "auth/token/accessors?list=true")).data.keys as string[]).length;
      const before = await tokens();
      const { Token: _, ...config } = vaultConfig(server);
      assert.ok(await ca.manager.configure(toVault({ ...config, AuthMethod })));
      await requireAll(ca);
      // That of the provider that signs now.
      assert.equal(await tokens(), before + 1);
      await ca.manager.close();
    });

    it("Vault to local and back keeps the root, and the old issuer goes when its leaves are dead", async () => {
      const config = vaultConfig(server);
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
      const { id } = ca.manager.require().active;
      const [first] = issuerChainOf(ca.manager.require().active);
      const leaf = await ca.manager.sign(csrOf(ca));
      assert.ok(
        await ca.manager.configure(toVault({ ...config, Token: "hidden", LeafSigning: "local" })),
      );
      assert.equal(ca.manager.require().active.id, id);
      assert.notEqual(issuerChainOf(ca.manager.require().active)[0]?.id, first?.id);
      await requireAll(ca);
      requireOpenssl(
        leaf.certificatePem,
        pemOf(ca.manager.require().active.certificate),
        ca.clock.now(),
      );
      assert.ok(await ca.manager.configure(toVault({ ...config, Token: "hidden" })));
      await requireAll(ca);
      assert.equal(
        ((await inventory(server)) as Record<string, { issuers: number }>)[
          `${config.IntermediatePKIPath}/`
        ]?.issuers,
        2,
      );
      ca.clock.advance(LEFT_FOR);
      await confirmOver(ca);
      await settle(ca);
      assert.equal(
        ((await inventory(server)) as Record<string, { issuers: number }>)[
          `${config.IntermediatePKIPath}/`
        ]?.issuers,
        1,
      );
      await ca.manager.close();
    });

    it("path A to path B, and on to another server, certifies each new root by the old one", async () => {
      const config = vaultConfig(server);
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
      const old = ca.manager.require().active.id;
      assert.ok(await ca.manager.configure(toVault(vaultConfig(server))));
      assert.notEqual(ca.manager.require().active.id, old);
      await requireAll(ca);
      // A server that is given is the only one: what its own token may not follow to is tested with
      // our own servers.
      if (kind === "given") return ca.manager.close();
      const other = await startVault({ kind });
      try {
        assert.ok(await ca.manager.configure(toVault(vaultConfig(other))));
        assert.equal(ca.manager.require().state.roots.length, 3);
        await requireAll(ca);
        await assert.rejects(
          ca.manager.configure(toVault({ ...vaultConfig(server), Token: "hidden" })),
          /"hidden"/,
        );
      } finally {
        await ca.manager.close();
        await other.stop();
      }
    });

    it("a root that we made is rotated in its mount; an adopted one is not, and the error names what to do in Vault", async () => {
      const config = vaultConfig(server);
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
      const old = ca.manager.require().active.id;
      await ca.manager.rotate(NOW);
      assert.notEqual(ca.manager.require().active.id, old);
      await requireAll(ca);
      // The default of the mount is another one, which is ours too: it is not taken back.
      ca.clock.advance(DAY / 4);
      await ca.manager.tick();
      assert.notEqual(ca.manager.require().active.id, old);
      await ca.manager.close();

      const adopted = vaultConfig(server);
      await server.must("POST", `sys/mounts/${adopted.RootPKIPath}`, {
        type: "pki",
        config: { max_lease_ttl: "87600h" },
      });
      await server.must("POST", `${adopted.RootPKIPath}/root/generate/internal`, {
        common_name: "the company",
        ttl: "87600h",
      });
      const second = await createVaultCa({ bootstrap: bootstrapIn(adopted) });
      await requireAll(second);
      await assert.rejects(
        second.manager.rotate(NOW),
        /was not made by meshca[\s\S]*root\/rotate\/internal/,
      );
      // Nor is it rotated by itself.
      assert.match(
        second.manager.rotationObstacle ?? "",
        /^The root in Vault at "[^"]+" was not made by meshca: it is rotated in Vault, and followed then$/,
      );
      await second.manager.close();
    });

    it("another root that is generated in Vault is adopted if the old one certifies it, and only by force otherwise", async () => {
      const config = vaultConfig(server);
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config), policy: LOOKS_EACH_TIME });
      const old = ca.manager.require().active.id;
      const generate = () => generateAnother(server, config);
      const oldIssuer = (await server.must("GET", `${config.RootPKIPath}/config/issuers`)).data
        .default;
      await generate();
      await ca.manager.tick();
      assert.notEqual(ca.manager.require().active.id, old);
      await requireAll(ca);
      // Now the pinned one can certify nothing any more.
      const pinned = (await server.must("GET", `${config.RootPKIPath}/config/issuers`)).data
        .default as string;
      const present = ca.manager.require().active.id;
      await generate();
      await server.must("DELETE", `${config.RootPKIPath}/issuer/${pinned}`);
      await server.must("DELETE", `${config.RootPKIPath}/issuer/${oldIssuer}`);
      await ca.manager.tick();
      assert.equal(ca.manager.require().active.id, present);
      assert.match(
        ca.manager.status.notes.join(),
        /another root took the active one's place outside and is not followed since .*ForceWithoutCrossSigning/,
      );
      await requireAll(ca);
      await ca.manager.rotate({ ...NOW, forceWithoutCrossSigning: true });
      assert.notEqual(ca.manager.require().active.id, present);
      await requireAll(ca);
      await ca.manager.close();
    });

    it("peers trust an external root above Vault, and its issuer chain is sent with each leaf", async () => {
      const config = vaultConfig(server);
      const top = await importBelowExternal(server, config);

      const ca = await createVaultCa();
      assert.ok(await ca.manager.configure(toVault(config)));
      const { active } = ca.manager.require();
      assert.equal(pemOf(active.certificate).trim(), top.trim());
      assert.equal(issuerChainOf(active).length, 2);
      await requireAll(ca);
      await assert.rejects(
        ca.manager.rotate(NOW),
        /import another intermediate of the external root/,
      );
      assert.ok(await ca.manager.configure(configuration({ LeafCertTTL: "72h" })));
      await requireAll(ca);
      await ca.manager.close();
    });

    it("an intermediate is renewed at half its life, and a deleted one is created again", async () => {
      // Vault's clock does not move: if its leaves would be dead by ours, we hold the key.
      const config = vaultConfig(server, { IntermediateCertTTL: "720h", LeafSigning: "local" });
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config) });
      const [first] = issuerChainOf(ca.manager.require().active);
      ca.clock.advance(14 * DAY);
      assert.equal((await ca.manager.tick()).kind, "wait");
      ca.clock.advance(2 * DAY);
      assert.equal((await ca.manager.tick()).kind, "renew");
      const [second] = issuerChainOf(ca.manager.require().active);
      assert.notEqual(second?.id, first?.id);
      await ca.manager.close();

      const other = vaultConfig(server);
      const again = await createVaultCa({ bootstrap: bootstrapIn(other), policy: LOOKS_EACH_TIME });
      const [before] = issuerChainOf(again.manager.require().active);
      await server.must("DELETE", `sys/mounts/${other.IntermediatePKIPath}`);
      await assert.rejects(again.manager.sign(csrOf(again)));
      assert.match(again.manager.obstacle() ?? "", /Vault.*since/);
      again.clock.advance(2000);
      await again.manager.tick();
      assert.notEqual(issuerChainOf(again.manager.require().active)[0]?.id, before?.id);
      await requireAll(again);
      assert.equal(again.manager.obstacle(), null);
      await again.manager.close();
    });

    it("an intermediate in Vault is renewed at half its life, and the old one goes when its leaves are dead", async () => {
      // Vault's clock cannot be moved: what it makes is backdated until the first intermediate is
      // past half its life.
      const config = vaultConfig(server);
      const [root, int] = [String(config.RootPKIPath), String(config.IntermediatePKIPath)];
      await server.must("POST", `sys/mounts/${root}`, {
        type: "pki",
        config: { max_lease_ttl: "87600h" },
      });
      await server.must("POST", `${root}/root/generate/internal`, {
        common_name: "made before",
        ttl: "80000h",
        not_before_duration: "300h",
      });
      let aged = true;
      const connect: Connect = (connection) =>
        new Proxy(connectReal(connection), {
          get(target, name: keyof PkiApi) {
            if (name !== "signIntermediate" || !aged) {
              const value: unknown = Reflect.get(target, name, target);
              return typeof value === "function" ? value.bind(target) : value;
            }
            const sign: PkiApi["signIntermediate"] = async (mount, issuerId, csr) => {
              const body = {
                csr,
                use_csr_values: true,
                max_path_length: 0,
                ttl: "100h",
                not_before_duration: "200h",
              };
              const { data } = await server.must(
                "POST",
                `${mount.path}/issuer/${issuerId}/sign-intermediate`,
                body,
              );
              return data.certificate;
            };
            return sign;
          },
        });
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config), connect });
      aged = false;
      const [first] = issuerChainOf(ca.manager.require().active);
      const leaf = await ca.manager.sign(csrOf(ca));
      assert.equal((await ca.manager.tick()).kind, "renew");
      const { active } = ca.manager.require();
      assert.notEqual(issuerChainOf(active)[0]?.id, first?.id);
      await requireAll(ca);
      requireOpenssl(leaf.certificatePem, pemOf(active.certificate), ca.clock.now());
      const issuers = async () =>
        ((await inventory(server)) as Record<string, { issuers: number }>)[`${int}/`]?.issuers;
      assert.equal(await issuers(), 2);
      ca.clock.advance(LEFT_FOR);
      await confirmOver(ca);
      await settle(ca);
      assert.equal(await issuers(), 1);
      await ca.manager.close();
    });

    it("200 restarts and leader changes make no call that changes Vault", {
      timeout: 240_000,
    }, async () => {
      const cuts = cutting();
      const config = vaultConfig(server);
      const ca = await createVaultCa({ bootstrap: bootstrapIn(config), connect: cuts.connect });
      const before = await inventory(server);
      await ca.manager.close();
      cuts.arm(0, "refuse");
      for (let i = 0; i < 200; i++) {
        const next = await replica(ca, `start-${i}`, { providers: ca.providers });
        await next.start();
        await next.tick();
        if (i % 20 === 0) await next.sign(csrOf({ ...ca, manager: next }));
        await next.close();
      }
      // Revoking is for the token of a login; this one was configured, and nothing is asked.
      assert.deepEqual(new Set(cuts.calls), new Set(["listIssuers", "signLeaf", "revoke"]));
      assert.deepEqual(await inventory(server), before);
    });
  });
