/**
 * AccessLevel control that says yes or no to everything, for tests of what is asked of it.
 * @module
 */

import type { AccessLevel, Authorization, Resource } from "../../src/core/acl/authorizer.ts";
import type { Acl } from "../../src/core/acl/ports.ts";
import { DeniedError } from "../../src/core/errors.ts";

/** @param rule what a caller may do. */
export function accessThat(rule: {
  allows(resource: Resource, access: AccessLevel, name?: string): boolean;
}): Acl {
  const caller: Authorization = {
    accessorId: "11111111-2222-4333-8444-555555555555",
    anonymous: false,
    allows: rule.allows,
    require(resource, access, name = "") {
      if (!rule.allows(resource, access, name))
        throw new DeniedError("permission_denied", `Permission denied: '${resource}:${access}'`);
    },
  };
  const nothing = new Proxy({}, { get: () => () => [] });
  const admin = new Proxy({}, { get: () => nothing });
  return {
    defaultPolicy: "deny",
    state: { loaded: true, stopped: null, index: 1 },
    authorize: () => caller,
    admin,
    adminFor: () => admin,
    denylistEntryOf: () => null,
  } as unknown as Acl;
}
