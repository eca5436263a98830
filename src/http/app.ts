/**
 * The CA API as a Hono app: which routes there are, and all that every answer has in common. It
 * knows the CA through its manager and nothing of stores, keys or runtimes.
 * @module
 */
import { type Context, Hono } from "hono";
import type { AccessControl } from "../core/acl/access-control.ts";
import type { Access, Caller as Authorized } from "../core/acl/authorizer.ts";
import type { CaManager } from "../core/ca/ca.ts";
import { CaError, DeniedError, NotReadyError, RequestError } from "../core/errors.ts";
import type { Audit, Caller } from "../core/ports/audit.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import type { Log, LogFields } from "../core/ports/log.ts";
import type { ReadRenewalToken } from "../core/ports/renewal-token.ts";
import type { StateCodec } from "../core/ports/store.ts";
import { createWatchers, type Watchers } from "./blocking.ts";
import { callerOf } from "./caller.ts";
import { UnknownDatacenterError } from "./datacenter.ts";
import { errorAnswer } from "./errors.ts";
import { createWrongTokens, type WrongTokens } from "./failed-auth-limiter.ts";
import { FailureLog } from "./failure-log.ts";
import { hostRefusal } from "./host.ts";
import { clientKey, createGuard, type Guard, type HttpLimits } from "./limits.ts";
import { BadQueryError, parseQuery, type QueryOptions, queryOptions, rawQuery } from "./query.ts";
import { createBodyReader } from "./request-body.ts";
import { secretOf } from "./request-token.ts";
import { COMMON, respond, text, unknownPath, withRequestId } from "./responses.ts";
import { aclRoutes } from "./routes/acl.ts";
import { accessConflictRoutes } from "./routes/acl-conflict.ts";
import { backupRoutes } from "./routes/backup.ts";
import { configurationRoutes } from "./routes/configuration.ts";
import { denyRoutes } from "./routes/denylist.ts";
import { renewRoutes } from "./routes/renew.ts";
import { rewrapRoutes } from "./routes/rewrap.ts";
import { rootsRoutes } from "./routes/roots.ts";
import { signRoutes } from "./routes/sign.ts";
import { stateConflictRoutes } from "./routes/state-conflict.ts";
import { statusRoutes } from "./routes/status.ts";
import type { Body } from "./shared-body.ts";

/** What the runtime hands over with each request. */
export interface RequestEnvironment {
  /** The id of the request, if work for it began before the app sees it. @default a new one */
  readonly requestId?: string;
  /** Lifts the runtime's idle timeout for this request, which will wait. */
  readonly holdOpen?: () => void;
  /** The address of whoever sent it. */
  readonly remoteAddress?: string | undefined;
  /**
   * DER of the certificate that the client showed over TLS, where one was asked for and it comes
   * from whom it must.
   */
  readonly peerCertificate?: Uint8Array | undefined;
}

export interface AppOptions {
  readonly manager: CaManager;
  /** The form of a backup. */
  readonly codec: StateCodec;
  /** Checks proofs of renewal. */
  readonly readRenewalToken: ReadRenewalToken;
  /** Who may do what; null where access control is off. */
  readonly access: AccessControl | null;
  /**
   * The index that an operator wrote down so that the first token can be made once more, or null.
   */
  readonly bootstrapReset: () => number | null;
  /**
   * The secret that the first token needs, and the path of the file that it is in; null if there is
   * no data folder.
   */
  readonly bootstrapSecret: () => { readonly secret: string; readonly file: string } | null;
  /** The management token that an operator configured, or null. */
  readonly managementToken: string | null;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Does the work of a request, so that all lines of the log that it makes have its id. */
  readonly inRequest: <T>(requestId: string, work: () => T) => T;
  readonly datacenter: string;
  /** Consul's `connect.enabled`. */
  readonly connectEnabled: boolean;
  /** Refuse a Host header that is no loopback name: set where nothing but loopback is served. */
  readonly loopbackOnly: boolean;
  /**
   * The names that a Host header may have beside those. Null: any, where not only loopback is
   * served.
   */
  readonly hosts: readonly string[] | null;
  readonly limits: HttpLimits;
  /** Whether every request comes from a proxy, whose address then says nothing of who sent it. */
  readonly behindProxy: boolean;
  /** Whether something in front compresses answers, so that they leave here as they are. */
  readonly compressed: boolean;
  /** What an operator is told of this server beside how it stands, a name and a value each. */
  readonly facts: () => readonly (readonly [name: string, value: string])[];
  /** Null: nothing is recorded. */
  readonly audit: Audit | null;
  /** Prometheus' text and its media type; null where there is no such route. */
  readonly renderMetrics: (() => Promise<{ type: string; text: string }>) | null;
  /** Counts an answered request. */
  readonly countRequest: (route: string, status: number, seconds?: number) => void;
  /** Counts a token that is none. */
  readonly countWrongToken: () => void;
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
  /**
   * Whether a secret is in it: it is not stored anywhere, nor compressed beside what a caller chose
   * (BREACH).
   */
  readonly secret?: boolean;
}

