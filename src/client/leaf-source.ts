/**
 * One identity's SVID, always fresh: obtained, checked, renewed in time, issued again when the roots
 * change.
 * @module
 */
import { FormatError } from "../core/errors.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import type { Alarm, Alarms } from "./alarms.ts";
import type { CaApi } from "./ca-api.ts";
import type { Cache } from "./cache.ts";
import { type CachedLeaf, leafKey, readCachedLeaf, writeCachedLeaf } from "./cached-entries.ts";
import type { Credentials } from "./credentials.ts";
import { ClientError, clientReason } from "./errors.ts";
import { chainOf, type LeafIdentity, readLeaf, svidOf, verifyingRoots } from "./leaf-check.ts";
import { type ObtainedLeaf, obtainLeaf } from "./leaf-request.ts";
import { rootsOf } from "./roots-listing.ts";
import type { RootsSource } from "./roots-source.ts";
import { renewalMoment, retryDelayMs } from "./schedule.ts";
import type { ServerPool } from "./server-pool.ts";
import { MutableSource, type Source } from "./source.ts";
import type { TrustBundle, X509Svid } from "./svid.ts";

/** Within how long a leaf that is not urgent is requested after a server is back, in milliseconds. */
const RECOVERY_MS = 10_000;

export interface LeafSourceOptions {
  readonly identity: LeafIdentity;
  readonly api: CaApi;
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
  readonly #source = new MutableSource<X509Svid>();
  readonly #end = new AbortController();
  readonly #ends: (() => void)[] = [];
  /** The server's hint for the present leaf. */
  #renewAfter: Date | null = null;
  /** The moment drawn for the present leaf; a second look must not draw another. */
  #renewAt: Date | null = null;
  /** The IDs of roots that the present leaf was verified under. */
  #verifiedUnder: ReadonlySet<string> = new Set();
  /** The moment drawn for a change of the active root, and which root it was drawn for. */
  #reissue: { readonly rootId: string; readonly at: Date } | null = null;
  #expiry: Alarm | null = null;
  #next: Alarm | null = null;
  #nextAt: Date | null = null;
  #attempt: Promise<void> | null = null;
  #failures = 0;
  readonly #failure = new MutableSource<ClientError>();
  #problem: string | null = null;
  #detour: string | null = null;
  #started = false;
  #checking = 0;
  #issued = 0;
  #failed = 0;

  constructor(options: LeafSourceOptions) {
    this.#options = options;
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
    const { clock, pool, roots } = this.#options;
    const svid = this.current;
    if (svid === null && roots.current === null)
      return `No leaf for ${this.#name}: ${roots.problem ?? "the roots were not received yet"}`;
    const early =
      svid !== null && svid.notBefore > clock.now()
        ? `The leaf of ${this.#name} is not valid before ${svid.notBefore.toISOString()} by the clock of this machine, which was set back`
        : null;
    const own = this.#problem ?? early ?? this.#detour;
    const clockProblem = pool.clockProblem;
    return own === null || clockProblem === null ? own : `${own}; ${clockProblem}`;
  }

  /** Why the last request failed; null after success, and of a failure that is not expected. */
  get failure(): Source<ClientError> {
    return this.#failure;
  }

  /** When the next request is due, or null while one is running or there are no roots. */
  get nextAttempt(): Date | null {
    return this.#nextAt;
  }

  /** How many leaves were issued, and how many requests failed. */
  get counts(): { readonly issued: number; readonly failed: number } {
    return { issued: this.#issued, failed: this.#failed };
  }

  /** Begins to hold a leaf. @returns when the cache was read and, with roots, the request begun. */
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

  /** Ends timers and requests. The leaf stays readable. */
  async close(): Promise<void> {
    this.#end.abort();
    for (const end of this.#ends.splice(0)) end();
    this.#expiry?.cancel();
    this.#plan(null);
    await this.#attempt;
  }

  get #name(): string {
    const { service } = this.#options.identity;
    return service === null ? "the token's service" : `service ${JSON.stringify(service)}`;
  }

  get #now(): Date {
    return this.#options.clock.now();
  }

