/**
 * GET /v1/connect/ca/roots and GET /v1/agent/connect/ca/roots: the trust bundle, also as a blocking
 * query.
 * @module
 */
import { writeJson } from "../../consul/go-json.ts";
import type { CertificateAuthority } from "../../core/ca/ca.ts";
import type { Snapshot } from "../../core/ca/snapshot.ts";
import type { Clock } from "../../core/ports/clock.ts";
import type { RootEntry } from "../../core/state.ts";
import { primacyHeaders } from "../../net/primacy.ts";
import type { Watchers } from "../blocking.ts";
import { publishedRoots, rootsJson, rootsPem, wireIndex } from "../ca-json.ts";
import { clientKey } from "../client.ts";
import { booleanParam, type QueryOptions, requireDatacenter } from "../query.ts";
import { compressibleBody, queryMeta } from "../responses.ts";
import {
  type Call,
  caRoute,
  consulRoute,
  endpoint,
  type ResponseBody,
  type Route,
  type RouteResponse,
} from "../route.ts";

/**
 * A shared cache may answer for a second, by which clients see new roots later. Blocking queries
 * are not cacheable.
 */
const CACHEABLE = "public, max-age=1";
const UNCACHEABLE = "no-store";

/** Of the errors of /v1/connect/ca/roots. */
const ERROR_META = queryMeta(1, false);

interface RootsRouteOptions {
  readonly ca: Pick<CertificateAuthority, "require" | "status" | "renewWindowMs">;
  readonly watchers: Watchers;
  readonly datacenter: string;
  readonly limitLoopback: boolean;
  readonly clock: Clock;
}

export function rootsRoutes(options: RootsRouteOptions): Route[] {
  const { datacenter } = options;
  /** Consul's agent has its cache filled by the first read, which is a miss. */
  let warm = false;
  const roots = endpoint("public", async (call) => {
    const query = call.query();
    // Consul checks `pem` before the datacenter.
    const pem = booleanParam(query.params, "pem");
    requireDatacenter(query.params, datacenter);
    const { snapshot } = await read(call, query, options);
    return rootsResponse(snapshot, options, call, pem ? "pem" : formOf(query));
  });
  const agentRoots = endpoint("public", async (call) => {
    const query = call.query();
    const { snapshot, changed } = await read(call, query, options);
    // The CA itself is the cache. In Consul a wait without a change counts as a miss.
    const cache = warm && changed ? { "X-Cache": "HIT", Age: "0" } : { "X-Cache": "MISS" };
    warm = true;
    return rootsResponse(snapshot, options, call, formOf(query), cache);
  });
  return [
    {
      ...consulRoute("/v1/connect/ca/roots", { GET: roots }),
      unlimited: true,
      forwarded: ["GET"],
      errorHeaders: ERROR_META,
    },
    {
      ...caRoute("/v1/agent/connect/ca/roots", { GET: agentRoots }),
      unlimited: true,
      forwarded: ["GET"],
    },
  ];
}

/** The snapshot, for a blocking query once it has another index. @throws {RateLimitedError} */
async function read(
  { request, environment }: Call,
  { index, waitMs }: QueryOptions,
  { ca, watchers, limitLoopback }: RootsRouteOptions,
): Promise<{ snapshot: Snapshot; changed: boolean }> {
  if (index === null) return { snapshot: ca.require(), changed: true };
  environment.holdOpen?.();
  const client = clientKey(environment.remoteAddress, limitLoopback);
  return watchers.wait(index, waitMs, request.signal, client);
}

function rootsResponse(
  snapshot: Snapshot,
  { ca, clock }: Pick<RootsRouteOptions, "ca" | "clock">,
  call: Call,
  form: RootsForm,
  cacheHeaders: Readonly<Record<string, string>> = {},
): RouteResponse {
  const { storeAway, stalenessMs } = ca.status;
  const index = wireIndex(snapshot.state);
  const blocking = call.query().index !== null;
  // Weak, since compressed and uncompressed responses share it, as do those of different age.
  const now = clock.now();
  const hidden = snapshot.state.roots.length - publishedAt(snapshot, now).roots.length;
  const tag = `W/"${snapshot.state.commitId}${hidden === 0 ? "" : `-${hidden}`}"`;
  const headers = {
    // Without the store: Consul's metadata of a server without a leader, whose data may be old.
    ...(storeAway ? queryMeta(index, false, stalenessMs ?? 0) : queryMeta(index, true)),
    ...cacheHeaders,
    // Over how many seconds to spread renewals if these roots are new.
    "X-Meshca-Renew-Window": String(ca.renewWindowMs / 1000),
    ...primacyOf(snapshot),
    ETag: tag,
    "Cache-Control": blocking ? UNCACHEABLE : CACHEABLE,
  };
  if (!blocking && matches(call.header("if-none-match"), tag)) return { status: 304, headers };
  return { headers, body: rootsBody(snapshot, form, now) };
}

/** Which datacenter is the primary one, and what of it others go by; none in a deployment of one. */
function primacyOf({ state, config }: Snapshot): Record<string, string> {
  const { datacenter, primary, promotions } = state;
  if (datacenter === null) return {};
  return primacyHeaders({
    datacenter: primary?.datacenter ?? datacenter,
    promotions,
    leafTtlMs: primary === null ? config.leafTtlMs : primary.leafTtlMs,
  });
}

/** Whether If-None-Match lists a tag (RFC 9110 section 13.1.2, weak comparison). */
function matches(list: string | undefined, tag: string): boolean {
  if (list === undefined) return false;
  const bare = (text: string) => (text.startsWith("W/") ? text.slice(2) : text);
  const wanted = bare(tag);
  // Splitting a long list costs more than a search.
  if (!list.includes(wanted) && !list.includes("*")) return false;
  return list.split(",").some((entry) => {
    const known = entry.trim();
    return known === "*" || bare(known) === wanted;
  });
}

type RootsForm = "json" | "pretty" | "pem";

const formOf = ({ pretty }: QueryOptions): RootsForm => (pretty ? "pretty" : "json");

/** The published roots of a snapshot, with their bodies. */
interface Published {
  readonly roots: readonly RootEntry[];
  /** When that was worked out, in milliseconds since 1970. */
  readonly since: number;
  /** When the first of them expires that is left out then, in milliseconds since 1970. */
  readonly until: number;
  readonly bodies: Map<RootsForm, ResponseBody>;
}

const published = new WeakMap<Snapshot, Published>();

function publishedAt(snapshot: Snapshot, now: Date): Published {
  const known = published.get(snapshot);
  const time = now.getTime();
  // A clock that is set back may bring a root back.
  if (known !== undefined && known.since <= time && time < known.until) return known;
  const roots = publishedRoots(snapshot.state, now);
  const retired = roots.filter(({ status }) => status === "retired");
  const found = {
    roots,
    since: time,
    until: Math.min(...retired.map(({ certificate }) => certificate.notAfter.getTime())),
    bodies: new Map(),
  };
  published.set(snapshot, found);
  return found;
}

/** The body of the roots of a snapshot: made once, and shared by all responses. */
export function rootsBody(snapshot: Snapshot, form: RootsForm, now: Date): ResponseBody {
  const { roots, bodies } = publishedAt(snapshot, now);
  let body = bodies.get(form);
  if (body === undefined) {
    body =
      form === "pem"
        ? compressibleBody("application/pem-certificate-chain", rootsPem(roots))
        : compressibleBody(
            "application/json",
            writeJson(rootsJson(snapshot, roots), form === "pretty"),
          );
    bodies.set(form, body);
  }
  return body;
}
