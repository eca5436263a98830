/**
 * The permissions that the token needs, derived from the steps, and whether it has them. They are
 * checked before anything is changed; an error names each missing path and capability, with the
 * policy that grants it.
 * @module
 */
import { ConfigError, type Violation } from "../../src/core/errors.ts";
import type { VaultClient } from "./client.ts";
import type { Mount } from "./config.ts";
import { failedBy } from "./errors.ts";
import type { Step } from "./plan.ts";
import { LEAF_ROLE } from "./role.ts";

export type Capability = "create" | "read" | "update" | "delete" | "list" | "sudo";

export interface Permission {
  readonly namespace: string;
  /** Without a leading slash, as in a policy. */
  readonly path: string;
  readonly capabilities: readonly Capability[];
  /** For example "sign leaves". */
  readonly purpose: string;
}

/** @param under a path in the engine. */
export function permission(
  { namespace, path }: Mount,
  under: string,
  capabilities: readonly Capability[],
  purpose: string,
): Permission {
  return { namespace, path: `${path}/${under}`, capabilities, purpose };
}

function mountPermission(
  { namespace, path }: Mount,
  capabilities: readonly Capability[],
  purpose: string,
): Permission {
  return { namespace, path: `sys/mounts/${path}`, capabilities, purpose };
}

/** What a step needs, its compensating actions included. */
export function permissionsOf(step: Step): Permission[] {
  switch (step.kind) {
    case "use-root":
    case "keep-intermediate":
    case "generate-local-key":
    case "seal-local-key":
      return [];
    case "lookup-token":
      return [
        {
          namespace: step.namespace,
          path: "auth/token/lookup-self",
          capabilities: ["read"],
          purpose: "read when the token expires",
        },
      ];
    case "renew-token":
      return [
        {
          namespace: step.namespace,
          path: "auth/token/renew-self",
          capabilities: ["update"],
          purpose: "renew the token",
        },
      ];
    case "read-mount":
      return [mountPermission(step.mount, ["read"], "read whether an engine is mounted")];
    case "mount-pki": {
      const purpose = `mount the PKI engine of the ${step.purpose}, and delete it when it is no longer used`;
      return [mountPermission(step.mount, ["read", "update", "delete"], purpose)];
    }
    case "generate-root": {
      const path = step.beside ? "root/rotate/internal" : "root/generate/internal";
      const rollback = "delete the root if the change fails";
      return [
        permission(step.mount, path, ["update"], "generate the root"),
        permission(step.mount, "issuer/+", ["delete"], rollback),
        permission(step.mount, "key/+", ["delete"], rollback),
      ];
    }
    case "certify-intermediate": {
      const path = "issuer/+/sign-intermediate";
      return [permission(step.mount, path, ["update"], "certify an intermediate by the root")];
    }
    case "generate-key": {
      const path = "intermediate/generate/internal";
      return [permission(step.mount, path, ["update"], "generate the key of an intermediate")];
    }
    case "import-intermediate":
      return [
        permission(
          step.mount,
          "intermediate/set-signed",
          ["update"],
          "import the certificate of an intermediate",
        ),
        permission(
          step.mount,
          "issuer/+",
          ["read", "update", "delete"],
          "name an intermediate, and delete it when it is superseded",
        ),
      ];
    case "ensure-role": {
      const capabilities = ["read", "update", "delete"] as const;
      return [
        permission(step.mount, `roles/${LEAF_ROLE}`, capabilities, "write the role of leaves"),
      ];
    }
    case "sign-leaves":
      return [permission(step.mount, `issuer/+/sign/${LEAF_ROLE}`, ["update"], "sign leaves")];
    case "delete-superseded":
      return [
        permission(
          step.mount,
          "key/+",
          ["delete"],
          "delete the key of an intermediate when it is superseded",
        ),
        permission(
          step.mount,
          "config/issuers",
          ["read", "update"],
          "keep a default issuer when a superseded one is deleted",
        ),
      ];
    case "cross-sign": {
      const path = `issuer/${step.issuerId}/sign-self-issued`;
      return [permission(step.mount, path, ["update"], "certify the new root by the old one")];
    }
  }
}