  /** Compares the leaf with the roots, and plans the next request. Never rejects. */
  async #look(): Promise<void> {
    const bundle = this.#options.roots.current;
    if (bundle === null || this.#end.signal.aborted) return;
    const look = ++this.#checking;
    if (this.current === null && this.#issued === 0) await this.#useCache(bundle);
    const svid = this.current;
    const isVerified = svid === null ? false : await this.#verifies(svid, bundle);
    // Newer roots came while signatures were verified, or a new leaf.
    if (look !== this.#checking || svid !== this.current || this.#end.signal.aborted) return;
    if (this.#attempt !== null) return;
    if (svid === null || !isVerified) {
      if (svid !== null)
        this.#options.log.warn(
          "A leaf verifies under no published root any more; requesting another one",
          { service: this.#options.identity.service, serial: svid.serialNumber },
        );
      // A backoff goes on, unless the roots made it pointless.
      if (this.#failures === 0 || svid !== null) this.#try();
      return;
    }
    if (this.#failures > 0) return;
    this.#plan(this.#due(svid, bundle));
  }

  /** When the present leaf is replaced: its renewal, or a change of the active root before it. */
  #due(svid: X509Svid, { activeRootId }: TrustBundle): Date {
    const { random, roots } = this.#options;
    const now = this.#now;
    this.#renewAt ??= renewalMoment(svid, this.#renewAfter, now, random.fraction());
    if (this.#verifiedUnder.has(activeRootId)) {
      this.#reissue = null;
      return this.#renewAt;
    }
    if (this.#reissue?.rootId !== activeRootId)
      this.#reissue = {
        rootId: activeRootId,
        at: new Date(now.getTime() + roots.renewWindowMs * random.fraction()),
      };
    return this.#reissue.at < this.#renewAt ? this.#reissue.at : this.#renewAt;
  }

  /** Whether a leaf verifies under a published root; notes under which. */
  async #verifies(svid: X509Svid, bundle: TrustBundle): Promise<boolean> {
    if (this.#verifiedUnder.has(bundle.activeRootId)) return true;
    const found = await verifyingRoots(chainOf(svid), bundle, this.#now);
    if (this.current === svid) this.#verifiedUnder = found;
    return found.size > 0;
  }

  /** Whether a root that the leaf was verified under is published. */
  #isPublished(bundle: TrustBundle): boolean {
    return rootsOf(bundle).some(({ id }) => this.#verifiedUnder.has(id));
  }

  async #useCache(bundle: TrustBundle): Promise<void> {
    const { cache, identity, log } = this.#options;
    if (cache === null) return;
    const text = await cache.read(leafKey(identity));
    if (text === null) return;
    try {
      const cached = await readCachedLeaf(text, identity, bundle.trustDomain, this.#now);
      const under = await verifyingRoots(chainOf(cached.svid), bundle, this.#now);
      if (under.size === 0) throw new FormatError("it verifies under no published root");
      if (this.current !== null || this.#end.signal.aborted) return;
      log.info("Using the leaf in the cache", {
        service: identity.service,
        serial: cached.svid.serialNumber,
        until: cached.svid.notAfter.toISOString(),
      });
      this.#publish(cached, under);
    } catch (error) {
      if (!(error instanceof FormatError || error instanceof ClientError)) throw error;
      log.warn("Ignoring a leaf in the cache", {
        service: identity.service,
        reason: error.message,
      });
    }
  }

  #publish({ svid, renewAfter }: CachedLeaf, under: ReadonlySet<string>): void {
    this.#renewAfter = renewAfter;
    this.#renewAt = this.#reissue = null;
    this.#verifiedUnder = under;
    this.#expiry?.cancel();
    this.#expiry = this.#options.alarms.at(svid.notAfter, () => this.#expired(svid));
    this.#source.set(svid);
  }

  #expired(svid: X509Svid): void {
    if (this.current !== svid) return;
    this.#options.log.error("A leaf expired without a new one; it is no longer served", {
      service: this.#options.identity.service,
      serial: svid.serialNumber,
      reason: this.#problem,
    });
    this.#source.set(null);
    // Without a leaf retries are more frequent.
    if (this.#attempt === null) this.#try();
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
    this.#attempt = this.#request().then((next) => {
      this.#attempt = null;
      if (this.#end.signal.aborted) return;
      if (next === null) void this.#look();
      else this.#plan(next);
    });
  }

  /** One request. @returns when to repeat it, or null after success. Never rejects. */
  async #request(): Promise<Date | null> {
    const { clock, identity, log, random, roots } = this.#options;
    const { signal } = this.#end;
    const bundle = roots.current;
    if (bundle === null) return null;
    try {
      const held = this.#heldFor(this.#now);
      const obtained = await obtainLeaf(this.#options, held, bundle.trustDomain, signal);
      const { leaf, under } = await this.#check(obtained, held);
      if (signal.aborted) return null;
      const recovered = this.#failures > 0;
      this.#failures = 0;
      this.#problem = null;
      this.#failure.set(null);
      this.#noteDetour(obtained.detour);
      this.#issued++;
      this.#publish(leaf, under);
      log.info(recovered ? "Received a leaf after failures" : "Received a leaf", {
        service: identity.service,
        serial: leaf.svid.serialNumber,
        until: leaf.svid.notAfter.toISOString(),
      });
      void this.#options.cache?.write(leafKey(identity), writeCachedLeaf(leafKey(identity), leaf));
      return null;
    } catch (error) {
      if (signal.aborted) return null;
      this.#noteFailure(error);
      // A leaf that nobody accepts is as good as none.
      const end = this.#isPublished(bundle) ? (this.current?.notAfter.getTime() ?? 0) : 0;
      const left = end - clock.now().getTime();
      const after = error instanceof ClientError ? error.retryAfterMs : undefined;
      const delay = retryDelayMs(this.#failures, Math.max(0, left), after, random.fraction());
      return new Date(clock.now().getTime() + delay);
    }
  }

  /** The present leaf if it is valid, and so proves its identity. */
  #heldFor(now: Date): X509Svid | null {
    const svid = this.current;
    return svid !== null && svid.notBefore <= now && now < svid.notAfter ? svid : null;
  }

  /** Checks a leaf under the roots, which are read again if it verifies under none of them. */
  async #check(
    { key, response }: ObtainedLeaf,
    held: X509Svid | null,
  ): Promise<{ leaf: CachedLeaf; under: ReadonlySet<string> }> {
    const { identity, roots } = this.#options;
    const expected = { identity, spiffeId: held?.spiffeId ?? null, spki: key.spki };
    let bundle = roots.current as TrustBundle;
    const read = readLeaf(response.certificatePem, expected, bundle.trustDomain, this.#now);
    let under = await verifyingRoots(read.chain, bundle, this.#now);
    if (under.size === 0) {
      // The active root may have changed a moment ago.
      await roots.refresh();
      bundle = roots.current ?? bundle;
      under = await verifyingRoots(read.chain, bundle, this.#now);
    }
    if (under.size === 0)
      throw new ClientError(
        "unusable",
        "The server's leaf is not used: it verifies under no published root",
      );
    const { index, renewAfter } = response;
    return { leaf: { svid: svidOf(read, key.privateKey, index), renewAfter }, under };
  }

  #noteDetour(reason: string | null): void {
    const detour =
      reason === null
        ? null
        : `The leaf of ${this.#name} was renewed by its own key, since there are no credentials now: ${reason}`;
    if (detour !== null && detour !== this.#detour)
      this.#options.log.warn(
        "A leaf was renewed by its own key, since there are no credentials now",
        {
          service: this.#options.identity.service,
          reason,
        },
      );
    this.#detour = detour;
  }

  #noteFailure(error: unknown): void {
    const { identity, log } = this.#options;
    this.#failures++;
    this.#failed++;
    const reason = clientReason(error);
    const problem = `No new leaf for ${this.#name}: ${reason}`;
    if (problem !== this.#problem)
      log.warn(
        this.current === null
          ? "Failed to obtain a leaf; there is none to serve, will retry"
          : "Failed to renew a leaf; the present one stays in use until it expires, will retry",
        { service: identity.service, reason, until: this.current?.notAfter.toISOString() ?? null },
      );
    this.#problem = problem;
    this.#failure.set(error instanceof ClientError ? error : null);
  }

  /** A server answers again: what failed for its absence is repeated before its backoff ends. */
  #recovered(): void {
    const { code } = this.#failure.current ?? {};
    if (this.#failures === 0 || this.#attempt !== null) return;
    if (code !== "unreachable" && code !== "untrusted" && code !== "credentials_unavailable")
      return;
    const bundle = this.#options.roots.current;
    const isUrgent = this.current === null || bundle === null || !this.#isPublished(bundle);
    const { random } = this.#options;
    const at = new Date(this.#now.getTime() + (isUrgent ? 0 : RECOVERY_MS * random.fraction()));
    if (this.#nextAt === null || at < this.#nextAt) this.#plan(at);
  }

  /** A leaf of the time before the change may not be valid yet: another one is requested. */
  #clockSetBack(): void {
    const svid = this.current;
    if (svid === null || svid.notBefore <= this.#now) {
      // Moments that were drawn by the wrong time are drawn again.
      this.#renewAt = null;
      void this.#look();
      return;
    }
    this.#options.log.warn("A leaf is not valid yet, since the clock was set back", {
      service: this.#options.identity.service,
      from: svid.notBefore.toISOString(),
    });
    this.#try();
  }
}
