/**
 * The query of a request: Consul's common parameters and their errors (agent/http.go).
 * @module
 */
import { parseDuration } from "../consul/duration.ts";
import { RequestError, readOrNull } from "../core/errors.ts";

/** Consul's default and longest wait of a blocking query (default_query_time, max_query_time). */
const DEFAULT_WAIT_MS = 300_000;
const MAX_WAIT_MS = 600_000;
const MAX_U64 = 2n ** 64n - 1n;
const MAX_U64_DIGITS = 20;

export interface QueryOptions {
  readonly params: ReadonlyMap<string, string>;
  readonly pretty: boolean;
  /** The client's index for a blocking query, or null. */
  readonly index: bigint | null;
  /** Within the bounds of a server. */
  readonly waitMs: number;
  /** As the query has it; null if it has none, or none above zero. */
  readonly givenWaitMs: number | null;
}

/** A query that Go's parser refuses; the response has an empty body. */
export class BadQueryError extends RequestError {
  constructor() {
    super("request_malformed", "");
  }
}

/** Names and values in the order of the query. */
export type QueryPairs = readonly (readonly [name: string, value: string])[];

/** Another datacenter than this one. */
export class UnknownDatacenterError extends RequestError {
  constructor() {
    // Consul's text.
    super("request_malformed", "No path to datacenter");
  }
}

/** The query of a URL without "?" and fragment; "" if there is none. */
export function rawQuery(url: string): string {
  const start = url.indexOf("?");
  if (start < 0) return "";
  const end = url.indexOf("#", start);
  return end < 0 ? url.slice(start + 1) : url.slice(start + 1, end);
}

/** Splits a query; the first value of a name counts, as in Go's url.Values.Get. @throws {BadQueryError} */
export function parseQuery(raw: string): Map<string, string> {
  const params = new Map<string, string>();
  for (const [name, value] of queryPairs(raw)) if (!params.has(name)) params.set(name, value);
  return params;
}

/** The names and values of a query, repeated ones too. @throws {BadQueryError} */
export function queryPairs(raw: string): QueryPairs {
  const pairs: [string, string][] = [];
  for (const pair of raw.split("&")) {
    if (pair === "") continue;
    if (pair.includes(";")) throw new BadQueryError();
    const [name = "", ...value] = pair.split("=");
    try {
      const decode = (part: string) => decodeURIComponent(part.replaceAll("+", " "));
      pairs.push([decode(name), decode(value.join("="))]);
    } catch {
      throw new BadQueryError();
    }
  }
  return pairs;
}

/** Reads the common options. @throws {RequestError} `request_malformed` with Consul's text */
export function queryOptions(
  params: ReadonlyMap<string, string>,
  cacheControl: string | undefined,
): QueryOptions {
  const conflict = (name: string) =>
    refuse(`Cannot specify ?${name} with ?consistent, conflicting semantics.`);
  if (params.has("consistent")) {
    if (params.has("stale")) throw conflict("stale");
    if (params.has("cached")) throw conflict("cached");
  }
  const maxStale = params.get("max_stale");
  if (maxStale !== undefined && maxStale !== "") {
    const ms = goDuration(maxStale, `Invalid max_stale value ${JSON.stringify(maxStale)}`);
    if (ms > 0 && params.has("consistent")) throw conflict("stale");
  }
  requireCacheControl(cacheControl);
  const wait = params.get("wait") ?? "";
  const waitMs = wait === "" ? 0 : goDuration(wait, "Invalid wait time");
  const index = params.get("index") ?? "";
  const known = index === "" ? 0n : parseIndex(index, "Invalid index");
  return {
    params,
    pretty: params.has("pretty"),
    index: known === 0n ? null : known,
    givenWaitMs: waitMs <= 0 ? null : waitMs,
    waitMs: waitMs <= 0 ? DEFAULT_WAIT_MS : Math.min(waitMs, MAX_WAIT_MS),
  };
}

/** Go's strconv.ParseBool; the empty string is false. @throws {RequestError} `request_malformed` */
export function booleanParam(params: ReadonlyMap<string, string>, name: string): boolean {
  const value = params.get(name) ?? "";
  if (["1", "t", "T", "TRUE", "true", "True"].includes(value)) return true;
  if (["", "0", "f", "F", "FALSE", "false", "False"].includes(value)) return false;
  throw refuse(`The '${name}' query parameter must be a boolean value`);
}

/** `datacenter` or `dc`, in this order, must name ours. @throws {UnknownDatacenterError} */
export function requireDatacenter(params: ReadonlyMap<string, string>, ours: string): void {
  const wanted = params.get("datacenter") || params.get("dc") || ours;
  if (wanted.toLowerCase() !== ours.toLowerCase()) throw new UnknownDatacenterError();
}

/**
 * An index parameter, whose name may be in any case; null if it is missing.
 * @param pairs of the query. @throws {RequestError} `request_malformed`
 */
export function indexParam(pairs: QueryPairs, name: string): bigint | null {
  const value = onceParam(pairs, name);
  if (value === null) return null;
  return parseIndex(value, `The '${name}' query parameter must be a whole number below 2^64`);
}

/**
 * A parameter that must not be repeated, whose name may be in any case; null if it is missing.
 * @param pairs of the query. @throws {RequestError} `request_malformed`
 */
export function onceParam(pairs: QueryPairs, name: string): string | null {
  const given = pairs.filter(([key]) => key.toLowerCase() === name.toLowerCase());
  if (given.length > 1) throw refuse(`The '${name}' query parameter is given twice`);
  return given[0]?.[1] ?? null;
}

/** Go's strconv.ParseUint with 64 bits. @throws {RequestError} `request_malformed` */
function parseIndex(text: string, message: string): bigint {
  // Parsing takes time quadratic in the digits, so only leading zeros may exceed those of 2^64.
  const digits = /^\d+$/.test(text) ? text.replace(/^0+/, "") : null;
  if (digits === null || digits.length > MAX_U64_DIGITS || BigInt(digits) > MAX_U64)
    throw refuse(message);
  return BigInt(digits);
}

function goDuration(text: string, message: string): number {
  const ms = readOrNull(() => parseDuration(text));
  if (ms === null) throw refuse(message);
  return ms;
}

function requireCacheControl(header: string | undefined): void {
  for (const directive of (header ?? "").toLowerCase().split(",")) {
    const [name, seconds = ""] = directive.trim().split("=");
    if ((name === "max-age" || name === "stale-if-error") && !/^\d+$/.test(seconds))
      throw refuse("Invalid Cache-Control header.");
  }
}

function refuse(message: string): RequestError {
  return new RequestError("request_malformed", message);
}
