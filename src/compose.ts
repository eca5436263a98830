/**
 * The one composition root: from settings and a platform to a running CA. Nothing else knows both a port and the thing
 * behind it.
 * @module
 */
import { providers } from "../providers/index.ts";
import type { FetchKeys, Resolve } from "./auth/jwks.ts";
import { verifyRenewalToken } from "./auth/renewal.ts";
import { type Access, bootstrapFiles, createAccess } from "./compose-access.ts";
import { openBackend, readSource } from "./compose-backend.ts";
import { httpLimits } from "./compose-limits.ts";
import { isLoopback, type Settings } from "./config/settings.ts";
import { hex } from "./core/bytes.ts";
import { type CaManager, createManager } from "./core/ca/manager.ts";
import { DEFAULT_POLICY, type Policy } from "./core/ca/policy.ts";
import { type CaState, HIDDEN } from "./core/ca/state.ts";
import type { Clock, Random } from "./core/clock.ts";
import { CaError, ConflictError, NotReadyError, StoreError } from "./core/errors.ts";
import type { Log } from "./core/log.ts";
import { createApp, type RequestEnvironment } from "./http/app.ts";
import { createSealer } from "./seal/envelope.ts";
import { makeKek, readKeks } from "./seal/kek.ts";
import type { Backend } from "./store/backend.ts";
import { createCodec } from "./store/codec.ts";
import { createRecollection, type Kept } from "./store/recollection.ts";
import { type AuditSink, createAudit } from "./telemetry/audit.ts";
import { createPrometheus } from "./telemetry/prometheus.ts";

export { claimStore, openBackend } from "./compose-backend.ts";
export type { RequestEnvironment };

/** What a runtime gives. */
export interface Platform {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** The text of a file in the data folder that nobody else may read, made with `make` when it is not there. */
  secretFile(name: string, make: () => string): string;
  /** Text kept in the data folder over a restart, or null where there is no folder to keep it in. */
  kept(name: string): Kept | null;
  /** The text of a file. @throws {Error} */
  readFile(path: string): string;
  isThere(path: string): boolean;
  /** Fetches the keys of an auth method's issuer, and looks names up. */
  readonly fetchKeys: FetchKeys;
  readonly resolve: Resolve;
  /** Where lines are appended. @throws {ConfigError} where the file cannot be opened */
  appendTo(target: NonNullable<Settings["audit"]>): Promise<AuditSink>;
}

export interface Meshca {
  readonly manager: CaManager;
  fetch(request: Request, environment?: RequestEnvironment): Response | Promise<Response>;
  /** Bootstraps or loads the state. @throws {CaError} when the CA can never start like this. */
  start(): Promise<void>;
  /** Does what is due and follows the store, until it is closed. */
  run(): Promise<void>;
  /** Answers all who wait, and ends the loops. Requests are still served. */
  drain(): void;
  /** Lets the change that runs end, gives back leases and closes the store. */
  close(): Promise<void>;
}

/** consul-ca.md §2.2: what Consul's agent writes where the operator names nothing. */
const DEFAULT_CONFIG = { IntermediateCertTTL: "8760h", LeafCertTTL: "72h", RootCertTTL: "87600h" };

/** How often what has expired is deleted, in milliseconds. It counts for nothing from when it expires. */
const COLLECT_MS = 60_000;
/** How soon a loop that failed tries again, in milliseconds. */
const RETRY_MS = 1000;
/** How long a start waits for the state that another replica is making. */
const START_MS = 20_000;

/** Builds a CA. @throws {ConfigError} @throws {StoreError} */
export async function compose(settings: Settings, platform: Platform): Promise<Meshca> {
  const backend = await openBackend(settings, platform);
  try {
    return await composeOver(backend, settings, platform);
  } catch (error) {
    backend.close();
    throw error;
  }
}

/**
 * Builds a CA over a backend that is open.
 * @param numbers those of the policy that are to be other than usual.
 * @throws {ConfigError} @throws {StoreError}
 */
