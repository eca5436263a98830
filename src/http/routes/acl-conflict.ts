/**
 * GET and PUT /v1/acl/state-conflict: why the stored access control is refused or its changes are
 * stopped, and the decision which set of records is kept.
 * @module
 */
import * as v from "valibot";
import { decodeFailed, type Json, rfc3339 } from "../../consul/go-json.ts";
import type { AccessLevel } from "../../core/acl/authorizer.ts";
import type { Acl, AclConflict, AclSetSummary } from "../../core/acl/ports.ts";
import { DeniedError } from "../../core/errors.ts";
import type { Audit } from "../../core/ports/audit.ts";
import { aclEndpoint, beforeChangeOf } from "../acl-endpoint.ts";
import type { AclOptions } from "../options.ts";
import type { BodyReader } from "../request-body.ts";
import { sameSecret, secretOf } from "../request-token.ts";
import { json } from "../responses.ts";
import { type Call, consulRoute, type Route, type RouteResponse } from "../route.ts";

const MAX_BODY = 1024;

const Decision = v.strictObject({ Keep: v.picklist(["snapshot", "stored", "nothing"]) });

interface AclConflictRouteOptions {
  readonly acl: Pick<AclOptions, "bootstrapSecret" | "control" | "managementToken">;
  readonly audit: Audit | null;
  readonly bodies: BodyReader;
}

export function aclConflictRoutes({
  acl: options,
  audit,
  bodies,
}: AclConflictRouteOptions): Route[] {
  const { control } = options;
  const report = async (acl: Acl, call: Call): Promise<RouteResponse> => {
    const conflict = await acl.conflict();
    return json(call, conflict === null ? { Conflict: false } : conflictJson(conflict));
  };
  return [
    consulRoute("/v1/acl/state-conflict", {
      // Public: while no set of records is loaded no token is valid, and the handlers authorize.
      GET: aclEndpoint(control, "public", async (call, acl) => {
        await requireOperator(acl, call, "read", options);
        return report(acl, call);
      }),
      PUT: aclEndpoint(control, "public", async (call, acl) => {
        await requireOperator(acl, call, "write", options);
        const decision = v.safeParse(Decision, await bodies.json(call.request, MAX_BODY));
        if (!decision.success)
          throw decodeFailed(
            'the body must be {"Keep": "snapshot"}, {"Keep": "stored"} or {"Keep": "nothing"}',
          );
        await acl.resolve(decision.output.Keep, beforeChangeOf(call, audit));
        return report(acl, call);
      }),
    }),
  ];
}

/**
 * Requires a token with `acl`, or, while no set of records is loaded, the bootstrap secret or the
 * initial management token.
 * @throws {DeniedError} @throws {NotReadyError}
 */
async function requireOperator(
  acl: Acl,
  { request }: Call,
  access: AccessLevel,
  { bootstrapSecret, managementToken }: AclConflictRouteOptions["acl"],
): Promise<void> {
  const given = secretOf(request);
  if (acl.state.loaded) return (await acl.authorize(given)).require("acl", access);
  const file = bootstrapSecret();
  const accepted = [file?.secret ?? null, managementToken].filter(
    (secret) => secret !== null && secret !== "",
  );
  // All are compared, so that the time does not show which ones exist.
  if (accepted.map((secret) => given !== null && sameSecret(given, secret ?? "")).includes(true))
    return;
  const secrets =
    file === null
      ? "MESHCA_INITIAL_MANAGEMENT_TOKEN"
      : `the secret in ${file.file}, or MESHCA_INITIAL_MANAGEMENT_TOKEN,`;
  throw new DeniedError(
    "permission_denied",
    `Permission denied: no token is valid while access control is not loaded; send ${secrets} as X-Consul-Token`,
  );
}

function conflictJson({ reason, by, at, snapshot, stored, differences }: AclConflict): Json {
  return {
    Conflict: true,
    Reason: reason,
    NoticedBy: by,
    NoticedAt: at === null ? null : rfc3339(at),
    Snapshot: snapshot === null ? null : sideJson(snapshot),
    Stored: stored === null ? null : sideJson(stored),
    Differences: [...differences],
  };
}

function sideJson({ index, authentic, faulty, records }: AclSetSummary): Json {
  return { Index: index, Authentic: authentic, FaultyRecords: faulty, Records: { ...records } };
}
