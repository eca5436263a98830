/**
 * The agent's Prometheus metrics. Labels have a fixed set of values: the identities are those of the
 * configuration.
 * @module
 */
import { Counter, Gauge, Registry } from "prom-client";
import { addGauge, addProcess, cached, type ProcessUsage } from "../telemetry/series.ts";
import type { AgentMetrics, Delivery } from "./agent-metrics.ts";
import type { AgentParts } from "./status.ts";

interface Build {
  readonly version: string;
  readonly runtime: string;
}

/** What the gauges are computed from when the metrics are read. */
interface Observed {
  readonly parts: AgentParts;
  readonly now: Date;
  readonly ready: boolean;
}

const seconds = (instant: Date): number => instant.getTime() / 1000;

/** Gauges with one series; a value that is not known is 0. */
const GAUGES: Readonly<
  Record<string, readonly [help: string, read: (observed: Observed) => number | null]>
> = {
  meshca_agent_ready: [
    "1 if everything that is configured is served",
    ({ ready }) => Number(ready),
  ],
  meshca_agent_last_contact_timestamp_seconds: [
    "When a server answered last, in seconds since 1970; 0 if none did",
    ({ parts }) => (parts.contact.lastContact === null ? null : seconds(parts.contact.lastContact)),
  ],
  meshca_agent_server_reachable: [
    "1 while a server can be used",
    ({ parts }) => Number(parts.contact.problem === null && parts.contact.lastContact !== null),
  ],
  meshca_agent_roots_index: [
    "Index of the roots in use; 0 without roots",
    ({ parts }) => parts.bundle.current?.index ?? null,
  ],
};

export class AgentPrometheus implements AgentMetrics {
  readonly #registry = new Registry();
  readonly #streams = cached(
    new Gauge({
      name: "meshca_agent_streams",
      help: "Open streams of workloads",
      labelNames: ["delivery"],
      registers: [this.#registry],
    }),
  );
  readonly #refused = this.#counter("meshca_agent_refused_total", "Requests of workloads refused", [
    "delivery",
    "reason",
  ]);
  readonly #delivered = this.#counter(
    "meshca_agent_delivered_total",
    "Writes of files, and commands and signals after them",
    ["delivery", "outcome"],
  );
  readonly #renewals = this.#counter(
    "meshca_agent_renewals_total",
    "Requests for a certificate by their outcome: ok, or the code of the failure",
    ["outcome"],
  );
  #observed: (() => Observed) | null = null;

  /** @param usage reads what the process uses. */
  constructor(build: Build, usage?: () => ProcessUsage) {
    const registers = [this.#registry];
    if (usage !== undefined) addProcess(this.#registry, usage);
    for (const [name, [help, read]] of Object.entries(GAUGES))
      addGauge({ name, help, registers }, (gauge) => {
        const value = this.#observed === null ? null : read(this.#observed());
        if (value !== null) gauge.set(value);
      });
    this.#addLives(registers);
    new Gauge({
      name: "meshca_agent_build_info",
      help: "1, with the version and the runtime",
      labelNames: ["version", "runtime"],
      registers,
    }).set({ ...build }, 1);
  }

  /** What the gauges are computed from. */
  observe(observed: () => Observed): void {
    this.#observed = observed;
  }

  streams(delivery: Delivery, change: 1 | -1): void {
    this.#streams(delivery).inc(change);
  }

  refused(delivery: Delivery, reason: string): void {
    this.#refused(delivery, reason).inc();
  }

  delivered(delivery: Delivery, outcome: "ok" | "failed"): void {
    this.#delivered(delivery, outcome).inc();
  }

  /** @param outcome `ok`, or the code of the failure. */
  renewal(outcome: string): void {
    this.#renewals(outcome).inc();
  }

  /** The metrics as text. */
  async render(): Promise<{ type: string; text: string }> {
    return { type: this.#registry.contentType, text: await this.#registry.metrics() };
  }

  /** By identity: an expired certificate has 0 seconds left; a missing one has no end. */
  #addLives(registers: Registry[]): void {
    const labelNames = ["service"];
    addGauge(
      {
        name: "meshca_agent_svid_life_seconds",
        help: "Seconds until the certificate of an identity expires, 0 without one",
        ...{ labelNames, registers },
      },
      (gauge) => {
        const { parts, now } = this.#observed?.() ?? { parts: null, now: new Date(0) };
        for (const { service, svid } of parts?.workloads ?? []) {
          const end = svid.current === null ? 0 : seconds(svid.current.notAfter) - seconds(now);
          gauge.set({ service }, Math.max(0, end));
        }
      },
    );
    addGauge(
      {
        name: "meshca_agent_svid_not_after_timestamp_seconds",
        help: "When the certificate of an identity expires, in seconds since 1970",
        ...{ labelNames, registers },
      },
      (gauge) => {
        for (const { service, svid } of this.#observed?.().parts.workloads ?? [])
          if (svid.current !== null) gauge.set({ service }, seconds(svid.current.notAfter));
      },
    );
  }

  /** A counter's series by the values of its labels, in the order of the names. */
  #counter(name: string, help: string, labelNames: string[]) {
    return cached(new Counter({ name, help, labelNames, registers: [this.#registry] }));
  }
}