/** What a handler gets to see. */
export interface Call {
  readonly request: Request;
  readonly environment: RequestEnvironment;
  /** Who asks, for the audit log. */
  readonly caller: Caller;
  /** Method and path of the route, as the audit log names what is asked for. */
  readonly action: string;
  /** Who calls, and what they may do; null where nobody has to say, or access control is off. */
  readonly authorized: Authorized | null;
  /** A part of the path that the route names. */
  param(name: string): string;
  /** The query as pairs. @throws {BadQueryError} */
  params(): ReadonlyMap<string, string>;
  /** The query with Consul's common options. @throws {RequestError} */
  query(): QueryOptions;
  header(name: string): string | undefined;
}

export type Handler = (call: Call) => Promise<Answer> | Answer;
export type Method = "GET" | "PUT" | "POST" | "DELETE";

/**
 * What a call needs. `public`: nothing, and a token is not looked at. `optional`: nothing, and a
 * token that is sent must be known. `token`: a token that is known. `identity`: the handler asks,
 * since what is needed depends on what is asked for. Else a permission on a resource without names.
 */
export type Need =
  | "public"
  | "optional"
  | "token"
  | "identity"
  | { readonly resource: "acl" | "operator"; readonly access: Access };

export interface Route {
  readonly path: string;
  /** In the order in which Allow names them. */
  readonly methods: Readonly<Partial<Record<Method, Handler>>>;
  /** One for each method. */
  readonly needs: Readonly<Partial<Record<Method, Need>>>;
  /** Whether the route is one of Consul's, with its headers, or one for machines that watch us. */
  readonly kind: "consul" | "operations";
  /**
   * Always answered, whatever a client or all of them ask for: the answer costs no more than a
   * refusal.
   */
  readonly unlimited?: boolean;
  /** Headers that errors of this route have too. */
  readonly errorHeaders?: Readonly<Record<string, string>>;
}

/** Every route of the server. */
export function routesOf(options: AppOptions, watchers: Watchers): Route[] {
  const bodies = createBodyReader(options.clock, options.limits.bodyTimeMs);
  return [
    ...rootsRoutes(options, watchers),
    ...configurationRoutes(options, bodies),
    ...signRoutes(options, bodies),
    ...renewRoutes(options, bodies),
    ...rewrapRoutes(options),
    ...stateConflictRoutes(options, bodies),
    ...backupRoutes(options, bodies),
    ...denyRoutes(options, bodies),
    ...aclRoutes(options, bodies),
    ...accessConflictRoutes(options, bodies),
    ...statusRoutes(options),
  ];
}

