/**
 * Consul's routes of an agent on the port of the server itself, as Consul's development agent has
 * them: for programs of this machine, while there is nothing to check and nobody else to reach it.
 * @module
 */
import { NO_ACCESS_CONTROL } from "../agent/consul-api/caller-rights.ts";
import { leafOpener } from "../agent/consul-api/open-leaf.ts";
import { ConsulApi } from "../agent/consul-api/routes.ts";
import { Alarms } from "../client/alarms.ts";
import { CaApi } from "../client/ca-api.ts";
import { type AppFetch, FetchTransport } from "../client/fetch-transport.ts";
import { RootsSource } from "../client/roots-source.ts";
import { ServerPool } from "../client/server-pool.ts";
import { ServerTrust } from "../client/server-trust.ts";
import { isLoopback } from "../config/addresses.ts";
import type { Settings } from "../config/settings.ts";
import { endsConnection } from "../http/client.ts";
import { plainBody, TEXT } from "../http/responses.ts";
import type { Endpoint, Method, Route } from "../http/route.ts";
import { VERSION } from "../version.ts";
import type { Platform } from "./platform.ts";

/** The origin that requests inside of the process name. No connection is made. */
const INSIDE = "http://127.0.0.1";
/** The text of the 403 to a request that an nginx nobody declared may have forwarded. */
const MAYBE_FORWARDED =
  "Request has Connection: close, the only mark of a request that nginx forwarded, and a server hands out private keys to programs of its own machine only: leave the header out, or run meshca agent";
/** The paths that only an agent has. */
const AGENT_PATH = /^\/v1\/agent\/(?:self|connect\/authorize|connect\/ca\/leaf(?:\/.*)?)$/;

/**
 * Whether a server answers them: without access control, on loopback, without a proxy or another
 * name that clients elsewhere reach it by, and in one process, since each would have leaves of its own.
 */
export function servesAgentRoutes(
  settings: Pick<Settings, "acl" | "hosts" | "listen" | "plainHttp" | "worker">,
): boolean {
  const { acl, hosts, listen, plainHttp, worker } = settings;
  const isLocal = isLoopback(listen.host) && plainHttp === null && hosts === null;
  return acl === "off" && isLocal && worker === null;
}

/** The text of the 404 to a path that only an agent has, or null for any other. */
export function agentPathText(path: string): string | null {
  return AGENT_PATH.test(path)
    ? "Run meshca agent next to the service for this route: a server answers it only in one process on loopback, without access control, MESHCA_PLAIN_HTTP and MESHCA_HOSTS\n"
    : null;
}

interface LocalAgentOptions {
  readonly settings: Pick<Settings, "datacenter">;
  readonly platform: Pick<Platform, "clock" | "random" | "log" | "process">;
  /** Answers as the server does. */
  readonly fetch: AppFetch;
}

export class LocalAgent {
  readonly routes: readonly Route[];
  readonly #api: ConsulApi;
  readonly #pool: ServerPool;
  readonly #roots: RootsSource;
  #started = false;

  constructor({ settings, platform, fetch }: LocalAgentOptions) {
    const { clock, random, log } = platform;
    const shared = { clock, random, log };
    const trust = new ServerTrust({ readCaFile: null, pin: null, datacenter: null });
    const transport = new FetchTransport(fetch);
    const pool = new ServerPool({ servers: [INSIDE], trust, transport, ...shared });
    const api = new CaApi(pool);
    const roots = new RootsSource({ pool, api, cache: null, ...shared });
    this.#pool = pool;
    this.#roots = roots;
    this.#api = new ConsulApi({
      set: { workloads: [], bundle: roots },
      contact: pool,
      rights: NO_ACCESS_CONTROL,
      openLeaf: leafOpener({ api, pool, roots, alarms: new Alarms(clock), ...shared }),
      defaultPolicy: () => "allow",
      defaultIntentionPolicy: null,
      datacenter: settings.datacenter,
      nodeName: platform.process?.hostName ?? "localhost",
      version: VERSION,
      overSocket: false,
      ...shared,
      metrics: { refused: () => undefined },
    });
    this.routes = this.#api.own.map((route) => this.#onDemand(route));
  }

  /** Answers all blocking queries, and ends the renewal of leaves. */
  async close(): Promise<void> {
    this.#api.close();
    this.#pool.close();
    await this.#roots.close();
  }

  /** The route, whose first request begins to follow the roots: most servers have none. */
  #onDemand(route: Route): Route {
    const wrap = ({ access, handle }: Endpoint): Endpoint => ({
      access,
      handle: (call) => {
        if (endsConnection(call.request.headers)) {
          const body = plainBody(TEXT, MAYBE_FORWARDED);
          return { status: 403, headers: { "Cache-Control": "no-store" }, body };
        }
        if (!this.#started) void this.#roots.start();
        this.#started = true;
        return handle(call);
      },
    });
    const methods = Object.entries(route.methods).map(
      ([method, endpoint]) => [method as Method, wrap(endpoint)] as const,
    );
    return { ...route, methods: Object.fromEntries(methods) };
  }
}
