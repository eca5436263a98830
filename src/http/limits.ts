/**
 * What one client may ask for, and all of them together: how many requests at once and by the
 * second. A refusal costs as much as an answer that is ready, so what must always be answered is
 * not counted here.
 * @module
 */

import { RateLimitedError } from "../core/errors.ts";
import type { Clock } from "../core/ports/clock.ts";

export interface HttpLimits {
  /** Characters of a URL. */
  readonly maxUrlLength: number;
  /** Octets of the bodies that each kind of route reads. */
  readonly maxBodySign: number;
  readonly maxBodyConfiguration: number;
  readonly maxBodyBackup: number;
  /** How long a body may take to come in. */
  readonly bodyTimeMs: number;
  /**
   * Requests of one client in flight: one a connection, since a connection has its next one read
   * when it is answered.
   */
  readonly connectionsPerClient: number;
  /** Requests of one client by the second; as many may come at once. */
  readonly requestsPerClient: number;
  /** Tokens that are none, of one client by the minute; as many may come at once. */
  readonly wrongTokensPerClient: number;
  /** Blocked queries of one client, and of all. */
  readonly watchersPerClient: number;
  readonly watchers: number;
  /**
   * Whether the limits of a client count for loopback too: a proxy stands there, and all who come
   * through it would be one.
   */
  readonly limitLoopback: boolean;
  /**
   * Consul's `request_limits`: requests by the second of all clients. `permissive` only logs what
   * it would refuse.
   */
  readonly requestMode: "disabled" | "permissive" | "enforcing";
  readonly readRate: number;
  readonly writeRate: number;
}

export const DEFAULT_HTTP_LIMITS: HttpLimits = {
  // The least that RFC 9110 §4.1 asks servers to take is 8,000.
  maxUrlLength: 8192,
  maxBodySign: 32 * 1024,
  // Two PEM texts and some numbers; the largest that makes sense is a tenth of it.
  maxBodyConfiguration: 64 * 1024,
  // A state within its budget: 64 KiB of roots, and their sealed keys.
  maxBodyBackup: 128 * 1024,
  bodyTimeMs: 10_000,
  // Consul's default of http_max_conns_per_client.
  connectionsPerClient: 200,
  requestsPerClient: 2000,
  // A fleet behind one address whose tokens were deleted asks that often; whoever guesses a UUID
  // asks 10^34 times.
  wrongTokensPerClient: 100,
  watchersPerClient: 200,
  // Each holds a socket and some 5 KB.
  watchers: 50_000,
  limitLoopback: false,
  requestMode: "disabled",
  readRate: Number.POSITIVE_INFINITY,
  writeRate: Number.POSITIVE_INFINITY,
};

/** Consul lets so many seconds' worth of requests come at once under `request_limits`. */
const SERVER_BURST_S = 10;
/** Clients that are silent are forgotten when there are more than this, at most once a second. */
const KEEP_CLIENTS = 1000;

/** A number of things by the second. It is full at first. */
export interface Bucket {
  tokens: number;
  at: number;
}

/** @returns the milliseconds until there is a token, 0 where one was taken. */
export function take(bucket: Bucket, now: number, perSecond: number, burst: number): number {
  // A clock that was set back refills nothing.
  bucket.tokens = Math.min(
    burst,
    bucket.tokens + (Math.max(0, now - bucket.at) / 1000) * perSecond,
  );
  bucket.at = now;
  if (bucket.tokens < 1) return ((1 - bucket.tokens) / perSecond) * 1000;
  bucket.tokens--;
  return 0;
}

interface Client extends Bucket {
  inFlight: number;
}

export interface Guard {
  /**
   * Counts a request in. Whoever was counted in is counted out with `leave`.
   * @param client from `clientKey`; null is not limited by itself.
   * @throws {RateLimitedError} then it was not counted in
   */
  enter(client: string | null, kind: "read" | "write", requestId?: string): void;
  leave(client: string | null): void;
  /** Clients remembered. */
  readonly clients: number;
}

export interface GuardOptions {
  readonly limits: HttpLimits;
  readonly clock: Clock;
  /** Told of each request that `permissive` lets through. */
  readonly onExceeded: (kind: "read" | "write", requestId: string | undefined) => void;
}

export function createGuard({ limits, clock, onExceeded }: GuardOptions): Guard {
  const clients = new Map<string, Client>();
  let sweptAt = 0;
  const rates = { read: limits.readRate, write: limits.writeRate };
  const server = {
    read: { tokens: Number.POSITIVE_INFINITY, at: 0 },
    write: { tokens: Number.POSITIVE_INFINITY, at: 0 },
  };

  const sweep = (now: number) => {
    sweptAt = now;
    for (const [key, client] of clients)
      if (
        client.inFlight === 0 &&
        (now - client.at >= 1000 || client.tokens >= limits.requestsPerClient - 1)
      )
        clients.delete(key);
  };

  const enterServer = (kind: "read" | "write", now: number, requestId: string | undefined) => {
    const rate = rates[kind];
    if (limits.requestMode === "disabled" || rate === Number.POSITIVE_INFINITY) return;
    const wait = take(server[kind], now, rate, Math.max(1, rate * SERVER_BURST_S));
    if (wait === 0) return;
    if (limits.requestMode === "permissive") onExceeded(kind, requestId);
    else
      throw new RateLimitedError(
        wait,
        "server_rate_limited",
        `Cannot serve request: the ${kind} rate of the server is reached`,
      );
  };

  return {
    get clients() {
      return clients.size;
    },
    enter(key, kind, requestId) {
      const now = clock.now().getTime();
      if (key === null) return enterServer(kind, now, requestId);
      if (clients.size > KEEP_CLIENTS && now - sweptAt >= 1000) sweep(now);
      let client = clients.get(key);
      if (client === undefined) {
        client = { tokens: limits.requestsPerClient, at: now, inFlight: 0 };
        clients.set(key, client);
      }
      if (client.inFlight >= limits.connectionsPerClient)
        throw new RateLimitedError(
          1000,
          "client_rate_limited",
          `Cannot serve request: ${limits.connectionsPerClient} of this client are in flight`,
        );
      const wait = take(
        client,
        now,
        limits.requestsPerClient,
        Math.max(1, limits.requestsPerClient),
      );
      if (wait > 0)
        throw new RateLimitedError(
          wait,
          "client_rate_limited",
          `Cannot serve request: this client sends more than ${limits.requestsPerClient} a second`,
        );
      enterServer(kind, now, requestId);
      client.inFlight++;
    },
    leave(key) {
      const client = key === null ? undefined : clients.get(key);
      if (client !== undefined) client.inFlight--;
    },
  };
}

/**
 * Who a request counts for: its address, an IPv6 one by its first 64 bits, which one host has to
 * itself (RFC 4291 §2.5.1).
 * @returns null where no limit of a client counts.
 */
export function clientKey(address: string | undefined, limitLoopback: boolean): string | null {
  if (address === undefined) return null;
  const plain =
    address.startsWith("::ffff:") && address.includes(".")
      ? address.slice("::ffff:".length)
      : address;
  if (!limitLoopback && (plain === "::1" || plain.startsWith("127."))) return null;
  if (!plain.includes(":")) return plain;
  const [head = "", tail] = plain.split("::");
  const groups = head === "" ? [] : head.split(":");
  const rest = tail === undefined || tail === "" ? [] : tail.split(":");
  while (tail !== undefined && groups.length + rest.length < 8) groups.push("0");
  return [...groups, ...rest].slice(0, 4).join(":");
}
