/**
 * The agent: composes the connection to the servers, the identities and what hands them to workloads,
 * and closes all of it in order.
 * @module
 */

import type { Cache } from "../client/cache.ts";
import type { AgentSettings } from "../config/agent-types.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import type { ProcessUsage } from "../telemetry/series.ts";
import { Connection, openCache } from "./connection.ts";
import { Deliveries } from "./deliveries.ts";
import { Identity } from "./identity.ts";
import { AgentPrometheus } from "./prometheus.ts";
import { loginProblem, ProspectsLog, trustProblem } from "./prospects.ts";
import type { ServiceNotifier } from "./sd-notify.ts";
import { type AgentParts, isReady, statusLines, summaryOf } from "./status.ts";

/** What the agent needs from its process. */
export interface AgentSystem {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Of meshca. */
  readonly version: string;
  /** The runtime and its version. */
  readonly runtime: string;
  /** Reads what the process uses. */
  readonly usage: () => ProcessUsage;
  /** The name of this machine. */
  readonly nodeName: string;
  /** Null without systemd. */
  readonly notifier: ServiceNotifier | null;
}

/** How often the state is looked at, in milliseconds: before the agent is ready, and after. */
const LOOK_MS = { first: 50, later: 1000 };

export class Agent {
  readonly #settings: AgentSettings;
  readonly #system: AgentSystem;
  readonly #connection: Connection;
  readonly #identities: readonly Identity[];
  readonly #deliveries: Deliveries;
  readonly #metrics: AgentPrometheus;
  readonly #closing = new AbortController();
  readonly #ready = Promise.withResolvers<void>();
  #started = false;
  #looking: Promise<void> = Promise.resolve();

  /** @throws {ConfigError} if a socket, a folder or the cache cannot be used as it is configured */
  static async create(settings: AgentSettings, system: AgentSystem): Promise<Agent> {
    return new Agent(settings, system, await openCache(settings, system.log));
  }

  private constructor(settings: AgentSettings, system: AgentSystem, cache: Cache | null) {
    const { clock, random, log, version, runtime, usage, nodeName } = system;
    this.#settings = settings;
    this.#system = system;
    this.#metrics = new AgentPrometheus({ version, runtime }, usage);
    const metrics = this.#metrics;
    this.#connection = new Connection({ settings, cache, clock, random, log });
    const connection = this.#connection;
    this.#identities = settings.identities.map(
      (identity) => new Identity(connection.leafOf(identity)),
    );
    for (const identity of this.#identities)
      identity.onOutcome((outcome) => metrics.renewal(outcome));
    this.#deliveries = new Deliveries({
      ...{ settings, connection, identities: this.#identities, metrics, nodeName, version },
      ...{ clock, random, log },
      lines: () => this.lines,
    });
    this.#metrics.observe(() => ({
      parts: this.#parts,
      now: clock.now(),
      ready: isReady(this.lines),
    }));
  }

  /** The state of each part. */
  get lines(): ReturnType<typeof statusLines> {
    return statusLines(this.#parts, this.#system.clock.now());
  }

  /** Resolves when everything that is configured was served for the first time, or it is closed. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** The addresses of the sockets and of the listener, as their clients know them. */
  get addresses(): readonly string[] {
    return this.#deliveries.addresses;
  }

  /**
   * Opens sockets, folders and the listener, then begins to get roots and certificates: it does not
   * wait for a server.
   * @throws {ConfigError} if a socket or a folder cannot be opened
   * @throws {Error} with a `code` if the listener cannot
   */
  async start(): Promise<void> {
    this.#looking = this.#watch();
    await this.#deliveries.open();
    this.#started = true;
    if (!isReady(this.lines))
      this.#system.log.info("Waiting for roots and certificates", { addresses: this.addresses });
    // Neither settles before the first answer of a server.
    void this.#connection.roots.start();
    for (const identity of this.#identities) void identity.start();
  }

  /** Answers open streams and blocked queries, and ends the rest. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#ready.resolve();
    const { notifier } = this.#system;
    const notified = notifier?.stop();
    await this.#looking;
    await this.#deliveries.close();
    await Promise.all(this.#identities.map((identity) => identity.close()));
    await this.#connection.close();
    await notified;
  }

  get #parts(): AgentParts {
    const { pool, roots } = this.#connection;
    const { trustExpiredAt } = pool;
    const outlook = { trustExpiredAt, defaultPolicy: roots.defaultPolicy };
    return {
      started: this.#started,
      workloads: this.#identities,
      bundle: roots,
      rootsProblem: roots.problem,
      contact: pool,
      trustProblem: trustProblem(this.#settings, outlook),
      loginProblem: loginProblem(this.#settings, outlook),
      ...this.#deliveries.parts,
    };
  }

  /** Tells the log and systemd of each change between ready and not ready. */
  async #watch(): Promise<void> {
    const { clock, log, notifier } = this.#system;
    const { signal } = this.#closing;
    const prospects = new ProspectsLog(log);
    let before: boolean | null = null;
    while (!signal.aborted) {
      const parts = this.#parts;
      prospects.look(parts.trustProblem, parts.loginProblem);
      const lines = statusLines(parts, clock.now());
      const now = isReady(lines);
      notifier?.report(now, summaryOf(lines));
      if (now && before !== true) {
        log.info(before === null ? "Ready" : "Ready again", { addresses: this.addresses });
        this.#ready.resolve();
      }
      if (!now && before === true)
        log.warn(
          "No longer ready: a configured identity, socket, listener or folder is not served",
          {
            parts: lines.filter(({ blocks }) => blocks).map(({ name, text }) => `${name}: ${text}`),
          },
        );
      // What was never ready stays unknown, so that the first time is "Ready".
      if (now || before !== null) before = now;
      await clock.sleep(before === null ? LOOK_MS.first : LOOK_MS.later, signal);
    }
  }
}
