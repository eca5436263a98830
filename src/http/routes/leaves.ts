/**
 * GET /v1/connect/ca/leaves: how many leaves are live under which root and issuer, and until when. Not
 * in Consul.
 * @module
 */
import type { Json } from "../../consul/go-json.ts";
import type { CertificateAuthority } from "../../core/ca/ca.ts";
import type { RootLeaves } from "../../core/ca/leaf-summary.ts";
import { json } from "../responses.ts";
import { caRoute, endpoint, type Route } from "../route.ts";

interface LeavesRouteOptions {
  readonly ca: Pick<CertificateAuthority, "leaves">;
}

export function leavesRoutes({ ca }: LeavesRouteOptions): Route[] {
  return [
    caRoute("/v1/connect/ca/leaves", {
      GET: endpoint("operator:read", (call) => {
        const { isCounting, completeSince, isLowerBound, roots } = ca.leaves;
        return json(call, {
          Counting: isCounting,
          CompleteSince: completeSince?.toISOString() ?? null,
          LowerBound: isLowerBound,
          Roots: roots.map(rootJson),
        });
      }),
    }),
  ];
}

function rootJson(root: RootLeaves): Json {
  const { id, status, leaves, until, removableAt, overdue, issuers } = root;
  return {
    ID: id,
    Status: status,
    Leaves: leaves,
    Until: until.toISOString(),
    PruneAt: removableAt?.toISOString() ?? null,
    Overdue: overdue,
    Issuers: issuers.map((issuer) => ({
      ID: issuer.id,
      Leaves: issuer.leaves,
      Until: issuer.until.toISOString(),
    })),
  };
}
