/**
 * Responses: headers that all of them have, bodies with and without compression, and what Consul
 * answers on paths that are no route.
 * @module
 */
import { utf8 } from "../core/bytes.ts";
import type { Answer } from "./app.ts";
import { takesGzip } from "./shared-body.ts";

/** What every answer has, beside the id of its request. */
export const COMMON = { "X-Content-Type-Options": "nosniff" };
const TEXT = "text/plain; charset=utf-8";

/** Names the request on its answer, by the id that the logs have. */
export function withRequestId(response: Response, requestId: string): Response {
  response.headers.set("X-Request-Id", requestId);
  return response;
}

/** @param compressed whether something in front compresses answers. */
export async function respond(
  answer: Answer,
  common: Readonly<Record<string, string>>,
  request: Request,
  compressed: boolean,
): Promise<Response> {
  const { status = 200, body: content, secret = false } = answer;
  const headers = secret
    ? { ...answer.headers, "Cache-Control": "no-store" }
    : (answer.headers ?? {});
  if (content === undefined)
    return new Response(null, { status, headers: { ...common, ...headers } });
  const all: Record<string, string> = { "Content-Type": content.type, ...common, ...headers };
  // What is sent once is not worth compressing.
  const compressible = typeof content.content !== "string" && !secret && !compressed;
  const gzip =
    compressible && takesGzip(request.headers.get("accept-encoding") ?? undefined)
      ? await content.gzip()
      : null;
  const sent = gzip ?? content.content;
  if (gzip !== null) all["Content-Encoding"] = "gzip";
  // Only a body that is sent tells its length by itself (RFC 9110 section 8.6).
  if (request.method === "HEAD")
    all["Content-Length"] = String(typeof sent === "string" ? utf8(sent).length : sent.length);
  return new Response(sent, { status, headers: all });
}

export function text(
  status: number,
  message: string,
  headers: Readonly<Record<string, string>>,
): Response {
  // The length is named, since an answer to HEAD has it too and no body to tell it from.
  const bytes = utf8(message);
  return new Response(bytes, {
    status,
    headers: { ...headers, "Content-Length": String(bytes.length), "Content-Type": TEXT },
  });
}

/**
 * What Consul answers on a path that it does not know (agent/http.go), and what Go's ServeMux does
 * before that: a path with two slashes in a row is redirected to the one without.
 */
export function unknownPath(request: Request): Response {
  const { pathname, search } = new URL(request.url);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a path with them is refused
  if (/%[01][0-9a-f]|%7f|[\u0000-\u001f\u007f]/i.test(pathname))
    return new Response(null, { status: 400, headers: COMMON });
  if (pathname.includes("//"))
    return movedTo(pathname.replaceAll(/\/+/g, "/") + search, request.method);
  const message = pathname.includes("/v1/")
    ? "Invalid URL path: not a recognized HTTP API endpoint\n"
    : "Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/'\n";
  return text(404, message, COMMON);
}

/** Go's http.Redirect with 301. The body is for GET only. */
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

/** As Go's html.EscapeString spells it. */
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
