/**
 * Prometheus metrics. Every label has a fixed set of values.
 * @module
 */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Status } from "../core/ca/api.ts";
import type { ServerCertificate } from "../core/ca/expiry.ts";
import type { LeafSummary } from "../core/ca/leaf-summary.ts";
import type { Snapshot } from "../core/ca/snapshot.ts";
import type { Audit } from "../core/ports/audit.ts";
import type { Metrics } from "../core/ports/metrics.ts";
import { DatacenterSeries } from "./datacenter-series.ts";
import { addLeafSeries } from "./leaf-series.ts";
import { addCounter, addGauge, addProcess, cached, type ProcessUsage } from "./series.ts";

/** What the gauges are computed from when the metrics are read. */
interface Observed {
  readonly snapshot: Snapshot | null;
  readonly now: Date;
  readonly watchers: number;
  readonly signing: number;
  /** Null before there is a CA. */
  readonly renewWindowMs: number | null;
  readonly status: Status;
  /** Null before there is a CA. */
  readonly leaves: LeafSummary | null;
  readonly audit: Pick<Audit, "failure" | "lost"> | null;
  /** Why no leaf can be signed, as `/readyz` has it, or null. */
  readonly obstacle: string | null;
  /** Why the CA cannot be changed, or null. */
  readonly changeObstacle: string | null;
  /** The certificate that the server presents; null without TLS. */
  readonly certificate: ServerCertificate | null;
}

interface Build {
  readonly version: string;
  readonly runtime: string;
}

const secondsUntil = (instant: Date, now: Date) => (instant.getTime() - now.getTime()) / 1000;
const flag = (on: boolean) => (on ? 1 : 0);

/** Gauges with one series; without a value it is 0. */
const GAUGES: Readonly<
  Record<string, readonly [help: string, read: (observed: Observed) => number | null]>
> = {
  meshca_ready: ["1 while leaves can be signed", ({ obstacle }) => flag(obstacle === null)],
  meshca_provider_unavailable: [
    "1 while the Vault of the provider does not answer",
    ({ status }) => flag(status.providerUnavailable),
  ],
  meshca_watchers: ["Blocked queries that wait", ({ watchers }) => watchers],
  meshca_signing: ["Signing requests in flight", ({ signing }) => signing],
  meshca_renew_window_seconds: [
    "Seconds over which renewals after a root change are to be spread",
    ({ renewWindowMs }) => (renewWindowMs === null ? null : renewWindowMs / 1000),
  ],
  meshca_index: ["Index of the state in use", ({ snapshot }) => snapshot?.state.index ?? 0],
  meshca_leader: ["1 if this replica leads", ({ status }) => flag(status.role === "leader")],
  meshca_operation_term: ["Highest term of the operation lease seen", ({ status }) => status.term],
  meshca_replicas: ["Replicas alive", ({ status }) => status.live.length],
  meshca_staleness_seconds: [
    "Seconds since the store last confirmed the stored state",
    ({ status }) => (status.stalenessMs === null ? null : status.stalenessMs / 1000),
  ],
  meshca_clock_offset_seconds: [
    "Seconds that the store's clock is ahead of this one",
    ({ status }) => status.clockOffsetMs / 1000,
  ],
  meshca_clock_alarm: [
    "1 if all replicas have another time than the store",
    ({ status }) => flag(status.clockAlarm),
  ],
  meshca_changes_stopped: [
    "1 while the store has lost writes and no operator has decided",
    ({ status }) => flag(status.stopped !== null),
  ],
  meshca_dropped_root_trusted_seconds: [
    "Seconds until no published root makes a dropped one be trusted, 0 if none does",
    ({ status: { trustOfDropped }, now }) =>
      Math.max(0, ...trustOfDropped.map(({ until }) => secondsUntil(until, now))),
  ],
  meshca_audit_failing: [
    "1 while the audit log cannot be written",
    ({ audit }) => (audit === null ? null : flag(audit.failure !== null)),
  ],
  meshca_changes_possible: [
    "1 while the CA can be changed",
    ({ changeObstacle }) => flag(changeObstacle === null),
  ],
  meshca_store_away_seconds: [
    "Seconds since the store last answered, 0 while it answers",
    ({ status: { storeAway, confirmedAt }, now }) => {
      if (!storeAway) return 0;
      return confirmedAt === null ? null : -secondsUntil(confirmedAt, now);
    },
  ],
  meshca_tls_expiry_seconds: [
    "Seconds until the certificate that the server presents expires",
    ({ certificate, now }) =>
      certificate === null ? null : secondsUntil(certificate.notAfter, now),
  ],
  meshca_tls_emergency: [
    "1 while the server presents its self-signed fallback certificate",
    ({ certificate }) => (certificate === null ? null : flag(certificate.fallback !== null)),
  ],
  meshca_issuer_expiry_seconds: [
    "Seconds until the issuer expires",
    ({ snapshot, now }) => {
      const issuer = snapshot?.provider?.issuer;
      return issuer === undefined ? null : secondsUntil(issuer.notAfter, now);
    },
  ],
};

