/**
 * The steps of every request to a route, in order: admit, authenticate, authorize, validate the
 * query, handle, respond.
 * @module
 */
import type { Context } from "hono";
import type { AccessLevel, Authorization, Authorizer } from "../core/acl/authorizer.ts";
import { DeniedError, NotReadyError } from "../core/errors.ts";
import { callerOf, clientKey, hostRefusal } from "./client.ts";
import { FailedAuthLimiter } from "./failed-auth-limiter.ts";
import { FailureLog } from "./failure-log.ts";
import { FORWARDED_HEADER, type Forwarder } from "./forwarding.ts";
import { RateLimiter } from "./limits.ts";
import type { AppOptions, ServerOptions } from "./options.ts";
import {
  parseQuery,
  type QueryOptions,
  queryOptions,
  rawQuery,
  requireDatacenter,
} from "./query.ts";
import { refusal } from "./refusal.ts";
import { secretOf } from "./request-token.ts";
import { HEADERS, respond, text, wrongMethod } from "./responses.ts";
import type { Call, Endpoint, Method, RequestEnvironment, Route, RouteResponse } from "./route.ts";

interface PipelineOptions extends Pick<AppOptions, "audit" | "limits" | "runtime" | "server"> {
  /** Null: no token is looked at, or the handlers do. */
  readonly control: Authorizer | null;
  /** Consul's default policy, which every response of its API names. */
  readonly defaultPolicy: () => "allow" | "deny";
  readonly metrics: Pick<AppOptions["metrics"], "countRequest" | "countWrongToken">;
  /** Null if no request is for another datacenter. */
  readonly forwarder: Forwarder | null;
}

/** What the app knows of a request before it is routed. */
export interface Bindings {
  readonly environment: RequestEnvironment;
  readonly requestId: string;
}

type RequestContext = Context<{ Bindings: Bindings }>;

/** A request that matched a route and one of its methods. */
interface Exchange extends Bindings {
  readonly request: Request;
  readonly route: Route;
  readonly method: Method;
  readonly endpoint: Endpoint;
  readonly action: string;
  /** The client's key for the rate limiter, or null. */
  readonly client: string | null;
  readonly caller: ReturnType<typeof callerOf>;
}

export class Pipeline {
  readonly #options: PipelineOptions;
  readonly #rateLimiter: RateLimiter;
  readonly #failedAuth: FailedAuthLimiter;
  readonly #failures: FailureLog;
  /** The last Host that was allowed, which nearly all requests repeat: parsing it costs 5 µs. */
  #servedHost: string | null = null;

