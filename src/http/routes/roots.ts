/**
 * GET /v1/connect/ca/roots and GET /v1/agent/connect/ca/roots: the trust bundle, also as a blocking
 * query.
 * @module
 */
import { writeJson } from "../../consul/go-json.ts";
import type { CertificateAuthority } from "../../core/ca/ca.ts";
import type { Snapshot } from "../../core/ca/snapshot.ts";
import type { Watchers } from "../blocking.ts";
import { rootsJson, rootsPem, wireIndex } from "../ca-json.ts";
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
}

export function rootsRoutes(options: RootsRouteOptions): Route[] {
  const { ca, datacenter } = options;
  /** Consul's agent has its cache filled by the first read, which is a miss. */
  let warm = false;
  const roots = endpoint("public", async (call) => {
    const query = call.query();
    // Consul checks `pem` before the datacenter.
    const pem = booleanParam(query.params, "pem");
    requireDatacenter(query.params, datacenter);
    const { snapshot } = await read(call, query, options);
    return rootsResponse(snapshot, ca, call, pem ? "pem" : formOf(query));
  });
  const agentRoots = endpoint("public", async (call) => {
    const query = call.query();
    const { snapshot, changed } = await read(call, query, options);
    // The CA itself is the cache. In Consul a wait without a change counts as a miss.
    const cache = warm && changed ? { "X-Cache": "HIT", Age: "0" } : { "X-Cache": "MISS" };
    warm = true;
    return rootsResponse(snapshot, ca, call, formOf(query), cache);
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
  ca: RootsRouteOptions["ca"],
  call: Call,
  form: RootsForm,
  cacheHeaders: Readonly<Record<string, string>> = {},
): RouteResponse {
  const { storeAway, stalenessMs } = ca.status;
  const index = wireIndex(snapshot.state);
  const blocking = call.query().index !== null;
  // Weak, since compressed and uncompressed responses share it, as do those of different age.
  const tag = `W/"${snapshot.state.commitId}"`;
  const headers = {
    // Without the store: Consul's metadata of a server without a leader, whose data may be old.
    ...(storeAway ? queryMeta(index, false, stalenessMs ?? 0) : queryMeta(index, true)),
    ...cacheHeaders,
    // Over how many seconds to spread renewals if these roots are new.
    "X-Meshca-Renew-Window": String(ca.renewWindowMs / 1000),
    ETag: tag,
    "Cache-Control": blocking ? UNCACHEABLE : CACHEABLE,
  };
  if (!blocking && matches(call.header("if-none-match"), tag)) return { status: 304, headers };
  return { headers, body: rootsBody(snapshot, form) };
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

const bodies = new WeakMap<Snapshot, Map<RootsForm, ResponseBody>>();

/** The body of the roots of a snapshot: made once, and shared by all responses. */
export function rootsBody(snapshot: Snapshot, form: RootsForm): ResponseBody {
  let forms = bodies.get(snapshot);
  if (forms === undefined) {
    forms = new Map();
    bodies.set(snapshot, forms);
  }
  let body = forms.get(form);
  if (body === undefined) {
    body =
      form === "pem"
        ? compressibleBody("application/pem-certificate-chain", rootsPem(snapshot))
        : compressibleBody("application/json", writeJson(rootsJson(snapshot), form === "pretty"));
    forms.set(form, body);
  }
  return body;
}
