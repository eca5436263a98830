/**
 * The numbers that the CA's decisions rest on, each with its source.
 * @module
 */

export interface Policy {
  /** A retired root is pruned after this many times the largest leaf life: Consul's 2 (consul-ca.md §4.7). */
  readonly pruneFactor: number;
  /** A leaf with its chain, in PEM: what TLS stacks take in one handshake without trouble (design §8, invariant 8). */
  readonly maxChainBytes: number;
  /** The answer to a roots request (design §8, invariant 8). */
  readonly maxRootsBytes: number;
  /** How long an operation may hold its lease without renewing it. */
  readonly operationLeaseMs: number;
  /** How long a leader that died is waited for. */
  readonly leaderLeaseMs: number;
  /** Signing requests in flight at most; more are shed with 429. Half a second's work of two cores. */
  readonly maxPendingLeaves: number;
  /** How long a signing request may wait for its turn: Consul's 500 ms (consul-ca.md §4.9). */
  readonly maxQueueMs: number;
}

export const DEFAULT_POLICY: Policy = {
  pruneFactor: 2,
  maxChainBytes: 16 * 1024,
  maxRootsBytes: 64 * 1024,
  operationLeaseMs: 30_000,
  leaderLeaseMs: 15_000,
  maxPendingLeaves: 4096,
  maxQueueMs: 500,
};
