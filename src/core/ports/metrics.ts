/**
 * What core counts. Labels have fixed sets of values, so that no caller can add series.
 * @module
 */

export interface Metrics {
  /** A leaf was signed. `kind` is the kind of its SPIFFE ID. */
  leafIssued(kind: string, seconds: number): void;
  /** A signing request was refused. `code` is the code of the error. */
  leafRefused(code: string): void;
  /** A change of the state ended. `outcome` is `ok` or the code of the error. */
  change(operation: string, outcome: string): void;
  /** The primary datacenter could not be read or followed. `code` is that of `faultCodeOf`. */
  primaryFailed(step: "read" | "follow", code: string): void;
  /** A secondary datacenter took another intermediate in place of the one that it had. */
  intermediateRenewed(): void;
  /** An intermediate for another datacenter was requested. `outcome` is `ok` or the code of the error. */
  intermediateRequested(outcome: string): void;
}
