/**
 * Blocking queries on the roots: they wait until the index changes, the wait time is over, the
 * client disconnects or the server closes.
 * @module
 */
import type { CertificateAuthority } from "../core/ca/ca.ts";
import type { Snapshot } from "../core/ca/snapshot.ts";
import { RateLimitedError, StoreError } from "../core/errors.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import { TokenBucket } from "../net/token-bucket.ts";
import { wireIndex } from "./ca-json.ts";
import type { HttpLimits } from "./limits.ts";

/** Milliseconds by which a wait may end late, so that one timer serves all. */
const GRAIN_MS = 10;
/** Reads of the store by the second that indexes ahead of ours may cause; the burst is double. */
const READS_PER_SECOND = 50;
/** Waiters woken in one turn, so that other requests are served and memory is freed in between. */
const WAKE_AT_ONCE = 256;

interface Waiter {
  readonly until: number;
  readonly wake: () => void;
}

/**
 * Reads of the store that any client can cause by an index ahead of ours. They cost several times a
 * request, so callers share a read that has not begun (single-flight), one runs at a time, and
 * their rate is limited.
 */
class ReadsAhead {
  readonly #ca: Pick<CertificateAuthority, "refresh">;
  readonly #clock: Clock;
  readonly #bucket: TokenBucket;
  /** The read that has not begun yet. */
  #next: Promise<void> | null = null;
  /** Settles when the running read ends; never rejects. */
  #running: Promise<void> = Promise.resolve();

  constructor(ca: Pick<CertificateAuthority, "refresh">, clock: Clock) {
    this.#ca = ca;
    this.#clock = clock;
    const rate = { perSecond: READS_PER_SECOND, burst: 2 * READS_PER_SECOND };
    this.#bucket = new TokenBucket(rate, clock.now().getTime());
  }

  /** Reads the store, beginning after this call. @throws {StoreError} */
  read(): Promise<void> {
    this.#next ??= this.#start();
    return this.#next;
  }

  async #start(): Promise<void> {
    await this.#running;
    const wait = this.#bucket.take(this.#clock.now().getTime());
    if (wait > 0) await this.#clock.sleep(wait);
    this.#next = null;
    const reading = this.#ca.refresh();
    this.#running = reading.catch(() => undefined);
    return reading;
  }
}

interface WatchersOptions {
  readonly ca: Pick<CertificateAuthority, "refresh" | "require" | "subscribe">;
  readonly clock: Clock;
  readonly random: Random;
  readonly limits: Pick<HttpLimits, "watchers" | "watchersPerClient">;
}

export class Watchers {
  readonly #options: WatchersOptions;
  readonly #ahead: ReadsAhead;
  readonly #waiting = new Set<Waiter>();
  /** Waiting requests by client. */
  readonly #perClient = new Map<string, number>();
  readonly #unsubscribe: () => void;
  /** Blocking queries that wait in another datacenter. */
  #held = 0;
  readonly #closing = new AbortController();
  #timer: { readonly until: number; readonly stop: AbortController } | null = null;

  constructor(options: WatchersOptions) {
    this.#options = options;
    this.#ahead = new ReadsAhead(options.ca, options.clock);
    this.#unsubscribe = options.ca.subscribe(() => void this.#wakeAll());
  }

  /** Requests that wait. */
  get count(): number {
    return this.#waiting.size + this.#held;
  }

  /** Aborts when the server closes. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  /**
   * Counts in a blocking query that waits in another datacenter.
   * @param client from `clientKey`.
   * @returns what counts it out. @throws {RateLimitedError} `watchers_exceeded`
   */
  hold(client: string | null): () => void {
    const leave = this.#enter(client);
    this.#held++;
    return () => {
      this.#held--;
      leave();
    };
  }

