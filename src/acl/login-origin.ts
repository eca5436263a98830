/**
 * Which auth method a token or binding rule belongs to. A new method can have the name of a deleted
 * one, and must not get its tokens and rules.
 * @module
 */
import type { AuthMethod, BindingRule, Entry, LoginOrigin, Token } from "../core/acl/types.ts";
import { hex, sha256, utf8 } from "../core/bytes.ts";

/** Longer subjects are replaced by their digest: each token and the audit log has the subject. */
const MAX_SUBJECT = 256;

/** The origin of a token that a login through a method creates. */
export function originOf(method: Entry<AuthMethod>, subject: string): LoginOrigin {
  return {
    methodId: method.value.id ?? null,
    methodVersion: method.version,
    subject: subject.length <= MAX_SUBJECT ? subject : `sha256:${hex(sha256(utf8(subject)))}`,
  };
}

/**
 * Whether the auth method that created a token was deleted.
 * @param method the one of that name now.
 */
export function isOrphaned(
  { value: token, createIndex }: Entry<Token>,
  method: Entry<AuthMethod> | undefined,
): boolean {
  if (token.authMethod === null) return false;
  // No token is older than its method.
  if (method === undefined || createIndex < method.createIndex) return true;
  const { login } = token;
  if (login === undefined || login.methodId === null) return false;
  // The version of a method only grows while it has its id.
  return login.methodId !== method.value.id || method.version < login.methodVersion;
}

/** Whether a binding rule belongs to the method of that name now, not to a deleted one. */
export function isRuleOf(rule: Entry<BindingRule>, method: Entry<AuthMethod>): boolean {
  return rule.value.authMethod === method.value.name && rule.createIndex >= method.createIndex;
}