export async function composeOver(
  backend: Backend,
  settings: Settings,
  platform: Platform,
  numbers: Partial<Policy> = {},
): Promise<Meshca> {
  const { clock, random, log } = platform;
  const kek = settings.kek ?? (settings.store.kind === "memory" ? makeKek() : platform.secretFile("kek", makeKek));
  const sealer = createSealer(await readKeks(kek));
  const codec = createCodec(sealer);
  const shared = settings.store.kind === "redis";
  const policy = {
    ...DEFAULT_POLICY,
    maxStalenessMs: shared ? settings.maxStalenessMs : null,
    maxClockSkewMs: settings.maxClockSkewMs,
    maxPendingLeaves: settings.limits.signing_queue ?? DEFAULT_POLICY.maxPendingLeaves,
    ...numbers,
  };
  const self = { id: hex(random.bytes(8)), address: `${settings.listen.host}:${settings.listen.port}` };
  const { store, leases, replicas, access: accessStore } = backend.open(codec, `${self.address} ${self.id}`);
  const kept = settings.store.kind === "memory" ? null : platform.kept(`seen-${settings.store.kind}.json`);
  const metrics = createPrometheus();
  const audit =
    settings.audit === null
      ? null
      : createAudit({ sink: await platform.appendTo(settings.audit), onFailure: settings.auditFailure, clock, log });
  const bootstrap = {
    clusterId: settings.bootstrap?.clusterId ?? null,
    provider: settings.bootstrap?.provider ?? "consul",
    config: { ...DEFAULT_CONFIG, ...settings.bootstrap?.config },
  };
  const manager = createManager({
    store,
    leases,
    replicas,
    recollection: kept === null ? null : createRecollection(codec, kept),
    self,
    sealer,
    providers,
    clock,
    random,
    log,
    metrics,
    audit,
    datacenter: settings.datacenter,
    ...(settings.tls?.source.kind === "self" ? { serverNames: settings.tls.source.names } : {}),
    bootstrap: { ...bootstrap, forceWithoutCrossSigning: false },
    policy,
  });
  const accessControl =
    settings.acl === "off"
      ? null
      : createAccess(settings, settings.acl, policy, { ...platform, store: accessStore, sealer, manager, audit });
  const app = createApp({
    manager,
    codec,
    verifyRenewalToken,
    access: accessControl?.access ?? null,
    ...bootstrapFiles(platform),
    clock,
    random,
    log,
    datacenter: settings.datacenter,
    connectEnabled: settings.connectEnabled,
    loopbackOnly: isLoopback(settings.listen.host),
    hosts: settings.hosts,
    limits: httpLimits(settings),
    behindProxy: settings.plainHttp !== null,
    audit,
    renderMetrics: metrics.render,
    countRequest: metrics.request,
    countWrongToken: metrics.wrongToken,
  });
  metrics.observe({
    snapshot: () => manager.snapshot,
    now: () => clock.now(),
    watchers: () => app.watchers.count,
    signing: () => manager.signing,
    status: () => manager.status,
    audit,
  });

  const closing = new AbortController();
  /** Repeats `step`, which says how long to wait then, until the CA is closed. A failure is logged once, and tried again. */
  const repeat = async (what: string, step: () => Promise<number>) => {
    let failing: string | null = null;
    while (!closing.signal.aborted) {
      let wait = RETRY_MS;
      try {
        wait = await step();
        if (failing !== null) log.info(`Can ${what} again`);
        failing = null;
      } catch (error) {
        const reason = error instanceof CaError ? error.message : error instanceof Error ? error.name : "unknown";
        if (reason !== failing) log.error(`Cannot ${what}`, { reason });
        failing = reason;
      }
      if (wait > 0) await clock.sleep(wait, closing.signal);
    }
  };
  /** At least as often as a lease must be renewed, and not in step with the other replicas. */
  const pace = () => policy.leaderRetryMs * (1 + random.fraction() * (policy.retryJitter - 1));
  const tick = async () => {
    const due = await manager.tick();
    if (due.kind !== "wait") return 0;
    return due.until === null ? pace() : Math.max(100, Math.min(pace(), due.until.getTime() - clock.now().getTime()));
  };
  const follow = async () => {
    const before = manager.snapshot;
    await manager.follow(closing.signal);
    // A wake-up without news must not become a loop without a pause.
    return manager.snapshot === before ? 100 : 0;
  };
  const heartbeat = async () => {
    await manager.heartbeat();
    return policy.heartbeatMs;
  };

  const collectAccess = async (control: Access) => {
    if (manager.status.role === "leader") await control.collect();
    return COLLECT_MS;
  };
  const followAccess = async (control: Access) => {
    if (!control.started && manager.snapshot === null) return RETRY_MS;
    await control.start();
    await control.follow(closing.signal);
    return 0;
  };

  /** Makes the first state, or waits for the one that another replica makes. */
  const begin = async (): Promise<void> => {
    const until = clock.now().getTime() + START_MS;
    const { source } = settings;
    const first = (): Promise<unknown> => (source === null ? manager.tick() : bringIn(source, clock.now().getTime() >= until));
    for (;;) {
      // Another one holds the lease, or took it over: what it makes, or leaves behind, is waited for.
      await first().catch((error: unknown) => {
        if (!(error instanceof NotReadyError || error instanceof ConflictError)) throw error;
      });
      if (manager.snapshot !== null || manager.status.stopped !== null || clock.now().getTime() >= until) return;
      await clock.sleep(100 * (1 + random.fraction()), closing.signal);
      await manager.refresh();
    }
  };
  const bringIn = async (source: NonNullable<Settings["source"]>, last: boolean) => {
    try {
      return await manager.restore(await readSource(source, kek, platform), { forceWithoutCrossSigning: false, onlyWhereEmpty: true });
    } catch (error) {
      // Another replica reads the file at this moment.
      if (last || !(error instanceof StoreError) || error.code !== "store_busy") throw error;
      return null;
    }
  };

  const drain = () => {
    closing.abort();
    app.close();
  };

  return {
    manager,
    fetch: app.fetch,
    async start() {
      if (settings.ignored.length > 0)
        log.info("Keys of the configuration file without a meaning here are ignored", { keys: settings.ignored });
      if (!settings.connectEnabled) return;
      await manager.start();
      const first = manager.snapshot === null;
      if (first) await begin();
      if (manager.snapshot === null) return;
      await accessControl?.start();
      if (!first && settings.bootstrap !== null) {
        const fields = fileDifferences(settings.bootstrap, manager.snapshot.state);
        if (fields.length > 0)
          log.warn("The configuration file differs from the stored configuration and has no effect: it is used at the first start only", {
            fields,
          });
      }
    },
    async run() {
      if (!settings.connectEnabled) return;
      await Promise.all([
        repeat("do what is due", tick),
        repeat("follow the store", follow),
        repeat("tell the other replicas of this one", heartbeat),
        ...(accessControl === null
          ? []
          : [
              repeat("follow access control", () => followAccess(accessControl)),
              repeat("delete what has expired of access control", () => collectAccess(accessControl)),
            ]),
      ]);
    },
    drain,
    async close() {
      drain();
      await manager.close();
      await audit?.close();
      await store.close();
      backend.close();
    },
  };
}

/**
 * The names of what a configuration file says otherwise than what is stored. A secret is stored as something else than it
 * was sent, so that only its presence can be compared.
 */
function fileDifferences(file: NonNullable<Settings["bootstrap"]>, { clusterId, config }: CaState): string[] {
  const stored = new Map(Object.entries(config.config ?? {}).map(([key, value]) => [key.toLowerCase(), value]));
  const differs = ([key, value]: [string, unknown]) => {
    const kept = stored.get(key.toLowerCase());
    return kept === HIDDEN ? value === undefined : JSON.stringify(kept) !== JSON.stringify(value);
  };
  return [
    ...Object.entries(file.config)
      .filter(differs)
      .map(([key]) => key),
    ...(file.provider === config.provider ? [] : ["ca_provider"]),
    ...(file.clusterId === null || file.clusterId === clusterId ? [] : ["cluster_id"]),
  ];
}
