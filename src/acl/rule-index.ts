/**
 * Rules compiled for look-ups: an exact name precedes the longest prefix, and of several rules for
 * the same name deny precedes write, and write read. A look-up costs one probe for each length of
 * prefix among the rules, not for each rule.
 * @module
 */
import type { AccessLevel, Resource } from "../core/acl/authorizer.ts";
import { DISPOSITIONS, type Disposition, NAMED, type Rule } from "./rules.ts";

/** `default`: no rule applies, and the default policy decides. */
export type Decision = "allow" | "deny" | "default";

/** The rules for one resource. */
interface Table {
  readonly exact: Map<string, Disposition>;
  readonly prefixes: Map<string, Disposition>;
  /** The lengths of the prefixes, longest first. */
  lengths: readonly number[];
}

/** The rules of all policies and identities of a token. */
export class CompiledRules {
  readonly #tables = new Map<string, Table>();

  constructor(rules: readonly Rule[]) {
    for (const { resource, match, name, disposition } of rules) {
      const table = this.#tables.get(resource) ?? {
        exact: new Map(),
        prefixes: new Map(),
        lengths: [],
      };
      this.#tables.set(resource, table);
      const names = match === "prefix" ? table.prefixes : table.exact;
      const before = names.get(name);
      if (before === undefined || DISPOSITIONS.indexOf(disposition) < DISPOSITIONS.indexOf(before))
        names.set(name, disposition);
    }
    for (const table of this.#tables.values()) {
      const lengths = new Set([...table.prefixes.keys()].map((prefix) => prefix.length));
      table.lengths = [...lengths].toSorted((a, b) => b - a);
    }
  }

  decide(resource: Resource, level: AccessLevel, name: string): Decision {
    // Consul: without a rule for mesh, that for operator applies; so it does for intermediates.
    const isOfOperator = resource === "mesh" || resource === "intermediate";
    const found =
      this.#find(resource, name) ?? (isOfOperator ? this.#find("operator", "") : undefined);
    if (found === undefined) return "default";
    return found === "write" || (found === "read" && level === "read") ? "allow" : "deny";
  }

  #find(resource: Resource, name: string): Disposition | undefined {
    const table = this.#tables.get(resource);
    if (table === undefined) return undefined;
    const exact = table.exact.get(name);
    if (exact !== undefined) return exact;
    for (const length of table.lengths) {
      const found = length > name.length ? undefined : table.prefixes.get(name.slice(0, length));
      if (found !== undefined) return found;
    }
    return undefined;
  }
}

/** The rules of a service identity (Consul's synthetic policy): the service, its sidecar, discovery. */
export function serviceIdentityRules(service: string): Rule[] {
  return [
    { resource: "service", match: "exact", name: service, disposition: "write" },
    { resource: "service", match: "exact", name: `${service}-sidecar-proxy`, disposition: "write" },
    { resource: "service", match: "prefix", name: "", disposition: "read" },
    { resource: "node", match: "prefix", name: "", disposition: "read" },
  ];
}

/** The rules of a node identity (Consul's synthetic policy): the node, discovery. */
export function nodeIdentityRules(node: string): Rule[] {
  return [
    { resource: "node", match: "exact", name: node, disposition: "write" },
    { resource: "service", match: "prefix", name: "", disposition: "read" },
  ];
}

/** Consul's builtin policy, which cannot be changed. */
export const GLOBAL_MANAGEMENT = {
  id: "00000000-0000-0000-0000-000000000001",
  name: "global-management",
  description: "Builtin Policy that grants unlimited access",
  rules: [
    // Consul's resources; operator includes the other one.
    ...(["acl", "operator", "mesh"] as const).map((resource) => `${resource} = "write"`),
    ...NAMED.map((resource) => `${resource}_prefix "" { policy = "write" }`),
    "",
  ].join("\n"),
} as const;
