/**
 * The routes of a CA server that an agent calls.
 * @module
 */
import * as v from "valibot";
import { formatDuration } from "../consul/duration.ts";
import { FormatError } from "../core/errors.ts";
import { wholeNumber } from "./http-values.ts";
import { type RootsListing, readRootsListing } from "./roots-listing.ts";
import type { PoolRequest, ServerPool } from "./server-pool.ts";
import type { TransportResponse } from "./transport.ts";

/** How long the server holds a blocking query, in milliseconds; it adds up to a sixteenth (Consul). */
const WAIT_MS = 60_000;
const READ_MS = 10_000;
/** A request to sign may wait in a queue of the server. */
const SIGN_MS = 20_000;
/** Ten times the largest listing and chain that meshca writes. */
const MAX_BYTES = { roots: 1024 * 1024, leaf: 256 * 1024, login: 64 * 1024 };
/** Requests to sign that one agent has open at a time. */
const MAX_SIGNING = 32;
/** The longest window of a root change that a server can ask for, in seconds: a day. */
const MAX_WINDOW_S = 86_400;

const Leaf = v.object({
  CertPEM: v.string(),
  ModifyIndex: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0)), 0),
  RenewAfter: v.optional(v.string()),
});
const Login = v.object({
  SecretID: v.pipe(v.string(), v.regex(/^[\x21-\x7e]{1,1024}$/)),
  ExpirationTime: v.optional(v.string()),
});

export interface RootsRequest {
  /** Waits until the index is another one, 60 s at most; null: no wait. */
  readonly index: number | null;
  /** Of the roots that are known, or null. */
  readonly etag: string | null;
  /** That the roots must be of, or null for any. */
  readonly trustDomain: string | null;
  readonly signal?: AbortSignal | undefined;
}

/** The roots as a server answered them. */
export interface RootsResponse {
  /** Null if they are the ones that the ETag names. */
  readonly listing: RootsListing | null;
  readonly json: string;
  readonly index: number;
  readonly etag: string | null;
  /** The time over which a change of the active root is spread, in milliseconds, or null. */
  readonly renewWindowMs: number | null;
  /** Consul's X-Consul-Default-Acl-Policy, or null. */
  readonly defaultPolicy: "allow" | "deny" | null;
}

/** A leaf as a server answered it: unchecked. */
export interface LeafResponse {
  /** The leaf, then its chain. */
  readonly certificatePem: string;
  readonly index: number;
  readonly renewAfter: Date | null;
}

export interface LeafRequest {
  /** PEM. */
  readonly csr: string;
  /** The service that the leaf is for, or null: that of the token, or of the CSR's URI. */
  readonly service: string | null;
  /** Null for the server's LeafCertTTL. */
  readonly ttlMs: number | null;
  readonly signal?: AbortSignal | undefined;
}

export class CaApi {
  readonly #pool: ServerPool;
  readonly #waiting: (() => void)[] = [];
  #signing = 0;

  constructor(pool: ServerPool) {
    this.#pool = pool;
  }

