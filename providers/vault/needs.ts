/**
 * What the token must be allowed for an operation (vault.md §3 B), to be looked at before anything
 * is changed.
 * @module
 */
import type { TokenStatus } from "./client.ts";
import type { VaultConfig } from "./config.ts";
import type { Found } from "./mounts.ts";
import { type Need, need, needOfMount } from "./preflight.ts";
import { LEAF_ROLE } from "./role.ts";
import { type RootPlan, rootMount } from "./root.ts";

/**
 * What is needed as long as the configuration is in use, whatever has to be made first.
 * @param primary whether this datacenter has the root.
 */
export function standingNeeds(config: VaultConfig, primary: boolean, token: TokenStatus): Need[] {
  const { connection, intermediate } = config;
  const certify = primary
    ? [
        need(
          rootMount(config),
          "issuer/+/sign-intermediate",
          ["update"],
          "have the root certify an intermediate",
        ),
      ]
    : [];
  const { namespace } = connection;
  const own: Need[] = [
    {
      namespace,
      path: "auth/token/lookup-self",
      capabilities: ["read"],
      purpose: "see how long the token lasts",
    },
  ];
  // After a login that cannot be renewed there is another one.
  if (token.renewable && connection.login.kind === "token")
    own.push({
      namespace,
      path: "auth/token/renew-self",
      capabilities: ["update"],
      purpose: "renew the token",
    });
  if (config.leafSigning === "local") return [...own, ...certify];
  return [
    ...own,
    ...certify,
    need(
      intermediate,
      `roles/${LEAF_ROLE}`,
      ["read", "update", "delete"],
      "write the role of leaves",
    ),
    need(intermediate, "intermediate/generate/internal", ["update"], "make the intermediate's key"),
    need(
      intermediate,
      "intermediate/set-signed",
      ["update"],
      "give the intermediate its certificate",
    ),
    need(intermediate, `issuer/+/sign/${LEAF_ROLE}`, ["update"], "sign leaves"),
    need(
      intermediate,
      "issuer/+",
      ["read", "update", "delete"],
      "name the intermediate, and delete it when it is replaced",
    ),
    need(intermediate, "key/+", ["delete"], "delete the intermediate's key when it is replaced"),
    need(
      intermediate,
      "config/issuers",
      ["read", "update"],
      "keep a default issuer when one is deleted",
    ),
  ];
}

/**
 * What is needed to make a root that is not there yet, and to take it away again where the change
 * fails.
 */
export function rootNeeds(config: VaultConfig, root: RootPlan): Need[] {
  const needs: Need[] = [];
  const mount = rootMount(config);
  if (root.kind === "mount")
    needs.push(needOfMount(mount, "", ["read", "update", "delete"], "mount the root's PKI engine"));
  if (root.kind !== "use") {
    const path =
      root.kind === "generate" && root.beside ? "root/rotate/internal" : "root/generate/internal";
    needs.push(need(mount, path, ["update"], "make the root"));
    needs.push(
      need(mount, "issuer/+", ["delete"], "take the root away again where the change fails"),
    );
    needs.push(
      need(mount, "key/+", ["delete"], "take the root's key away again where the change fails"),
    );
  }
  return needs;
}

/** What is needed to make the intermediate's mount where it is not there yet. */
export function mountNeeds({ intermediate }: VaultConfig, found: Found | null): Need[] {
  if (found?.kind !== "none") return [];
  const purpose = "mount the intermediate's PKI engine, and delete it when it is left";
  return [needOfMount(intermediate, "", ["read", "update", "delete"], purpose)];
}
