/**
 * Changes of access control in the audit log, which learns of each from the code that writes it.
 * @module
 */
import type { BeforeChange } from "../core/acl/access-control.ts";
import type { Audit } from "../core/ports/audit.ts";
import type { Call } from "./app.ts";

/**
 * What writes the record of a change by a call, before the change is made. A login has no caller
 * with a token yet.
 */
export function beforeChangeOf(
  { caller, action, authorized }: Call,
  audit: Audit | null,
): BeforeChange {
  const mayUseReserve = authorized !== null;
  return async (subject, detail) =>
    audit?.beforeChange(
      { caller, action, subject, outcome: "allowed", code: null, detail },
      { mayUseReserve },
    );
}