  /** The published roots. @throws {ClientError} */
  roots({ index, etag, trustDomain, signal }: RootsRequest): Promise<RootsResponse> {
    const blocking = index !== null;
    const query = blocking ? `?index=${index}&wait=${formatDuration(WAIT_MS)}` : "";
    return this.#pool.request({
      method: "GET",
      path: `/v1/connect/ca/roots${query}`,
      headers: blocking || etag === null ? {} : { "If-None-Match": etag },
      timeoutMs: blocking ? WAIT_MS + WAIT_MS / 16 + READ_MS : READ_MS,
      maxBytes: MAX_BYTES.roots,
      blocking,
      signal,
      read: (response) => {
        // A cache in between could answer so forever, and the roots would never be known.
        if (response.status === 304 && (blocking || etag === null))
          throw new FormatError("the response of the roots is 304, and no ETag was sent");
        return readRoots(response, trustDomain);
      },
    });
  }

  /** Has a leaf signed. @throws {ClientError} */
  sign(request: LeafRequest, token: string | null): Promise<LeafResponse> {
    return this.#leaf("/v1/connect/ca/sign", request, tokenHeader(token));
  }

  /** Renews a leaf by its own key. @param proof see renewalProof. @throws {ClientError} */
  renew(request: LeafRequest, proof: string): Promise<LeafResponse> {
    return this.#leaf("/v1/connect/ca/renew", request, { Authorization: `Bearer ${proof}` });
  }

  /** Logs in. @returns a token, and when it expires. @throws {ClientError} */
  login(
    authMethod: string,
    bearerToken: string,
    signal?: AbortSignal,
  ): Promise<{ readonly token: string; readonly expiresAt: Date | null }> {
    return this.#pool.request({
      method: "POST",
      path: "/v1/acl/login",
      headers: JSON_BODY,
      body: JSON.stringify({ AuthMethod: authMethod, BearerToken: bearerToken }),
      timeoutMs: READ_MS,
      maxBytes: MAX_BYTES.login,
      signal,
      read: (response) => {
        const { SecretID, ExpirationTime } = parse(Login, response, "a login");
        return { token: SecretID, expiresAt: dateOf(ExpirationTime) };
      },
    });
  }

  /** Deletes the token of a login. @throws {ClientError} */
  logout(token: string, timeoutMs: number): Promise<void> {
    return this.#pool.request({
      method: "POST",
      path: "/v1/acl/logout",
      headers: tokenHeader(token),
      timeoutMs,
      maxBytes: MAX_BYTES.login,
      read: () => undefined,
    });
  }

  async #leaf(
    path: string,
    { csr, service, ttlMs, signal }: LeafRequest,
    headers: Readonly<Record<string, string>>,
  ): Promise<LeafResponse> {
    const request: PoolRequest<LeafResponse> = {
      method: "PUT",
      path,
      headers: { ...JSON_BODY, ...headers },
      body: JSON.stringify({
        CSR: csr,
        ...(ttlMs === null ? {} : { TTL: formatDuration(ttlMs) }),
        ...(service === null ? {} : { Service: service }),
      }),
      timeoutMs: SIGN_MS,
      maxBytes: MAX_BYTES.leaf,
      signal,
      read: readLeaf,
    };
    if (this.#signing >= MAX_SIGNING)
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#signing++;
    try {
      return await this.#pool.request(request);
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#signing--;
      else next();
    }
  }
}

const JSON_BODY = { "Content-Type": "application/json" };

function tokenHeader(token: string | null): Readonly<Record<string, string>> {
  return token === null ? {} : { "X-Consul-Token": token };
}

function readRoots(response: TransportResponse, trustDomain: string | null): RootsResponse {
  const window = wholeNumber(response.header("x-meshca-renew-window"));
  const policy = response.header("x-consul-default-acl-policy");
  const index = wholeNumber(response.header("x-consul-index"));
  if (index === null) throw new FormatError("the response of the roots has no X-Consul-Index");
  const listing = response.status === 304 ? null : readRootsListing(response.body);
  if (listing !== null && trustDomain !== null && listing.trustDomain !== trustDomain)
    throw new FormatError(
      `the listing of roots is of the trust domain ${JSON.stringify(listing.trustDomain)}, not of ${JSON.stringify(trustDomain)}`,
    );
  return {
    listing,
    json: response.body,
    index,
    etag: response.header("etag"),
    renewWindowMs: window === null ? null : Math.min(window, MAX_WINDOW_S) * 1000,
    defaultPolicy: policy === "allow" || policy === "deny" ? policy : null,
  };
}

function readLeaf(response: TransportResponse): LeafResponse {
  const { CertPEM, ModifyIndex, RenewAfter } = parse(Leaf, response, "a leaf");
  return {
    certificatePem: CertPEM,
    index: ModifyIndex,
    renewAfter: dateOf(RenewAfter),
  };
}

/** @throws {FormatError} which quotes nothing of the response */
function parse<T>(
  schema: v.GenericSchema<unknown, T>,
  response: TransportResponse,
  what: string,
): T {
  let json: unknown;
  try {
    json = JSON.parse(response.body);
  } catch {
    throw new FormatError(`the response for ${what} is not JSON`);
  }
  const parsed = v.safeParse(schema, json);
  if (parsed.success) return parsed.output;
  const path = v.getDotPath(parsed.issues[0]);
  throw new FormatError(
    `the response for ${what} has an unexpected format: ${path ?? "the object"} is invalid`,
  );
}

/** RFC 3339; null for any other text. */
function dateOf(text: string | undefined): Date | null {
  if (text === undefined || !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/.test(text)) return null;
  const date = new Date(text);
  return Number.isNaN(date.getTime()) ? null : date;
}
