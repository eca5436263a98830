/**
 * Prometheus metrics. Every label has a fixed set of values.
 * @module
 */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Status } from "../core/ca/api.ts";
import type { ServerCertificate } from "../core/ca/expiry.ts";
import type { Snapshot } from "../core/ca/snapshot.ts";
import type { Audit } from "../core/ports/audit.ts";
import type { Metrics } from "../core/ports/metrics.ts";

/** How things are when the metrics are asked for. */
export interface Observed {
  readonly snapshot: Snapshot | null;
  readonly now: Date;
  readonly watchers: number;
  readonly signing: number;
  readonly status: Status;
  readonly audit: Pick<Audit, "failure" | "lost"> | null;
  /** Why the CA cannot be changed, or null. */
  readonly changeObstacle: string | null;
  /** The certificate that the server shows; null without TLS. */
  readonly certificate: ServerCertificate | null;
}

export interface PrometheusMetrics extends Metrics {
  /** @param seconds from its arrival to its answer, blocked queries included. */
  request(route: string, status: number, seconds?: number): void;
  /** A token that is none was presented. */
  wrongToken(): void;
  /** Writes the counters, and gauges of what is handed in. */
  render(observed: Observed): Promise<{ type: string; text: string }>;
}

/**
 * The series of a counter for some label values, looked up by name: prom-client sorts and hashes
 * labels at each call.
 */
function childrenOf(): (counter: Counter, ...labels: string[]) => Counter.Internal {
  const children = new Map<Counter, Map<string, Counter.Internal>>();
  return (counter, ...labels) => {
    const ofCounter = children.get(counter) ?? new Map<string, Counter.Internal>();
    children.set(counter, ofCounter);
    const key = labels.join(" ");
    const found = ofCounter.get(key) ?? counter.labels(...labels);
    ofCounter.set(key, found);
    return found;
  };
}

/** What process this is. */
export interface Build {
  readonly version: string;
  readonly runtime: string;
}

/** What the process uses; what the system does not tell is left out. */
export interface ProcessUsage {
  readonly cpuUserSeconds?: number;
  readonly cpuSystemSeconds?: number;
  /** Seconds since 1970. */
  readonly startTime?: number;
  readonly residentBytes?: number;
  readonly virtualBytes?: number;
  readonly openFiles?: number;
  readonly maxFiles?: number;
}

/** The series of a process by the names that Prometheus's own clients use. */
const PROCESS_SERIES: readonly (readonly [
  string,
  "counter" | "gauge",
  string,
  (usage: ProcessUsage) => number | undefined,
])[] = [
  [
    "process_cpu_user_seconds_total",
    "counter",
    "User CPU time in seconds",
    ({ cpuUserSeconds }) => cpuUserSeconds,
  ],
  [
    "process_cpu_system_seconds_total",
    "counter",
    "System CPU time in seconds",
    ({ cpuSystemSeconds }) => cpuSystemSeconds,
  ],
  [
    "process_cpu_seconds_total",
    "counter",
    "User and system CPU time in seconds",
    ({ cpuUserSeconds, cpuSystemSeconds }) =>
      cpuUserSeconds === undefined || cpuSystemSeconds === undefined
        ? undefined
        : cpuUserSeconds + cpuSystemSeconds,
  ],
  [
    "process_start_time_seconds",
    "gauge",
    "Start of the process, in seconds since 1970",
    ({ startTime }) => startTime,
  ],
  [
    "process_resident_memory_bytes",
    "gauge",
    "Resident memory in octets",
    ({ residentBytes }) => residentBytes,
  ],
  [
    "process_virtual_memory_bytes",
    "gauge",
    "Virtual memory in octets",
    ({ virtualBytes }) => virtualBytes,
  ],
  ["process_open_fds", "gauge", "Open file descriptors", ({ openFiles }) => openFiles],
  ["process_max_fds", "gauge", "Open file descriptors at most", ({ maxFiles }) => maxFiles],
];

/**
 * Adds the series of the process, without those of prom-client's default metrics that cost while
 * nobody asks.
 */
function addProcess(registry: Registry, usage: () => ProcessUsage): void {
  for (const [name, kind, help, read] of PROCESS_SERIES) {
    // A series that the system does not tell is not there, rather than 0.
    if (read(usage()) === undefined) continue;
    if (kind === "gauge")
      new Gauge({
        name,
        help,
        registers: [registry],
        collect() {
          this.set(read(usage()) ?? 0);
        },
      });
    else
      new Counter({
        name,
        help,
        registers: [registry],
        collect() {
          this.reset();
          this.inc(read(usage()) ?? 0);
        },
      });
  }
}

