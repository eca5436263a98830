/**
 * GET and PUT /v1/connect/ca/state-conflict: the difference between the stored state and this
 * replica's after the store lost writes, and the decision which state is kept.
 * @module
 */
import * as v from "valibot";
import { decodeFailed, type Json, rfc3339 } from "../../consul/go-json.ts";
import { isObject, type JsonObject } from "../../consul/go-struct.ts";
import type { StateConflict } from "../../core/ca/api.ts";
import type { CertificateAuthority } from "../../core/ca/ca.ts";
import type { CaState } from "../../core/state.ts";
import { configurationJson } from "../ca-json.ts";
import type { BodyReader } from "../request-body.ts";
import { json } from "../responses.ts";
import { caRoute, endpoint, type Route } from "../route.ts";

const MAX_BODY = 1024;

const Decision = v.strictObject({
  Keep: v.picklist(["snapshot", "stored"]),
  ForceWithoutCrossSigning: v.optional(v.boolean(), false),
});

interface StateConflictRouteOptions {
  readonly ca: Pick<CertificateAuthority, "conflict" | "resolve">;
  readonly bodies: BodyReader;
}

export function stateConflictRoutes({ ca, bodies }: StateConflictRouteOptions): Route[] {
  return [
    caRoute("/v1/connect/ca/state-conflict", {
      GET: endpoint("operator:read", async (call) => {
        const conflict = await ca.conflict();
        return json(call, conflict === null ? { Conflict: false } : conflictJson(conflict));
      }),
      PUT: endpoint("operator:write", async (call) => {
        const decision = v.safeParse(Decision, await bodies.json(call.request, MAX_BODY));
        if (!decision.success)
          throw decodeFailed(
            'the body must be {"Keep": "snapshot"} or {"Keep": "stored"}, and may have ForceWithoutCrossSigning',
          );
        const { Keep: keep, ForceWithoutCrossSigning: forceWithoutCrossSigning } = decision.output;
        const request = { keep, forceWithoutCrossSigning };
        const { state, active } = await ca.resolve(request, call.caller);
        return json(call, { ActiveRootID: active.id, ModifyIndex: state.config.modifyIndex });
      }),
    }),
  ];
}

function conflictJson({ reason, by, at, snapshot, stored }: StateConflict): Json {
  const [mine, theirs] = [
    sideJson(snapshot),
    stored.state === null ? null : sideJson({ ...stored, state: stored.state }),
  ];
  return {
    Conflict: true,
    Reason: reason,
    NoticedBy: by,
    NoticedAt: rfc3339(at),
    Snapshot: mine,
    Stored: theirs,
    Differences: theirs === null ? [] : differences("", mine, theirs),
  };
}

function sideJson({ state, term }: { readonly state: CaState; readonly term: number }): JsonObject {
  return {
    Index: state.index,
    CommitID: state.commitId,
    Term: term,
    Configuration: configurationJson(state),
    Roots: Object.fromEntries(
      state.roots.map((root) => [
        root.id,
        {
          Status: root.status,
          RotatedOutAt: root.rotatedOutAt === null ? null : rfc3339(root.rotatedOutAt),
          LeftByForce: root.abandoned,
          HasKey: root.status === "active" || state.provider.retired[root.id] !== undefined,
          CrossSigned: root.intermediates.map(({ id }) => id),
        },
      ]),
    ),
  };
}

/** The paths of all fields that differ. */
function differences(path: string, a: Json | undefined, b: Json | undefined): string[] {
  if (!isObject(a) || !isObject(b)) return JSON.stringify(a) === JSON.stringify(b) ? [] : [path];
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].flatMap((key) =>
    differences(path === "" ? key : `${path}.${key}`, a[key], b[key]),
  );
}
