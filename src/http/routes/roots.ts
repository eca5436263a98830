/**
 * GET /v1/connect/ca/roots and GET /v1/agent/connect/ca/roots (consul-ca.md §1.2, §1.5).
 * @module
 */
import type { Snapshot } from "../../core/ca/snapshot.ts";
import type { Answer, AppOptions, Call, Route } from "../app.ts";
import type { Watchers } from "../blocking.ts";
import { requireDatacenter } from "../datacenter.ts";
import { clientKey } from "../limits.ts";
import { booleanParam, type QueryOptions } from "../query.ts";
import { rootsBody } from "../shared-body.ts";
import { wireIndex } from "../wire.ts";

const meta = (index: number, knownLeader: boolean, lastContactMs = 0) => ({
  "X-Consul-Index": String(index),
  "X-Consul-Knownleader": String(knownLeader),
  "X-Consul-Lastcontact": String(lastContactMs),
  "X-Consul-Query-Backend": "blocking-query",
});

/**
 * How long a cache in front may answer for us, in seconds: as much as it may add to the time until
 * new roots are seen. What waits for a change is for whoever asked alone.
 */
const CACHEABLE = "public, max-age=1";
const UNCACHEABLE = "no-store";

/**
 * Weak, since the same roots leave here compressed and not, and with other words on how old they
 * may be.
 */
const tagOf = ({ state }: Snapshot): string => `W/"${state.commitId}"`;

/** Whether a list of If-None-Match names what there is (RFC 9110 §13.1.2, compared weakly). */
function isKnown(list: string | undefined, tag: string): boolean {
  if (list === undefined) return false;
  const bare = (text: string) => (text.startsWith("W/") ? text.slice(2) : text);
  const wanted = bare(tag);
  // Most lists name neither, and are not split.
  if (!list.includes(wanted) && !list.includes("*")) return false;
  return list.split(",").some((entry) => {
    const known = entry.trim();
    return known === "*" || bare(known) === wanted;
  });
}

interface Asked {
  readonly query: QueryOptions;
  readonly call: Call;
}

export function rootsRoutes(options: AppOptions, watchers: Watchers): Route[] {
  /** Whether the agent's cache has been asked before: Consul's first read is a miss. */
  let warm = false;

  const read = async (
    { request, environment }: Call,
    query: QueryOptions,
  ): Promise<{ snapshot: Snapshot; changed: boolean }> => {
    if (query.index === null) return { snapshot: options.manager.require(), changed: true };
    environment.holdOpen?.();
    return watchers.wait(
      query.index,
      query.waitMs,
      request.signal,
      clientKey(environment.remoteAddress, options.limits.limitLoopback),
    );
  };
  const answer = (
    snapshot: Snapshot,
    pem: boolean,
    { query, call }: Asked,
    headers: Record<string, string> = {},
  ): Answer => {
    // What Consul says of a server without a leader: the answer may be old, by this much.
    const { storeAway, stalenessMs } = options.manager.status;
    const contact = storeAway
      ? meta(wireIndex(snapshot.state), false, stalenessMs ?? 0)
      : meta(wireIndex(snapshot.state), true);
    const tag = tagOf(snapshot);
    const cache = { ETag: tag, "Cache-Control": query.index === null ? CACHEABLE : UNCACHEABLE };
    const all = { ...contact, ...headers, ...cache };
    if (query.index === null && isKnown(call.header("if-none-match"), tag))
      return { status: 304, headers: all };
    return {
      headers: all,
      body: rootsBody(snapshot, pem ? "pem" : query.pretty ? "pretty" : "json"),
    };
  };

  return [
    {
      path: "/v1/connect/ca/roots",
      needs: { GET: "public" },
      kind: "consul",
      unlimited: true,
      errorHeaders: meta(1, false),
      methods: {
        async GET(call) {
          const query = call.query();
          const pem = booleanParam(query.params, "pem");
          requireDatacenter(query.params, options.datacenter, meta(1, false));
          return answer((await read(call, query)).snapshot, pem, { query, call });
        },
      },
    },
    {
      path: "/v1/agent/connect/ca/roots",
      needs: { GET: "public" },
      kind: "consul",
      unlimited: true,
      methods: {
        async GET(call) {
          const query = call.query();
          requireDatacenter(query.params, options.datacenter);
          const { snapshot, changed } = await read(call, query);
          // Our agent's cache is the CA itself: always fresh. A wait that brought no news counts as
          // a miss in Consul.
          const hit = warm && changed;
          warm = true;
          return answer(
            snapshot,
            false,
            { query, call },
            hit ? { "X-Cache": "HIT", Age: "0" } : { "X-Cache": "MISS" },
          );
        },
      },
    },
  ];
}
