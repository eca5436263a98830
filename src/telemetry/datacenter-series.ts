/**
 * Series of Prometheus about other datacenters: of a secondary one what it follows, of a primary one
 * the intermediates that it signed. A series with a label is absent where it does not apply.
 * @module
 */
import { Counter, type Gauge, type Registry } from "prom-client";
import type { Status } from "../core/ca/api.ts";
import type { PrimaryStatus } from "../core/ca/follower.ts";
import { unexpiredIntermediates } from "../core/ca/intermediates.ts";
import type { Snapshot } from "../core/ca/snapshot.ts";
import type { Certificate } from "../core/x509/certificate.ts";
import { addGauge, cached } from "./series.ts";

/** What the gauges are computed from. */
export interface ObservedDatacenters {
  readonly snapshot: Snapshot | null;
  readonly status: Pick<Status, "primary" | "otherPrimary">;
  readonly now: Date;
}

const seconds = (instant: Date) => instant.getTime() / 1000;

/** Of a secondary datacenter; without a value the series is absent. */
const OF_PRIMARY: Readonly<
  Record<string, readonly [help: string, read: (primary: PrimaryStatus) => number | null]>
> = {
  meshca_primary_followed: [
    "1 while the roots of the primary datacenter are read and followed; on the leader",
    ({ isAsked, fault, followedIndex }) =>
      isAsked ? Number(fault === null && followedIndex !== null) : null,
  ],
  meshca_primary_last_contact_timestamp_seconds: [
    "When the primary datacenter last answered this replica, in seconds since 1970",
    ({ isAsked, lastContact }) => (isAsked && lastContact !== null ? seconds(lastContact) : null),
  ],
  meshca_primary_index: [
    "Index of the primary datacenter's roots that this replica read last; on the leader",
    ({ isAsked, index }) => (isAsked ? index : null),
  ],
  meshca_primary_followed_index: [
    "Index of the primary datacenter's roots that this datacenter has",
    ({ followedIndex }) => followedIndex,
  ],
  meshca_primary_clock_offset_seconds: [
    "Seconds that the clock of the primary datacenter is ahead of this one; on the leader",
    ({ isAsked, clockOffsetMs }) =>
      isAsked && clockOffsetMs !== null ? clockOffsetMs / 1000 : null,
  ],
};

/** Of the intermediate that the primary datacenter signed. */
const OF_INTERMEDIATE: Readonly<
  Record<string, readonly [help: string, read: (issuer: Certificate) => number]>
> = {
  meshca_intermediate_not_before_timestamp_seconds: [
    "NotBefore of the intermediate that the primary datacenter signed, in seconds since 1970",
    ({ notBefore }) => seconds(notBefore),
  ],
  meshca_intermediate_not_after_timestamp_seconds: [
    "NotAfter of the intermediate that the primary datacenter signed, in seconds since 1970",
    ({ notAfter }) => seconds(notAfter),
  ],
};

/** The counters of other datacenters, and gauges that `observed` gives the values of. */
export class DatacenterSeries {
  readonly #failures: ReturnType<typeof cached<Counter.Internal>>;
  readonly #renewals: Counter;
  readonly #requests: ReturnType<typeof cached<Counter.Internal>>;

  constructor(registry: Registry, observed: () => ObservedDatacenters | null) {
    const registers = [registry];
    const counter = (name: string, help: string, labelNames: string[]) =>
      new Counter({ name, help, labelNames, registers });
    this.#failures = cached(
      counter(
        "meshca_primary_failures_total",
        "Failed attempts to read and to follow the primary datacenter, by reason",
        ["step", "code"],
      ),
    );
    this.#renewals = counter(
      "meshca_intermediate_renewals_total",
      "Intermediates that the primary datacenter signed in place of an earlier one",
      [],
    );
    this.#requests = cached(
      counter(
        "meshca_intermediate_requests_total",
        "Intermediates that other datacenters requested here, by outcome",
        ["outcome"],
      ),
    );
    const labelNames = ["datacenter"];
    for (const [name, [help, read]] of Object.entries(OF_PRIMARY))
      addGauge({ name, help, labelNames, registers }, (gauge) => {
        const primary = observed()?.status.primary ?? null;
        if (primary !== null) set(gauge, primary.datacenter, read(primary));
      });
    for (const [name, [help, read]] of Object.entries(OF_INTERMEDIATE))
      addGauge({ name, help, labelNames, registers }, (gauge) => {
        const { state, provider } = observed()?.snapshot ?? { state: null, provider: null };
        const followed = state?.primary ?? null;
        if (followed !== null && provider !== null)
          set(gauge, followed.datacenter, read(provider.issuer));
      });
    addGauge(
      {
        ...{ name: "meshca_other_primary", labelNames, registers },
        help: "Promotions of the datacenter that is the primary one in place of this one; on the leader",
      },
      (gauge) => {
        const other = observed()?.status.otherPrimary ?? null;
        if (other !== null) set(gauge, other.datacenter, other.promotions);
      },
    );
    addGauge(
      {
        name: "meshca_intermediates",
        help: "Intermediates of other datacenters that are recorded here and not expired",
        registers,
      },
      (gauge) => gauge.set(recorded(observed()).count),
    );
    addGauge(
      {
        name: "meshca_intermediates_first_not_after_timestamp_seconds",
        help: "When the first of these expires, in seconds since 1970; 0 without any",
        registers,
      },
      (gauge) => {
        const { firstNotAfter } = recorded(observed());
        gauge.set(firstNotAfter === null ? 0 : seconds(firstNotAfter));
      },
    );
  }

  failed(step: "read" | "follow", code: string): void {
    this.#failures(step, code).inc();
  }

  renewed(): void {
    this.#renewals.inc();
  }

  requested(outcome: string): void {
    this.#requests(outcome).inc();
  }
}

function set(gauge: Gauge, datacenter: string, value: number | null): void {
  if (value !== null) gauge.set({ datacenter }, value);
}

function recorded(observed: ObservedDatacenters | null) {
  return unexpiredIntermediates(observed?.snapshot?.state ?? null, observed?.now ?? new Date(0));
}
