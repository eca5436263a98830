/**
 * What an opened Vault provider finds for an operator: permissions that were taken from its token,
 * limits of mounts that were lowered, the end of the token.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { TestCa } from "../fakes/ca.ts";
import { createVaultCa, toVault, vaultConfig } from "./harness.ts";
import { noVault, useVault, type VaultServer, vaultKinds } from "./server.ts";

const examine = ({ manager }: TestCa) => {
  const external = manager.require().provider?.external;
  assert.ok(external);
  return external.examine();
};

const ALL = `path "*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }`;

/** A CA whose token has a policy that the test can change. */
async function caWithPolicy(server: VaultServer) {
  const name = `p-${crypto.randomUUID()}`;
  const allow = (policy: string) => server.must("PUT", `sys/policies/acl/${name}`, { policy });
  await allow(ALL);
  const { auth } = await server.must("POST", "auth/token/create", { policies: [name], ttl: "1h" });
  const ca = await createVaultCa();
  const config = vaultConfig(server, { Token: auth.client_token });
  await ca.manager.configure(toVault(config));
  const [root, intermediate] = [String(config.RootPKIPath), String(config.IntermediatePKIPath)];
  return { ca, allow, root, intermediate };
}

for (const kind of vaultKinds)
  describe(`examination in ${kind}`, { skip: noVault }, () => {
    const server = useVault({ kind });
    const options = { timeout: 120_000 };

    it("finds nothing of a token with all permissions, and when it expires", options, async () => {
      const { ca } = await caWithPolicy(server);
      const { token, ...found } = await examine(ca);
      assert.deepEqual(found, { missing: [], lowLimits: [], unreadMounts: [] });
      assert.deepEqual([token.renewable, token.failure, token.isReplaced], [true, null, false]);
      assert.ok(token.expiresAt !== null && token.expiresAt > ca.clock.now());
      await ca.manager.close();
    });

    it("names what the token lost, and what only a rotation needs", options, async () => {
      const { ca, allow, root, intermediate } = await caWithPolicy(server);
      await allow(
        [
          ALL,
          `path "${intermediate}/issuer/+/sign/leaf-cert" { capabilities = ["deny"] }`,
          `path "${root}/issuer/+/sign-self-issued" { capabilities = ["deny"] }`,
        ].join("\n"),
      );
      const { missing } = await examine(ca);
      assert.deepEqual(
        missing?.map(({ path, capabilities, purpose, isOfRotation }) => [
          path.replace(/issuer\/[0-9a-f-]{36}/, "issuer/+"),
          capabilities,
          purpose,
          isOfRotation,
        ]),
        [
          [`${intermediate}/issuer/+/sign/leaf-cert`, ["update"], "sign leaves", false],
          [
            `${root}/issuer/+/sign-self-issued`,
            ["update"],
            "certify the new root by the old one",
            true,
          ],
        ],
      );
      await ca.manager.close();
    });

    it("says that a token cannot ask for its permissions", options, async () => {
      const { ca, allow } = await caWithPolicy(server);
      await allow(`${ALL}\npath "sys/capabilities-self" { capabilities = ["deny"] }`);
      assert.equal((await examine(ca)).missing, null);
      await ca.manager.close();
    });

    it(
      "names mounts with a limit below the configuration, and those it cannot read",
      options,
      async () => {
        const { ca, allow, root, intermediate } = await caWithPolicy(server);
        await server.must("POST", `sys/mounts/${intermediate}/tune`, { max_lease_ttl: "1h" });
        const lowered = await examine(ca);
        assert.deepEqual(lowered.lowLimits, [
          {
            ...{ path: intermediate, field: "LeafCertTTL" },
            ...{ limitMs: 3_600_000, neededMs: 72 * 3_600_000 },
          },
        ]);
        assert.deepEqual(lowered.unreadMounts, []);
        await allow(`${ALL}\npath "sys/mounts/${root}" { capabilities = ["deny"] }`);
        assert.deepEqual((await examine(ca)).unreadMounts, [root]);
        await ca.manager.close();
      },
    );
  });
