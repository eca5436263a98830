/**
 * Responses: common headers, bodies with and without compression, and the responses to requests that
 * no route gets.
 * @module
 */
import { parseAccept } from "hono/utils/accept";
import { type Json, writeJson } from "../consul/go-json.ts";
import { type Bytes, utf8 } from "../core/bytes.ts";
import type { HttpLimits } from "./limits.ts";
import type { Call, ResponseBody, RouteResponse } from "./route.ts";

/** Headers of every response, besides the id of the request. */
export const COMMON = { "X-Content-Type-Options": "nosniff" };
/** Headers of every response of a route by its kind, Consul's spelled as Consul spells them. */
export const HEADERS = {
  operations: { allow: COMMON, deny: COMMON },
  consul: {
    allow: { ...COMMON, Vary: "Accept-Encoding", "X-Consul-Default-Acl-Policy": "allow" },
    deny: { ...COMMON, Vary: "Accept-Encoding", "X-Consul-Default-Acl-Policy": "deny" },
  },
};

/** Consul's query metadata. @param lastContactMs the age of the response without a leader. */
export const queryMeta = (index: number, knownLeader: boolean, lastContactMs = 0) => ({
  "X-Consul-Index": String(index),
  "X-Consul-Knownleader": String(knownLeader),
  "X-Consul-Lastcontact": String(lastContactMs),
  "X-Consul-Query-Backend": "blocking-query",
});

export const TEXT = "text/plain; charset=utf-8";
/** Octets from which on Consul compresses a body, about one Ethernet frame (gziphandler). */
const GZIP_FROM = 1400;

/** A body that may be large or requested often: its octets are shared by all its responses. */
export function compressibleBody(type: string, text: string): ResponseBody {
  const bytes = utf8(text);
  let compressed: Promise<Bytes> | undefined;
  return {
    type,
    content: bytes,
    async gzip() {
      if (bytes.length < GZIP_FROM) return null;
      compressed ??= compress(bytes);
      return compressed;
    },
  };
}

/** A body that is sent once and not compressed: a certificate hardly shrinks. */
export function plainBody(type: string, text: string): ResponseBody {
  return { type, content: text, gzip: async () => null };
}

/** JSON in Go's form, indented if the query has `pretty`. */
export function json(
  call: Call,
  value: Json,
  rest: Omit<RouteResponse, "body"> = {},
): RouteResponse {
  const text = writeJson(value, call.query().pretty);
  return { ...rest, body: compressibleBody("application/json", text) };
}

