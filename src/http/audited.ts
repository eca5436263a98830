/**
 * Changes of access control in the audit log, which learns of each from whoever writes it.
 * @module
 */
import type { BeforeChange } from "../core/access-control.ts";
import type { Audit } from "../core/audit.ts";
import type { Call } from "./app.ts";

/** What writes the record of a change by a call, before the change is made. */
export function beforeChangeOf({ caller, action }: Call, audit: Audit | null): BeforeChange {
  return async (subject, detail) => audit?.beforeChange({ caller, action, subject, outcome: "allowed", code: null, detail });
}
