/**
 * Series of Prometheus that the server and the agent have in common: of the process, and such whose
 * value is kept elsewhere.
 * @module
 */
import { Counter, Gauge, type Registry } from "prom-client";

/** What the process uses; what the system does not report is left out. */
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

/**
 * The series of a process by the names that Prometheus's own clients use. Names that end in `_total`
 * are counters.
 */
const PROCESS_SERIES: Readonly<
  Record<string, readonly [help: string, read: (usage: ProcessUsage) => number | undefined]>
> = {
  process_cpu_user_seconds_total: ["User CPU time in seconds", (use) => use.cpuUserSeconds],
  process_cpu_system_seconds_total: ["System CPU time in seconds", (use) => use.cpuSystemSeconds],
  process_cpu_seconds_total: ["User and system CPU time in seconds", cpuSeconds],
  process_start_time_seconds: [
    "Start of the process, in seconds since 1970",
    (use) => use.startTime,
  ],
  process_resident_memory_bytes: ["Resident memory in octets", (use) => use.residentBytes],
  process_virtual_memory_bytes: ["Virtual memory in octets", (use) => use.virtualBytes],
  process_open_fds: ["Open file descriptors", (use) => use.openFiles],
  process_max_fds: ["Open file descriptors at most", (use) => use.maxFiles],
};

function cpuSeconds({ cpuUserSeconds: user, cpuSystemSeconds: system }: ProcessUsage) {
  return user === undefined || system === undefined ? undefined : user + system;
}

/** Adds the series of the process, without the default metrics of prom-client that poll. */
export function addProcess(registry: Registry, usage: () => ProcessUsage): void {
  const registers = [registry];
  for (const [name, [help, read]] of Object.entries(PROCESS_SERIES)) {
    // A series that the system does not report is absent, rather than 0.
    if (read(usage()) === undefined) continue;
    const value = () => read(usage()) ?? 0;
    if (name.endsWith("_total")) addCounter({ name, help, registers }, value);
    else addGauge({ name, help, registers }, (gauge) => gauge.set(value()));
  }
}

type Options = { readonly name: string; readonly help: string; readonly registers: Registry[] };

/** A gauge that is set each time when the metrics are read. */
export function addGauge(
  options: Options & { labelNames?: string[] },
  set: (gauge: Gauge) => void,
): void {
  new Gauge({
    ...options,
    collect() {
      this.reset();
      set(this);
    },
  });
}

/** A counter that is kept elsewhere. */
export function addCounter(options: Options, read: () => number): void {
  new Counter({
    ...options,
    collect() {
      this.reset();
      this.inc(read());
    },
  });
}

/** Looks series up by the text of their labels: prom-client sorts and hashes labels each time. */
export function cached<T>(metric: { labels(...values: string[]): T }): (...values: string[]) => T {
  const known = new Map<string, T>();
  return (...values) => {
    const key = values.join(" ");
    const series = known.get(key) ?? metric.labels(...values);
    known.set(key, series);
    return series;
  };
}
