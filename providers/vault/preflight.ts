/**
 * Whether a token may do all that an operation needs, before anything is changed: what is missing
 * is named by path and capability, with the policy that would give it (vault.md §3 B).
 * @module
 */
import { ConfigError, type Violation } from "../../src/core/errors.ts";
import type { Mount, VaultClient } from "./client.ts";

export type Capability = "create" | "read" | "update" | "delete" | "list" | "sudo";

export interface Need {
  readonly namespace: string;
  /** Without a leading slash, as in a policy. */
  readonly path: string;
  readonly capabilities: readonly Capability[];
  /** What it is for, as in "sign leaves". */
  readonly purpose: string;
}

/** Needs for a path of an engine. */
export function need(
  mount: Mount,
  under: string,
  capabilities: readonly Capability[],
  purpose: string,
): Need {
  return {
    namespace: mount.namespace,
    path: under === "" ? mount.path : `${mount.path}/${under}`,
    capabilities,
    purpose,
  };
}

/** Needs for the mount itself: `sys/mounts/...`. */
export function needOfMount(
  mount: Mount,
  under: "" | "/tune",
  capabilities: readonly Capability[],
  purpose: string,
): Need {
  return {
    namespace: mount.namespace,
    path: `sys/mounts/${mount.path}${under}`,
    capabilities,
    purpose,
  };
}

/** What of the needs the token lacks, by path. @throws {VaultError} */
export async function missing(
  client: VaultClient,
  needs: readonly Need[],
): Promise<readonly Need[]> {
  const lacking: Need[] = [];
  for (const namespace of new Set(needs.map((each) => each.namespace))) {
    const here = needs.filter((each) => each.namespace === namespace);
    // The stars of a policy stand for a segment; what is asked has a name there.
    const asked = [...new Set(here.map(({ path }) => concrete(path)))];
    const granted = await client.capabilities(namespace, asked);
    for (const each of here) {
      const has = granted.get(concrete(each.path)) ?? [];
      const rest = each.capabilities.filter((capability) => !isGranted(has, capability));
      if (rest.length > 0) lacking.push({ ...each, capabilities: rest });
    }
  }
  return lacking;
}

function isGranted(has: readonly string[], capability: Capability): boolean {
  if (has.includes("deny")) return false;
  if (has.includes(capability)) return true;
  // A root token has all without naming it.
  return has.includes("root");
}

function concrete(path: string): string {
  return path.replaceAll("+", "00000000-0000-0000-0000-000000000000");
}

/**
 * Refuses an operation for which the token lacks a right.
 * @throws {ConfigError} with one violation for each path, and a policy that gives what is missing.
 * @throws {VaultError}
 */
export async function preflight(client: VaultClient, needs: readonly Need[]): Promise<void> {
  const lacking = await missing(client, needs);
  if (lacking.length === 0) return;
  const faults = lacking.map(
    ({ namespace, path, capabilities, purpose }): Violation => ({
      code: "vault_permission_missing",
      field: path,
      message: `${capabilities.join(", ")} on ${JSON.stringify(path)}${namespace === "" ? "" : ` in namespace ${JSON.stringify(namespace)}`} to ${purpose}`,
      reference: "vault.md §3",
    }),
  );
  // Whole stanzas, since one for a path makes Vault forget those for patterns around it.
  const isLacking = (each: Need) =>
    lacking.some(({ namespace, path }) => namespace === each.namespace && path === each.path);
  const list = faults.map(({ message }) => message).join("; ");
  throw new ConfigError(
    `Vault: the token lacks permissions, nothing was changed: ${list}. Add to its policy, and give a token made after that:\n${policyFor(needs.filter(isLacking))}`,
    faults,
  );
}

/** A policy in Vault's own form. */
export function policyFor(needs: readonly Need[]): string {
  const namespaces = [...new Set(needs.map(({ namespace }) => namespace))];
  return namespaces
    .flatMap((namespace) => {
      const paths = new Map<string, Set<string>>();
      for (const { path, capabilities } of needs.filter((each) => each.namespace === namespace))
        paths.set(path, new Set([...(paths.get(path) ?? []), ...capabilities]));
      const stanzas = [...paths].map(
        ([path, capabilities]) =>
          `path "${path}" {\n  capabilities = [${[...capabilities].map((name) => `"${name}"`).join(", ")}]\n}`,
      );
      return namespace === "" ? stanzas : [`# In namespace ${namespace}:`, ...stanzas];
    })
    .join("\n");
}