export class PrometheusMetrics implements Metrics {
  readonly #registry = new Registry();
  readonly #issued = this.#counter(
    "meshca_leaf_issued_total",
    "Leaves signed, by kind of identity",
    ["kind"],
  );
  readonly #refused = this.#counter(
    "meshca_leaf_refused_total",
    "Signing requests refused, by error code",
    ["code"],
  );
  readonly #latency = new Histogram({
    name: "meshca_leaf_sign_seconds",
    help: "Time from a complete request to its leaf",
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5],
    registers: [this.#registry],
  });
  readonly #changes = this.#counter("meshca_changes_total", "Changes of the CA tried", [
    "operation",
    "outcome",
  ]);
  readonly #requests = this.#counter("meshca_http_requests_total", "Requests answered", [
    "route",
    "status",
  ]);
  readonly #forwarded = this.#counter(
    "meshca_forwarded_requests_total",
    "Requests sent on to another datacenter",
    ["datacenter", "outcome"],
  );
  readonly #duration = cached(
    new Histogram({
      name: "meshca_http_request_seconds",
      help: "Time from a request to its response by route, blocked queries included",
      labelNames: ["route"],
      buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60],
      registers: [this.#registry],
    }),
  );
  readonly #wrongTokens = this.#counter(
    "meshca_wrong_tokens_total",
    "Tokens presented that are unknown",
  );
  readonly #datacenters = new DatacenterSeries(this.#registry, () => this.#observed);
  #observed: Observed | null = null;

  /** @param usage reads what the process uses. */
  constructor(build: Build, usage?: () => ProcessUsage) {
    const registers = [this.#registry];
    if (usage !== undefined) addProcess(this.#registry, usage);
    for (const [name, [help, read]] of Object.entries(GAUGES))
      addGauge({ name, help, registers }, (gauge) => {
        const value = this.#observed === null ? null : read(this.#observed);
        if (value !== null) gauge.set(value);
      });
    addCounter(
      { name: "meshca_audit_lost", help: "Audit records given up since the start", registers },
      () => this.#observed?.audit?.lost ?? 0,
    );
    addGauge(
      {
        name: "meshca_root_expiry_seconds",
        help: "Seconds until a root expires",
        labelNames: ["id", "status"],
        registers,
      },
      (gauge) => {
        const { snapshot = null, now = new Date(0) } = this.#observed ?? {};
        for (const { id, status, certificate } of snapshot?.state.roots ?? [])
          gauge.set({ id, status }, secondsUntil(certificate.notAfter, now));
      },
    );
    addLeafSeries(this.#registry, () => this.#observed?.leaves ?? null);
    new Gauge({
      name: "meshca_build_info",
      help: "1, with the version and the runtime",
      labelNames: ["version", "runtime"],
      registers,
    }).set({ ...build }, 1);
  }

  leafIssued(kind: string, seconds: number): void {
    this.#issued(kind).inc();
    this.#latency.observe(seconds);
  }

  leafRefused(code: string): void {
    this.#refused(code).inc();
  }

  change(operation: string, outcome: string): void {
    this.#changes(operation, outcome).inc();
  }

  primaryFailed(step: "read" | "follow", code: string): void {
    this.#datacenters.failed(step, code);
  }

  intermediateRenewed(): void {
    this.#datacenters.renewed();
  }

  intermediateRequested(outcome: string): void {
    this.#datacenters.requested(outcome);
  }

  /** @param seconds from the request to its response, blocked queries included. */
  request(route: string, status: number, seconds?: number): void {
    this.#requests(route, String(status)).inc();
    if (seconds !== undefined) this.#duration(route).observe(seconds);
  }

  /** Counts a request that was sent on to another datacenter. */
  forwarded(datacenter: string, outcome: "answered" | "unavailable"): void {
    this.#forwarded(datacenter, outcome).inc();
  }

  /** Counts a request with an unknown token. */
  wrongToken(): void {
    this.#wrongTokens().inc();
  }

  /** The metrics as text; the gauges are computed from `observed`. */
  async render(observed: Observed): Promise<{ type: string; text: string }> {
    this.#observed = observed;
    return { type: this.#registry.contentType, text: await this.#registry.metrics() };
  }

  /** A counter's series by the values of its labels, in the order of the names. */
  #counter(name: string, help: string, labelNames: string[] = []) {
    return cached(new Counter({ name, help, labelNames, registers: [this.#registry] }));
  }
}