  constructor(options: PipelineOptions) {
    const { limits, runtime, metrics } = options;
    const { clock, log } = runtime;
    const failures = new FailureLog(log, clock);
    this.#options = options;
    this.#failures = failures;
    this.#failedAuth = new FailedAuthLimiter({
      limits,
      clock,
      countWrongToken: () => metrics.countWrongToken(),
    });
    this.#rateLimiter = new RateLimiter({
      limits,
      clock,
      onExceeded: (kind, requestId) => failures.overRate(kind, requestId),
    });
  }

  /** Answers a request to a route, and records the response in metrics and log. */
  async serve(c: RequestContext, route: Route): Promise<Response> {
    const { runtime, defaultPolicy } = this.#options;
    const { clock } = runtime;
    const started = clock.now().getTime();
    const began = performance.now();
    const common = HEADERS[route.kind][defaultPolicy()];
    const response = await this.#answer(c, route, common);
    const ms = clock.now().getTime() - started;
    const seconds = (performance.now() - began) / 1000;
    this.record(c.req.raw, c.env, route.path, response, { ms, seconds });
    return response;
  }

  /** Counts and logs a response. @param path of the route, or "unknown". */
  record(
    { method }: Request,
    { environment, requestId }: Bindings,
    path: string,
    { status }: Response,
    took?: { readonly ms: number; readonly seconds: number },
  ): void {
    this.#options.metrics.countRequest(path, status, took?.seconds);
    this.#options.runtime.log.debug("Request", {
      requestId,
      method,
      path,
      status,
      ms: took?.ms,
      // Looked up only if the line is written.
      get address() {
        return environment.remoteAddress ?? null;
      },
    });
  }

  async #answer(
    c: RequestContext,
    route: Route,
    common: Readonly<Record<string, string>>,
  ): Promise<Response> {
    const request = c.req.raw;
    const refusal = this.#hostRefusal(request.headers.get("host"));
    if (refusal !== null) return text(403, refusal, common);
    // Consul does not serve HEAD.
    const method =
      request.method === "HEAD" && route.kind === "operations" ? "GET" : (request.method as Method);
    const endpoint = route.methods[method];
    if (endpoint === undefined) return methodRefusal(request, route, common);

    const { environment, requestId } = c.env;
    const forward =
      route.forwarded !== undefined && request.url.includes("?")
        ? (this.#options.forwarder?.forwardOf(request, route, method) ?? null)
        : null;
    // A response of another datacenter costs more than a refusal.
    const limited = route.unlimited !== true || forward !== null;
    const address = limited ? environment.remoteAddress : undefined;
    const exchange: Exchange = {
      request,
      environment,
      requestId,
      route,
      method,
      endpoint,
      action: `${request.method} ${route.path}`,
      client: clientKey(address, this.#options.limits.limitLoopback),
      caller: callerOf(environment, requestId, address),
    };
    let admitted = false;
    try {
      if (limited)
        this.#rateLimiter.enter(exchange.client, method === "GET" ? "read" : "write", requestId);
      admitted = limited;
      requireConnect(route, this.#options.server);
      const response = await (forward === null
        ? this.#handle(c, exchange)
        : this.#forward(c, exchange, forward));
      return await respond(response, common, exchange, this.#options.server.compressedInFront);
    } catch (error) {
      return this.#refuse(error, exchange, common);
    } finally {
      if (admitted) this.#rateLimiter.leave(exchange.client);
    }
  }

  /** Answers a request for this datacenter. */
  async #handle(c: RequestContext, exchange: Exchange): Promise<RouteResponse> {
    const { endpoint } = exchange;
    const { control } = this.#options;
    if (control === null) requireNotForwarded(exchange);
    const isOpen = control === null || endpoint.access === "public";
    const authorized = isOpen ? null : await this.#authenticate(exchange, control);
    authorize(endpoint, authorized);
    const call = callOf(c, exchange, authorized);
    this.#validateQuery(call, exchange);
    return endpoint.handle(call);
  }

  /**
   * Answers a request for another datacenter, which decides on the token. An invalid one counts here
   * as well: there all requests of this server are of one client.
   * @throws {CaError}
   */
  async #forward(
    c: RequestContext,
    exchange: Exchange,
    forward: NonNullable<ReturnType<Forwarder["forwardOf"]>>,
  ): Promise<RouteResponse> {
    try {
      return await forward(callOf(c, exchange, null), exchange.client);
    } catch (error) {
      throw this.#failedAuth.refused(error, exchange.environment.remoteAddress);
    }
  }

  #hostRefusal(host: string | null): string | null {
    if (host !== null && host === this.#servedHost) return null;
    const refusal = hostRefusal(host, this.#options.server);
    if (refusal === null) this.#servedHost = host;
    return refusal;
  }

  /**
   * @returns the caller's rights, or null if the endpoint needs no token and tokens cannot be read.
   * @throws {DeniedError} `token_unknown` @throws {RateLimitedError} @throws {CaError}
   */
  async #authenticate(
    { request, endpoint, environment, caller }: Exchange,
    control: Authorizer,
  ): Promise<Authorization | null> {
    try {
      const authorized = await control.authorize(secretOf(request));
      if (!authorized.anonymous) caller.accessor = authorized.accessorId;
      return authorized;
    } catch (error) {
      if (endpoint.access === "optional" && !(error instanceof DeniedError)) return null;
      throw this.#failedAuth.refused(error, environment.remoteAddress);
    }
  }

  /** A change needs a valid query, a CA route also ours as datacenter. @throws {RequestError} */
  #validateQuery(call: Call, { route, method }: Exchange): void {
    if (method === "GET" && route.datacenterBound !== true) return;
    const { params } = call.query();
    if (route.datacenterBound === true && params.size > 0)
      requireDatacenter(params, this.#options.server.datacenter);
  }

  #refuse(thrown: unknown, exchange: Exchange, common: Readonly<Record<string, string>>): Response {
    // A public endpoint may check tokens of its own, as a login does.
    const error =
      exchange.endpoint.access === "public"
        ? this.#failedAuth.refused(thrown, exchange.environment.remoteAddress)
        : thrown;
    const { audit } = this.#options;
    return refusal(error, exchange, { audit, failures: this.#failures, common });
  }
}

/** The response to a method that the route lacks: 200 to OPTIONS, 405 to others. */
function methodRefusal(
  request: Request,
  { methods, kind }: Route,
  common: Readonly<Record<string, string>>,
): Response {
  const head = kind === "operations" && methods.GET !== undefined ? ["HEAD"] : [];
  return wrongMethod(request.method, [...Object.keys(methods), ...head], common);
}

/** @throws {NotReadyError} `ca_disabled` with Consul's text */
function requireConnect({ kind, path }: Route, { connectEnabled }: ServerOptions): void {
  if (connectEnabled || kind !== "consul" || !path.includes("/connect/")) return;
  throw new NotReadyError("ca_disabled", "Connect must be enabled in order to use this endpoint");
}

/** @throws {DeniedError} `permission_denied` */
function authorize({ access }: Endpoint, authorized: Authorization | null): void {
  if (authorized === null || !access.includes(":")) return;
  const [resource, level] = access.split(":") as ["acl" | "operator" | "intermediate", AccessLevel];
  authorized.require(resource, level);
}

/**
 * Without access control every process on this machine may do all, a server of another datacenter for
 * its callers not.
 * @throws {DeniedError} `permission_denied`
 */
function requireNotForwarded({ request, endpoint }: Exchange): void {
  if (!endpoint.access.includes(":") || !request.headers.has(FORWARDED_HEADER)) return;
  throw new DeniedError(
    "permission_denied",
    "Permission denied: a request of another datacenter needs a token of this one, whose access control is off; set MESHCA_ACL=deny here",
  );
}

/** The options of a request without a query. */
const NO_QUERY = queryOptions(new Map(), undefined);

function callOf(
  c: RequestContext,
  { request, environment, caller, action }: Exchange,
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
