/**
 * GET and PUT /v1/connect/ca/configuration, PUT /v1/connect/ca/rotate and rollback.
 * @module
 */
import type { CertificateAuthority } from "../../core/ca/ca.ts";
import type { Snapshot } from "../../core/ca/snapshot.ts";
import type { CaState } from "../../core/state.ts";
import { configurationJson } from "../ca-json.ts";
import { decodeConfiguration, decodeRollback, decodeRotation } from "../configuration-body.ts";
import type { BodyReader } from "../request-body.ts";
import { json } from "../responses.ts";
import { type Call, caRoute, endpoint, type Route, type RouteResponse } from "../route.ts";

interface ConfigurationRouteOptions {
  readonly ca: Pick<CertificateAuthority, "configure" | "require" | "rollBack" | "rotate">;
  readonly bodies: BodyReader;
  readonly maxBody: number;
}

export function configurationRoutes({ ca, bodies, maxBody }: ConfigurationRouteOptions): Route[] {
  return [
    {
      ...caRoute("/v1/connect/ca/configuration", {
        GET: endpoint("operator:read", (call) => json(call, configurationJson(ca.require().state))),
        PUT: endpoint("operator:write", async ({ request, caller }) => {
          const change = decodeConfiguration(await bodies.json(request, maxBody));
          await ca.configure(change, caller);
          return { headers: abandonedHeader(ca.require().state) };
        }),
      }),
      forwarded: ["GET", "PUT"],
    },
    caRoute("/v1/connect/ca/rotate", {
      PUT: endpoint("operator:write", async (call) => {
        const request = decodeRotation(await bodies.optionalJson(call.request, maxBody));
        return changeResponse(call, await ca.rotate(request, call.caller));
      }),
    }),
    caRoute("/v1/connect/ca/rollback", {
      PUT: endpoint("operator:write", async (call) => {
        const request = decodeRollback(await bodies.json(call.request, maxBody));
        return changeResponse(call, await ca.rollBack(request, call.caller));
      }),
    }),
  ];
}

/** The response to a change that answers its outcome. */
export function changeResponse(call: Call, { state, active }: Snapshot): RouteResponse {
  const outcome = { ActiveRootID: active.id, ModifyIndex: state.config.modifyIndex };
  return json(call, outcome, { headers: abandonedHeader(state) });
}

/**
 * Names the published roots that a forced change abandoned, if there are any: a client that trusts
 * no newer root cannot verify new leaves.
 */
export function abandonedHeader({ roots }: CaState): Readonly<Record<string, string>> {
  const ids = roots.filter(({ abandoned }) => abandoned).map(({ id }) => id);
  return ids.length === 0 ? {} : { "X-Meshca-Abandoned-Roots": ids.join(", ") };
}
