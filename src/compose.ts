/**
 * The one composition root: from settings and a platform to a running CA. Nothing else knows both a port and the thing
 * behind it.
 * @module
 */
import { providers } from "../providers/index.ts";
import type { Settings } from "./config/settings.ts";
import { type CaManager, createManager } from "./core/ca/manager.ts";
import { type CaState, HIDDEN } from "./core/ca/state.ts";
import type { Clock, Random } from "./core/clock.ts";
import { CaError } from "./core/errors.ts";
import type { Leases } from "./core/lease.ts";
import type { Log } from "./core/log.ts";
import type { Store } from "./core/store.ts";
import { createApp, type RequestEnvironment } from "./http/app.ts";
import { createSealer } from "./seal/envelope.ts";
import { makeKek, readKeks } from "./seal/kek.ts";
import { type Codec, createCodec } from "./store/codec.ts";
import { createPrometheus } from "./telemetry/prometheus.ts";

/** What a runtime gives. */
export interface Platform {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** The text of a file in the data folder that nobody else may read, made with `make` when it is not there. */
  secretFile(name: string, make: () => string): string;
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

/** At least this often a replica looks what is due, in milliseconds. */
const TICK_MS = 5000;

/** Builds a CA. @throws {ConfigError} @throws {StoreError} */
export async function compose(settings: Settings, platform: Platform): Promise<Meshca> {
  const { clock, random, log } = platform;
  const kek = settings.kek ?? (settings.store.kind === "memory" ? makeKek() : platform.secretFile("kek", makeKek));
  const sealer = createSealer(await readKeks(kek));
  const backend = await openBackend(settings, clock);
  const holder = `${settings.listen.host}:${settings.listen.port}`;
  const { store, leases } = backend.open(createCodec(sealer), holder);
  const metrics = createPrometheus();
  const bootstrap = {
    clusterId: settings.bootstrap?.clusterId ?? null,
    provider: settings.bootstrap?.provider ?? "consul",
    config: { ...DEFAULT_CONFIG, ...settings.bootstrap?.config },
  };
  const manager = createManager({
    store,
    leases,
    sealer,
    providers,
    clock,
    random,
    log,
    metrics,
    datacenter: settings.datacenter,
    bootstrap: { ...bootstrap, forceWithoutCrossSigning: false },
  });
  const app = createApp({
    manager,
    clock,
    random,
    log,
    datacenter: settings.datacenter,
    connectEnabled: settings.connectEnabled,
    loopbackOnly: true,
    renderMetrics: metrics.render,
    countRequest: metrics.request,
  });
  metrics.observe({
    snapshot: () => manager.snapshot,
    now: () => clock.now(),
    watchers: () => app.watchers.count,
    signing: () => manager.signing,
  });

  const closing = new AbortController();
  /** Repeats `step` until the CA is closed; a failure is logged and tried again later. */
  const repeat = async (what: string, step: () => Promise<number>) => {
    while (!closing.signal.aborted) {
      let wait = TICK_MS;
      try {
        wait = await step();
      } catch (error) {
        log.error(`Cannot ${what}`, { reason: error instanceof CaError ? error.message : error instanceof Error ? error.name : "unknown" });
      }
      if (wait > 0) await clock.sleep(wait, closing.signal);
    }
  };
  const tick = async () => {
    const due = await manager.tick();
    if (due.kind !== "wait") return 0;
    return due.until === null ? TICK_MS : Math.max(100, Math.min(TICK_MS, due.until.getTime() - clock.now().getTime()));
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
      await manager.refresh();
      if (manager.snapshot === null) await manager.tick();
      else if (settings.bootstrap !== null) {
        const fields = fileDifferences(settings.bootstrap, manager.snapshot.state);
        if (fields.length > 0)
          log.warn("The configuration file differs from the stored configuration and has no effect: it is used at the first start only", {
            fields,
          });
      }
    },
    async run() {
      if (!settings.connectEnabled) return;
      const follow = async () => {
        const before = manager.snapshot;
        await manager.follow(closing.signal);
        // A wake-up without news must not become a loop without a pause.
        return manager.snapshot === before ? 100 : 0;
      };
      await Promise.all([repeat("do what is due", tick), repeat("follow the store", follow)]);
    },
    drain,
    async close() {
      drain();
      await manager.close();
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

interface Backend {
  open(codec: Codec, holder: string): { store: Store; leases: Leases };
  close(): void;
}

/** Each store is loaded only where it is used, since not every runtime has what it needs. */
async function openBackend(settings: Settings, clock: Clock): Promise<Backend> {
  if (settings.store.kind === "memory") {
    const { createMemoryBackend } = await import("./store/memory.ts");
    return { ...createMemoryBackend(clock), close() {} };
  }
  const { openSqlite } = await import("./store/sqlite.ts");
  return openSqlite(settings.store.path, clock);
}
