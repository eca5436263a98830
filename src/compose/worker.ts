/**
 * The composition root of runtimes on which a connection, a timer and a promise belong to one
 * request and many isolates serve concurrently: each request has its own CA and connection, over
 * plain data that all requests of an isolate share. Nothing runs between requests.
 * @module
 */
import { providers } from "../../providers/index.ts";
import { FetchTransport } from "../client/fetch-transport.ts";
import type { WorkerSettings } from "../config/worker.ts";
import { hex } from "../core/bytes.ts";
import type { Policy } from "../core/ca/timing-and-limits.ts";
import { NotReadyError, reasonOf, StoreError } from "../core/errors.ts";
import type { Sealer } from "../core/ports/sealer.ts";
import { SCHEMA } from "../core/state.ts";
import type { OtherDatacenters } from "../http/forwarding.ts";
import { createSealer } from "../seal/envelope.ts";
import { readKeks } from "../seal/kek.ts";
import type { Backend } from "../store/backend.ts";
import { type RedisMemory, RequestRedis } from "../store/redis/request.ts";
import type { RedisSettings } from "../store/redis/settings.ts";
import { createCodec } from "../store/state-document.ts";
import {
  buildService,
  type CaMemory,
  createCaMemory,
  createFirstState,
  policyOf,
  type Service,
} from "./ca.ts";
import { boundDatacenter, datacenterRole } from "./datacenter-settings.ts";
import { ConfiguredDatacenters } from "./other-datacenters.ts";
import type { Platform, RequestEnvironment } from "./platform.ts";
import { PrimaryServers } from "./primary.ts";

/** The address of all isolates of a deployment, which are one replica. */
const ADDRESS = "cloudflare-workers";
/**
 * How often a blocked query reads changes, in milliseconds, unless another request of the isolate
 * did; up to a quarter is added as jitter.
 */
const FOLLOW_MS = 1000;
/**
 * How often requests of an isolate look at the primary datacenter, in milliseconds: as often as a
 * process asks without a wait (core/ca/follower.ts). The cron trigger looks each time.
 */
const FOLLOW_PRIMARY_MS = 10_000;
/**
 * How long after a failure Redis is not asked again, in milliseconds: requests are served from
 * memory without waiting for it.
 */
const COOLDOWN_MS = 1000;

/** The CA of one request. */
interface RequestService extends Service {
  readonly backend: Backend;
}

export class Edge {
  readonly #settings: WorkerSettings;
  readonly #redis: RedisSettings;
  readonly #platform: Platform;
  readonly #policy: Policy & { readonly maxAgeMs: number };
  readonly #memory: CaMemory;
  readonly #redisMemory: RedisMemory = { checked: false, prefix: null, known: null };
  readonly #others: OtherDatacenters;
  readonly #primary: PrimaryServers | null;
  #sealer: Sealer | null = null;
  /** When a request looked at the primary datacenter last, in milliseconds since 1970. */
  #primaryLookedAt = 0;
  /** The last failure of Redis; null once it answered again. */
  #failure: { readonly at: number; readonly error: StoreError } | null = null;

