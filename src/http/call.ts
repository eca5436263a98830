/**
 * A request as its handler receives it.
 * @module
 */
import type { Context } from "hono";
import type { Authorization } from "../core/acl/authorizer.ts";
import { parseQuery, type QueryOptions, queryOptions, rawQuery } from "./query.ts";
import type { Call } from "./route.ts";

/** The options of a request without a query. */
const NO_QUERY = queryOptions(new Map(), undefined);

export function callOf(
  c: Pick<Context, "req">,
  {
    request,
    environment,
    caller,
    action,
  }: Pick<Call, "request" | "environment" | "caller" | "action">,
  authorized: Authorization | null,
): Call {
  const params = () => parseQuery(rawQuery(request.url));
  const header = (name: string) => request.headers.get(name) ?? undefined;
  let query: QueryOptions | undefined;
  return {
    request,
    environment,
    caller,
    action,
    authorized,
    param: (name) => c.req.param(name) ?? "",
    params,
    header,
    query() {
      query ??=
        request.url.includes("?") || request.headers.has("cache-control")
          ? queryOptions(params(), header("cache-control"))
          : NO_QUERY;
      return query;
    },
  };
}
