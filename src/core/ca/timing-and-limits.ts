/**
 * The durations, limits and sizes of the CA, each with its source.
 * @module
 */

export const DEFAULT_POLICY = {
  /**
   * A retired root is pruned after this many times the largest leaf life: Consul's 2
   * (agent/consul/leader_connect.go, pruneCARoots).
   */
  pruneFactor: 2,
  /**
   * For this share of the largest leaf life every reading of the clock must have been past a deadline
   * before anything is deleted (deletion-time.ts): long compared with a clock that is wrong for a
   * moment, short compared with how long a root is kept.
   */
  confirmShare: 1 / 8,
  /**
   * The most of that for ACL records, in milliseconds: 24 h, as Consul's default limit of a token's
   * life. An expired token is in the memory of every replica until it is deleted.
   */
  maxRecordConfirmMs: 24 * 3_600_000,
  /**
   * The most certificates in the chain of a leaf: itself counted, the root not. JDK servers
   * accept 8 of a client (jdk.tls.server.maxInboundCertificateChainLength), JDK clients 10 of a
   * server (jdk.tls.client.maxInboundCertificateChainLength), both also if every root is trusted;
   * rustls-webpki 6 intermediates (MAX_SUB_CA_COUNT), mbed TLS 8
   * (MBEDTLS_X509_MAX_INTERMEDIATE_CA).
   */
  maxChainLength: 7,
  /**
   * The most octets of a leaf with its chain, in PEM: within the first flight that TLS libraries
   * accept by default.
   */
  maxChainBytes: 16 * 1024,
  /** The most octets of the roots response. */
  maxRootsBytes: 64 * 1024,
  /** How long an operation may hold its lease without renewing it. */
  operationLeaseMs: 30_000,
  /** How long a change waits for one of another replica to end before it is refused. */
  operationWaitMs: 3000,
  /**
   * For how long the outcome of a commit without an answer is checked before it is reported as
   * unknown.
   */
  settleMs: 5000,
  /** The life of the leader's lease: how long another replica waits after a leader died. */
  leaderLeaseMs: 15_000,
  /** A leader stops leading if it could not renew its lease for this long. */
  leaderRenewDeadlineMs: 10_000,
  /** How often the lease is renewed, or requested. */
  leaderRetryMs: 4000,
  /**
   * `leaderRetryMs` is multiplied by a random factor of up to this, so that replicas do not try at the
   * same time.
   */
  retryJitter: 1.25,
  /** How often a replica sends a heartbeat, and for how long it then counts as live. */
  heartbeatMs: 3000,
  replicaTtlMs: 10_000,
  /**
   * For how long leaves are signed without an answer of the store, at most half of a leaf's life;
   * null for a store on this machine. A leaf signed just before its root was retired by another
   * replica then expires before that root is pruned.
   */
  maxStalenessMs: null as number | null,
  /**
   * For how long a snapshot is served before the store is read again; null if the store notifies of
   * changes. A change may be missed for this long, as by a replica without a connection to the
   * store.
   */
  maxAgeMs: null as number | null,
  /** How often the leader inspects the external resources of a provider. */
  inspectMs: 60_000,
  /** The most that the clock may differ from the store's. */
  maxClockSkewMs: 30_000,
  /** The most signing requests in flight; further ones are refused as rate limited. */
  maxPendingLeaves: 4096,
  /**
   * The most signing requests that are processed concurrently; the others wait. Twice what keeps two
   * cores busy: with more, every other request waits until a turn of the event loop is through all
   * of them.
   */
  maxWorkingLeaves: 64,
  /**
   * The share of requests in flight, and of waiting ones, that is reserved for renewals, so that
   * workloads keep their leaves (hashicorp/consul#12593).
   */
  renewalShare: 0.25,
  /** The longest wait of a signing request for its turn: Consul's 500 ms (agent/consul/connect_ca_endpoint.go, csrLimitWait). */
  maxQueueMs: 500,
};

export type Policy = Readonly<typeof DEFAULT_POLICY>;

/**
 * Checks that lease > renew deadline > retry x jitter, as in the leader election of Kubernetes'
 * client-go: a leader notices that it lost the lease before another replica can have it, and tries
 * more than once before it stops leading.
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
    `The lease times must decrease: lease ${leaderLeaseMs} ms > renew deadline ${leaderRenewDeadlineMs} ms > retry ${leaderRetryMs} ms x jitter ${retryJitter}`,
  );
}

/**
 * Checks that `maxAgeMs` is at most `maxStalenessMs`. A replica that serves a snapshot of up to
 * `maxAgeMs` ago may sign under a root that was retired since; that is within what a replica without
 * a connection to the store is allowed, and a root is pruned only `pruneFactor` leaf lives after it
 * was retired.
 * @throws {RangeError}
 */
export function checkAges({ maxAgeMs, maxStalenessMs }: Policy): void {
  if (maxAgeMs === null || (maxStalenessMs !== null && maxAgeMs <= maxStalenessMs)) return;
  throw new RangeError(
    `The age of a served snapshot must be at most the staleness for signing: age ${maxAgeMs} ms <= staleness ${maxStalenessMs} ms`,
  );
}
