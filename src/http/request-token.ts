/**
 * The token of a request: in its query, in X-Consul-Token, or as a bearer, in Consul's order.
 * @module
 */
import { parseQuery, rawQuery } from "./query.ts";

/** The secret as it was sent, or null. @throws {BadQueryError} */
export function secretOf({ url, headers }: Pick<Request, "url" | "headers">): string | null {
  const query = rawQuery(url);
  if (query.includes("token=")) {
    const inQuery = parseQuery(query).get("token");
    if (inQuery) return inQuery;
  }
  return headers.get("x-consul-token") || bearerOf(headers.get("authorization"));
}

/** The token of an Authorization header with the scheme Bearer (RFC 6750 section 2.1), or null. */
export function bearerOf(authorization: string | null): string | null {
  if (authorization === null || authorization.slice(0, SCHEME.length).toLowerCase() !== SCHEME)
    return null;
  return authorization.slice(SCHEME.length).trim() || null;
}
const SCHEME = "bearer ";

/** In a time that tells nothing about where two secrets differ. */
export function sameSecret(a: string, b: string): boolean {
  let different = a.length ^ b.length;
  for (let i = 0; i < b.length; i++)
    different |= (a.charCodeAt(i % Math.max(1, a.length)) || 0) ^ b.charCodeAt(i);
  return different === 0;
}
