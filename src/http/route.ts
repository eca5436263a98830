/**
 * What a route is: paths, methods, who may call them and what answers them.
 * @module
 */
import type { AccessLevel, Authorization } from "../core/acl/authorizer.ts";
import type { Bytes } from "../core/bytes.ts";
import type { Caller } from "../core/ports/audit.ts";
import type { QueryOptions } from "./query.ts";

/** What the runtime knows of a request besides the request itself. */
export interface RequestEnvironment {
  /** The id of the request, if work for it began before the app received it. @default a new one */
  readonly requestId?: string;
  /** Lifts the runtime's idle timeout for this request, which will block. */
  readonly holdOpen?: () => void;
  /** The form in which the runtime writes the body of this response best. @default as it is */
  readonly bodyOf?: (
    content: Bytes | string,
  ) => NonNullable<ConstructorParameters<typeof Response>[0]>;
  /** The address of the peer. */
  readonly remoteAddress?: string | undefined;
  /**
   * DER of the client's TLS certificate, if the server asked for one and the connection comes from
   * an address that is trusted to send it.
   */
  readonly peerCertificate?: Uint8Array | undefined;
}

export type Method = "GET" | "PUT" | "POST" | "DELETE";

/**
 * Who may call an endpoint. `public`: every caller, whose token is ignored. `optional`: every
 * caller, but a token that is sent must be valid. `token`: a caller with a valid token. `identity`:
 * the handler decides, since the right depends on the body. Otherwise: a right to a resource that
 * has no names.
 */
export type AccessRule = "public" | "optional" | "token" | "identity" | Right;
type Right = `${"acl" | "operator"}:${AccessLevel}` | "intermediate:write";

/** One authorized request, as its handler receives it. */
export interface Call {
  readonly request: Request;
  readonly environment: RequestEnvironment;
  /** The caller as the audit log names it. */
  readonly caller: Caller;
  /** Method and path of the route, as the audit log names the action. */
  readonly action: string;
  /** The caller's token and its rights; null if the rule is `public` or access control is off. */
  readonly authorized: Authorization | null;
  /** A named segment of the path; "" if the route has no such segment. */
  param(name: string): string;
  /** The query as pairs. @throws {BadQueryError} */
  params(): ReadonlyMap<string, string>;
  /** The query with Consul's common options. @throws {RequestError} `request_malformed` */
  query(): QueryOptions;
  header(name: string): string | undefined;
}

/** The media type, and the octets or text. */
export interface ResponseBody {
  readonly type: string;
  readonly content: string | Bytes;
  /** The compressed body, made at the first request for it; null if compression does not pay. */
  gzip(): Promise<Bytes | null>;
}

/** What a handler answers. */
export interface RouteResponse {
  /** @default 200 */
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** @default an empty body without a media type */
  readonly body?: ResponseBody;
  /**
   * Whether the body contains a secret: no cache may store it, and it is not compressed, since
   * compression next to text that a caller chose leaks it (BREACH, CVE-2013-3587).
   */
  readonly secret?: boolean;
}

export interface Endpoint {
  readonly access: AccessRule;
  handle(call: Call): Promise<RouteResponse> | RouteResponse;
}

export interface Route {
  readonly path: string;
  /** In the order in which the Allow header names them. */
  readonly methods: Readonly<Partial<Record<Method, Endpoint>>>;
  /** Whether the route is part of Consul's API, with its headers, or serves monitoring. */
  readonly kind: "consul" | "operations";
  /** Whether the query's `dc` must name this datacenter. @default false */
  readonly datacenterBound?: boolean;
  /** Whether rate limits do not apply: a response costs no more than a refusal. @default false */
  readonly unlimited?: boolean;
  /** The methods that are forwarded to the datacenter that the query names. @default none */
  readonly forwarded?: readonly Method[];
  /** Headers of the responses to errors that Consul answers with its query metadata. */
  readonly errorHeaders?: Readonly<Record<string, string>>;
}

export function endpoint(access: AccessRule, handle: Endpoint["handle"]): Endpoint {
  return { access, handle };
}

/** A route of Consul's API. */
export function consulRoute(path: string, methods: Route["methods"]): Route {
  return { path, kind: "consul", methods };
}

/** A route of the CA, which serves only its own datacenter. */
export function caRoute(path: string, methods: Route["methods"]): Route {
  return { path, kind: "consul", datacenterBound: true, methods };
}
