/**
 * Consul's builtin templated policies: a policy whose rules have the variable `name`.
 * @module
 */
import type { PolicyTemplate, TemplateAdmin } from "../core/acl/admin.ts";
import type { AclPolicy, TemplatedPolicy } from "../core/acl/types.ts";
import { hex, sha256, utf8 } from "../core/bytes.ts";
import { malformed } from "./errors.ts";
import { isIdentityName } from "./tokens.ts";

const VARIABLE = "{{.Name}}";
/** The JSON schema of the one variable, as Consul describes it. */
const NAME_SCHEMA = JSON.stringify({
  type: "object",
  properties: { name: { type: "string", minLength: 1 } },
  required: ["name"],
});

type Access = "read" | "write";
const whole = (resource: string, access: Access) => `${resource} = "${access}"`;
const named = (resource: string, name: string, access: Access) =>
  `${resource} "${name}" {\n  policy = "${access}"\n}`;
const every = (resource: string, access: Access) => named(`${resource}_prefix`, "", access);

function template(
  name: string,
  description: string,
  hasName: boolean,
  rules: readonly string[],
): PolicyTemplate {
  return {
    name,
    description,
    schema: hasName ? NAME_SCHEMA : "",
    template: rules.map((rule) => `${rule}\n`).join(""),
  };
}

/** By name, with the rights of Consul 1.17 (agent/structs/acl_templated_policy.go). */
const TEMPLATES: ReadonlyMap<string, PolicyTemplate> = new Map(
  [
    template("builtin/service", "The rights of a service and its sidecar proxy", true, [
      named("service", VARIABLE, "write"),
      named("service", `${VARIABLE}-sidecar-proxy`, "write"),
      every("service", "read"),
      every("node", "read"),
    ]),
    template("builtin/node", "The rights of a node", true, [
      named("node", VARIABLE, "write"),
      every("service", "read"),
    ]),
    template("builtin/dns", "The rights to resolve names by DNS", false, [
      every("node", "read"),
      every("service", "read"),
      every("query", "read"),
    ]),
    template("builtin/nomad-server", "The rights of a Nomad server", false, [
      whole("acl", "write"),
      every("agent", "read"),
      every("node", "read"),
      every("service", "write"),
    ]),
    template("builtin/nomad-client", "The rights of a Nomad client", false, [
      every("agent", "read"),
      every("node", "read"),
      every("service", "write"),
      every("key", "read"),
    ]),
    template("builtin/api-gateway", "The rights of an API gateway", true, [
      whole("mesh", "read"),
      every("node", "read"),
      every("service", "read"),
      named("service", VARIABLE, "write"),
    ]),
  ].map((each) => [each.name, each]),
);

/** Whether there is a template of that name. */
export function isTemplateName(name: string): boolean {
  return TEMPLATES.has(name);
}

/** The rules of a templated policy; none if there is no such template. */
export function templatedRules({ templateName, name }: TemplatedPolicy): string {
  return TEMPLATES.get(templateName)?.template.replaceAll(VARIABLE, () => name) ?? "";
}

/**
 * Checks a templated policy of a token or role.
 * @throws {RequestError} `request_malformed`
 */
export function requireTemplatedPolicy(
  { templateName, name }: TemplatedPolicy,
  owner: "token" | "role" | "binding rule",
): void {
  if (templateName === "")
    throw malformed(`templated policy is missing the template name field on this ${owner}`);
  const found = TEMPLATES.get(templateName);
  if (found === undefined)
    throw malformed(`no such ACL templated policy with Name ${JSON.stringify(templateName)}`);
  requireVariable(found, name);
}

/** @throws {RequestError} `request_malformed` */
function requireVariable({ name: templateName, schema }: PolicyTemplate, name: string): void {
  const invalid = (why: string) =>
    malformed(`validation error for templated policy ${JSON.stringify(templateName)}: ${why}`);
  if (schema === "" && name !== "") throw invalid("it has no variables");
  if (schema === "") return;
  if (name === "") throw invalid("name is required");
  // It gets into rules, between quotes.
  if (!isIdentityName(name))
    throw invalid("name: only lowercase alphanumeric characters, '-' and '_' are allowed");
}

export class PolicyTemplates implements TemplateAdmin {
  list(): readonly PolicyTemplate[] {
    return [...TEMPLATES.values()];
  }

  get(name: string): PolicyTemplate {
    const found = TEMPLATES.get(name);
    // Consul's text (agent/acl_endpoint.go).
    if (found === undefined) throw malformed(`Invalid templated policy Name: ${name}`);
    return found;
  }

  preview(templated: TemplatedPolicy): AclPolicy {
    requireVariable(this.get(templated.templateName), templated.name);
    const rules = templatedRules(templated);
    const id = hex(sha256(utf8(rules))).slice(0, 32);
    return {
      id,
      name: `synthetic-policy-${id}`,
      description: `synthetic policy generated from templated policy: ${templated.templateName}`,
      rules,
      datacenters: templated.datacenters,
    };
  }
}
