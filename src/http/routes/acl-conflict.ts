/**
 * GET and PUT /v1/acl/state-conflict: why the stored access control is refused or its changes are
 * stopped, and which set of records goes on.
 * @module
 */
import * as v from "valibot";
import { decodeFailed, type Json, readJson, writeJson } from "../../consul/go-json.ts";
import type { AccessConflict, AccessControl, AccessSide } from "../../core/acl/access-control.ts";
import type { Access } from "../../core/acl/authorizer.ts";
import { DeniedError } from "../../core/errors.ts";
import type { AppOptions, Call, Route } from "../app.ts";
import { beforeChangeOf } from "../audited.ts";
import { type BodyReader, bodyForm } from "../request-body.ts";
import { sameSecret, secretOf } from "../request-token.ts";
import { body } from "../shared-body.ts";
import { rfc3339 } from "../wire.ts";

const MAX_BODY = 1024;

const Decision = v.strictObject({ Keep: v.picklist(["snapshot", "stored", "nothing"]) });

export function accessConflictRoutes(options: AppOptions, bodies: BodyReader): Route[] {
  const { access, audit } = options;
  // Consul's answer where access control is off.
  const disabled = { status: 401, body: body("text/plain; charset=utf-8", "ACL support disabled") };
  const report = async (control: AccessControl, call: Call) => {
    const conflict = await control.conflict();
    return {
      body: body(
        "application/json",
        writeJson(
          conflict === null ? { Conflict: false } : conflictJson(conflict),
          call.query().pretty,
        ),
      ),
    };
  };
  return [
    {
      path: "/v1/acl/state-conflict",
      // The handlers ask: without a set in force no token is known, and an operator must be able to
      // decide all the same.
      needs: { GET: "public", PUT: "public" },
      kind: "consul",
      methods: {
        async GET(call) {
          if (access === null) return disabled;
          await requireOperator(access, call, "read", options);
          return report(access, call);
        },
        async PUT(call) {
          if (access === null) return disabled;
          await requireOperator(access, call, "write", options);
          bodyForm(call.header("content-type"));
          const decision = v.safeParse(
            Decision,
            readJson(await bodies.read(call.request, MAX_BODY)),
          );
          if (!decision.success)
            throw decodeFailed(
              'the body must be {"Keep": "snapshot"}, {"Keep": "stored"} or {"Keep": "nothing"}',
            );
          await access.resolve(decision.output.Keep, beforeChangeOf(call, audit));
          return report(access, call);
        },
      },
    },
  ];
}

/**
 * A token with the right, as far as tokens are known here; without a set in force the secret of the
 * data folder, or the management token that was configured.
 * @throws {DeniedError} @throws {NotReadyError}
 */
async function requireOperator(
  access: AccessControl,
  call: Call,
  need: Access,
  options: AppOptions,
): Promise<void> {
  if (access.state.loaded)
    return (await access.authorize(secretOf(call.request))).require("acl", need);
  const given = secretOf(call.request);
  const file = options.bootstrapSecret();
  const accepted = [file?.secret ?? null, options.managementToken].filter(
    (secret) => secret !== null && secret !== "",
  );
  // All are compared, so that the time says nothing about which there are.
  if (accepted.map((secret) => given !== null && sameSecret(given, secret ?? "")).includes(true))
    return;
  const where =
    file === null
      ? "MESHCA_INITIAL_MANAGEMENT_TOKEN"
      : `the secret in ${file.file}, or MESHCA_INITIAL_MANAGEMENT_TOKEN,`;
  throw new DeniedError(
    "permission_denied",
    `Permission denied: no token is known while access control is not in force here; give ${where} as X-Consul-Token`,
  );
}

function conflictJson({ reason, by, at, snapshot, stored, differences }: AccessConflict): Json {
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

function sideJson({ index, authentic, faulty, records }: AccessSide): Json {
  return { Index: index, Authentic: authentic, FaultyRecords: faulty, Records: { ...records } };
}