  /**
   * Waits until the index of the roots is not `index`.
   * @param index the client's. For one ahead of ours the store is read once, without waiting.
   * @param waitMs the longest wait, which jitter lengthens by up to a sixteenth.
   * @param gone aborts when the client disconnects.
   * @param client from `clientKey`.
   * @returns the snapshot, and whether its index is not `index`.
   * @throws {RateLimitedError} `watchers_exceeded`
   */
  async wait(
    index: bigint,
    waitMs: number,
    gone: AbortSignal,
    client: string | null,
  ): Promise<{ snapshot: Snapshot; changed: boolean }> {
    const { ca, clock, random } = this.#options;
    // Without the store the last snapshot is the answer.
    if (this.#index() < index)
      await this.#ahead.read().catch((error: unknown) => {
        if (!(error instanceof StoreError)) throw error;
      });
    // Consul's jitter, so that waits that began together do not end together (agent/consul/rpc.go).
    const until = clock.now().getTime() + waitMs * (1 + random.fraction() / 16);
    while (
      this.#index() === index &&
      !this.closing.aborted &&
      !gone.aborted &&
      clock.now().getTime() < until
    )
      await this.#block(until, gone, client);
    return { snapshot: ca.require(), changed: this.#index() !== index };
  }

  /** Answers all requests that wait; from then on no request waits. */
  close(): void {
    this.#closing.abort();
    this.#unsubscribe();
    this.#timer?.stop.abort();
    this.#timer = null;
    void this.#wakeAll();
  }

  #index(): bigint {
    return BigInt(wireIndex(this.#options.ca.require().state));
  }

  async #block(until: number, gone: AbortSignal, client: string | null): Promise<void> {
    const leave = this.#enter(client);
    await new Promise<void>((resolve) => {
      const waiter: Waiter = {
        until,
        wake: () => {
          if (!this.#waiting.delete(waiter)) return;
          leave();
          gone.removeEventListener("abort", waiter.wake);
          resolve();
        },
      };
      this.#waiting.add(waiter);
      gone.addEventListener("abort", waiter.wake);
      this.#schedule(until);
    });
  }

  /** Counts a waiting request of a client in. @returns what counts it out. */
  #enter(client: string | null): () => void {
    const { watchers, watchersPerClient } = this.#options.limits;
    if (this.count >= watchers)
      throw new RateLimitedError(
        1000,
        "watchers_exceeded",
        `Cannot wait for a change of the roots: ${watchers} blocking queries are waiting already`,
      );
    if (client === null) return () => undefined;
    const count = this.#perClient.get(client) ?? 0;
    if (count >= watchersPerClient)
      throw new RateLimitedError(
        1000,
        "watchers_exceeded",
        `Cannot wait for a change of the roots: ${count} blocking queries of this client are waiting already`,
      );
    this.#perClient.set(client, count + 1);
    return () => {
      const left = (this.#perClient.get(client) ?? 1) - 1;
      if (left > 0) this.#perClient.set(client, left);
      else this.#perClient.delete(client);
    };
  }

  /** Lets a timer end at `until` at the latest. */
  #schedule(until: number): void {
    if (this.#timer !== null && this.#timer.until <= until) return;
    this.#timer?.stop.abort();
    const timer = { until, stop: new AbortController() };
    this.#timer = timer;
    const { clock } = this.#options;
    void clock.sleep(until - clock.now().getTime(), timer.stop.signal).then(() => {
      if (this.#timer !== timer) return;
      this.#timer = null;
      const now = clock.now().getTime();
      let next = Number.POSITIVE_INFINITY;
      for (const waiter of this.#waiting) {
        if (waiter.until <= now) waiter.wake();
        else next = Math.min(next, waiter.until);
      }
      if (next < Number.POSITIVE_INFINITY) this.#schedule(Math.max(next, now + GRAIN_MS));
    });
  }

  async #wakeAll(): Promise<void> {
    const all = [...this.#waiting];
    for (let i = 0; i < all.length; i += WAKE_AT_ONCE) {
      for (const waiter of all.slice(i, i + WAKE_AT_ONCE)) waiter.wake();
      await this.#options.clock.sleep(0);
    }
  }
}
