/**
 * GET and PUT /v1/connect/ca/deny, DELETE /v1/connect/ca/deny/:id: the denylist of identities, keys
 * and leaves.
 * @module
 */
import type { Acl } from "../../core/acl/ports.ts";
import type { Audit } from "../../core/ports/audit.ts";
import { aclEndpoint, beforeChangeOf } from "../acl-endpoint.ts";
import { decodeDenylistEntry, denylistEntryJson } from "../acl-json.ts";
import type { BodyReader } from "../request-body.ts";
import { json } from "../responses.ts";
import { type Call, consulRoute, type Route } from "../route.ts";

const MAX_BODY = 8 * 1024;

interface DenylistRouteOptions {
  readonly control: Acl | null;
  readonly audit: Audit | null;
  readonly bodies: BodyReader;
}

export function denylistRoutes({ control, audit, bodies }: DenylistRouteOptions): Route[] {
  const adminFor = (acl: Acl, call: Call) => acl.adminFor(beforeChangeOf(call, audit));
  return [
    consulRoute("/v1/connect/ca/deny", {
      GET: aclEndpoint(control, "operator:read", (call, { admin }) =>
        json(call, admin.denylist.list().map(denylistEntryJson)),
      ),
      PUT: aclEndpoint(control, "operator:write", async (call, acl) => {
        const request = decodeDenylistEntry(await bodies.json(call.request, MAX_BODY));
        return json(call, denylistEntryJson(await adminFor(acl, call).denylist.add(request)));
      }),
    }),
    consulRoute("/v1/connect/ca/deny/:id", {
      DELETE: aclEndpoint(control, "operator:write", async (call, acl) => {
        await adminFor(acl, call).denylist.remove(call.param("id"));
        return json(call, true);
      }),
    }),
  ];
}