/** @param usage reads what the process uses. */
export function createPrometheus(build: Build, usage?: () => ProcessUsage): PrometheusMetrics {
  const registry = new Registry();
  const registers = [registry];
  const child = childrenOf();
  if (usage !== undefined) addProcess(registry, usage);
  let observed: Observed | null = null;

  const issued = new Counter({
    name: "meshca_leaf_issued_total",
    help: "Leaves signed, by kind of identity",
    labelNames: ["kind"],
    registers,
  });
  const refused = new Counter({
    name: "meshca_leaf_refused_total",
    help: "Signing requests refused, by error code",
    labelNames: ["code"],
    registers,
  });
  const latency = new Histogram({
    name: "meshca_leaf_sign_seconds",
    help: "Time from a complete request to its leaf",
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5],
    registers,
  });
  const changes = new Counter({
    name: "meshca_changes_total",
    help: "Changes of the CA tried",
    labelNames: ["operation", "outcome"],
    registers,
  });
  const requests = new Counter({
    name: "meshca_http_requests_total",
    help: "Requests answered",
    labelNames: ["route", "status"],
    registers,
  });
  const duration = new Histogram({
    name: "meshca_http_request_seconds",
    help: "Time from a request to its answer by route, blocked queries included",
    labelNames: ["route"],
    buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60],
    registers,
  });
  /** The series of a route, looked up by name. */
  const durationOf = new Map<string, Histogram.Internal<string>>();
  const durations = (route: string): Histogram.Internal<string> => {
    const found = durationOf.get(route) ?? duration.labels(route);
    durationOf.set(route, found);
    return found;
  };
  const wrongTokens = new Counter({
    name: "meshca_wrong_tokens_total",
    help: "Tokens presented that are unknown",
    registers,
  });
  const gauge = (
    name: string,
    help: string,
    read: (gauge: Gauge, now: Observed) => void,
    labelNames: string[] = [],
  ) =>
    new Gauge({
      name,
      help,
      labelNames,
      registers,
      collect() {
        this.reset();
        if (observed !== null) read(this, observed);
      },
    });

  gauge("meshca_watchers", "Blocked queries that wait", (g, { watchers }) => g.set(watchers));
  gauge("meshca_signing", "Signing requests in flight", (g, { signing }) => g.set(signing));
  gauge("meshca_index", "Index of the state in use", (g, { snapshot }) =>
    g.set(snapshot?.state.index ?? 0),
  );
  gauge("meshca_leader", "1 where this replica leads", (g, { status }) =>
    g.set(status.role === "leader" ? 1 : 0),
  );
  gauge("meshca_operation_term", "Highest term of the operation lease seen", (g, { status }) =>
    g.set(status.term),
  );
  gauge("meshca_replicas", "Replicas alive", (g, { status }) => g.set(status.live.length));
  gauge(
    "meshca_staleness_seconds",
    "Seconds since the store last said what is stored",
    (g, { status }) => {
      const { stalenessMs } = status;
      if (stalenessMs !== null) g.set(stalenessMs / 1000);
    },
  );
  gauge(
    "meshca_clock_offset_seconds",
    "Seconds that the store's clock is ahead of this one",
    (g, { status }) => g.set(status.clockOffsetMs / 1000),
  );
  gauge(
    "meshca_clock_alarm",
    "1 where all replicas have another time than the store",
    (g, { status }) => g.set(status.clockAlarm ? 1 : 0),
  );
  gauge(
    "meshca_changes_stopped",
    "1 while the store has lost writes and no operator has decided",
    (g, { status }) => g.set(status.stopped === null ? 0 : 1),
  );
  gauge("meshca_audit_failing", "1 while the audit log cannot be written", (g, { audit }) => {
    if (audit !== null) g.set(audit.failure === null ? 0 : 1);
  });
  new Counter({
    name: "meshca_audit_lost",
    help: "Audit records given up since the start",
    registers,
    collect() {
      this.reset();
      this.inc(observed?.audit?.lost ?? 0);
    },
  });
  gauge("meshca_changes_possible", "1 while the CA can be changed", (g, { changeObstacle }) =>
    g.set(changeObstacle === null ? 1 : 0),
  );
  gauge(
    "meshca_store_away_seconds",
    "Seconds since the store last answered, 0 while it answers",
    (g, { status, now }) => {
      const { storeAway, confirmedAt } = status;
      if (!storeAway) g.set(0);
      else if (confirmedAt !== null) g.set((now.getTime() - confirmedAt.getTime()) / 1000);
    },
  );
  gauge(
    "meshca_tls_expiry_seconds",
    "Seconds until the certificate expires that the server shows",
    (g, { certificate, now }) => {
      if (certificate !== null) g.set((certificate.notAfter.getTime() - now.getTime()) / 1000);
    },
  );
  gauge(
    "meshca_tls_emergency",
    "1 while the server shows its self-signed fallback certificate",
    (g, { certificate }) => {
      if (certificate !== null) g.set(certificate.emergency === null ? 0 : 1);
    },
  );
  new Gauge({
    name: "meshca_build_info",
    help: "1, with the version and the runtime",
    labelNames: ["version", "runtime"],
    registers,
  }).set(build, 1);
  gauge(
    "meshca_root_expiry_seconds",
    "Seconds until a root expires",
    (g, { snapshot, now }) => {
      for (const root of snapshot?.state.roots ?? [])
        g.set(
          { id: root.id, status: root.status },
          (root.certificate.notAfter.getTime() - now.getTime()) / 1000,
        );
    },
    ["id", "status"],
  );
  gauge(
    "meshca_issuer_expiry_seconds",
    "Seconds until what signs leaves expires",
    (g, { snapshot, now }) => {
      const issuer = snapshot?.provider?.issuer;
      if (issuer !== undefined) g.set((issuer.notAfter.getTime() - now.getTime()) / 1000);
    },
  );

  return {
    leafIssued(kind, seconds) {
      child(issued, kind).inc();
      latency.observe(seconds);
    },
    leafRefused: (code) => child(refused, code).inc(),
    change: (operation, outcome) => changes.inc({ operation, outcome }),
    request(route, status, seconds) {
      child(requests, route, String(status)).inc();
      if (seconds !== undefined) durations(route).observe(seconds);
    },
    wrongToken: () => wrongTokens.inc(),
    async render(what) {
      observed = what;
      return { type: registry.contentType, text: await registry.metrics() };
    },
  };
}
