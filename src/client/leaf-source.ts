/**
 * One identity's SVID, always fresh: obtained, checked, renewed in time, issued again when the roots
 * change.
 * @module
 */
import type { Clock, Random } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import type { Alarm, Alarms } from "./alarms.ts";
import type { CaApi } from "./ca-api.ts";
import type { Cache } from "./cache.ts";
import { leafKey, writeCachedLeaf } from "./cached-entries.ts";
import type { Credentials } from "./credentials.ts";
import type { ClientError } from "./errors.ts";
import { HeldLeaf } from "./held-leaf.ts";
import type { LeafIdentity } from "./leaf-check.ts";
import { LeafReport } from "./leaf-report.ts";
import { obtainLeaf } from "./leaf-request.ts";
import type { RootsSource } from "./roots-source.ts";
import { retryDelayMs } from "./schedule.ts";
import type { ServerPool } from "./server-pool.ts";
import { MutableSource, type Source } from "./source.ts";
import type { TrustBundle, X509Svid } from "./svid.ts";

/** Within how long a leaf that is not urgent is requested after a server is back, in milliseconds. */
const RECOVERY_MS = 10_000;

export interface LeafSourceOptions {
  readonly identity: LeafIdentity;
  readonly api: Pick<CaApi, "sign" | "renew">;
  readonly pool: Pick<ServerPool, "clockProblem" | "onRecovery">;
  readonly roots: Pick<
    RootsSource,
    "current" | "problem" | "subscribe" | "refresh" | "renewWindowMs"
  >;
  /** Null if the agent has neither a token nor a login. */
  readonly credentials: Credentials | null;
  readonly cache: Cache | null;
  /** Shared by all sources. */
  readonly alarms: Alarms;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export class LeafSource implements Source<X509Svid> {
  readonly #options: LeafSourceOptions;
  readonly #report: LeafReport;
  readonly #source = new MutableSource<X509Svid>();
  readonly #end = new AbortController();
  readonly #ends: (() => void)[] = [];
  #held: HeldLeaf | null = null;
  /** The SPIFFE ID of the first leaf, which later ones must have. */
  #spiffeId: string | null = null;
  #expiry: Alarm | null = null;
  #next: Alarm | null = null;
  #nextAt: Date | null = null;
  /** The request that is running. */
  #attempt: Promise<void> | null = null;
  /** The last write to the cache. */
  #cached: Promise<void> | undefined;
  #looks = 0;
  #started = false;

  constructor(options: LeafSourceOptions) {
    this.#options = options;
    this.#report = new LeafReport(options);
  }

  get identity(): LeafIdentity {
    return this.#options.identity;
  }

  get current(): X509Svid | null {
    return this.#source.current;
  }

  subscribe(listener: () => void): () => void {
    return this.#source.subscribe(listener);
  }

  /** Why there is no leaf, or why the present one could not be renewed as it should; or null. */
  get problem(): string | null {
    return this.#report.problem(this.current);
  }

  /** Why the last request failed; null after success, and of a failure that is not expected. */
  get failure(): Source<ClientError> {
    return this.#report.failure;
  }

  /** When the next request is due, or null while one is running or there are no roots. */
  get nextAttempt(): Date | null {
    return this.#nextAt;
  }

  /** How many leaves were issued, and how many requests failed. */
  get counts(): { readonly issued: number; readonly failed: number } {
    return this.#report.counts;
  }

  /** Begins to hold a leaf. @returns when the cache was read; the leaf comes later. */
  async start(): Promise<void> {
    if (this.#started || this.#end.signal.aborted) return;
    this.#started = true;
    const { roots, pool, alarms } = this.#options;
    this.#ends.push(
      roots.subscribe(() => void this.#look()),
      pool.onRecovery(() => this.#recovered()),
      alarms.onClockSetBack(() => this.#clockSetBack()),
    );
    await this.#look();
  }

  /** Ends timers and requests, and waits for the cache. The leaf stays readable. */
  async close(): Promise<void> {
    this.#end.abort();
    for (const end of this.#ends.splice(0)) end();
    this.#expiry?.cancel();
    this.#plan(null);
    await this.#attempt;
    await this.#cached;
  }

  get #now(): Date {
    return this.#options.clock.now();
  }

  /** Compares the leaf with the roots, and plans the next request. Never rejects. */
  async #look(): Promise<void> {
    const { random, roots } = this.#options;
    const look = ++this.#looks;
    const bundle = roots.current;
    if (bundle === null || this.#end.signal.aborted) return;
    if (this.#held === null && this.#spiffeId === null) await this.#useCache(bundle);
    const held = this.#held;
    const isVerified = (await held?.verifies(bundle, this.#now)) ?? false;
    // Newer roots or a new leaf came while signatures were verified; they have a look of their own.
    if (look !== this.#looks || this.#end.signal.aborted || this.#attempt !== null) return;
    if (held !== null && isVerified) {
      if (this.#report.failures === 0)
        this.#plan(held.due(bundle, roots.renewWindowMs, this.#now, random));
      return;
    }
    if (held !== null) this.#report.unverified(held.svid);
    // A backoff goes on, unless the roots made its reason old.
    if (held !== null || this.#report.failures === 0) this.#try();
  }

  async #useCache(bundle: TrustBundle): Promise<void> {
    const { cache, identity } = this.#options;
    if (cache === null) return;
    try {
      const held = await HeldLeaf.ofCache(cache, identity, bundle, this.#now);
      if (held === null || this.#spiffeId !== null || this.#end.signal.aborted) return;
      this.#report.restored(held.svid);
      this.#publish(held);
    } catch (error) {
      this.#report.notRestored(error);
    }
  }

  #publish(held: HeldLeaf): void {
    const { svid } = held;
    this.#held = held;
    this.#spiffeId = svid.spiffeId;
    this.#expiry?.cancel();
    this.#expiry = this.#options.alarms.at(svid.notAfter, () => this.#expired(held));
    this.#source.set(svid);
  }

  #expired(held: HeldLeaf): void {
    if (this.#held !== held) return;
    this.#report.expired(held.svid);
    this.#held = null;
    this.#source.set(null);
    // The delay was chosen for a leaf that has time left.
    this.#try();
  }

  #plan(at: Date | null): void {
    this.#next?.cancel();
    this.#nextAt = at;
    this.#next = at === null ? null : this.#options.alarms.at(at, () => this.#try());
  }

  /** Begins a request unless one is running. */
  #try(): void {
    if (this.#attempt !== null || this.#end.signal.aborted) return;
    this.#plan(null);
    this.#attempt = this.#request().then((retryAt) => {
      this.#attempt = null;
      if (this.#end.signal.aborted) return;
      if (retryAt === null) void this.#look();
      else this.#plan(retryAt);
    });
  }

  /** One request. @returns when to repeat it, or null after success. Never rejects. */
  async #request(): Promise<Date | null> {
    const { cache, clock, identity, roots } = this.#options;
    const { signal } = this.#end;
    const bundle = roots.current;
    if (bundle === null) return null;
    try {
      await this.#requireClock();
      const obtained = await obtainLeaf(this.#options, this.#valid, bundle.trustDomain, signal);
      const held = await HeldLeaf.ofAnswer(obtained, identity, this.#spiffeId, roots, clock);
      if (signal.aborted) return null;
      this.#report.issued(held.svid, obtained.detour);
      this.#publish(held);
      this.#cached = cache?.write(leafKey(identity), writeCachedLeaf(leafKey(identity), held));
      return null;
    } catch (error) {
      return signal.aborted ? null : this.#failed(error, bundle);
    }
  }

  /** The present leaf if it is valid, and so proves its identity. */
  get #valid(): X509Svid | null {
    const svid = this.current;
    const now = this.#now;
    return svid !== null && svid.notBefore <= now && now < svid.notAfter ? svid : null;
  }

  /**
   * After a leaf that is not valid by this machine's clock: no other one is signed until the clocks
   * agree. @throws {ClientError} the failure before
   */
  async #requireClock(): Promise<void> {
    const failure = this.failure.current;
    if (failure?.code !== "not_in_force") return;
    // Its response has the time of the server.
    await this.#options.roots.refresh();
    if (this.#options.pool.clockProblem !== null) throw failure;
  }

  /** @returns when the request is repeated. */
  #failed(error: unknown, bundle: TrustBundle): Date {
    const held = this.#held;
    this.#report.failed(error, held?.svid ?? null);
    const now = this.#now.getTime();
    // A leaf that nobody accepts leaves no more time than none.
    const end = held?.isUnder(bundle) === true ? held.svid.notAfter.getTime() : 0;
    const after = this.failure.current?.retryAfterMs;
    const left = Math.max(0, end - now);
    const { failures } = this.#report;
    const fraction = this.#options.random.fraction();
    return new Date(now + retryDelayMs(failures, left, after, fraction));
  }

  /** A server answers again: what failed for its absence is repeated before its backoff ends. */
  #recovered(): void {
    const { code } = this.failure.current ?? {};
    if (this.#report.failures === 0 || this.#attempt !== null) return;
    if (code !== "unreachable" && code !== "untrusted" && code !== "credentials_unavailable")
      return;
    const { random, roots } = this.#options;
    const isUrgent =
      this.#held === null || roots.current === null || !this.#held.isUnder(roots.current);
    const at = new Date(this.#now.getTime() + (isUrgent ? 0 : RECOVERY_MS * random.fraction()));
    if (this.#nextAt === null || at < this.#nextAt) this.#plan(at);
  }

  /** A leaf of the time before the change may not be valid yet: another one is requested. */
  #clockSetBack(): void {
    const held = this.#held;
    held?.redraw();
    if (held !== null && held.svid.notBefore > this.#now) this.#report.early(held.svid);
    else if (this.#report.failures === 0) return void this.#look();
    this.#try();
  }
}
