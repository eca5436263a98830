/**
 * GET and PUT /v1/connect/ca/configuration, PUT /v1/connect/ca/rotate (consul-ca.md §1.3, §1.4).
 * @module
 */

import { readJson, writeJson } from "../../consul/go-json.ts";
import type { ConfigurationRequest, RotationRequest } from "../../core/ca/plan-change.ts";
import type { CaState } from "../../core/state.ts";
import type { AppOptions, Call, Route } from "../app.ts";
import { decodeConfiguration, decodeRotation } from "../configuration-body.ts";
import { requireDatacenter } from "../datacenter.ts";
import { type BodyReader, bodyForm } from "../request-body.ts";
import { body } from "../shared-body.ts";
import { configurationJson } from "../wire.ts";

export function configurationRoutes(options: AppOptions, bodies: BodyReader): Route[] {
  const { manager, datacenter, limits } = options;
  const bodyOf = async (call: Call): Promise<string> => {
    requireDatacenter(call.query().params, datacenter);
    bodyForm(call.header("content-type"));
    return bodies.read(call.request, limits.maxBodyConfiguration);
  };

  return [
    {
      path: "/v1/connect/ca/configuration",
      needs: {
        GET: { resource: "operator", access: "read" },
        PUT: { resource: "operator", access: "write" },
      },
      kind: "consul",
      methods: {
        GET(call) {
          const query = call.query();
          requireDatacenter(query.params, datacenter);
          return {
            body: body(
              "application/json",
              writeJson(configurationJson(manager.require()), query.pretty),
            ),
          };
        },
        async PUT(call) {
          const request: ConfigurationRequest = decodeConfiguration(readJson(await bodyOf(call)));
          await manager.configure(request, call.caller);
          return { headers: abandonedHeader(manager.require().state) };
        },
      },
    },
    {
      path: "/v1/connect/ca/rotate",
      needs: { PUT: { resource: "operator", access: "write" } },
      kind: "consul",
      methods: {
        async PUT(call) {
          const sent = await bodyOf(call);
          const request: RotationRequest = decodeRotation(sent.trim() === "" ? {} : readJson(sent));
          const { state, active } = await manager.rotate(request, call.caller);
          const answer = { ActiveRootID: active.id, ModifyIndex: state.config.modifyIndex };
          return {
            headers: abandonedHeader(state),
            body: body("application/json", writeJson(answer, call.query().pretty)),
          };
        },
      },
    },
  ];
}

/**
 * Names the published roots that were abandoned by force, by this change or an earlier one: a
 * client that has no newer root verifies no new leaf. Without one there is no header.
 */
export function abandonedHeader({ roots }: CaState): Readonly<Record<string, string>> {
  const ids = roots.filter(({ forcedOut }) => forcedOut).map(({ id }) => id);
  return ids.length === 0 ? {} : { "X-Meshca-Abandoned-Roots": ids.join(", ") };
}
