/**
 * GET and PUT /v1/connect/ca/backup: the whole CA as one sealed file, and back.
 * @module
 */
import { RequestError, SealError, StoreError } from "../core/errors.ts";
import { body } from "./answers.ts";
import type { AppOptions, Route } from "./app.ts";
import { requireDatacenter } from "./datacenter.ts";
import { writeJson } from "./json.ts";
import { booleanParam } from "./query.ts";
import type { BodyReader } from "./request.ts";

/** A state within its budget: 64 KiB of roots, and their sealed keys. */
const MAX_BODY = 128 * 1024;

export function backupRoutes({ manager, codec, datacenter }: AppOptions, bodies: BodyReader): Route[] {
  return [
    {
      path: "/v1/connect/ca/backup",
      kind: "consul",
      methods: {
        async GET(call) {
          requireDatacenter(call.query().params, datacenter);
          const { state } = manager.require();
          return {
            headers: {
              "Cache-Control": "no-store",
              "Content-Disposition": `attachment; filename="meshca-${state.clusterId}-${state.index}.backup"`,
            },
            body: body("application/octet-stream", await codec.encode(state)),
          };
        },
        async PUT(call) {
          const query = call.query();
          requireDatacenter(query.params, datacenter);
          const forceWithoutCrossSigning = booleanParam(query.params, "force");
          const sent = await bodies.read(call.request, MAX_BODY);
          const state = await codec.decode(sent).catch((error: unknown) => {
            if (error instanceof StoreError || error instanceof SealError)
              throw new RequestError("request_malformed", `Cannot read backup: ${error.message}`, { cause: error });
            throw error;
          });
          const { state: next, active } = await manager.restore(state, { forceWithoutCrossSigning });
          const answer = { ActiveRootID: active.id, ModifyIndex: next.config.modifyIndex };
          return { body: body("application/json", writeJson(answer, query.pretty)) };
        },
      },
    },
  ];
}