async function compress(bytes: Bytes): Promise<Bytes> {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/**
 * Whether an Accept-Encoding header accepts gzip (RFC 9110 section 12.5.3): by its own weight if it
 * is named, else by that of "*".
 */
export function takesGzip(header: string | undefined): boolean {
  const codings = parseAccept(header ?? "");
  const weightOf = (name: string) => codings.find(({ type }) => type.toLowerCase() === name)?.q;
  return (weightOf("gzip") ?? weightOf("*") ?? 0) > 0;
}

/** Sets the request's id, under which the log has its lines. */
export function withRequestId(response: Response, requestId: string): Response {
  response.headers.set("X-Request-Id", requestId);
  return response;
}

/**
 * Makes the response of a handler.
 * @param common headers of every response of the route.
 * @param compressedInFront whether a proxy or platform in front compresses responses.
 */
export async function respond(
  { status = 200, headers, body, secret = false }: RouteResponse,
  common: Readonly<Record<string, string>>,
  { request, environment }: Pick<Call, "request" | "environment">,
  compressedInFront: boolean,
): Promise<Response> {
  const own = secret ? { ...headers, "Cache-Control": "no-store" } : headers;
  if (body === undefined) return new Response(null, { status, headers: { ...common, ...own } });
  const all: Record<string, string> = { "Content-Type": body.type, ...common, ...own };
  const compressible = typeof body.content !== "string" && !secret && !compressedInFront;
  const gzip =
    compressible && takesGzip(request.headers.get("accept-encoding") ?? undefined)
      ? await body.gzip()
      : null;
  const sent = gzip ?? body.content;
  if (gzip !== null) all["Content-Encoding"] = "gzip";
  // The runtime derives the length from a body, which a response to HEAD lacks (RFC 9110 §8.6).
  if (request.method === "HEAD")
    all["Content-Length"] = String(typeof sent === "string" ? utf8(sent).length : sent.length);
  else if (environment.bodyOf !== undefined)
    return new Response(environment.bodyOf(sent), { status, headers: all });
  return new Response(sent, { status, headers: all });
}

/** A response in plain text. */
export function text(
  status: number,
  message: string,
  headers: Readonly<Record<string, string>>,
): Response {
  // Set here, since a response to HEAD has it too and no body to derive it from.
  const bytes = utf8(message);
  return new Response(bytes, {
    status,
    headers: { ...headers, "Content-Length": String(bytes.length), "Content-Type": TEXT },
  });
}

/** The refusal of a request before it is routed, or null. */
export function requestRefusal(
  { url, headers }: Request,
  { maxUrlLength }: Pick<HttpLimits, "maxUrlLength">,
): Response | null {
  // The router would read the target of a CONNECT as a path.
  if (!url.startsWith("http")) return text(400, "Request must have a Host and a path", COMMON);
  const closing = { ...COMMON, Connection: "close" };
  if (url.length > maxUrlLength)
    return text(414, `URL is longer than ${maxUrlLength} characters`, closing);
  // A message with an unknown coding must not be read further (RFC 9112 section 6.1), and not every
  // runtime refuses it.
  const coding = headers.get("transfer-encoding");
  return coding === null || coding.toLowerCase() === "chunked"
    ? null
    : text(400, 'Transfer-Encoding must be "chunked"', closing);
}

/**
 * Consul's response to an unknown path (agent/http.go), and that of Go's ServeMux before it: a path
 * with consecutive slashes is redirected to the path without.
 */
export function unknownPath(request: Request): Response {
  const { pathname, search } = new URL(request.url);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: such a path is refused
  if (/%[01][0-9a-f]|%7f|[\u0000-\u001f\u007f]/i.test(pathname))
    return new Response(null, { status: 400, headers: COMMON });
  if (pathname.includes("//"))
    return movedTo(pathname.replaceAll(/\/+/g, "/") + search, request.method);
  const message = pathname.includes("/v1/")
    ? "Invalid URL path: not a recognized HTTP API endpoint\n"
    : "Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/'\n";
  return text(404, message, COMMON);
}

/** Go's http.Redirect with 301; it has a body for GET only. */
function movedTo(location: string, method: string): Response {
  const headers = { ...COMMON, Location: location };
  if (method !== "GET" && method !== "HEAD") return new Response(null, { status: 301, headers });
  const bytes = utf8(`<a href="${escapeHtml(location)}">Moved Permanently</a>.\n\n`);
  const length = method === "HEAD" ? {} : { "Content-Length": String(bytes.length) };
  return new Response(bytes, {
    status: 301,
    headers: { ...headers, ...length, "Content-Type": "text/html; charset=utf-8" },
  });
}

/** The entities of Go's html.EscapeString. */
const HTML = new Map([
  ["&", "&amp;"],
  ["<", "&lt;"],
  [">", "&gt;"],
  ['"', "&#34;"],
  ["'", "&#39;"],
]);

function escapeHtml(raw: string): string {
  return raw.replaceAll(/[&<>"']/g, (char) => HTML.get(char) ?? char);
}

/**
 * The response to a method that a path lacks: 200 to OPTIONS, 405 to others, with `Allow`.
 * @param allowed the methods of the path.
 */
export function wrongMethod(
  method: string,
  allowed: readonly string[],
  headers: Readonly<Record<string, string>>,
): Response {
  const all = { ...headers, Allow: ["OPTIONS", ...allowed].join() };
  if (method === "OPTIONS") return new Response(null, { headers: all });
  return text(405, `method ${method} not allowed`, all);
}
