/**
 * A token with everything that it grants, as Consul's `expanded` shows it (api/acl.go,
 * ACLTokenExpanded).
 * @module
 */
import type { JsonObject } from "../consul/go-struct.ts";
import type { AclAdmin } from "../core/acl/admin.ts";
import type { Entry, Grants, Token } from "../core/acl/types.ts";
import { policyJson, roleJson, tokenJson } from "./acl-json.ts";

/** A policy, also one that is not stored. */
type Expanded = Parameters<typeof policyJson>[0];
type Records = Pick<AclAdmin, "policies" | "roles" | "templates">;

/**
 * The token with its policies and roles in full, also those that it has through roles, and identities
 * and templated policies as the policies that they are.
 * @param defaultPolicy what decides if no rule matches
 */
export function expandedTokenJson(
  entry: Entry<Token>,
  records: Records,
  defaultPolicy: "allow" | "deny",
): JsonObject {
  const roles = (entry.value.roles ?? []).flatMap((id) => records.roles.get(id) ?? []);
  const policies = new Map<string, Expanded>();
  for (const grants of [entry.value, ...roles.map(({ value }) => value)])
    for (const policy of policiesOf(grants, records)) policies.set(policy.value.id, policy);
  return {
    ExpandedPolicies: [...policies.values()].map((policy) => policyJson(policy, true)),
    ExpandedRoles: roles.map((role) => roleJson(role, records)),
    NamespaceDefaultPolicyIDs: null,
    NamespaceDefaultRoleIDs: null,
    AgentACLDefaultPolicy: defaultPolicy,
    // A replica decides by the records that it has while the store does not answer.
    AgentACLDownPolicy: "extend-cache",
    ResolvedByAgent: "",
    ...tokenJson(entry, records),
  };
}

/** The policies of one token or role, without those of its roles. */
function policiesOf(
  { policies, serviceIdentities, nodeIdentities, templatedPolicies = [] }: Grants,
  { policies: stored, templates }: Records,
): Expanded[] {
  const templated = [
    ...serviceIdentities.map(({ serviceName, datacenters }) => ({
      ...{ templateName: "builtin/service", name: serviceName, datacenters },
    })),
    ...nodeIdentities.map(({ nodeName, datacenter }) => ({
      ...{ templateName: "builtin/node", name: nodeName, datacenters: [datacenter] },
    })),
    ...templatedPolicies,
  ];
  return [
    ...policies.flatMap((id) => stored.get(id) ?? []),
    ...templated.map((one) => ({ value: templates.preview(one), createIndex: 0, modifyIndex: 0 })),
  ];
}
