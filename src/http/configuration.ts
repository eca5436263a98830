/**
 * GET and PUT /v1/connect/ca/configuration, PUT /v1/connect/ca/rotate (consul-ca.md §1.3, §1.4).
 * @module
 */
import type { ConfigurationRequest, RotationRequest } from "../core/ca/reconfigure.ts";
import { body } from "./answers.ts";
import type { AppOptions, Call, Route } from "./app.ts";
import { decodeConfiguration, decodeRotation } from "./configuration-body.ts";
import { requireDatacenter } from "./datacenter.ts";
import { readJson, writeJson } from "./json.ts";
import { type BodyReader, bodyForm } from "./request.ts";
import { configurationJson } from "./wire.ts";

/** Two PEM texts and some numbers; the largest that makes sense is a tenth of it. */
const MAX_BODY = 64 * 1024;

export function configurationRoutes(options: AppOptions, bodies: BodyReader): Route[] {
  const { manager, datacenter } = options;
  const bodyOf = async (call: Call): Promise<string> => {
    requireDatacenter(call.query().params, datacenter);
    bodyForm(call.header("content-type"));
    return bodies.read(call.request, MAX_BODY);
  };

  return [
    {
      path: "/v1/connect/ca/configuration",
      kind: "consul",
      methods: {
        GET(call) {
          const query = call.query();
          requireDatacenter(query.params, datacenter);
          return { body: body("application/json", writeJson(configurationJson(manager.require()), query.pretty)) };
        },
        async PUT(call) {
          const request: ConfigurationRequest = decodeConfiguration(readJson(await bodyOf(call)));
          await manager.configure(request);
          return {};
        },
      },
    },
    {
      path: "/v1/connect/ca/rotate",
      kind: "consul",
      methods: {
        async PUT(call) {
          const sent = await bodyOf(call);
          const request: RotationRequest = decodeRotation(sent.trim() === "" ? {} : readJson(sent));
          const { state, active } = await manager.rotate(request);
          const answer = { ActiveRootID: active.id, ModifyIndex: state.config.modifyIndex };
          return { body: body("application/json", writeJson(answer, call.query().pretty)) };
        },
      },
    },
  ];
}
