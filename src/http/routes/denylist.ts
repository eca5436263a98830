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

/** What a denial of a key does not do. */
function intermediateWarning(end: Date): string {
  return `No further intermediate is signed for this key. One that was signed is valid until ${end.toISOString()} at most, or until its root is removed: until then its holder can sign a leaf with any identity of the mesh. Rotate the root by force if the key is stolen`;
}

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
        json(
          call,
          admin.denylist.list().map((entry) => denylistEntryJson(entry)),
        ),
      ),
      PUT: aclEndpoint(control, "operator:write", async (call, acl) => {
        const request = decodeDenylistEntry(await bodies.json(call.request, MAX_BODY));
        const { denylist } = adminFor(acl, call);
        const entry = await denylist.add(request);
        const end = denylist.intermediateEnd(entry.value);
        return json(call, denylistEntryJson(entry, end === null ? null : intermediateWarning(end)));
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
