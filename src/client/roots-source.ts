/**
 * The published roots, always fresh: one blocking query for the whole agent.
 * @module
 */
import { FormatError } from "../core/errors.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import type { CaApi, RootsRequest, RootsResponse } from "./ca-api.ts";
import type { Cache } from "./cache.ts";
import { ROOTS_KEY, readCachedRoots, writeCachedRoots } from "./cached-entries.ts";
import { ClientError, clientReason } from "./errors.ts";
import { bundleOf } from "./roots-listing.ts";
import type { ServerPool } from "./server-pool.ts";
import { MutableSource, type Source } from "./source.ts";
import type { TrustBundle } from "./svid.ts";

/**
 * The delay before a failed query is repeated, in milliseconds. The longest keeps the promise that
 * everything is fresh within a second after a server is back.
 */
const RETRY_MS = { first: 100, most: 600 };
/** The shortest time between two answers, against a server that answers a blocking query at once. */
const LEAST_MS = 200;
/** How long the roots of the cache wait for those of a server at the start, in milliseconds. */
const CACHE_WAIT_MS = 3000;
/** The window of a root change without a server's word, in milliseconds (Consul: 30 s). */
const DEFAULT_WINDOW_MS = 30_000;
/** How often a lower index must be answered until it counts: a replica may lag behind another. */
const LOWER_ANSWERS = 3;

