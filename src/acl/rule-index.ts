/**
 * Rules made ready to be asked: an exact name before the longest prefix, and among rules for one
 * and the same thing deny before write before read. A look-up costs one probe for each length of
 * prefix that the rules have, however many there are.
 * @module
 */
import type { AccessLevel, Resource } from "../core/acl/authorizer.ts";
import { LEVELS, type Level, NAMED, type Rule, WHOLE } from "./rules.ts";

/** What rules say: yes, no, or nothing, where the default policy decides. */
export type Decision = "allow" | "deny" | "default";

export interface CompiledRules {
  decide(resource: Resource, access: AccessLevel, name: string): Decision;
}

interface Table {
  readonly exact: Map<string, Level>;
  readonly prefixes: Map<string, Level>;
  /** Of the prefixes, longest first. */
  lengths: readonly number[];
}

/** Compiles the rules of all policies and identities of a token together. */
export function compileRules(rules: readonly Rule[]): CompiledRules {
  const tables = new Map<string, Table>();
  for (const { resource, match, name, level } of rules) {
    const table: Table = tables.get(resource) ?? {
      exact: new Map(),
      prefixes: new Map(),
      lengths: [],
    };
    tables.set(resource, table);
    const levels = match === "prefix" ? table.prefixes : table.exact;
    const before = levels.get(name);
    if (before === undefined || LEVELS.indexOf(level) < LEVELS.indexOf(before))
      levels.set(name, level);
  }
  for (const table of tables.values())
    table.lengths = [
      ...new Set([...table.prefixes.keys()].map((prefix) => prefix.length)),
    ].toSorted((a, b) => b - a);

  const levelOf = (resource: Resource, name: string): Level | undefined => {
    const table = tables.get(resource);
    if (table === undefined) return undefined;
    const exact = table.exact.get(name);
    if (exact !== undefined) return exact;
    for (const length of table.lengths) {
      const level = length > name.length ? undefined : table.prefixes.get(name.slice(0, length));
      if (level !== undefined) return level;
    }
    return undefined;
  };

  return {
    decide(resource, access, name) {
      // Consul: where no rule is about the mesh, what may be done with it goes by operator.
      const level =
        levelOf(resource, name) ?? (resource === "mesh" ? levelOf("operator", "") : undefined);
      if (level === undefined) return "default";
      return level === "write" || (level === "read" && access === "read") ? "allow" : "deny";
    },
  };
}

/**
 * The rules of a service identity (Consul's synthetic policy): the service, its sidecar, and
 * discovery.
 */
export function serviceIdentityRules(service: string): Rule[] {
  return [
    { resource: "service", match: "exact", name: service, level: "write" },
    { resource: "service", match: "exact", name: `${service}-sidecar-proxy`, level: "write" },
    { resource: "service", match: "prefix", name: "", level: "read" },
    { resource: "node", match: "prefix", name: "", level: "read" },
  ];
}

/** The rules of a node identity (Consul's synthetic policy): the node, and discovery. */
export function nodeIdentityRules(node: string): Rule[] {
  return [
    { resource: "node", match: "exact", name: node, level: "write" },
    { resource: "service", match: "prefix", name: "", level: "read" },
  ];
}

/** Consul's built-in policy, which cannot be changed. */
export const GLOBAL_MANAGEMENT = {
  id: "00000000-0000-0000-0000-000000000001",
  name: "global-management",
  description: "Builtin Policy that grants unlimited access",
  rules: [
    ...WHOLE.map((resource) => `${resource} = "write"`),
    ...NAMED.map((resource) => `${resource}_prefix "" { policy = "write" }`),
    "",
  ].join("\n"),
} as const;
