/**
 * Prometheus metrics. Every label has a fixed set of values.
 * @module
 */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Audit } from "../core/audit.ts";
import type { Snapshot } from "../core/ca/snapshot.ts";
import type { Status } from "../core/ca/status.ts";
import type { Metrics } from "../core/metrics.ts";

/** What is looked at when the metrics are asked for. */
export interface Observed {
  readonly snapshot: () => Snapshot | null;
  readonly now: () => Date;
  readonly watchers: () => number;
  readonly signing: () => number;
  readonly status: () => Status;
  readonly audit: Pick<Audit, "failure" | "lost"> | null;
}

export interface PrometheusMetrics extends Metrics {
  /** Sets what the gauges look at. */
  observe(observed: Observed): void;
  request(route: string, status: number): void;
  /** A token that is none was presented. */
  wrongToken(): void;
  render(): Promise<{ type: string; text: string }>;
}

/** The series of a counter for some label values, looked up by name: prom-client sorts and hashes labels at each call. */
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

export function createPrometheus(): PrometheusMetrics {
  const registry = new Registry();
  const registers = [registry];
  const child = childrenOf();
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
  const wrongTokens = new Counter({ name: "meshca_wrong_tokens_total", help: "Tokens presented that are unknown", registers });
  const gauge = (name: string, help: string, read: (gauge: Gauge, now: Observed) => void, labelNames: string[] = []) =>
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

  gauge("meshca_watchers", "Blocked queries that wait", (g, { watchers }) => g.set(watchers()));
  gauge("meshca_signing", "Signing requests in flight", (g, { signing }) => g.set(signing()));
  gauge("meshca_index", "Index of the state in use", (g, { snapshot }) => g.set(snapshot()?.state.index ?? 0));
  gauge("meshca_leader", "1 where this replica leads", (g, { status }) => g.set(status().role === "leader" ? 1 : 0));
  gauge("meshca_operation_term", "Highest term of the operation lease seen", (g, { status }) => g.set(status().term));
  gauge("meshca_replicas", "Replicas alive", (g, { status }) => g.set(status().live.length));
  gauge("meshca_staleness_seconds", "Seconds since the store last said what is stored", (g, { status }) => {
    const { stalenessMs } = status();
    if (stalenessMs !== null) g.set(stalenessMs / 1000);
  });
  gauge("meshca_clock_offset_seconds", "Seconds that the store's clock is ahead of this one", (g, { status }) =>
    g.set(status().clockOffsetMs / 1000),
  );
  gauge("meshca_clock_alarm", "1 where all replicas have another time than the store", (g, { status }) =>
    g.set(status().clockAlarm ? 1 : 0),
  );
  gauge("meshca_changes_stopped", "1 while the store has lost writes and no operator has decided", (g, { status }) =>
    g.set(status().stopped === null ? 0 : 1),
  );
  gauge("meshca_audit_failing", "1 while the audit log cannot be written", (g, { audit }) => {
    if (audit !== null) g.set(audit.failure === null ? 0 : 1);
  });
  gauge("meshca_audit_lost", "Audit records given up since the start", (g, { audit }) => {
    if (audit !== null) g.set(audit.lost);
  });
  gauge(
    "meshca_root_expiry_seconds",
    "Seconds until a root expires",
    (g, { snapshot, now }) => {
      for (const root of snapshot()?.state.roots ?? [])
        g.set({ id: root.id, status: root.status }, (root.certificate.notAfter.getTime() - now().getTime()) / 1000);
    },
    ["id", "status"],
  );
  gauge("meshca_issuer_expiry_seconds", "Seconds until what signs leaves expires", (g, { snapshot, now }) => {
    const issuer = snapshot()?.provider?.issuer;
    if (issuer !== undefined) g.set((issuer.notAfter.getTime() - now().getTime()) / 1000);
  });

  return {
    observe(what) {
      observed = what;
    },
    leafIssued(kind, seconds) {
      child(issued, kind).inc();
      latency.observe(seconds);
    },
    leafRefused: (code) => child(refused, code).inc(),
    change: (operation, outcome) => changes.inc({ operation, outcome }),
    request: (route, status) => child(requests, route, String(status)).inc(),
    wrongToken: () => wrongTokens.inc(),
    render: async () => ({ type: registry.contentType, text: await registry.metrics() }),
  };
}
