/**
 * GET and PUT /v1/connect/ca/rewrap: which key-encryption keys are in use, and sealing everything
 * anew with the first.
 * @module
 */

import { writeJson } from "../../consul/go-json.ts";
import type { AppOptions, Handler, Route } from "../app.ts";
import { beforeChangeOf } from "../audited.ts";
import { requireDatacenter } from "../datacenter.ts";
import { body } from "../shared-body.ts";

export function rewrapRoutes({ manager, access, audit, datacenter }: AppOptions): Route[] {
  const report: Handler = async (call) => {
    const { current, inUse, live } = await manager.kekUse();
    const answer = {
      Current: current,
      // The tokens' own key is sealed as well.
      InUse: [...new Set([...inUse, ...(access?.kek ? [access.kek] : [])])],
      Replicas: live.map(({ address, keks }) => ({ Address: address, KEKs: keks })),
    };
    return { body: body("application/json", writeJson(answer, call.query().pretty)) };
  };
  return [
    {
      path: "/v1/connect/ca/rewrap",
      needs: {
        GET: { resource: "operator", access: "read" },
        PUT: { resource: "operator", access: "write" },
      },
      kind: "consul",
      methods: {
        GET(call) {
          requireDatacenter(call.query().params, datacenter);
          return report(call);
        },
        async PUT(call) {
          requireDatacenter(call.query().params, datacenter);
          await manager.rewrap(call.caller);
          await access?.rewrap(beforeChangeOf(call, audit));
          return report(call);
        },
      },
    },
  ];
}