  constructor(settings: WorkerSettings, platform: Platform) {
    if (settings.store.kind !== "redis") throw new TypeError("The store of an edge must be Redis");
    this.#settings = settings;
    this.#redis = settings.store;
    this.#platform = platform;
    this.#policy = { ...policyOf(settings), maxAgeMs: settings.maxAgeMs };
    this.#memory = createCaMemory(platform.random);
    this.#others = new ConfiguredDatacenters({
      ...{ settings: { current: settings }, isVerifiedByPlatform: true, snapshot: () => null },
      openTransport: () => new FetchTransport((request) => fetch(request)),
      countForwarded: () => undefined,
      ...{ clock: platform.clock, log: platform.log },
    });
    this.#primary =
      settings.primary === null
        ? null
        : new PrimaryServers(settings.primary, {
            ...{
              settings: { current: settings },
              isVerifiedByPlatform: true,
              snapshot: () => null,
            },
            openTransport: () => new FetchTransport((request) => fetch(request)),
            ...{ clock: platform.clock, random: platform.random, log: platform.log },
          });
  }

  /**
   * Answers one request.
   * @param after takes work that continues after the response and must not be cut off.
   * @throws {CaError} if there is no CA and none can be created
   */
  fetch(
    request: Request,
    environment: RequestEnvironment,
    after: (work: Promise<unknown>) => void,
  ): Promise<Response> {
    const work = () => this.#answer(request, environment, after);
    const { requestId } = environment;
    // Reading from Redis before the app is called is part of the request, too.
    return requestId === undefined ? work() : this.#platform.log.inRequest(requestId, work);
  }

  async #answer(
    request: Request,
    environment: RequestEnvironment,
    after: (work: Promise<unknown>) => void,
  ): Promise<Response> {
    const service = await this.#open();
    const before = service.ca.snapshot?.state.commitId;
    const ended = new AbortController();
    let following: Promise<void> = Promise.resolve();
    try {
      const refreshed = this.#refreshUnlessCooling(service, ended.signal);
      // The first state is created even if the first caller disconnects.
      if (service.ca.snapshot === null) after(refreshed.catch(() => undefined));
      await refreshed.catch((error: unknown) => {
        // The shared snapshot is served as long as the CA considers it fresh enough.
        const isAway = error instanceof StoreError || error instanceof NotReadyError;
        if (!isAway || service.ca.snapshot === null) throw error;
      });
      following = this.#follow(service, ended.signal);
      return await service.app.fetch(request, environment);
    } finally {
      ended.abort();
      const isRead = request.method === "GET" || request.method === "HEAD";
      const changed = !isRead && service.ca.snapshot?.state.commitId !== before;
      after(following.then(() => this.#finish(service, changed)));
    }
  }

  /** Runs due CA maintenance, unless another replica leads. @throws {CaError} */
  async tick(): Promise<void> {
    const service = await this.#open();
    try {
      await this.#refreshUnlessCooling(service, new AbortController().signal);
      this.#primaryLookedAt = this.#platform.clock.now().getTime();
      await this.#maintain(service);
    } finally {
      await this.#finish(service, false);
    }
  }

  async #open(): Promise<RequestService> {
    const { clock, random, log } = this.#platform;
    this.#sealer ??= createSealer(
      await readKeks(this.#settings.kek ?? "", "MESHCA_KEK"),
      boundDatacenter(this.#settings),
    );
    const sealer = this.#sealer;
    const codec = createCodec(sealer, datacenterRole(this.#settings));
    const memory = this.#redisMemory;
    const backend = new RequestRedis({ settings: this.#redis, clock, random, log, memory });
    const ports = backend.open(codec, `${ADDRESS} ${hex(random.bytes(8))}`);
    const service = await buildService({
      settings: this.#settings,
      platform: this.#platform,
      providers,
      policy: this.#policy,
      storage: { ports, codec, sealer, leafCounts: null, lastSeen: { ca: null, access: null } },
      // Other replicas need to know what the deployment can read, not how many isolates it has.
      self: { id: `${ADDRESS}/${SCHEMA}/${sealer.keks.join()}`, address: ADDRESS },
      memory: this.#memory,
      metrics: null,
      serverCertificate: () => null,
      ...{ others: this.#others, primary: this.#primary },
      compressed: true,
    });
    return { ...service, backend };
  }

  /** Reads the stored state, unless it was just read. @throws {CaError} */
  async #refresh({ ca, accessControl }: RequestService, signal: AbortSignal): Promise<void> {
    if (ca.snapshot === null) {
      await ca.start();
      if (ca.snapshot === null) await createFirstState(ca, this.#platform, signal);
    } else
      await Promise.all([
        ca.refreshIfStale(),
        accessControl?.started === true
          ? accessControl.refreshIfStale(this.#policy.maxAgeMs)
          : null,
      ]);
    if (ca.snapshot !== null) await accessControl?.start();
  }

  /** As `#refresh`, but fails at once if Redis failed a moment ago. @throws {CaError} */
  async #refreshUnlessCooling(service: RequestService, signal: AbortSignal): Promise<void> {
    const { clock } = this.#platform;
    if (this.#failure !== null) {
      const since = clock.now().getTime() - this.#failure.at;
      if (since >= 0 && since < COOLDOWN_MS) throw this.#failure.error;
    }
    try {
      await this.#refresh(service, signal);
      this.#failure = null;
    } catch (error) {
      if (error instanceof StoreError) this.#failure = { at: clock.now().getTime(), error };
      throw error;
    }
  }

  /** Reads changes while a query is blocked. It never rejects. */
  async #follow(service: RequestService, signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#platform;
    const pause = Math.max(FOLLOW_MS, this.#policy.maxAgeMs);
    for (;;) {
      await clock.sleep(pause * (1 + random.fraction() / 4), signal);
      if (signal.aborted) return;
      await this.#refreshUnlessCooling(service, signal).catch(() => undefined);
      await this.#followPrimary(service);
    }
  }

  /** Follows the primary datacenter, unless that was tried a moment ago. It never rejects. */
  async #followPrimary(service: RequestService): Promise<void> {
    const now = this.#platform.clock.now().getTime();
    const isRecent = Math.abs(now - this.#primaryLookedAt) < FOLLOW_PRIMARY_MS;
    if (!service.ca.isSecondary || service.ca.snapshot === null || isRecent) return;
    this.#primaryLookedAt = now;
    await this.#maintainLogged(service);
  }

  async #maintain({ ca, accessControl }: RequestService): Promise<void> {
    while ((await ca.tick()).kind !== "wait");
    if (ca.status.role !== "leader") return;
    await accessControl?.recordInCa();
    await accessControl?.collect();
  }

  /** As `#maintain`, but a failure is logged. */
  async #maintainLogged(service: RequestService): Promise<void> {
    await this.#maintain(service).catch((error: unknown) =>
      this.#platform.log.error(
        "Failed to run CA maintenance; the next request or cron trigger retries",
        { reason: reasonOf(error) },
      ),
    );
  }

  /** Ends the CA of a request; it never rejects. @param changed whether the request changed it. */
  async #finish(service: RequestService, changed: boolean): Promise<void> {
    if (changed) await this.#maintainLogged(service);
    else await this.#followPrimary(service);
    // The leadership that was taken for this request must not outlive it.
    await service.ca.resign();
    await service.audit?.close();
    service.backend.close();
  }
}
