/**
 * Blocking queries on the roots (consul-ca.md §1.1): who waits, who is woken, who goes away.
 * @module
 */
import type { CaManager } from "../core/ca/ca.ts";
import type { Snapshot } from "../core/ca/snapshot.ts";
import { RateLimitedError, StoreError } from "../core/errors.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import { type Bucket, type HttpLimits, take } from "./limits.ts";
import { wireIndex } from "./wire.ts";

/** Waits end at most this much late, so that one timer serves all of them. */
const GRAIN_MS = 10;
/**
 * Reads of the store by the second that indexes ahead of ours may cause; twice as many may come at
 * once.
 */
const READS_PER_SECOND = 50;
/**
 * So many are answered before other work gets its turn, and before their answers' memory can be
 * used again.
 */
const WAKE_AT_ONCE = 256;

export interface Watchers {
  readonly count: number;
  /**
   * Waits until the roots are newer than `index`, the wait is over, the client goes away or the
   * server closes.
   * @param index what the client has. One that we have not reached is not waited for: the store is
   * read once, for all who
   *   ask at that time, then the answer is what there is.
   * @param client from `clientKey`.
   * @returns what to answer, and whether it is news.
   * @throws {RateLimitedError} where too many wait already
   */
  wait(
    index: bigint,
    waitMs: number,
    gone: AbortSignal,
    client: string | null,
  ): Promise<{ snapshot: Snapshot; changed: boolean }>;
  /** Answers everybody who waits, and nobody waits from then on. */
  close(): void;
}

interface Waiter {
  readonly until: number;
  readonly wake: () => void;
}

/**
 * Reads of the store that anybody can cause by an index that we have not reached. They cost several
 * times a request, so one serves all who came before it began, one runs at a time, and there is a
 * rate.
 */
class ReadsAhead {
  readonly #options: Pick<WatchersOptions, "manager" | "clock">;
  readonly #bucket: Bucket;
  /** The one that has not begun yet. */
  #next: Promise<void> | null = null;
  /** Settles when the one that runs is over; it never rejects. */
  #running: Promise<void> = Promise.resolve();

  constructor(options: Pick<WatchersOptions, "manager" | "clock">) {
    this.#options = options;
    this.#bucket = { tokens: 2 * READS_PER_SECOND, at: options.clock.now().getTime() };
  }

  /**
   * Resolves when the store has been read, by a read that began after this call.
   * @throws {StoreError}
   */
  read(): Promise<void> {
    this.#next ??= this.#start();
    return this.#next;
  }

  async #start(): Promise<void> {
    const { manager, clock } = this.#options;
    await this.#running;
    const wait = take(this.#bucket, clock.now().getTime(), READS_PER_SECOND, 2 * READS_PER_SECOND);
    if (wait > 0) await clock.sleep(wait);
    this.#next = null;
    const reading = manager.refresh();
    this.#running = reading.catch(() => undefined);
    return reading;
  }
}

export interface WatchersOptions {
  readonly manager: CaManager;
  readonly clock: Clock;
  readonly random: Random;
  readonly limits: Pick<HttpLimits, "watchers" | "watchersPerClient">;
}

export function createWatchers({ manager, clock, random, limits }: WatchersOptions): Watchers {
  const perClient = new Map<string, number>();
  const waiting = new Set<Waiter>();
  let timer: { readonly until: number; readonly stop: AbortController } | null = null;
  let closed = false;
  const ahead = new ReadsAhead({ manager, clock });
  const indexOf = () => BigInt(wireIndex(manager.require().state));

  const wakeAll = async () => {
    const all = [...waiting];
    for (let i = 0; i < all.length; i += WAKE_AT_ONCE) {
      for (const waiter of all.slice(i, i + WAKE_AT_ONCE)) waiter.wake();
      await clock.sleep(0);
    }
  };
  const unsubscribe = manager.subscribe(() => void wakeAll());

  /** Sees to it that a timer ends no later than `until`. */
  const schedule = (until: number) => {
    if (timer !== null && timer.until <= until) return;
    timer?.stop.abort();
    const started = { until, stop: new AbortController() };
    timer = started;
    void clock.sleep(until - clock.now().getTime(), started.stop.signal).then(() => {
      if (timer !== started) return;
      timer = null;
      const now = clock.now().getTime();
      let next = Number.POSITIVE_INFINITY;
      for (const waiter of waiting) {
        if (waiter.until <= now) waiter.wake();
        else next = Math.min(next, waiter.until);
      }
      if (next < Number.POSITIVE_INFINITY) schedule(Math.max(next, now + GRAIN_MS));
    });
  };

  /** Counts one in. @returns what counts it out. */
  const admit = (client: string | null): (() => void) => {
    if (waiting.size >= limits.watchers)
      throw new RateLimitedError(
        1000,
        "watchers_exceeded",
        "Cannot wait for a change: too many clients wait already",
      );
    if (client === null) return () => undefined;
    const count = perClient.get(client) ?? 0;
    if (count >= limits.watchersPerClient)
      throw new RateLimitedError(
        1000,
        "watchers_exceeded",
        `Cannot wait for a change: ${count} requests of this client wait already`,
      );
    perClient.set(client, count + 1);
    return () => {
      const left = (perClient.get(client) ?? 1) - 1;
      if (left > 0) perClient.set(client, left);
      else perClient.delete(client);
    };
  };

  return {
    get count() {
      return waiting.size;
    },
    async wait(index, waitMs, gone, client) {
      // Where the store is away, what there is is the answer.
      if (indexOf() < index)
        await ahead.read().catch((error: unknown) => {
          if (!(error instanceof StoreError)) throw error;
        });
      // Jitter of up to a sixteenth, so that waits that began together do not end together
      // (consul-ca.md §1.1).
      const until = clock.now().getTime() + waitMs * (1 + random.fraction() / 16);
      while (indexOf() === index && !closed && !gone.aborted && clock.now().getTime() < until) {
        const leave = admit(client);
        await new Promise<void>((resolve) => {
          const waiter: Waiter = {
            until,
            wake() {
              if (!waiting.delete(waiter)) return;
              leave();
              gone.removeEventListener("abort", waiter.wake);
              resolve();
            },
          };
          waiting.add(waiter);
          gone.addEventListener("abort", waiter.wake);
          schedule(until);
        });
      }
      return { snapshot: manager.require(), changed: indexOf() !== index };
    },
    close() {
      closed = true;
      unsubscribe();
      timer?.stop.abort();
      timer = null;
      void wakeAll();
    },
  };
}