/** Makes the app. */
export function createApp(options: AppOptions): App {
  const app = new Hono<{ Bindings: Bindings }>({ strict: true });
  const watchers = createWatchers(options);
  const failures = new FailureLog(options.log, options.clock);
  const guard = createGuard({
    ...options,
    onExceeded: (kind, requestId) => failures.overRate(kind, requestId),
  });
  const wrongTokens = createWrongTokens(options);
  for (const route of routesOf(options, watchers))
    app.all(route.path, (c) => serve(c, route, options, guard, wrongTokens, failures));
  const unrouted = (
    { method }: Request,
    { requestId, environment }: Bindings,
    response: Response,
  ): Response => {
    options.countRequest("unknown", response.status);
    logRequest(options.log, environment, {
      requestId,
      method,
      path: "unknown",
      status: response.status,
    });
    return response;
  };
  app.notFound((c) => unrouted(c.req.raw, c.env, unknownPath(c.req.raw)));
  const dispatch = (sent: Request, bindings: Bindings): Response | Promise<Response> => {
    // HTTP/1.0 without a Host has a path only on some runtimes.
    const request = sent.url.startsWith("/")
      ? new Request(`http://localhost${sent.url}`, sent)
      : sent;
    const refusal = requestRefusal(request, options.limits);
    return refusal === null ? app.fetch(request, bindings) : unrouted(request, bindings, refusal);
  };
  return {
    fetch(request, environment = {}) {
      // Always our own: what a client names its request must not be found as another one's in the
      // logs.
      const requestId = environment.requestId ?? crypto.randomUUID();
      const response = options.inRequest(requestId, () =>
        dispatch(request, { environment, requestId }),
      );
      return response instanceof Promise
        ? response.then((made) => withRequestId(made, requestId))
        : withRequestId(response, requestId);
    },
    watchers,
    close: () => watchers.close(),
  };
}

/**
 * What every answer of a route has; those of Consul's routes have its own too, in the spelling seen
 * on the wire.
 */
const HEADERS = {
  operations: { allow: COMMON, deny: COMMON },
  consul: {
    allow: { ...COMMON, Vary: "Accept-Encoding", "X-Consul-Default-Acl-Policy": "allow" },
    deny: { ...COMMON, Vary: "Accept-Encoding", "X-Consul-Default-Acl-Policy": "deny" },
  },
};

/** What the app knows of a request before it is routed. */
interface Bindings {
  readonly environment: RequestEnvironment;
  readonly requestId: string;
}

/** The refusal of a request that no route may see, or null. */
function requestRefusal({ url, headers }: Request, { maxUrlLength }: HttpLimits): Response | null {
  // CONNECT: what the router would make of it is not what was sent.
  if (!url.startsWith("http")) return text(400, "Request must have a Host and a path", COMMON);
  const closing = { ...COMMON, Connection: "close" };
  if (url.length > maxUrlLength)
    return text(414, `URL is longer than ${maxUrlLength} characters`, closing);
  // RFC 9112 section 6.1: a coding that is not known here must not be read past. Not every runtime
  // refuses it.
  const coding = headers.get("transfer-encoding");
  return coding === null || coding.toLowerCase() === "chunked"
    ? null
    : text(400, 'Transfer-Encoding must be "chunked"', closing);
}

/** The line of an answered request. The address is looked up only if the line is written. */
function logRequest(log: Log, environment: RequestEnvironment, fields: LogFields): void {
  log.debug("Request", {
    ...fields,
    get address() {
      return environment.remoteAddress ?? null;
    },
  });
}

