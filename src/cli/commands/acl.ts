/**
 * The group `meshca acl`, as Consul has it.
 * @module
 */
import type { Group } from "../command.ts";
import { authMethod } from "./acl/auth-method.ts";
import { bindingRule } from "./acl/binding-rule.ts";
import { bootstrap } from "./acl/login.ts";
import { policy } from "./acl/policy.ts";
import { role } from "./acl/role.ts";
import { templatedPolicy } from "./acl/templated-policy.ts";
import { token } from "./acl/token.ts";

export const acl: Group = {
  name: "acl",
  summary: "access control, as in consul acl",
  commands: [bootstrap, token, policy, role, authMethod, bindingRule, templatedPolicy],
};
