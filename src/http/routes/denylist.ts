/**
 * GET and PUT /v1/connect/ca/deny, DELETE /v1/connect/ca/deny/:id: the denylist of identities, keys
 * and leaves.
 * @module
 */
import type { Acl } from "../../core/acl/ports.ts";
import type { Audit } from "../../core/ports/audit.ts";
import { aclEndpoint, beforeChangeOf } from "../acl-endpoint.ts";
import { decodeDenial, denialJson } from "../acl-wire.ts";
import type { BodyReader } from "../request-body.ts";
import { json } from "../responses.ts";
import type { AccessRule, Call, Route } from "../route.ts";

const MAX_BODY = 8 * 1024;
const READ: AccessRule = { resource: "operator", access: "read" };
const WRITE: AccessRule = { resource: "operator", access: "write" };

export interface DenylistRouteOptions {
  readonly control: Acl | null;
  readonly audit: Audit | null;
  readonly bodies: BodyReader;
}

export function denylistRoutes({ control, audit, bodies }: DenylistRouteOptions): Route[] {
  const adminFor = (acl: Acl, call: Call) => acl.adminFor(beforeChangeOf(call, audit));
  return [
    {
      path: "/v1/connect/ca/deny",
      kind: "consul",
      methods: {
        GET: aclEndpoint(control, READ, (call, { admin }) =>
          json(call, admin.denylist.list().map(denialJson)),
        ),
        PUT: aclEndpoint(control, WRITE, async (call, acl) => {
          const request = decodeDenial(await bodies.json(call.request, MAX_BODY));
          return json(call, denialJson(await adminFor(acl, call).denylist.add(request)));
        }),
      },
    },
    {
      path: "/v1/connect/ca/deny/:id",
      kind: "consul",
      methods: {
        DELETE: aclEndpoint(control, WRITE, async (call, acl) => {
          await adminFor(acl, call).denylist.remove(call.param("id"));
          return json(call, true);
        }),
      },
    },
  ];
}
