/**
 * The token of a request: in its query, in X-Consul-Token, or as a bearer, in Consul's order.
 * @module
 */
import { parseQuery } from "./query.ts";

/** The secret as it was sent, or null. @throws {BadQueryError} */
export function secretOf({ url, headers }: Pick<Request, "url" | "headers">): string | null {
  const start = url.indexOf("?");
  if (start >= 0 && url.includes("token=", start)) {
    const inQuery = parseQuery(url.slice(start + 1).replace(/#.*$/, "")).get("token");
    if (inQuery) return inQuery;
  }
  const header = headers.get("x-consul-token");
  if (header) return header;
  const bearer = /^bearer +(.*)$/i.exec(headers.get("authorization") ?? "")?.[1]?.trim();
  return bearer || null;
}
