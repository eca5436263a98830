/**
 * Access control that says yes or no to everything, for tests of what is asked of it.
 * @module
 */
import type { AccessControl } from "../../src/core/acl/access-control.ts";
import type { Access, Caller, Resource } from "../../src/core/acl/authorizer.ts";
import { DeniedError } from "../../src/core/errors.ts";

/** @param rule what a caller may do. */
export function accessThat(rule: {
  allows(resource: Resource, access: Access, name?: string): boolean;
}): AccessControl {
  const caller: Caller = {
    accessorId: "11111111-2222-4333-8444-555555555555",
    anonymous: false,
    allows: rule.allows,
    require(resource, access, name = "") {
      if (!rule.allows(resource, access, name))
        throw new DeniedError("permission_denied", `Permission denied: '${resource}:${access}'`);
    },
  };
  const nothing = new Proxy({}, { get: () => () => [] });
  return {
    defaultPolicy: "deny",
    state: { loaded: true, stopped: null, index: 1 },
    authorize: () => caller,
    administration: nothing,
    administrationFor: () => nothing,
  } as unknown as AccessControl;
}
