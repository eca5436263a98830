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
  readonly hints: Hints;
}

/**
 * What an operator can do, in the words of the edge, which name its routes and settings. Each ends
 * an error text, an alarm or a note, after a semicolon.
 */
export interface Hints {
  /** How both states of a state conflict are shown. */
  readonly showConflict: string;
  /** How a state conflict is resolved. */
  readonly resolveConflict: string;
  /** How the root is rotated by an operator. */
  readonly rotate: string;
  /** How a root is followed that took the active one's place outside. */
  readonly followRoot: string;
  /** How a backup of another cluster is used. */
  readonly importBackup: string;
  /** How a service is allowed to have a DNS name. */
  readonly serviceDnsNames: string;
  /** How services are allowed to have IP addresses. */
  readonly serviceIpRanges: string;
}
