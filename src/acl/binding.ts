/**
 * Binding rules, read against the fields of their auth method.
 * @module
 */
import type { BindingRule } from "../core/acl/types.ts";
import { FormatError } from "../core/errors.ts";
import type { MethodSettings } from "./auth-methods.ts";
import { malformed } from "./errors.ts";
import { readSelector, readTemplate, type Selector, type Template } from "./selector.ts";
import { isIdentityName } from "./tokens.ts";

export interface BindingSettings {
  readonly selector: Selector;
  readonly bindName: Template;
}

/**
 * Reads a binding rule against the fields of its method.
 * @throws {RequestError} `request_malformed`
 */
export function readBinding(
  rule: Pick<BindingRule, "bindName" | "selector">,
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
  const bindName = read("BindName", () => readTemplate(rule.bindName));
  for (const variable of bindName.variables) {
    if (fields.get(variable) !== "text")
      throw invalid("BindName", `unknown variable ${JSON.stringify(variable)}`);
  }
  const sample = bindName.fill(new Map([...fields.keys()].map((name) => [name, "fake"])));
  if (sample === null || !isIdentityName(sample))
    throw invalid(
      "BindName",
      "only lowercase alphanumeric characters, '-' and '_' are allowed around variables",
    );
  return { selector, bindName };
}
