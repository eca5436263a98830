/**
 * Requests for another datacenter: which are forwarded, what is sent there, and what of the response
 * is passed on.
 * @module
 */
import { DeniedError, NotReadyError, RateLimitedError } from "../core/errors.ts";
import type { Log } from "../core/ports/log.ts";
import type { Watchers } from "./blocking.ts";
import { type QueryOptions, queryPairs, rawQuery } from "./query.ts";
import { type BodyReader, bodyForm } from "./request-body.ts";
import { secretOf } from "./request-token.ts";
import { compressibleBody, TEXT } from "./responses.ts";
import type { Call, Method, Route, RouteResponse } from "./route.ts";

/** One exchange with a server of another datacenter. */
export interface ForwardedRequest {
  readonly method: "GET" | "PUT";
  /** With its query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | null;
  /** For each server, in milliseconds. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export interface ForwardedResponse {
  readonly status: number;
  /** The value of a header by its name in lower case, or null. */
  header(name: string): string | null;
  readonly body: string;
}

/** The servers of other datacenters, as the settings of this one have them. */
export interface OtherDatacenters {
  /** In lower case. */
  readonly names: readonly string[];
  /**
   * Sends a request to a server of a datacenter.
   * @throws {NotReadyError} `datacenter_unavailable`, or of a change that may have been made
   * `outcome_unknown`
   */
  send(name: string, request: ForwardedRequest): Promise<ForwardedResponse>;
}

/** Marks a forwarded request, with the name of the datacenter that it comes from. */
export const FORWARDED_HEADER = "X-Meshca-Forwarded";

/** Requests that are not blocked, in flight to all datacenters. Each takes a socket. */
const MAX_IN_FLIGHT = 256;
/** For a server to answer a read, or a blocked one after its wait, in milliseconds. */
const READ_MS = 10_000;
/** For a change: as long as two leases of a change (core/ca/timing-and-limits.ts). */
const CHANGE_MS = 60_000;

/** Media types that are passed on. Another one could be a page for a browser. */
const MEDIA_TYPES: readonly string[] = [
  "application/json",
  "application/pem-certificate-chain",
  "text/plain",
];
/** Headers of a response that are passed on, by their spelling here. */
const PASSED: readonly string[] = [
  "X-Consul-Index",
  "X-Consul-Knownleader",
  "X-Consul-Lastcontact",
  "X-Consul-Query-Backend",
  "X-Cache",
  "Age",
  "ETag",
  "Cache-Control",
  "X-Meshca-Renew-Window",
  "X-Meshca-Abandoned-Roots",
  "Retry-After",
];
/** Longer than the IDs of 30 roots. */
const HEADER_VALUE = /^[\x20-\x7e]{0,2048}$/;
const TOKEN = /^[\x21-\x7e]{1,1024}$/;
/** Consul's text. */
const UNKNOWN_TOKEN = "ACL not found";

interface ForwarderOptions {
  readonly others: OtherDatacenters;
  /** The name of this datacenter. */
  readonly datacenter: string;
  readonly watchers: Watchers;
  readonly bodies: BodyReader;
  readonly maxBody: number;
  readonly log: Log;
}

export class Forwarder {
  readonly #options: ForwarderOptions;
  #inFlight = 0;

  constructor(options: ForwarderOptions) {
    this.#options = options;
  }

  /**
   * What answers a request in another datacenter; null if the request is for this one or for one
   * that is unknown, or was forwarded already.
   */
  forwardOf(
    { url, headers }: Request,
    { forwarded, methods }: Route,
    method: Method,
  ): ((call: Call, client: string | null) => Promise<RouteResponse>) | null {
    if (forwarded === undefined || !forwarded.includes(method)) return null;
    if (headers.has(FORWARDED_HEADER)) return null;
    const { others, datacenter } = this.#options;
    const name = datacenterIn(rawQuery(url));
    if (name === null || name === datacenter.toLowerCase() || !others.names.includes(name))
      return null;
    // A token is sent only if it decides.
    const hasToken = methods[method]?.access !== "public";
    return (call, client) => this.#forward(name, call, client, hasToken);
  }

