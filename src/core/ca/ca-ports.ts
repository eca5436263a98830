/**
 * The ports of a CA. Each class names the ones that it needs with `Pick`.
 * @module
 */
import type { Audit } from "../ports/audit.ts";
import type { Clock, Random } from "../ports/clock.ts";
import type { Leases } from "../ports/lease.ts";
import type { Log } from "../ports/log.ts";
import type { LookStore } from "../ports/looks.ts";
import type { Metrics } from "../ports/metrics.ts";
import type { ProviderTypes } from "../ports/provider.ts";
import type { Replicas } from "../ports/replicas.ts";
import type { Sealer } from "../ports/sealer.ts";
import type { Store } from "../ports/store.ts";

export interface CaPorts {
  readonly store: Store;
  readonly leases: Leases;
  readonly replicas: Replicas;
  readonly looks: LookStore;
  readonly sealer: Sealer;
  readonly providers: ProviderTypes;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Null if nothing is recorded. */
  readonly audit: Audit | null;
}
