/**
 * The numbers that the CA's decisions rest on, each with its source.
 * @module
 */

export interface Policy {
  /**
   * A retired root is pruned after this many times the largest leaf life: Consul's 2 (consul-ca.md
   * §4.7).
   */
  readonly pruneFactor: number;
  /**
   * The share of the largest leaf life for which every look at the clock must have found that
   * something's time is over before it is deleted (deletion-time.ts): long against a clock that was
   * wrong for a moment, short against what a root is kept for anyway.
   */
  readonly confirmShare: number;
  /**
   * At most so long for records of access control, in milliseconds: Consul's `token_max_ttl` of 24
   * h. A token that is over is in every replica's memory until it is deleted.
   */
  readonly maxRecordConfirmMs: number;
  /**
   * Certificates that a leaf is sent with at most, itself counted and the root not. JDK servers
   * accept 8 of a client (jdk.tls.server.maxInboundCertificateChainLength), JDK clients 10 of a
   * server (jdk.tls.client.maxInboundCertificateChainLength), both also if every root is trusted;
   * rustls-webpki 6 intermediates (MAX_SUB_CA_COUNT), mbed TLS 8
   * (MBEDTLS_X509_MAX_INTERMEDIATE_CA).
   */
  readonly maxChainLength: number;
  /**
   * A leaf with its chain, in PEM: what TLS stacks take in one handshake without trouble (design
   * §8, invariant 8).
   */
  readonly maxChainBytes: number;
  /** The answer to a roots request (design §8, invariant 8). */
  readonly maxRootsBytes: number;
  /** How long an operation may hold its lease without renewing it. */
  readonly operationLeaseMs: number;
  /** How long a change waits for another one to end before it is refused. */
  readonly operationWaitMs: number;
  /**
   * How long the outcome of a commit without an answer is looked for before the caller is told that
   * it is unknown.
   */
  readonly settleMs: number;
  /** How long a leader that died is waited for. */
  readonly leaderLeaseMs: number;
  /** A leader that could not renew its lease for so long stops leading. */
  readonly leaderRenewDeadlineMs: number;
  /** How often the lease is renewed, or tried for. */
  readonly leaderRetryMs: number;
  /**
   * `leaderRetryMs` is lengthened by a random factor of up to this, so that replicas do not try
   * together.
   */
  readonly retryJitter: number;
  /** How often a replica says that it lives, and for how long it then counts as alive. */
  readonly heartbeatMs: number;
  readonly replicaTtlMs: number;
  /**
   * For how long leaves are signed without an answer of the store, at most half of the leaves'
   * life; null for a store within this machine. A leaf signed just before its root was retired
   * elsewhere then ends before that root is pruned.
   */
  readonly maxStalenessMs: number | null;
  /**
   * For how long what the store confirmed is served without asking it again; null where the store
   * tells of changes by itself. A replica that serves so may miss a change for this long, and
   * counts for it as a replica that the store does not reach.
   */
  readonly maxAgeMs: number | null;
  /** How often the leader looks whether what a provider relies on outside is still there. */
  readonly inspectMs: number;
  /** How far the clock may be from the store's. */
  readonly maxClockSkewMs: number;
  /** Signing requests in flight at most; more are shed with 429. */
  readonly maxPendingLeaves: number;
  /**
   * Signing requests that are worked on at once; the others wait. Twice what keeps two cores busy:
   * with more, whatever else is asked for has to wait until a turn of the event loop has gone
   * through all of them.
   */
  readonly maxWorkingLeaves: number;
  /**
   * The share of what is in flight, and of what waits for its turn, that renewals alone may take:
   * who has a leaf keeps it (consul#12593).
   */
  readonly renewalShare: number;
  /** How long a signing request may wait for its turn: Consul's 500 ms (consul-ca.md §4.9). */
  readonly maxQueueMs: number;
}

export const DEFAULT_POLICY: Policy = {
  pruneFactor: 2,
  confirmShare: 1 / 8,
  maxRecordConfirmMs: 24 * 3_600_000,
  maxChainLength: 7,
  maxChainBytes: 16 * 1024,
  maxRootsBytes: 64 * 1024,
  operationLeaseMs: 30_000,
  operationWaitMs: 3000,
  settleMs: 5000,
  leaderLeaseMs: 15_000,
  leaderRenewDeadlineMs: 10_000,
  leaderRetryMs: 4000,
  retryJitter: 1.25,
  heartbeatMs: 3000,
  replicaTtlMs: 10_000,
  maxStalenessMs: null,
  maxAgeMs: null,
  inspectMs: 60_000,
  maxClockSkewMs: 30_000,
  maxPendingLeaves: 4096,
  maxWorkingLeaves: 64,
  renewalShare: 0.25,
  maxQueueMs: 500,
};

/**
 * Lease > renew deadline > retry x jitter, as client-go's leader election has it: a leader notices
 * that it lost the lease before another one can have it, and tries more than once before it gives
 * up.
 * @throws {RangeError}
 */
export function checkLeaseTimes({
  leaderLeaseMs,
  leaderRenewDeadlineMs,
  leaderRetryMs,
  retryJitter,
}: Policy): void {
  if (
    leaderLeaseMs > leaderRenewDeadlineMs &&
    leaderRenewDeadlineMs > leaderRetryMs * retryJitter &&
    retryJitter >= 1
  )
    return;
  throw new RangeError(
    `Lease times must fall: lease ${leaderLeaseMs} ms > renew deadline ${leaderRenewDeadlineMs} ms > retry ${leaderRetryMs} ms x jitter ${retryJitter}`,
  );
}

/**
 * Who serves what it read up to `maxAgeMs` ago signs under a root that may have been retired since.
 * That is within what is allowed to who cannot reach the store at all, `maxStalenessMs` and half of
 * a leaf's life at most, and pruning waits for `pruneFactor` whole lives after that: no step of a
 * rotation comes near it.
 * @throws {RangeError}
 */
export function checkAges({ maxAgeMs, maxStalenessMs }: Policy): void {
  if (maxAgeMs === null || (maxStalenessMs !== null && maxAgeMs <= maxStalenessMs)) return;
  throw new RangeError(
    `What is served may not be older than what may be signed under: age ${maxAgeMs} ms <= staleness ${maxStalenessMs} ms`,
  );
}
