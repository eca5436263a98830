/**
 * What the agent counts.
 * @module
 */

/** How a workload receives its certificate. */
export type Delivery = "workload-api" | "sds" | "sds-rest" | "consul-api" | "files";

export interface AgentMetrics {
  /** A stream of a workload opened or ended. */
  streams(delivery: Delivery, change: 1 | -1): void;
  /** A request was refused. @param reason a fixed word, never text of the caller. */
  refused(delivery: Delivery, reason: string): void;
  /** A hook, a signal or a write of files ended. */
  delivered(delivery: Delivery, outcome: "ok" | "failed"): void;
}
