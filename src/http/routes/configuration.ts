/**
 * GET and PUT /v1/connect/ca/configuration, PUT /v1/connect/ca/rotate.
 * @module
 */
import type { CertificateAuthority } from "../../core/ca/ca.ts";
import type { CaState } from "../../core/state.ts";
import { decodeConfiguration, decodeRotation } from "../configuration-body.ts";
import type { BodyReader } from "../request-body.ts";
import { json } from "../responses.ts";
import type { Route } from "../route.ts";
import { configurationJson } from "../wire.ts";

export interface ConfigurationRouteOptions {
  readonly ca: Pick<CertificateAuthority, "configure" | "require" | "rotate">;
  readonly bodies: BodyReader;
  readonly maxBody: number;
}

export function configurationRoutes({ ca, bodies, maxBody }: ConfigurationRouteOptions): Route[] {
  return [
    {
      path: "/v1/connect/ca/configuration",
      kind: "consul",
      datacenterBound: true,
      methods: {
        GET: {
          access: { resource: "operator", access: "read" },
          handle: (call) => json(call, configurationJson(ca.require().state)),
        },
        PUT: {
          access: { resource: "operator", access: "write" },
          async handle({ request, caller }) {
            await ca.configure(decodeConfiguration(await bodies.json(request, maxBody)), caller);
            return { headers: abandonedHeader(ca.require().state) };
          },
        },
      },
    },
    {
      path: "/v1/connect/ca/rotate",
      kind: "consul",
      datacenterBound: true,
      methods: {
        PUT: {
          access: { resource: "operator", access: "write" },
          async handle(call) {
            const request = decodeRotation(await bodies.optionalJson(call.request, maxBody));
            const { state, active } = await ca.rotate(request, call.caller);
            return json(
              call,
              { ActiveRootID: active.id, ModifyIndex: state.config.modifyIndex },
              { headers: abandonedHeader(state) },
            );
          },
        },
      },
    },
  ];
}

/**
 * Names the published roots that a forced change abandoned, if there are any: a client that trusts
 * no newer root cannot verify new leaves.
 */
export function abandonedHeader({ roots }: CaState): Readonly<Record<string, string>> {
  const ids = roots.filter(({ abandoned }) => abandoned).map(({ id }) => id);
  return ids.length === 0 ? {} : { "X-Meshca-Abandoned-Roots": ids.join(", ") };
}
