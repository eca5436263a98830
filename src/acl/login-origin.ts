/**
 * Which auth method a token was made through, and for whom. A method's name may be given again;
 * tokens and binding rules of the method that had it before are not the new one's.
 * @module
 */
import type { AuthMethod, BindingRule, Entry, LoginOrigin, Token } from "../core/acl/types.ts";
import { hex, sha256, utf8 } from "../core/bytes.ts";

/**
 * Longer subjects are known by their digest: a subject is stored with every token, and stands in
 * the audit log.
 */
const MAX_SUBJECT = 256;

/** Where a token comes from that a login through a method makes now. */
export function originOf(method: Entry<AuthMethod>, subject: string): LoginOrigin {
  return {
    methodId: method.value.id ?? null,
    methodVersion: method.version,
    subject: subject.length <= MAX_SUBJECT ? subject : `sha256:${hex(sha256(utf8(subject)))}`,
  };
}

/**
 * Whether a token outlived the auth method that it was made through.
 * @param method the one that has the name now.
 */
export function isOrphaned(
  { value: token, createIndex }: Entry<Token>,
  method: Entry<AuthMethod> | undefined,
): boolean {
  if (token.authMethod === null) return false;
  // The order of all writes tells, too: no token is older than its method.
  if (method === undefined || createIndex < method.createIndex) return true;
  const { login } = token;
  if (login === undefined || login.methodId === null) return false;
  // Versions only grow while a method has its id.
  return login.methodId !== method.value.id || method.version < login.methodVersion;
}

/** Whether a binding rule is of the method that has its method's name now. */
export function isRuleOf(rule: Entry<BindingRule>, method: Entry<AuthMethod>): boolean {
  return rule.value.authMethod === method.value.name && rule.createIndex >= method.createIndex;
}
