/**
 * GET and PUT /v1/connect/ca/state-conflict: what the store lost, field by field, and which state
 * is kept.
 * @module
 */
import * as v from "valibot";
import { decodeFailed, type Json, readJson, writeJson } from "../../consul/go-json.ts";
import type { StateConflict } from "../../core/ca/api.ts";
import type { CaState } from "../../core/state.ts";
import type { AppOptions, Route } from "../app.ts";
import { requireDatacenter } from "../datacenter.ts";
import { type BodyReader, bodyForm } from "../request-body.ts";
import { body } from "../shared-body.ts";
import { configJson, rfc3339 } from "../wire.ts";

const MAX_BODY = 1024;

const Decision = v.strictObject({
  Keep: v.picklist(["snapshot", "stored"]),
  ForceWithoutCrossSigning: v.optional(v.boolean(), false),
});

type JsonObject = { readonly [key: string]: Json };

export function stateConflictRoutes(
  { manager, datacenter }: AppOptions,
  bodies: BodyReader,
): Route[] {
  return [
    {
      path: "/v1/connect/ca/state-conflict",
      needs: {
        GET: { resource: "operator", access: "read" },
        PUT: { resource: "operator", access: "write" },
      },
      kind: "consul",
      methods: {
        async GET(call) {
          const query = call.query();
          requireDatacenter(query.params, datacenter);
          const conflict = await manager.conflict();
          return {
            body: body(
              "application/json",
              writeJson(
                conflict === null ? { Conflict: false } : conflictJson(conflict),
                query.pretty,
              ),
            ),
          };
        },
        async PUT(call) {
          const query = call.query();
          requireDatacenter(query.params, datacenter);
          bodyForm(call.header("content-type"));
          const decision = v.safeParse(
            Decision,
            readJson(await bodies.read(call.request, MAX_BODY)),
          );
          if (!decision.success)
            throw decodeFailed(
              'the body must be {"Keep": "snapshot"} or {"Keep": "stored"}, and may have ForceWithoutCrossSigning',
            );
          const { Keep: keep, ForceWithoutCrossSigning: forceWithoutCrossSigning } =
            decision.output;
          const { state, active } = await manager.resolve(
            { keep, forceWithoutCrossSigning },
            call.caller,
          );
          const answer = { ActiveRootID: active.id, ModifyIndex: state.config.modifyIndex };
          return { body: body("application/json", writeJson(answer, query.pretty)) };
        },
      },
    },
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
    Configuration: configJson(state),
    Roots: Object.fromEntries(
      state.roots.map((root) => [
        root.id,
        {
          Status: root.status,
          RotatedOutAt: root.rotatedOutAt === null ? null : rfc3339(root.rotatedOutAt),
          LeftByForce: root.forcedOut,
          HasKey: root.status === "active" || state.provider.retired[root.id] !== undefined,
          CrossSigned: root.intermediates.map(({ id }) => id),
        },
      ]),
    ),
  };
}

/** The paths of all fields in which two objects differ. */
function differences(path: string, a: Json | undefined, b: Json | undefined): string[] {
  const isObject = (value: Json | undefined): value is JsonObject =>
    typeof value === "object" && value !== null && !Array.isArray(value);
  if (!isObject(a) || !isObject(b)) return JSON.stringify(a) === JSON.stringify(b) ? [] : [path];
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].flatMap((key) =>
    differences(path === "" ? key : `${path}.${key}`, a[key], b[key]),
  );
}
