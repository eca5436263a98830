/**
 * DELETE /v1/connect/ca/roots/:id: drops a root whose key others may know. Not in Consul.
 * @module
 */
import type { CertificateAuthority } from "../../core/ca/ca.ts";
import { trustJson } from "../ca-json.ts";
import { decodeDrop } from "../configuration-body.ts";
import type { BodyReader } from "../request-body.ts";
import { json } from "../responses.ts";
import { caRoute, endpoint, type Route } from "../route.ts";
import { abandonedHeader } from "./configuration.ts";

interface DropRouteOptions {
  readonly ca: Pick<CertificateAuthority, "drop">;
  readonly bodies: BodyReader;
  readonly maxBody: number;
}

export function dropRoutes({ ca, bodies, maxBody }: DropRouteOptions): Route[] {
  return [
    caRoute("/v1/connect/ca/roots/:id", {
      DELETE: endpoint("operator:write", async (call) => {
        const body = await bodies.optionalJson(call.request, maxBody);
        const request = decodeDrop(body, call.param("id"));
        const { droppedRoots, trust, left, snapshot } = await ca.drop(request, call.caller);
        const { state, active } = snapshot;
        return json(
          call,
          {
            ActiveRootID: active.id,
            ModifyIndex: state.config.modifyIndex,
            DroppedRootIDs: droppedRoots,
            TrustedThrough: trust.map(trustJson),
            Left: left,
          },
          { headers: abandonedHeader(state) },
        );
      }),
    }),
  ];
}
