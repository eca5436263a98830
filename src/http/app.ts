/**
 * The CA API as a Hono app: which routes there are, and all that every answer has in common. It knows the CA through
 * its manager and nothing of stores, keys or runtimes.
 * @module
 */
import { type Context, Hono } from "hono";
import { utf8 } from "../core/bytes.ts";
import type { CaManager } from "../core/ca/manager.ts";
import type { Clock, Random } from "../core/clock.ts";
import { CaError, NotReadyError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { StateCodec } from "../core/store.ts";
import { type Body, takesGzip } from "./answers.ts";
import { backupRoutes } from "./backup.ts";
import { createWatchers, type Watchers } from "./blocking.ts";
import { configurationRoutes } from "./configuration.ts";
import { UnknownDatacenterError } from "./datacenter.ts";
import { type ErrorAnswer, errorAnswer } from "./errors.ts";
import { hostRefusal } from "./host.ts";
import { BadQueryError, parseQuery, type QueryOptions, queryOptions } from "./query.ts";
import { createBodyReader } from "./request.ts";
import { rewrapRoutes } from "./rewrap.ts";
import { rootsRoutes } from "./roots.ts";
import { signRoutes } from "./sign.ts";
import { stateConflictRoutes } from "./state-conflict.ts";
import { statusRoutes } from "./status.ts";

/** What the runtime hands over with each request. */
export interface RequestEnvironment {
  /** Lifts the runtime's idle timeout for this request, which will wait. */
  readonly holdOpen?: () => void;
}

export interface AppOptions {
  readonly manager: CaManager;
  /** The form of a backup. */
  readonly codec: StateCodec;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly datacenter: string;
  /** Consul's `connect.enabled`. */
  readonly connectEnabled: boolean;
  /** Refuse a Host header that is no loopback name: set where nothing but loopback is served. */
  readonly loopbackOnly: boolean;
  /** Prometheus' text and its media type. */
  readonly renderMetrics: () => Promise<{ type: string; text: string }>;
  /** Counts an answered request. */
  readonly countRequest: (route: string, status: number) => void;
}

export interface App {
  fetch(request: Request, environment?: RequestEnvironment): Response | Promise<Response>;
  readonly watchers: Watchers;
  /** Answers all who wait. */
  close(): void;
}

export interface Answer {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** None: an empty body without a media type. */
  readonly body?: Body;
}

/** What a handler gets to see. */
export interface Call {
  readonly request: Request;
  readonly environment: RequestEnvironment;
  /** The query as pairs. @throws {BadQueryError} */
  params(): ReadonlyMap<string, string>;
  /** The query with Consul's common options. @throws {RequestError} */
  query(): QueryOptions;
  header(name: string): string | undefined;
}

export type Handler = (call: Call) => Promise<Answer> | Answer;
export type Method = "GET" | "PUT" | "POST";

export interface Route {
  readonly path: string;
  /** In the order in which Allow names them. */
  readonly methods: Readonly<Partial<Record<Method, Handler>>>;
  /** Whether the route is one of Consul's, with its headers, or one for machines that watch us. */
  readonly kind: "consul" | "operations";
  /** Headers that errors of this route have too. */
  readonly errorHeaders?: Readonly<Record<string, string>>;
}

/** Every route of the server. */
export function routesOf(options: AppOptions, watchers: Watchers): Route[] {
  const bodies = createBodyReader(options.clock);
  return [
    ...rootsRoutes(options, watchers),
    ...configurationRoutes(options, bodies),
    ...signRoutes(options, bodies),
    ...rewrapRoutes(options),
    ...stateConflictRoutes(options, bodies),
    ...backupRoutes(options, bodies),
    ...statusRoutes(options),
  ];
}

/** Makes the app. */
export function createApp(options: AppOptions): App {
  const app = new Hono<{ Bindings: RequestEnvironment }>({ strict: true });
  const watchers = createWatchers(options.manager, options.clock, options.random);
  for (const route of routesOf(options, watchers)) app.all(route.path, (c) => serve(c, route, options));
  app.notFound((c) => {
    const response = unknownPath(c.req.path);
    options.countRequest("unknown", response.status);
    options.log.debug("Request", { method: c.req.raw.method, path: "unknown", status: response.status });
    return response;
  });
  return { fetch: (request, environment = {}) => app.fetch(request, environment), watchers, close: () => watchers.close() };
}

// The header on every answer of Consul's (consul-ca.md §1.1), in the spelling seen on the wire.
const CONSUL_HEADERS = { Vary: "Accept-Encoding", "X-Consul-Default-Acl-Policy": "allow" };
const TEXT = "text/plain; charset=utf-8";

async function serve(c: Context<{ Bindings: RequestEnvironment }>, route: Route, options: AppOptions): Promise<Response> {
  const request = c.req.raw;
  const started = options.clock.now().getTime();
  const common = route.kind === "consul" ? CONSUL_HEADERS : {};
  const finish = (response: Response): Response => {
    options.countRequest(route.path, response.status);
    options.log.debug("Request", {
      method: request.method,
      path: route.path,
      status: response.status,
      ms: options.clock.now().getTime() - started,
    });
    return response;
  };
  const refusal = options.loopbackOnly ? hostRefusal(request.headers.get("host")) : null;
  if (refusal !== null) return finish(text(403, refusal, common));
  const allow = { ...common, Allow: ["OPTIONS", ...Object.keys(route.methods)].join() };
  if (request.method === "OPTIONS") return finish(new Response(null, { headers: allow }));
  const handler = route.methods[request.method as Method];
  if (handler === undefined) return finish(text(405, `method ${request.method} not allowed`, allow));
  try {
    if (!options.connectEnabled && route.kind === "consul" && route.path.includes("/connect/"))
      throw new NotReadyError("ca_disabled", "Connect must be enabled in order to use this endpoint");
    return finish(await respond(await handler(callOf(c)), common, request));
  } catch (error) {
    const requestId = crypto.randomUUID();
    const answer = errorAnswer(error, requestId);
    if (answer.status >= 500) logFailure(options.log, error, answer, route, requestId);
    const retry: Record<string, string> = answer.retryAfter === undefined ? {} : { "Retry-After": String(answer.retryAfter) };
    const headers = {
      ...common,
      ...(error instanceof NotReadyError ? route.errorHeaders : {}),
      ...(error instanceof UnknownDatacenterError ? error.headers : {}),
      ...retry,
    };
    if (error instanceof BadQueryError) return finish(new Response(null, { status: answer.status, headers }));
    return finish(text(answer.status, answer.body, headers));
  }
}

/** The options of a request without any. */
const NO_QUERY = queryOptions(new Map(), undefined);

function callOf(c: Context<{ Bindings: RequestEnvironment }>): Call {
  const request = c.req.raw;
  const params = () => {
    const start = request.url.indexOf("?");
    return parseQuery(start < 0 ? "" : request.url.slice(start + 1).replace(/#.*$/, ""));
  };
  const header = (name: string) => request.headers.get(name) ?? undefined;
  return {
    request,
    environment: c.env,
    params,
    header,
    query: () =>
      request.url.includes("?") || request.headers.has("cache-control") ? queryOptions(params(), header("cache-control")) : NO_QUERY,
  };
}

async function respond(answer: Answer, common: Readonly<Record<string, string>>, request: Request): Promise<Response> {
  const { status = 200, headers = {}, body: content } = answer;
  if (content === undefined) return new Response(null, { status, headers: { ...common, ...headers } });
  const all: Record<string, string> = { "Content-Type": content.type, ...common, ...headers };
  // What is sent once is not worth compressing.
  if (typeof content.content === "string") return new Response(content.content, { status, headers: all });
  const compressed = takesGzip(request.headers.get("accept-encoding") ?? undefined) ? await content.gzip() : null;
  if (compressed === null) return new Response(content.content, { status, headers: all });
  return new Response(compressed, { status, headers: { "Content-Encoding": "gzip", ...all } });
}

function text(status: number, message: string, headers: Readonly<Record<string, string>>): Response {
  // The length is named, since an answer to HEAD has it too and no body to tell it from.
  const bytes = utf8(message);
  return new Response(bytes, { status, headers: { ...headers, "Content-Length": String(bytes.length), "Content-Type": TEXT } });
}

/** consul-ca.md §1.1: what Consul answers on a path that it does not know. */
function unknownPath(path: string): Response {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  if (/%[01][0-9a-f]|%7f|[\u0000-\u001f\u007f]/i.test(path)) return new Response(null, { status: 400 });
  const message = path.includes("/v1/")
    ? "Invalid URL path: not a recognized HTTP API endpoint\n"
    : "Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/'\n";
  return text(404, message, {});
}

/** Logs why a request failed on our side: the text of an error of ours, the kind and stack of any other. */
function logFailure(log: Log, error: unknown, answer: ErrorAnswer, route: Route, requestId: string): void {
  const known = error instanceof CaError;
  const stack =
    error instanceof Error && !known
      ? (error.stack ?? "")
          .split("\n")
          .map((line) => line.trim())
          // A message may have several lines, and hold anything.
          .filter((line) => line.startsWith("at "))
          .slice(0, 5)
      : undefined;
  const fields = {
    requestId,
    path: route.path,
    status: answer.status,
    code: known ? error.code : error instanceof Error ? error.name : "unknown",
  };
  log.error("Request failed", { ...fields, reason: known ? error.message : undefined, stack });
}
