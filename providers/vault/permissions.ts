/**
 * The permissions that the token needs, derived from the steps, and whether it has them. They are
 * checked before anything is changed; an error names each missing path and capability, with the
 * policy that grants it.
 * @module
 */
import { ConfigError, type Violation } from "../../src/core/errors.ts";
import type { VaultClient } from "./client.ts";
import { failedBy } from "./errors.ts";
import type { Step } from "./plan.ts";
import { LEAF_ROLE } from "./role.ts";

type Capability = "create" | "read" | "update" | "delete" | "list" | "sudo";

export interface Permission {
  readonly namespace: string;
  /** Without a leading slash, as in a policy. */
  readonly path: string;
  readonly capabilities: readonly Capability[];
  /** For example "sign leaves". */
  readonly purpose: string;
}

/** A path below `M`, the mount of a step; capabilities; the purpose. */
type Row = readonly [path: string, capabilities: readonly Capability[], purpose: string];

/** What a step needs, its compensating actions included. */
export function permissionsOf(step: Step): Permission[] {
  const mount = "mount" in step ? step.mount.path : "";
  const { namespace } = "mount" in step ? step.mount : { namespace: "", ...step };
  return rowsOf(step).map(([path, capabilities, purpose]) => ({
    namespace,
    path: path.replace(/\bM\b/, () => mount),
    capabilities,
    purpose,
  }));
}

function rowsOf(step: Step): Row[] {
  switch (step.kind) {
    case "use-root":
    case "keep-intermediate":
    case "generate-local-key":
    case "seal-local-key":
      return [];
    case "lookup-token":
      return [["auth/token/lookup-self", ["read"], "read when the token expires"]];
    case "renew-token":
      return [["auth/token/renew-self", ["update"], "renew the token"]];
    case "read-mount":
      return [["sys/mounts/M", ["read"], "read whether an engine is mounted"]];
    case "mount-pki": {
      const purpose = `mount the PKI engine of the ${step.purpose}, and delete it when it is no longer used`;
      return [["sys/mounts/M", ["read", "update", "delete"], purpose]];
    }
    case "generate-root":
      return [
        [`M/root/${step.beside ? "rotate" : "generate"}/internal`, ["update"], "generate the root"],
        ["M/issuer/+", ["delete"], "delete the root if the change fails"],
        ["M/key/+", ["delete"], "delete the key of the root if the change fails"],
      ];
    case "certify-intermediate":
      return [["M/issuer/+/sign-intermediate", ["update"], "certify an intermediate by the root"]];
    case "generate-key":
      return [
        ["M/intermediate/generate/internal", ["update"], "generate the key of an intermediate"],
        ["M/key/+", ["delete"], "delete the key of an intermediate when it is superseded"],
      ];
    case "import-intermediate":
      return [
        ["M/intermediate/set-signed", ["update"], "import the certificate of an intermediate"],
        [
          "M/issuer/+",
          ["read", "update", "delete"],
          "name an intermediate, and delete it when it is superseded",
        ],
      ];
    case "ensure-role":
      return [[`M/roles/${LEAF_ROLE}`, ["read", "update", "delete"], "write the role of leaves"]];
    case "sign-leaves":
      return [[`M/issuer/+/sign/${LEAF_ROLE}`, ["update"], "sign leaves"]];
    case "delete-superseded": {
      const purpose = "keep a default issuer when a superseded one is deleted";
      return [["M/config/issuers", ["read", "update"], purpose]];
    }
    case "cross-sign":
      return [
        [
          `M/${step.issuerId === null ? "root" : `issuer/${step.issuerId}`}/sign-self-issued`,
          step.issuerId === null ? ["sudo", "update"] : ["update"],
          "certify the new root by the old one",
        ],
      ];
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
