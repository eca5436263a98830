/**
 * The token of a request: in the query, X-Consul-Token or as a bearer token, in Consul's order.
 * @module
 */
import { parseQuery, rawQuery } from "./query.ts";

/** The secret of a request's token, or null. @throws {BadQueryError} */
export function secretOf({ url, headers }: Pick<Request, "url" | "headers">): string | null {
  const query = rawQuery(url);
  if (query.includes("token=")) {
    const inQuery = parseQuery(query).get("token");
    if (inQuery) return inQuery;
  }
  return headers.get("x-consul-token") || bearerOf(headers.get("authorization"));
}

/** The token of an Authorization header of scheme Bearer (RFC 6750 section 2.1), or null. */
export function bearerOf(authorization: string | null): string | null {
  if (authorization === null || authorization.slice(0, SCHEME.length).toLowerCase() !== SCHEME)
    return null;
  return authorization.slice(SCHEME.length).trim() || null;
}
const SCHEME = "bearer ";

/** Compares two secrets in a time that does not depend on where they differ. */
export function sameSecret(a: string, b: string): boolean {
  let different = a.length ^ b.length;
  for (let i = 0; i < b.length; i++)
    different |= (a.charCodeAt(i % Math.max(1, a.length)) || 0) ^ b.charCodeAt(i);
  return different === 0;
}
