/**
 * GET and PUT /v1/connect/ca/rewrap: which key-encryption keys are in use, and encrypting all keys
 * again with the first.
 * @module
 */
import type { Acl } from "../../core/acl/ports.ts";
import type { CertificateAuthority } from "../../core/ca/ca.ts";
import type { Audit } from "../../core/ports/audit.ts";
import { beforeChangeOf } from "../acl-endpoint.ts";
import { json } from "../responses.ts";
import { type Call, caRoute, endpoint, type Route, type RouteResponse } from "../route.ts";

interface RewrapRouteOptions {
  readonly ca: Pick<CertificateAuthority, "kekUse" | "rewrap">;
  readonly control: Acl | null;
  readonly audit: Audit | null;
}

export function rewrapRoutes({ ca, control, audit }: RewrapRouteOptions): Route[] {
  const report = async (call: Call): Promise<RouteResponse> => {
    const { current, inUse, live } = await ca.kekUse();
    return json(call, {
      Current: current,
      // The key of access control is encrypted too.
      InUse: [...new Set([...inUse, ...(control?.kek ? [control.kek] : [])])],
      Replicas: live.map(({ address, keks }) => ({ Address: address, KEKs: keks })),
    });
  };
  return [
    caRoute("/v1/connect/ca/rewrap", {
      GET: endpoint("operator:read", report),
      PUT: endpoint("operator:write", async (call) => {
        await ca.rewrap(call.caller);
        await control?.rewrap(beforeChangeOf(call, audit));
        return report(call);
      }),
    }),
  ];
}