/** Those that the token lacks, each with the capabilities that are missing. @throws {VaultError} */
export async function missingPermissions(
  client: VaultClient,
  permissions: readonly Permission[],
): Promise<readonly Permission[]> {
  const missing: Permission[] = [];
  for (const namespace of new Set(permissions.map((each) => each.namespace))) {
    const here = permissions.filter((each) => each.namespace === namespace);
    const paths = [...new Set(here.map(({ path }) => sampleOf(path)))];
    const granted = await client.capabilities(namespace, paths);
    for (const each of here) {
      const has = granted.get(sampleOf(each.path)) ?? [];
      const capabilities = each.capabilities.filter((capability) => !isGranted(has, capability));
      if (capabilities.length > 0) missing.push({ ...each, capabilities });
    }
  }
  return missing;
}

/** `root` stands for all capabilities. */
function isGranted(has: readonly string[], capability: Capability): boolean {
  return !has.includes("deny") && (has.includes(capability) || has.includes("root"));
}

/** A path for which a policy's `+` stands. */
function sampleOf(path: string): string {
  return path.replaceAll("+", "00000000-0000-0000-0000-000000000000");
}

/**
 * Refuses what the token is not allowed to do.
 * @throws {ConfigError} with one violation a path, and the policy that grants what is missing
 * @throws {VaultError}
 */
export async function requirePermissions(
  client: VaultClient,
  permissions: readonly Permission[],
): Promise<void> {
  const missing = await missingPermissions(client, permissions);
  if (missing.length === 0) return;
  // Whole stanzas: Vault uses only the most specific stanza for a path.
  const stanzas = permissions.filter((each) =>
    missing.some(({ namespace, path }) => namespace === each.namespace && path === each.path),
  );
  throw permissionError(missing, stanzas);
}

/**
 * Refuses steps for which the token lacks permissions, also if it is not allowed to ask for them.
 * @throws {ConfigError} @throws {VaultError}
 */
export async function requirePermissionsOf(
  client: VaultClient,
  steps: readonly Step[],
): Promise<void> {
  try {
    await requirePermissions(client, steps.flatMap(permissionsOf));
  } catch (error) {
    if (!failedBy(error, "denied")) throw error;
    const self: Permission = {
      namespace: "",
      path: "sys/capabilities-self",
      capabilities: ["update"],
      purpose: "check the permissions of the token",
    };
    throw permissionError([self], [self]);
  }
}

function permissionError(
  missing: readonly Permission[],
  stanzas: readonly Permission[],
): ConfigError {
  const violations = missing.map(({ namespace, path, capabilities, purpose }): Violation => {
    const where = namespace === "" ? "" : ` in namespace ${JSON.stringify(namespace)}`;
    const message = `${capabilities.join(", ")} on ${JSON.stringify(path)}${where} to ${purpose}`;
    return { field: path, message };
  });
  const list = violations.map(({ message }) => message).join("; ");
  return new ConfigError(
    `Vault: the token lacks permissions, nothing was changed: ${list}. Add to its policy, and configure a token made after that:\n${policyFor(stanzas)}`,
    violations,
  );
}

/** A policy in Vault's own form. */
function policyFor(permissions: readonly Permission[]): string {
  return [...new Set(permissions.map(({ namespace }) => namespace))]
    .flatMap((namespace) => {
      const here = permissions.filter((each) => each.namespace === namespace);
      const stanzas = [...new Set(here.map(({ path }) => path))].map((path) => {
        const all = here.filter((each) => each.path === path);
        const names = [...new Set(all.flatMap(({ capabilities }) => capabilities))];
        return `path "${path}" {\n  capabilities = [${names.map((name) => `"${name}"`).join(", ")}]\n}`;
      });
      return namespace === "" ? stanzas : [`# In namespace ${namespace}:`, ...stanzas];
    })
    .join("\n");
}
