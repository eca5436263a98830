/**
 * GET /v1/catalog/datacenters: the datacenters that requests can be for.
 * @module
 */
import { json } from "../responses.ts";
import { consulRoute, endpoint, type Route } from "../route.ts";

interface CatalogRouteOptions {
  /** The name of this datacenter. */
  readonly datacenter: string;
  readonly others: { readonly names: readonly string[] };
}

export function catalogRoutes({ datacenter, others }: CatalogRouteOptions): Route[] {
  return [
    consulRoute("/v1/catalog/datacenters", {
      // Consul orders them by distance: this one first, and those of unknown distance by name.
      GET: endpoint("public", (call) => json(call, [datacenter, ...others.names.toSorted()])),
    }),
  ];
}
