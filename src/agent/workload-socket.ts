/**
 * One endpoint for workloads: the SPIFFE Workload API and Envoy's SDS over gRPC, with one set of
 * identities, on a Unix socket, or on a loopback address if that is asked for.
 * @module
 */
import { createServer, type Server as NetServer, type Socket } from "node:net";
import {
  type ConnectionInjector,
  logVerbosity,
  Server,
  ServerCredentials,
  setLogVerbosity,
} from "@grpc/grpc-js";
import { errorCode } from "../config/file-errors.ts";
import { ConfigError } from "../core/errors.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import { Admission, MAX_STREAMS } from "./admission.ts";
import type { AgentMetrics } from "./agent-metrics.ts";
import { InUseError } from "./in-use.ts";
import { LineLimit } from "./line-limit.ts";
import { SECRET_DISCOVERY, serviceOfEncoded, WORKLOAD_API } from "./proto.ts";
import { Reflection } from "./reflection.ts";
import { MAX_REQUEST_BYTES } from "./sds/messages.ts";
import { SecretDiscovery } from "./sds/service.ts";
import { AuthorityFilter } from "./socket/authority-filter.ts";
import { type Endpoint, endpointUri, readEndpoint } from "./socket/endpoint.ts";
import { FilteredSocket } from "./socket/filtered-socket.ts";
import { UnixListener } from "./socket/unix-listener.ts";
import type { WorkloadSet } from "./workload.ts";
import { WorkloadApi } from "./workload-api/service.ts";
import { WorkloadState } from "./workload-state.ts";

export interface WorkloadSocketOptions {
  /** An absolute path, or `tcp://127.0.0.1:PORT` if that is asked for. */
  readonly path: string;
  /** Mode of the socket file. @default 0o600 */
  readonly mode?: number;
  /** Id of the group of the socket file. @default the agent's own */
  readonly group?: number | null;
  /**
   * Trusts every user who can write to the folder of the socket or replace it: for a volume that
   * only the containers of one pod have. @default false
   */
  readonly isShared?: boolean;
  readonly set: WorkloadSet;
  readonly log: Log;
  readonly metrics: AgentMetrics;
  readonly clock: Pick<Clock, "now">;
}

/**
 * Milliseconds without any stream after which a connection is closed: one that never sent a
 * request, or whose client has nothing to do. gRPC clients open a new one when they need it.
 */
const MAX_IDLE_MS = 300_000;

/** Milliseconds that clients have to read the end of their streams when the agent stops. */
const CLOSE_MS = 500;

export class WorkloadSocket {
  readonly #options: WorkloadSocketOptions;
  readonly #endpoint: Endpoint;
  readonly #state: WorkloadState;
  readonly #admission: Admission;
  readonly #workloadApi: WorkloadApi;
  readonly #sds: SecretDiscovery;
  readonly #grpc: Server;
  /** grpc-js would bind by itself, but without a way to choose the mode of the socket. */
  readonly #connector: ConnectionInjector;
  readonly #connections = new Set<Socket>();
  readonly #server: NetServer;
  #unix: UnixListener | null = null;
  #closing: Promise<void> | null = null;

  /** @throws {ConfigError} if it cannot be served there at all. */
  constructor(options: WorkloadSocketOptions) {
    const { path, set, log, metrics, clock } = options;
    this.#options = options;
    this.#endpoint = readEndpoint(path);
    this.#state = new WorkloadState(set, clock);
    this.#admission = new Admission(metrics);
    this.#workloadApi = new WorkloadApi(this.#state, this.#admission);
    this.#sds = new SecretDiscovery(this.#state, this.#admission, new LineLimit(log, clock));
    this.#grpc = createGrpcServer(this.#workloadApi, this.#sds);
    this.#connector = this.#grpc.createConnectionInjector(ServerCredentials.createInsecure());
    // Not half open: a client whose process ended closes its side only, and its streams end with it.
    this.#server = createServer({ allowHalfOpen: false }, (socket) => {
      this.#connections.add(socket);
      socket.once("close", () => this.#connections.delete(socket));
      // A client that is gone is no error.
      socket.on("error", () => socket.destroy());
      this.#connector.injectConnection(new FilteredSocket(socket, new AuthorityFilter()));
    });
    this.#server.maxConnections = MAX_STREAMS;
  }

  /** The value of SPIFFE_ENDPOINT_SOCKET for its clients. */
  get uri(): string {
    const at = this.#endpoint;
    const address = this.#server.address();
    const port = typeof address === "object" ? address?.port : undefined;
    return endpointUri("host" in at && port !== undefined ? { ...at, port } : at);
  }

  /** @throws {ConfigError} if it cannot be served there; the text names the path and the reason. */
  async listen(): Promise<void> {
    const at = this.#endpoint;
    if ("path" in at) await this.#listenOnPath(at.path);
    else await this.#listenOnAddress(at);
    this.#options.log.info("Serving workloads", { address: this.uri });
  }

  /** Ends every stream with Unavailable, and removes the socket. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#unix?.remove();
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    this.#workloadApi.close("The agent is stopping");
    this.#sds.close("The agent is stopping");
    this.#state.close();
    this.#connector.drain(CLOSE_MS);
    // What never became an HTTP/2 connection, or is not read.
    const timer = setTimeout(() => {
      for (const socket of this.#connections) socket.destroy();
    }, CLOSE_MS);
    await closed;
    clearTimeout(timer);
    this.#grpc.forceShutdown();
  }

  async #listenOnPath(path: string): Promise<void> {
    const { mode = 0o600, group = null, isShared = false } = this.#options;
    this.#unix = new UnixListener(this.#server, { path, mode, group, isShared });
    try {
      await this.#unix.listen();
    } catch (error) {
      this.#server.close();
      throw error;
    }
  }

  async #listenOnAddress({ host, port }: { host: string; port: number }): Promise<void> {
    try {
      await new Promise<void>((resolve, reject) => {
        this.#server.once("error", reject);
        this.#server.listen(port, host, () => {
          this.#server.removeListener("error", reject);
          resolve();
        });
      });
    } catch (error) {
      const code = errorCode(error) ?? "unknown error";
      const subject = `Cannot serve workloads on ${this.uri}`;
      throw code === "EADDRINUSE"
        ? new InUseError(
            `${subject}: the address is in use; choose another port, or 0 for a free one`,
          )
        : new ConfigError(`${subject}: ${code}`);
    }
    this.#options.log.warn(
      "A loopback address serves private keys to every local user; use a Unix socket instead",
      { address: this.uri },
    );
  }
}

/**
 * Limits: streams are bounded by the socket, so that one connection may have all of them. Requests
 * are bounded by what Envoy sends. No keepalive pings: a Unix socket and loopback report a peer
 * that is gone at once, and a stopped one costs one message.
 */
function createGrpcServer(workloadApi: WorkloadApi, sds: SecretDiscovery): Server {
  // grpc-js writes metadata that it cannot read to standard error.
  setLogVerbosity(logVerbosity.NONE);
  const server = new Server({
    "grpc.enable_channelz": 0,
    "grpc.max_concurrent_streams": MAX_STREAMS,
    "grpc.max_receive_message_length": MAX_REQUEST_BYTES,
    "grpc.max_connection_idle_ms": MAX_IDLE_MS,
  });
  server.addService(serviceOfEncoded(WORKLOAD_API), workloadApi.handlers);
  server.addService(serviceOfEncoded(SECRET_DISCOVERY), sds.handlers);
  new Reflection([WORKLOAD_API, SECRET_DISCOVERY]).addTo(server);
  return server;
}