async function serve(
  c: Context<{ Bindings: Bindings }>,
  route: Route,
  options: AppOptions,
  guard: Guard,
  wrongTokens: WrongTokens,
  failures: FailureLog,
): Promise<Response> {
  const request = c.req.raw;
  const { environment, requestId } = c.env;
  const started = options.clock.now().getTime();
  const began = performance.now();
  const common = HEADERS[route.kind][options.access?.defaultPolicy ?? "allow"];
  const finish = (response: Response): Response => {
    options.countRequest(route.path, response.status, (performance.now() - began) / 1000);
    const ms = options.clock.now().getTime() - started;
    logRequest(options.log, environment, {
      requestId,
      method: request.method,
      path: route.path,
      status: response.status,
      ms,
    });
    return response;
  };
  const refusal = hostRefusal(request.headers.get("host"), {
    names: options.hosts,
    loopbackOnly: options.loopbackOnly,
  });
  if (refusal !== null) return finish(text(403, refusal, common));
  // Consul has no HEAD: there it is refused as by Consul.
  const method =
    request.method === "HEAD" && route.kind === "operations" ? "GET" : (request.method as Method);
  const handler = route.methods[method];
  if (handler === undefined) {
    const heads = route.kind === "operations" && route.methods.GET !== undefined ? ["HEAD"] : [];
    const allow = { ...common, Allow: ["OPTIONS", ...Object.keys(route.methods), ...heads].join() };
    if (request.method === "OPTIONS") return finish(new Response(null, { headers: allow }));
    return finish(text(405, `method ${request.method} not allowed`, allow));
  }
  const address = route.unlimited === true ? undefined : environment.remoteAddress;
  const client = clientKey(address, options.limits.limitLoopback);
  let entered = false;
  const caller = callerOf(environment, requestId, address);
  const action = `${request.method} ${route.path}`;
  try {
    if (route.unlimited !== true) {
      guard.enter(client, method === "GET" ? "read" : "write", requestId);
      entered = true;
    }
    if (!options.connectEnabled && route.kind === "consul" && route.path.includes("/connect/"))
      throw new NotReadyError(
        "ca_disabled",
        "Connect must be enabled in order to use this endpoint",
      );
    const need = route.needs[method] ?? "public";
    let authorized: Authorized | null = null;
    if (options.access !== null && need !== "public")
      try {
        const found = options.access.authorize(secretOf(request));
        // Nearly always there at once, and then nothing is awaited.
        authorized = found instanceof Promise ? await found : found;
      } catch (error) {
        // A call that needs no token is answered while tokens cannot be read.
        if (need !== "optional" || error instanceof DeniedError)
          throw wrongTokens.refused(error, environment.remoteAddress);
      }
    if (authorized?.anonymous === false) caller.accessor = authorized.accessorId;
    if (typeof need === "object") authorized?.require(need.resource, need.access);
    const call = callOf(c, caller, action, authorized);
    // A query that cannot be read is found out before anything is changed.
    if (method !== "GET") call.query();
    return finish(await respond(await handler(call), common, request, options.compressed));
  } catch (thrown) {
    // A route that takes no token of ours may take another one, such as the login does.
    const isPublic = route.needs[method] === "public";
    const error = isPublic ? wrongTokens.refused(thrown, environment.remoteAddress) : thrown;
    const answer = errorAnswer(error, requestId);
    // Whatever changes nothing is open to everybody who may read; a token that is none is nobody's.
    const tokenRefused = error instanceof CaError && error.code === "token_rate_limited";
    if (method !== "GET" || error instanceof DeniedError || tokenRefused)
      options.audit?.refusal(error, (code) => ({
        caller,
        action,
        subject: null,
        outcome: answer.status >= 500 ? "failed" : "refused",
        code,
      }));
    if (answer.status >= 500) failures.add(error, answer.status, route.path, requestId);
    const retry: Record<string, string> =
      answer.retryAfter === undefined ? {} : { "Retry-After": String(answer.retryAfter) };
    const headers = {
      ...common,
      ...(error instanceof NotReadyError ? route.errorHeaders : {}),
      ...(error instanceof UnknownDatacenterError ? error.headers : {}),
      ...retry,
      // What is left of a body that is not read would keep the connection.
      ...(error instanceof RequestError &&
      (error.code === "too_large" || error.code === "body_late")
        ? { Connection: "close" }
        : {}),
    };
    if (error instanceof BadQueryError)
      return finish(new Response(null, { status: answer.status, headers }));
    return finish(text(answer.status, answer.body, headers));
  } finally {
    if (entered) guard.leave(client);
  }
}

/** The options of a request without any. */
const NO_QUERY = queryOptions(new Map(), undefined);

function callOf(
  c: Context<{ Bindings: Bindings }>,
  caller: Caller,
  action: string,
  authorized: Authorized | null,
): Call {
  const request = c.req.raw;
  const params = () => parseQuery(rawQuery(request.url));
  const header = (name: string) => request.headers.get(name) ?? undefined;
  return {
    request,
    environment: c.env.environment,
    caller,
    action,
    authorized,
    param: (name) => c.req.param(name) ?? "",
    params,
    header,
    query: () =>
      request.url.includes("?") || request.headers.has("cache-control")
        ? queryOptions(params(), header("cache-control"))
        : NO_QUERY,
  };
}
