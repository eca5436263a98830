/**
 * Endpoints that exist only with access control, and how their changes get into the audit log.
 * @module
 */
import type { Acl, BeforeChange } from "../core/acl/ports.ts";
import type { Audit } from "../core/ports/audit.ts";
import { compressibleBody, TEXT } from "./responses.ts";
import type { AccessRule, Call, Endpoint, RouteResponse } from "./route.ts";

/** Consul's response if access control is off. */
const DISABLED: RouteResponse = {
  status: 401,
  body: compressibleBody(TEXT, "ACL support disabled"),
};

/** @param control null: every call is answered that access control is off. */
export function aclEndpoint(
  control: Acl | null,
  access: AccessRule,
  handle: (call: Call, control: Acl) => Promise<RouteResponse> | RouteResponse,
): Endpoint {
  return { access, handle: (call) => (control === null ? DISABLED : handle(call, control)) };
}

/**
 * Writes the audit record of a change that a call makes, before it is made. A caller without a
 * token, who logs in, does not use the reserve for a full disk.
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