  /**
   * Sends a request on, and makes the response of it.
   * @param client from `clientKey`.
   * @throws {RateLimitedError} @throws {RequestError} of the body or the query
   * @throws {DeniedError} `token_unknown`
   * @throws {NotReadyError} `datacenter_unavailable`, `outcome_unknown`, `closing`
   */
  async #forward(
    target: string,
    call: Call,
    client: string | null,
    hasToken: boolean,
  ): Promise<RouteResponse> {
    const token = hasToken ? secretOf(call.request) : null;
    // It would be another header, or none: no token has such characters.
    if (token !== null && !TOKEN.test(token)) throw new DeniedError("token_unknown", UNKNOWN_TOKEN);
    const query = call.query();
    const isBlocking = query.index !== null && call.request.method === "GET";
    call.environment.holdOpen?.();
    const leave = isBlocking ? this.#options.watchers.hold(client) : this.#enter();
    try {
      const sent = await this.#requestOf(target, call, token, isBlocking ? query : null);
      return await this.#send(target, sent, call);
    } finally {
      leave();
    }
  }

  /** Counts a request in that is not blocked. @returns what counts it out. */
  #enter(): () => void {
    if (this.#inFlight >= MAX_IN_FLIGHT)
      throw new RateLimitedError(
        1000,
        "server_rate_limited",
        `Cannot forward request: ${MAX_IN_FLIGHT} requests to other datacenters are in flight`,
      );
    this.#inFlight++;
    return () => {
      this.#inFlight--;
    };
  }

  /** @param blocking the options of a blocking query, or null. */
  async #requestOf(
    target: string,
    { request, header }: Call,
    token: string | null,
    blocking: QueryOptions | null,
  ): Promise<Omit<ForwardedRequest, "signal">> {
    const { bodies, maxBody, datacenter } = this.#options;
    const method = request.method === "PUT" ? "PUT" : "GET";
    let body: string | null = null;
    if (method === "PUT") {
      bodyForm(request.headers.get("content-type"));
      body = await bodies.text(request, maxBody);
    }
    const tag = header("if-none-match");
    return {
      method,
      path: pathFor(target, request.url),
      headers: {
        [FORWARDED_HEADER]: datacenter,
        ...(token === null ? {} : { "X-Consul-Token": token }),
        ...(body === null ? {} : { "Content-Type": "application/json" }),
        ...(tag !== undefined && HEADER_VALUE.test(tag) ? { "If-None-Match": tag } : {}),
      },
      body,
      timeoutMs:
        method === "PUT"
          ? CHANGE_MS
          : READ_MS + (blocking === null ? 0 : blocking.waitMs * (1 + 1 / 16)),
    };
  }

  /** Sends a request, which ends if the caller leaves or, if it is blocked, the server closes. */
  async #send(
    target: string,
    sent: Omit<ForwardedRequest, "signal">,
    { request, caller }: Call,
  ): Promise<RouteResponse> {
    const { others, watchers, log } = this.#options;
    const end = new AbortController();
    const stop = () => end.abort();
    // By listeners: on Deno a signal of AbortSignal.any that depends on another such one never fires.
    const signals = sent.method === "GET" ? [request.signal, watchers.closing] : [];
    for (const signal of signals) signal.addEventListener("abort", stop);
    if (signals.some(({ aborted }) => aborted)) stop();
    try {
      const response = await others.send(target, { ...sent, signal: end.signal });
      const hadToken = sent.headers["X-Consul-Token"] !== undefined;
      if (hadToken && response.status === 403 && response.body.startsWith(UNKNOWN_TOKEN))
        throw new DeniedError("token_unknown", UNKNOWN_TOKEN);
      if (sent.method === "PUT")
        log.info("Forwarded a change to another datacenter", {
          datacenter: target,
          status: response.status,
          address: caller.address,
        });
      return responseOf(target, response);
    } catch (error) {
      // Nobody reads this response.
      if (request.signal.aborted) return { status: CLIENT_LEFT };
      if (end.signal.aborted) throw new NotReadyError("closing", "The server is stopping");
      throw error;
    } finally {
      for (const signal of signals) signal.removeEventListener("abort", stop);
    }
  }
}

/** The status of a request whose client has disconnected, in the metrics; no RFC has one. */
const CLIENT_LEFT = 499;

/** The `datacenter` or `dc` of a query, in this order, in lower case; null if it cannot be read. */
function datacenterIn(query: string): string | null {
  if (!/(^|&)(dc|datacenter)=|%/.test(query)) return null;
  try {
    const pairs = queryPairs(query);
    const first = (name: string) => pairs.find(([key]) => key === name)?.[1] ?? "";
    const name = first("datacenter") || first("dc");
    return name === "" ? null : name.toLowerCase();
  } catch {
    // The route refuses it.
    return null;
  }
}

/** The path and the query to send: encoded here, for the target, without the token. */
function pathFor(target: string, url: string): string {
  const query = new URLSearchParams();
  for (const [name, value] of queryPairs(rawQuery(url)))
    if (!["token", "dc", "datacenter"].includes(name)) query.append(name, value);
  query.append("dc", target);
  return `${new URL(url).pathname}?${query}`;
}

/** What is passed on of a response. @throws {NotReadyError} `datacenter_unavailable` */
function responseOf(target: string, { status, header, body }: ForwardedResponse): RouteResponse {
  const headers: Record<string, string> = {};
  for (const name of PASSED) {
    const value = header(name.toLowerCase());
    if (value !== null && HEADER_VALUE.test(value)) headers[name] = value;
  }
  const type = (header("content-type") ?? "").split(";")[0]?.trim().toLowerCase() ?? "";
  if (body === "" || status === 304) return { status, headers };
  if (!MEDIA_TYPES.includes(type))
    throw new NotReadyError(
      "datacenter_unavailable",
      `Datacenter ${JSON.stringify(target)} sent a response (${status}) that is not one of a CA server`,
      { retryAfterMs: 1000 },
    );
  return { status, headers, body: compressibleBody(type === "text/plain" ? TEXT : type, body) };
}
