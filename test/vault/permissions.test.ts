/**
 * The least that a token must be allowed: with it all works, and without any one row of it a change
 * is refused, naming path and capability, and changes nothing.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ConfigError } from "../../src/core/errors.ts";
import { requireSigning } from "../core/ca/harness.ts";
import { opensslCsr, serviceUri } from "../fakes/ca.ts";
import { createVaultCa, inventory, toVault, vaultConfig } from "./harness.ts";
import { noVault, useVault, vaultKinds } from "./server.ts";

type Row = readonly [path: string, capabilities: readonly string[]];

/** The policy in docs/vault.md, for paths R and I. */
const COMMON: readonly Row[] = [
  ["auth/token/lookup-self", ["read"]],
  ["auth/token/renew-self", ["update"]],
  ["sys/capabilities-self", ["update"]],
  ["R/issuer/+/sign-intermediate", ["update"]],
];
const MAKES_ROOT: readonly Row[] = [
  ["sys/mounts/R", ["create", "read", "update", "delete"]],
  ["R/root/generate/internal", ["update"]],
  ["R/issuer/+", ["delete"]],
  ["R/key/+", ["delete"]],
];
const SIGNS_IN_VAULT: readonly Row[] = [
  ["sys/mounts/I", ["create", "read", "update", "delete"]],
  ["I/roles/leaf-cert", ["read", "update", "delete"]],
  ["I/intermediate/generate/internal", ["update"]],
  ["I/intermediate/set-signed", ["update"]],
  ["I/issuer/+/sign/leaf-cert", ["update"]],
  ["I/issuer/+", ["read", "update", "delete"]],
  ["I/key/+", ["delete"]],
  ["I/config/issuers", ["read", "update"]],
];

interface Mode {
  readonly name: string;
  readonly signing: "vault" | "local";
  /** Who makes the mounts and the root. */
  readonly operator: boolean;
  readonly rows: readonly Row[];
}

const withoutMounts = (rows: readonly Row[]) =>
  rows.filter(([path]) => !path.startsWith("sys/mounts/"));
const MODES: readonly Mode[] = [
  {
    name: "self-managed, vault",
    signing: "vault",
    operator: false,
    rows: [...COMMON, ...MAKES_ROOT, ...SIGNS_IN_VAULT],
  },
  {
    name: "self-managed, local",
    signing: "local",
    operator: false,
    rows: [...COMMON, ...MAKES_ROOT],
  },
  {
    name: "vault-managed, vault",
    signing: "vault",
    operator: true,
    rows: [...COMMON, ...withoutMounts(SIGNS_IN_VAULT)],
  },
  { name: "vault-managed, local", signing: "local", operator: true, rows: COMMON },
];

for (const kind of vaultKinds)
  describe(`permissions in ${kind}`, { skip: noVault }, () => {
    const server = useVault({ kind });

    for (const mode of MODES)
      it(`${mode.name}: every row is needed, and together they are enough`, {
        timeout: 120_000,
      }, async () => {
        const config = vaultConfig(server, { LeafSigning: mode.signing });
        const [R, I] = [String(config.RootPKIPath), String(config.IntermediatePKIPath)];
        if (mode.operator) {
          for (const path of [R, I])
            await server.must("POST", `sys/mounts/${path}`, {
              type: "pki",
              config: { max_lease_ttl: "87600h" },
            });
          await server.must("POST", `${R}/root/generate/internal`, {
            common_name: "made by operators",
            ttl: "87600h",
          });
        }
        const real = (path: string) => path.replace(/\bR\b/, R).replace(/\bI\b/, I);
        const tokenFor = (rows: readonly Row[]) =>
          server.tokenWith(
            rows
              .map(
                ([path, names]) =>
                  `path "${real(path)}" { capabilities = [${names.map((n) => `"${n}"`).join(", ")}] }`,
              )
              .join("\n"),
            // The default policy would give the first three rows.
            { no_default_policy: true },
          );
        const ca = await createVaultCa();
        const before = await inventory(server);
        for (const missing of mode.rows) {
          const token = await tokenFor(mode.rows.filter((row) => row !== missing));
          const error = await ca.manager.configure(toVault({ ...config, Token: token })).then(
            () => null,
            (reason: unknown) => reason,
          );
          const [path, [capability]] = missing;
          assert.ok(error instanceof ConfigError, `${path} is not needed: ${error}`);
          assert.ok(error.message.includes(real(path)), `${path}: ${error.message}`);
          // The token's own path is checked before its capabilities are read.
          if (path !== "auth/token/lookup-self")
            assert.ok(
              error.message.includes(
                path.startsWith("sys/mounts") ? "read" : (capability as string),
              ),
              error.message,
            );
          assert.ok(!error.message.includes(token));
          assert.deepEqual(await inventory(server), before, path);
          assert.equal(ca.manager.require().state.config.provider, "consul");
        }
        assert.ok(
          await ca.manager.configure(toVault({ ...config, Token: await tokenFor(mode.rows) })),
        );
        await requireSigning(
          ca.manager,
          opensslCsr(`URI:${serviceUri(ca.manager, "web")}`).csr,
          ca.clock.now(),
        );
        await ca.manager.close();
      });
  });