interface RootsSourceOptions {
  readonly pool: ServerPool;
  readonly api: CaApi;
  readonly cache: Cache | null;
  /** The trust domain that the servers must be of, or null: that of the first listing. */
  readonly trustDomain?: string | null;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export class RootsSource implements Source<TrustBundle> {
  readonly #options: RootsSourceOptions;
  readonly #source = new MutableSource<TrustBundle>();
  readonly #end = new AbortController();
  #trustDomain: string | null;
  #etag: string | null = null;
  /** The index of the last answer, or null: the next query does not wait. */
  #index: number | null = null;
  #lower = 0;
  #problem: string | null = null;
  #renewWindowMs = DEFAULT_WINDOW_MS;
  #defaultPolicy: "allow" | "deny" | null = null;
  #lastContact: Date | null = null;
  #running: Promise<void> | null = null;
  #refreshing: Promise<void> | null = null;
  /** The last write to the cache. */
  #cached: Promise<void> | undefined;

  constructor(options: RootsSourceOptions) {
    this.#options = options;
    this.#trustDomain = options.trustDomain ?? null;
  }

  get current(): TrustBundle | null {
    return this.#source.current;
  }

  subscribe(listener: () => void): () => void {
    return this.#source.subscribe(listener);
  }

  /** Why the roots may be old, or null. */
  get problem(): string | null {
    return this.#problem;
  }

  /** When a server answered with roots that are valid. */
  get lastContact(): Date | null {
    return this.#lastContact;
  }

  /** The time over which leaves are issued again after a change of the active root. */
  get renewWindowMs(): number {
    return this.#renewWindowMs;
  }

  /** The server's default policy of access control (X-Consul-Default-Acl-Policy), if it said one. */
  get defaultPolicy(): "allow" | "deny" | null {
    return this.#defaultPolicy;
  }

  /**
   * Begins to follow the roots. @returns when there are roots from a server, or from the cache after
   * no server gave any for three seconds; without either it waits on until `close`.
   */
  async start(): Promise<void> {
    if (this.#running !== null) return;
    const { cache, clock } = this.#options;
    const cached = cache === null ? null : await this.#readCache(cache);
    if (this.#end.signal.aborted) return;
    // TLS can be verified by them, also where they are not served yet.
    if (cached !== null) this.#options.pool.trustRoots(cached);
    const first = new Promise<void>((resolve) => {
      const end = this.#source.subscribe(() => {
        end();
        resolve();
      });
      this.#end.signal.addEventListener("abort", () => resolve());
    });
    this.#running = this.#follow();
    if (cached !== null) {
      const limit = new AbortController();
      await Promise.race([first, clock.sleep(CACHE_WAIT_MS, limit.signal)]);
      limit.abort();
      if (this.current === null && !this.#end.signal.aborted) {
        this.#options.log.warn("No CA server answered; using the roots in the cache", {
          index: cached.index,
        });
        this.#trustDomain = cached.trustDomain;
        this.#source.set(cached);
      }
    }
    await first;
  }

  /** Asks for the roots now, in addition to the blocking query. @throws {ClientError} */
  async refresh(): Promise<void> {
    this.#refreshing ??= this.#options.api
      .roots(this.#request(null))
      .then((response) => {
        this.#take(response);
      })
      .finally(() => {
        this.#refreshing = null;
      });
    return this.#refreshing;
  }

  /** Ends the query, and waits for the cache. */
  async close(): Promise<void> {
    this.#end.abort();
    await this.#running;
    await this.#cached;
  }

  #request(index: number | null): RootsRequest {
    return {
      index,
      etag: this.#etag,
      trustDomain: this.#trustDomain,
      signal: this.#end.signal,
    };
  }

  async #follow(): Promise<void> {
    const { api, clock, random } = this.#options;
    const { signal } = this.#end;
    let failures = 0;
    while (!signal.aborted) {
      const began = clock.now().getTime();
      try {
        const response = await api.roots(this.#request(this.#index));
        this.#index = this.#take(response) ? response.index : null;
        failures = 0;
        const took = clock.now().getTime() - began;
        if (took >= 0 && took < LEAST_MS)
          await clock.sleep(LEAST_MS * (1 + random.fraction()), signal);
      } catch (error) {
        if (signal.aborted) return;
        this.#failed(error);
        // The state may have been replaced while no server answered.
        this.#index = null;
        const most = Math.min(RETRY_MS.first * 2 ** Math.min(failures++, 16), RETRY_MS.most);
        const after = error instanceof ClientError ? (error.retryAfterMs ?? 0) : 0;
        await clock.sleep(Math.max(after, most * (0.5 + random.fraction() / 2)), signal);
      }
    }
  }

  /**
   * Publishes the roots of a response. @returns whether the next query may wait for a change of it.
   */
  #take(response: RootsResponse): boolean {
    const { pool, clock, log } = this.#options;
    const before = this.current;
    const { listing, index } = response;
    this.#lastContact = clock.now();
    this.#renewWindowMs = response.renewWindowMs ?? DEFAULT_WINDOW_MS;
    this.#defaultPolicy = response.defaultPolicy ?? this.#defaultPolicy;
    // A replica that lags behind answers a lower index for a moment; a restored state keeps to it.
    if (before !== null && index < before.index && ++this.#lower < LOWER_ANSWERS) return false;
    if (before !== null && index < before.index)
      log.warn("The index of the roots went backwards, as after a restore; following it", {
        before: before.index,
        index,
      });
    this.#lower = 0;
    if (this.#problem !== null) log.info("The roots are up to date again", { index });
    this.#problem = null;
    if (listing === null) return true;
    this.#etag = response.etag;
    if (before !== null && before.json === response.json && before.index === index) return true;
    const bundle = bundleOf(listing, response.json, index);
    this.#trustDomain = bundle.trustDomain;
    pool.trustRoots(bundle);
    if (before?.activeRootId !== bundle.activeRootId)
      log.info(before === null ? "Received the roots" : "The active root changed", {
        trustDomain: bundle.trustDomain,
        activeRoot: bundle.activeRootId,
        roots: bundle.roots.length,
      });
    this.#source.set(bundle);
    this.#cached = this.#options.cache?.write(ROOTS_KEY, writeCachedRoots(bundle));
    return true;
  }

  #failed(error: unknown): void {
    const reason = clientReason(error);
    const problem = `The roots cannot be read: ${reason}`;
    if (problem !== this.#problem)
      this.#options.log.warn("Failed to read the roots; the last ones stay in use, will retry", {
        reason,
      });
    this.#problem = problem;
  }

  async #readCache(cache: Cache): Promise<TrustBundle | null> {
    const text = await cache.read(ROOTS_KEY);
    if (text === null) return null;
    try {
      const bundle = readCachedRoots(text);
      if (this.#trustDomain === null || bundle.trustDomain === this.#trustDomain) return bundle;
      throw new FormatError(`they are of the trust domain ${JSON.stringify(bundle.trustDomain)}`);
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      this.#options.log.warn("Ignoring the roots in the cache", { reason: error.message });
      return null;
    }
  }
}
