/**
 * The group `meshca acl`, as Consul has it.
 * @module
 */
import { type Entry, type Group, isGroup } from "../command.ts";
import { ENTERPRISE_FLAGS } from "../connection/connection-flags.ts";
import { authMethod } from "./acl/auth-method.ts";
import { bindingRule } from "./acl/binding-rule.ts";
import { bootstrap } from "./acl/login.ts";
import { policy } from "./acl/policy.ts";
import { role } from "./acl/role.ts";
import { templatedPolicy } from "./acl/templated-policy.ts";
import { token } from "./acl/token.ts";

/** With the flags of Consul Enterprise, which the server refuses. */
function withEnterpriseFlags(entry: Entry): Entry {
  return isGroup(entry)
    ? { ...entry, commands: entry.commands.map(withEnterpriseFlags) }
    : { ...entry, flags: [...(entry.flags ?? []), ...ENTERPRISE_FLAGS] };
}

const GROUPS = [token, policy, role, authMethod, bindingRule, templatedPolicy];

export const acl: Group = {
  name: "acl",
  summary: "access control, as in consul acl",
  commands: [bootstrap, ...GROUPS].map(withEnterpriseFlags),
};
