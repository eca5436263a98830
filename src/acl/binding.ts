/**
 * Binding rules, read against the fields of their auth method.
 * @module
 */
import type { BindingRule, BindType } from "../core/acl/types.ts";
import { FormatError } from "../core/errors.ts";
import type { MethodSettings } from "./auth-methods.ts";
import { malformed } from "./errors.ts";
import { readSelector, readTemplate, type Selector, type Template } from "./selector.ts";
import { isTemplateName, requireTemplatedPolicy } from "./templated-policies.ts";
import { isIdentityName, isPolicyName, isRoleName } from "./tokens.ts";

export interface BindingSettings {
  readonly selector: Selector;
  readonly bindName: Template;
  /** The variable of a templated policy; null without one. */
  readonly bindVariable: Template | null;
}

/** Which names a binding rule can give, by its type. */
export const IS_BOUND_NAME: Readonly<Record<BindType, (name: string) => boolean>> = {
  service: isIdentityName,
  node: isIdentityName,
  role: isRoleName,
  policy: isPolicyName,
  "templated-policy": isTemplateName,
};

/**
 * Reads a binding rule against the fields of its method.
 * @throws {RequestError} `request_malformed`
 */
export function readBinding(
  rule: Pick<BindingRule, "bindType" | "bindName" | "bindVariable" | "selector">,
  { fields }: Pick<MethodSettings, "fields">,
): BindingSettings {
  const invalid = (what: string, why: string) =>
    malformed(`Invalid Binding Rule: ${what} is invalid: ${why}`);
  const read = <T>(what: string, work: () => T): T => {
    try {
      return work();
    } catch (error) {
      throw error instanceof FormatError ? invalid(what, error.message) : error;
    }
  };
  const selector = read("Selector", () => readSelector(rule.selector, fields));
  const { bindType, bindVariable: variable = "" } = rule;
  const bindName = read("BindName", () => readTemplate(rule.bindName));
  const samples = new Map([...fields.keys()].map((name) => [name, "fake"]));
  const filled = (what: string, template: Template): string => {
    for (const name of template.variables) {
      if (fields.get(name) !== "text")
        throw invalid(what, `unknown variable ${JSON.stringify(name)}`);
    }
    return template.fill(samples) ?? "";
  };
  const sample = filled("BindName", bindName);
  if (bindType === "templated-policy") {
    if (bindName.variables.length > 0)
      throw invalid("BindName", "the name of a templated policy has no variables");
    const bindVariable = variable === "" ? null : read("BindVars", () => readTemplate(variable));
    const name = bindVariable === null ? "" : filled("BindVars", bindVariable);
    requireTemplatedPolicy({ templateName: sample, name, datacenters: [] }, "binding rule");
    return { selector, bindName, bindVariable };
  }
  if (variable !== "")
    throw invalid("BindVars", "only a rule with BindType templated-policy has variables");
  if (!IS_BOUND_NAME[bindType](sample))
    throw invalid(
      "BindName",
      `only ${bindType === "role" || bindType === "policy" ? "" : "lowercase "}alphanumeric characters, '-' and '_' are allowed around variables`,
    );
  return { selector, bindName, bindVariable: null };
}
