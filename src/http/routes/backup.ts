/**
 * GET and PUT /v1/connect/ca/backup: the whole CA as one sealed file, and back.
 * @module
 */

import { writeJson } from "../../consul/go-json.ts";
import { RequestError, SealError, StoreError } from "../../core/errors.ts";
import type { AppOptions, Route } from "../app.ts";
import { requireDatacenter } from "../datacenter.ts";
import { booleanParam, indexParam } from "../query.ts";
import type { BodyReader } from "../request-body.ts";
import { body } from "../shared-body.ts";
import { abandonedHeader } from "./configuration.ts";

export function backupRoutes(
  { manager, codec, datacenter, limits, audit }: AppOptions,
  bodies: BodyReader,
): Route[] {
  return [
    {
      path: "/v1/connect/ca/backup",
      needs: {
        GET: { resource: "operator", access: "write" },
        PUT: { resource: "operator", access: "write" },
      },
      kind: "consul",
      methods: {
        async GET(call) {
          requireDatacenter(call.query().params, datacenter);
          const { state, active } = manager.require();
          // It leaves the house with every key, sealed as they are: as much as a change.
          await audit?.beforeChange({
            caller: call.caller,
            action: "backup",
            subject: active.id,
            outcome: "allowed",
            code: null,
          });
          return {
            secret: true,
            headers: {
              "Content-Disposition": `attachment; filename="meshca-${state.clusterId}-${state.index}.backup"`,
            },
            body: body("application/octet-stream", await codec.encode(state)),
          };
        },
        async PUT(call) {
          const query = call.query();
          requireDatacenter(query.params, datacenter);
          const forceWithoutCrossSigning = booleanParam(query.params, "force");
          const modifyIndex = indexParam(query.params, "ModifyIndex");
          const sent = await bodies.read(call.request, limits.maxBodyBackup);
          const state = await codec.decode(sent).catch((error: unknown) => {
            if (error instanceof StoreError || error instanceof SealError)
              throw new RequestError("request_malformed", `Cannot read backup: ${error.message}`, {
                cause: error,
              });
            throw error;
          });
          const { state: next, active } = await manager.restore(
            state,
            { forceWithoutCrossSigning, modifyIndex },
            call.caller,
          );
          const answer = { ActiveRootID: active.id, ModifyIndex: next.config.modifyIndex };
          return {
            headers: abandonedHeader(next),
            body: body("application/json", writeJson(answer, query.pretty)),
          };
        },
      },
    },
  ];
}
