/**
 * The agent's HTTP listener, on loopback or a Unix socket. It hands out private keys, and answers
 * programs of this machine only.
 * @module
 */
import type { Server } from "node:net";
import { hostPort, isLoopback } from "../config/addresses.ts";
import { ConfigError } from "../core/errors.ts";
import type { Log } from "../core/ports/log.ts";
import { COMMON, text, withRequestId } from "../http/responses.ts";
import type { RequestEnvironment } from "../http/route.ts";
import { listenPlain, type PlainServer } from "../tls/plain-server.ts";
import type { AgentMetrics } from "./agent-metrics.ts";
import { localRefusal } from "./local-request.ts";
import { isEnvoysOwn } from "./sds/envoy-request.ts";
import { UnixListener, type UnixSocketOptions } from "./socket/unix-listener.ts";

/** How long a connection without a blocked query may be silent, in milliseconds. */
const IDLE_MS = 30_000;
/** How long requests in progress may take when the listener stops, in milliseconds. */
const CLOSE_MS = 2000;
/** Open connections: each blocked query has one. */
const MAX_CONNECTIONS = 4500;

/** What answers requests. */
interface ListenerApp {
  fetch(request: Request, environment: RequestEnvironment): Response | Promise<Response>;
}

/** An app that answers some paths. */
export interface MountedApp extends ListenerApp {
  /** Paths as they are in a URL, without a query. */
  readonly paths: readonly string[];
  /** Whether Envoy asks for them. @default false */
  readonly forEnvoy?: boolean;
}

export interface AgentListenerOptions {
  /** The socket has mode 0600 and the agent's own group unless said otherwise. */
  readonly listen:
    | { readonly host: string; readonly port: number }
    | (Pick<UnixSocketOptions, "path"> & Partial<UnixSocketOptions>);
  /** Answers the paths of no other app. */
  readonly app: ListenerApp;
  readonly mounted: readonly MountedApp[];
  readonly log: Log;
  readonly metrics: Pick<AgentMetrics, "refused">;
}

export class AgentListener {
  readonly #options: AgentListenerOptions;
  readonly #byPath: ReadonlyMap<string, MountedApp>;
  #server: PlainServer | null = null;
  #socket: UnixListener | null = null;

  /** @throws {ConfigError} if the address is not loopback */
  constructor(options: AgentListenerOptions) {
    const { listen, mounted } = options;
    if ("host" in listen && !isLoopback(listen.host))
      throw new ConfigError(
        `The agent cannot listen on ${JSON.stringify(listen.host)}, which is not a loopback address: it hands out private keys; use 127.0.0.1, [::1] or a Unix socket`,
      );
    this.#options = options;
    this.#byPath = new Map(mounted.flatMap((app) => app.paths.map((path) => [path, app] as const)));
  }

  /** `http://HOST:PORT` or `unix:PATH`. */
  get address(): string {
    const { listen } = this.#options;
    return "path" in listen
      ? `unix:${listen.path}`
      : `http://${hostPort(listen.host, this.#server?.port ?? listen.port)}`;
  }

  /**
   * @throws {Error} if the address is in use
   * @throws {ConfigError} if the path of the socket is in use, or its folder is not safe
   */
  async listen(): Promise<void> {
    const { listen, log } = this.#options;
    const where =
      "path" in listen
        ? { host: "", port: 0, bind: (server: Server) => this.#bind(server, listen) }
        : // A name could be resolved to any address.
          { host: listen.host === "localhost" ? "127.0.0.1" : listen.host, port: listen.port };
    this.#server = await listenPlain({
      ...where,
      shared: false,
      idleMs: IDLE_MS,
      maxConnections: MAX_CONNECTIONS,
      fetch: (request, environment) => this.fetch(request, environment),
    });
    log.info("Listening for Consul's agent API", { address: this.address });
  }

  /** Answers a request. */
  async fetch(request: Request, environment: RequestEnvironment): Promise<Response> {
    const requestId = crypto.randomUUID();
    const { listen, app, metrics } = this.#options;
    const mounted = this.#byPath.get(pathOf(request.url));
    const overSocket = "path" in listen;
    const refusal = localRefusal(
      request,
      overSocket,
      (names) => mounted?.forEnvoy === true && isEnvoysOwn(names, request.headers, overSocket),
    );
    if (refusal !== null) metrics.refused("consul-api", "not_local");
    const response =
      refusal === null
        ? await (mounted ?? app).fetch(request, withId(environment, requestId))
        : text(403, refusal, COMMON);
    response.headers.set("Cache-Control", "no-store");
    return withRequestId(response, requestId);
  }

  /** Stops accepting, and ends requests that are not answered in time. */
  async close(): Promise<void> {
    const server = this.#server;
    if (server === null) return;
    this.#server = null;
    this.#socket?.remove();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(() => resolve(server.stop(true)), CLOSE_MS);
    });
    await Promise.race([server.stop(false), late]);
    clearTimeout(timer);
  }

  async #bind(
    server: Server,
    socket: Extract<AgentListenerOptions["listen"], { readonly path: string }>,
  ): Promise<void> {
    this.#socket = new UnixListener(server, {
      mode: 0o600,
      group: null,
      isShared: false,
      ...socket,
    });
    await this.#socket.listen();
  }
}

/** The environment with the request's id; its other members stay as lazy as they are. */
function withId(environment: RequestEnvironment, requestId: string): RequestEnvironment {
  return Object.create(environment, { requestId: { value: requestId, enumerable: true } });
}

function pathOf(url: string): string {
  return URL.canParse(url) ? new URL(url).pathname : url;
}
