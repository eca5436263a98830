/**
 * The agent's listener with what answers on it: Consul's agent API, Envoy's SDS by REST, and the
 * routes for monitoring.
 * @module
 */
import type { AgentSettings } from "../config/agent-types.ts";
import { errorCode } from "../config/file-errors.ts";
import { ConfigError } from "../core/errors.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import type { Connection } from "./connection.ts";
import { type ConsulAgentApp, consulAgentApp } from "./consul-api/app.ts";
import { CallerRights, type Rights } from "./consul-api/caller-rights.ts";
import { AgentRefusal } from "./consul-api/refusal.ts";
import { InUseError } from "./in-use.ts";
import { AgentListener, type MountedApp } from "./listener.ts";
import type { AgentPrometheus } from "./prometheus.ts";
import { sdsRestRoute } from "./sds/rest.ts";
import { type StatusLine, statusApp } from "./status.ts";
import type { Workload } from "./workload.ts";

export interface ConsulListenerOptions {
  readonly settings: AgentSettings;
  readonly connection: Connection;
  readonly identities: readonly Workload[];
  readonly metrics: AgentPrometheus;
  /** The state of the agent, for /readyz. */
  readonly lines: () => readonly StatusLine[];
  /** The name of this machine. */
  readonly nodeName: string;
  /** Of meshca. */
  readonly version: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

type Listen = NonNullable<AgentSettings["listen"]>;

/** Why an address cannot be listened on, by error code. */
const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: "the address is in use",
  EADDRNOTAVAIL: "this machine has no such address",
  EACCES: "permission denied",
};
const SDS_PATH = "/v3/discovery:secrets";
const TEXT = { "Content-Type": "text/plain; charset=utf-8" };

export class ConsulListener {
  readonly #listener: AgentListener;
  readonly #app: ConsulAgentApp;
  readonly #rights: Rights;
  readonly #log: Log;
  readonly #isSocket: boolean;

  constructor(listen: Listen, options: ConsulListenerOptions) {
    const { settings, connection, identities, metrics, nodeName, version } = options;
    const { clock, random, log } = options;
    const set = { workloads: identities, bundle: connection.roots };
    this.#isSocket = "path" in listen;
    this.#log = log;
    this.#rights = new CallerRights({
      ...{ pool: connection.pool, areVerified: connection.areVerified, clock, random },
    });
    this.#app = consulAgentApp({
      ...{ set, contact: connection.pool, rights: this.#rights, openLeaf: connection.openLeaf },
      defaultPolicy: () => connection.roots.defaultPolicy ?? "deny",
      defaultIntentionPolicy: settings.defaultIntentionPolicy,
      ...{ datacenter: settings.datacenter, nodeName, version, overSocket: this.#isSocket },
      ...{ clock, random, log, metrics },
    });
    const sds = sdsRestRoute({ set, log, metrics, clock });
    const status = statusApp({ lines: options.lines, metrics });
    this.#listener = new AgentListener({
      ...{ listen, app: this.#app, log, metrics },
      mounted: [
        { paths: ["/healthz", "/readyz", "/metrics"], fetch: (request) => status.fetch(request) },
        this.#guarded(sds),
      ],
    });
  }

  /** `http://HOST:PORT` or `unix:PATH`. */
  get address(): string {
    return this.#listener.address;
  }

  /** @throws {ConfigError} if the address cannot be listened on */
  async listen(): Promise<void> {
    try {
      await this.#listener.listen();
    } catch (error) {
      const code = errorCode(error);
      if (error instanceof ConfigError || code === null) throw error;
      const text = `Cannot listen on ${this.address}: ${REASONS[code] ?? code}; choose another address with --listen, or port 0 for a free one`;
      throw code === "EADDRINUSE" ? new InUseError(text) : new ConfigError(text);
    }
    if (!this.#isSocket)
      this.#log.warn(
        "The agent's listener hands out private keys on a loopback address: while access control is off at the server, every local user can take them; use unix:PATH to bound who can",
        { address: this.address },
      );
  }

  /** Answers blocked queries, and stops. */
  async close(): Promise<void> {
    this.#app.close();
    await this.#listener.close();
  }

  /**
   * Envoy sends no token: with access control on, who may connect to the Unix socket is who may read
   * the keys, and nobody may by an address.
   */
  #guarded(sds: ReturnType<typeof sdsRestRoute>): MountedApp {
    return {
      paths: [SDS_PATH],
      forEnvoy: true,
      fetch: async (request) => {
        try {
          if (this.#isSocket || !(await this.#rights.isEnforced())) return sds.fetch(request);
        } catch (error) {
          if (!(error instanceof AgentRefusal)) throw error;
          return new Response(error.message, { status: error.status, headers: TEXT });
        }
        const refusal =
          "Secrets are served over a Unix socket only while access control is on: Envoy sends no token; start the agent with --listen unix:PATH, or use the SDS of a socket";
        return new Response(refusal, { status: 403, headers: TEXT });
      },
    };
  }
}
