/**
 * Consul's routes of an agent over a CA server in the same process, with access control or without,
 * on one clock that the test moves.
 * @module
 */
import { ConsulAgentApp } from "../../src/agent/consul-api/app.ts";
import { CallerRights } from "../../src/agent/consul-api/caller-rights.ts";
import { leafOpener } from "../../src/agent/consul-api/open-leaf.ts";
import type { ConsulApiOptions, OpenLeafOf } from "../../src/agent/consul-api/options.ts";
import type { Workload } from "../../src/agent/workload.ts";
import { Alarms } from "../../src/client/alarms.ts";
import { CaApi } from "../../src/client/ca-api.ts";
import { FetchTransport } from "../../src/client/fetch-transport.ts";
import { LeafSource } from "../../src/client/leaf-source.ts";
import { RootsSource } from "../../src/client/roots-source.ts";
import { ServerPool } from "../../src/client/server-pool.ts";
import { ServerTrust } from "../../src/client/server-trust.ts";
import { pass } from "../client/agent-parts.ts";
import { silentLog } from "../fakes/ca.ts";
import { systemRandom } from "../fakes/clock.ts";
import type { TestApp } from "../fixtures/app.ts";

export interface ConsulAgent {
  readonly app: ConsulAgentApp;
  readonly roots: RootsSource;
  /** How many requests reached the server, by method and path. */
  readonly asked: ReadonlyMap<string, number>;
  /** Whether the server can be reached. */
  reachable: boolean;
  /** Answers in place of the server, if it returns a response. */
  instead: ((request: Request) => Response | Promise<Response> | null) | null;
  /** The leaves that callers have opened. */
  readonly leaves: ReadonlySet<LeafSource>;
  /** Moves the clock in steps until a condition holds, while no request is open and no leaf is made. */
  pass(holds: () => boolean, stepMs: number): Promise<void>;
  get(path: string, headers?: Readonly<Record<string, string>>): Promise<Response>;
  post(path: string, body: unknown, headers?: Readonly<Record<string, string>>): Promise<Response>;
  close(): Promise<void>;
}

/** The agent of a server. @param workloads of its configuration. */
export async function consulAgent(
  server: Pick<TestApp, "app" | "clock">,
  workloads: readonly Workload[] = [],
  overrides: Partial<ConsulApiOptions> = {},
): Promise<ConsulAgent> {
  const { clock } = server;
  const [random, log] = [systemRandom, silentLog];
  const asked = new Map<string, number>();
  const state: Pick<ConsulAgent, "reachable" | "instead"> = { reachable: true, instead: null };
  let requests = 0;
  const transport = new FetchTransport(async (request) => {
    if (!state.reachable) throw new Error("The connection was refused");
    const { pathname, searchParams } = new URL(request.url);
    const key = `${request.method} ${pathname}`;
    asked.set(key, (asked.get(key) ?? 0) + 1);
    // A blocking query is open all the time.
    const counted = searchParams.has("index") ? 0 : 1;
    requests += counted;
    try {
      return await (state.instead?.(request) ?? server.app.fetch(request));
    } finally {
      requests -= counted;
    }
  });
  const trust = new ServerTrust({ readCaFile: null, pin: null, datacenter: null });
  const servers = ["http://127.0.0.1:8500"];
  const pool = new ServerPool({ servers, trust, transport, clock, random, log });
  const api = new CaApi(pool);
  const roots = new RootsSource({ pool, api, cache: null, clock, random, log });
  const shared = { api, pool, roots, alarms: new Alarms(clock), clock, random, log };
  const leaves = new Set<LeafSource>();
  const openLeaf = watched(leafOpener(shared), leaves);
  const app = new ConsulAgentApp({
    set: { workloads, bundle: roots },
    contact: pool,
    rights: new CallerRights({ pool, areVerified: false, clock, random }),
    openLeaf,
    defaultPolicy: () => roots.defaultPolicy ?? "deny",
    defaultIntentionPolicy: null,
    datacenter: null,
    nodeName: "node-1",
    version: "1.2.3",
    overSocket: false,
    clock,
    random,
    log,
    metrics: { refused: () => undefined },
    ...overrides,
  });
  await roots.start();
  const send = async (request: Request) => {
    if (!request.headers.has("host")) request.headers.set("Host", "127.0.0.1:8502");
    return app.fetch(request, {});
  };
  const url = (path: string) => `http://127.0.0.1:8502${path}`;
  return {
    app,
    roots,
    asked,
    get reachable() {
      return state.reachable;
    },
    set reachable(value) {
      state.reachable = value;
    },
    get instead() {
      return state.instead;
    },
    set instead(value) {
      state.instead = value;
    },
    leaves,
    pass: (holds, stepMs) =>
      pass(
        server,
        holds,
        stepMs,
        () => requests === 0 && [...leaves].every(({ nextAttempt }) => nextAttempt !== null),
      ),
    get: (path, headers = {}) => send(new Request(url(path), { headers })),
    post: (path, body, headers = {}) =>
      send(
        new Request(url(path), {
          method: "POST",
          headers,
          body: typeof body === "string" ? body : JSON.stringify(body),
        }),
      ),
    async close() {
      app.close();
      pool.close();
      await roots.close();
    },
  };
}

/** Keeps the leaves that are open in a set. */
function watched(open: OpenLeafOf, leaves: Set<LeafSource>): OpenLeafOf {
  return (identity, token) => {
    const leaf = open(identity, token);
    if (!(leaf instanceof LeafSource)) return leaf;
    leaves.add(leaf);
    const close = leaf.close.bind(leaf);
    leaf.close = () => {
      leaves.delete(leaf);
      return close();
    };
    return leaf;
  };
}
