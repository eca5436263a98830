/**
 * Limits of the HTTP API, and the rate limiter: requests of one client in flight and by the second,
 * requests of all clients by the second.
 * @module
 */
import { RateLimitedError } from "../core/errors.ts";
import type { Clock } from "../core/ports/clock.ts";
import { TokenBucket } from "../net/token-bucket.ts";

export interface HttpLimits {
  /** Characters of a URL. */
  readonly maxUrlLength: number;
  /** Octets of the body of a signing or renewal request. */
  readonly maxBodySign: number;
  /** Octets of the body of a configuration or rotation. */
  readonly maxBodyConfiguration: number;
  /** Octets of a backup to restore. */
  readonly maxBodyBackup: number;
  /** Milliseconds within which a body must arrive. */
  readonly bodyTimeMs: number;
  /**
   * Requests of one client in flight. A connection has one at most, since the next one is read
   * after the response.
   */
  readonly connectionsPerClient: number;
  /** Requests of one client by the second, and the burst. */
  readonly requestsPerClient: number;
  /** Requests of one client with an invalid token by the minute, and the burst. */
  readonly wrongTokensPerClient: number;
  /** Blocking queries of one client. */
  readonly watchersPerClient: number;
  /** Blocking queries of all clients. */
  readonly watchers: number;
  /**
   * Whether the limits of a client apply to loopback addresses too. Behind a local proxy all
   * clients would share them.
   */
  readonly limitLoopback: boolean;
  /** Consul's `request_limits.mode`. `permissive` only logs requests that exceed a rate. */
  readonly requestMode: "disabled" | "permissive" | "enforcing";
  /** Consul's `request_limits.read_rate`: GET and HEAD of all clients by the second. */
  readonly readRate: number;
  /** Consul's `request_limits.write_rate`: all other requests of all clients by the second. */
  readonly writeRate: number;
}

export const DEFAULT_HTTP_LIMITS: HttpLimits = {
  // RFC 9110 section 4.1 recommends at least 8,000.
  maxUrlLength: 8192,
  // A CSR of 16 KiB in JSON, in which each line end takes two characters.
  maxBodySign: 32 * 1024,
  // Ten times the largest sensible configuration: two PEM texts and some numbers.
  maxBodyConfiguration: 64 * 1024,
  // The largest state: 64 KiB of roots, and their encrypted keys.
  maxBodyBackup: 128 * 1024,
  bodyTimeMs: 10_000,
  // Consul's default of http_max_conns_per_client.
  connectionsPerClient: 200,
  requestsPerClient: 2000,
  // Enough for a fleet behind one address whose tokens were deleted; guessing a UUID takes 10^34.
  wrongTokensPerClient: 100,
  watchersPerClient: 200,
  // Each takes a socket and some 5 KB.
  watchers: 50_000,
  limitLoopback: false,
  requestMode: "disabled",
  readRate: Number.POSITIVE_INFINITY,
  writeRate: Number.POSITIVE_INFINITY,
};

/** Consul's burst of `request_limits`, in seconds at the rate. */
const SERVER_BURST_S = 10;
/** Idle clients are forgotten if there are more than this, at most once a second. */
const KEEP_CLIENTS = 1000;

type RequestKind = "read" | "write";

interface Client {
  readonly bucket: TokenBucket;
  inFlight: number;
}

interface RateLimiterOptions {
  readonly limits: HttpLimits;
  readonly clock: Clock;
  /** Called for each request that exceeds a rate in permissive mode. */
  readonly onExceeded: (kind: RequestKind, requestId: string | undefined) => void;
}

export class RateLimiter {
  readonly #limits: HttpLimits;
  readonly #clock: Clock;
  readonly #onExceeded: RateLimiterOptions["onExceeded"];
  readonly #clients = new Map<string, Client>();
  /** Buckets of `request_limits`; null if a rate is not limited. */
  readonly #server: Readonly<Record<RequestKind, TokenBucket | null>>;
  #sweptAt = 0;

  constructor({ limits, clock, onExceeded }: RateLimiterOptions) {
    const bucketOf = (perSecond: number) =>
      limits.requestMode === "disabled" || perSecond === Number.POSITIVE_INFINITY
        ? null
        : new TokenBucket({ perSecond, burst: Math.max(1, perSecond * SERVER_BURST_S) }, 0);
    this.#limits = limits;
    this.#clock = clock;
    this.#onExceeded = onExceeded;
    this.#server = { read: bucketOf(limits.readRate), write: bucketOf(limits.writeRate) };
  }

  /** Clients that are remembered. */
  get clients(): number {
    return this.#clients.size;
  }

  /**
   * Counts a request in; `leave` counts it out.
   * @param key from `clientKey`; null has no limits of its own.
   * @throws {RateLimitedError} then the request was not counted in
   */
  enter(key: string | null, kind: RequestKind, requestId?: string): void {
    const now = this.#clock.now().getTime();
    if (key === null) {
      this.#enterServer(kind, now, requestId);
      return;
    }
    const { connectionsPerClient, requestsPerClient } = this.#limits;
    const client = this.#clientOf(key, now);
    if (client.inFlight >= connectionsPerClient)
      throw new RateLimitedError(
        1000,
        "client_rate_limited",
        `Cannot serve request: this client has ${connectionsPerClient} requests in flight`,
      );
    const wait = client.bucket.take(now);
    if (wait > 0)
      throw new RateLimitedError(
        wait,
        "client_rate_limited",
        `Cannot serve request: this client sends more than ${requestsPerClient} requests a second`,
      );
    this.#enterServer(kind, now, requestId);
    client.inFlight++;
  }

  leave(key: string | null): void {
    const client = key === null ? undefined : this.#clients.get(key);
    if (client !== undefined) client.inFlight--;
  }

  #clientOf(key: string, now: number): Client {
    if (this.#clients.size > KEEP_CLIENTS && now - this.#sweptAt >= 1000) this.#sweep(now);
    let client = this.#clients.get(key);
    if (client === undefined) {
      const { requestsPerClient } = this.#limits;
      const rate = { perSecond: requestsPerClient, burst: Math.max(1, requestsPerClient) };
      client = { bucket: new TokenBucket(rate, now), inFlight: 0 };
      this.#clients.set(key, client);
    }
    return client;
  }

  #sweep(now: number): void {
    this.#sweptAt = now;
    for (const [key, { bucket, inFlight }] of this.#clients)
      if (inFlight === 0 && bucket.isIdle(now)) this.#clients.delete(key);
  }

  #enterServer(kind: RequestKind, now: number, requestId: string | undefined): void {
    const wait = this.#server[kind]?.take(now) ?? 0;
    if (wait === 0) return;
    if (this.#limits.requestMode === "permissive") this.#onExceeded(kind, requestId);
    else
      throw new RateLimitedError(
        wait,
        "server_rate_limited",
        `Cannot serve request: the server's ${kind} rate is exceeded`,
      );
  }
}
