/**
 * The one composition root: from settings and a platform to a running CA. Nothing else knows both a
 * port and the thing behind it.
 * @module
 */
import { createProviders } from "../../providers/index.ts";
import { ownAddress } from "../config/advertise.ts";
import type { Settings } from "../config/settings.ts";
import { hex } from "../core/bytes.ts";
import type { CaManager } from "../core/ca/ca.ts";
import type { Policy } from "../core/ca/policy.ts";
import { redact } from "../core/ca/sealed-config.ts";
import { CaError, StoreError } from "../core/errors.ts";
import type { CaState } from "../core/state.ts";
import type { RequestEnvironment } from "../http/app.ts";
import { createSealer } from "../seal/envelope.ts";
import { readKeks } from "../seal/kek.ts";
import { hasWrapped } from "../seal/wrapped.ts";
import type { Backend } from "../store/backend.ts";
import { createCodec } from "../store/codec.ts";
import { AclLastSeenFile, LastSeenFile } from "../store/last-seen.ts";
import { createPrometheus } from "../telemetry/prometheus.ts";
import { VERSION } from "../version.ts";
import type { Access } from "./access.ts";
import { openBackend, readSource } from "./backend.ts";
import { assemble, beginState, createCaMemory, policyOf } from "./ca.ts";
import type { Platform } from "./platform.ts";
import type { ReadServerCertificate } from "./report.ts";
import { lastSeenFile, readKekText, vaultConnector } from "./seal.ts";

export { claimStore, openBackend } from "./backend.ts";

export interface Meshca {
  readonly manager: CaManager;
  /**
   * The file with the secret for the first token; null if access control is off or there was a
   * first token.
   */
  readonly firstTokenFile: string | null;
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

/**
 * How often what has expired is deleted, in milliseconds. It counts for nothing from when it
 * expires.
 */
const COLLECT_MS = 60_000;
/** How often dates of expiry are compared with the clock, in milliseconds. */
const EXPIRY_MS = 60_000;
/** How soon a loop that failed tries again, in milliseconds. */
const RETRY_MS = 1000;

/**
 * Builds a CA.
 * @throws {ConfigError}
 * @throws {StoreError} `store_unavailable` if a Redis does not answer and no state of it was seen
 */
export async function compose(
  settings: Settings,
  platform: Platform,
  serverCertificate?: ReadServerCertificate,
): Promise<Meshca> {
  // A fault in them is not to wait for a store that is away.
  if (settings.kek !== null && !hasWrapped(settings.kek)) await readKeks(settings.kek);
  const seen =
    settings.store.kind === "redis" ? platform.persistentFile(lastSeenFile("redis")) : null;
  const backend = await openBackend(settings, platform, seen !== null && seen.read() !== null);
  try {
    return await composeOver(backend, settings, platform, {}, serverCertificate);
  } catch (error) {
    backend.close();
    throw error;
  }
}

/**
 * Builds a CA over a backend that is open.
 * @param serverCertificate reads the certificate that the server shows.
 * @param numbers those of the policy that are to be other than usual.
 * @throws {ConfigError} @throws {StoreError}
 */
export async function composeOver(
  backend: Backend,
  settings: Settings,
  platform: Platform,
  numbers: Partial<Policy> = {},
  serverCertificate: ReadServerCertificate = () => null,
): Promise<Meshca> {
  const { clock, random, log } = platform;
  const keks = await readKekText(settings, platform);
  const sealer = createSealer(await readKeks(keks.text));
  const codec = createCodec(sealer);
  const policy = { ...policyOf(settings), ...numbers };
  const self = { id: hex(random.bytes(8)), address: ownAddress(settings) };
  const ports = backend.open(codec, `${self.address} ${self.id}`);
  const kept =
    settings.store.kind === "memory"
      ? null
      : platform.persistentFile(lastSeenFile(settings.store.kind));
  const types = createProviders({ connect: vaultConnector(settings, platform), clock });
  const recollection = kept === null ? null : new LastSeenFile(codec, kept);
  const keptAccess =
    settings.store.kind === "memory"
      ? null
      : platform.persistentFile(`seen-access-${settings.store.kind}.json`);
  const accessRecollection = keptAccess === null ? null : new AclLastSeenFile(sealer, keptAccess);
  const memory = createCaMemory(random);
  const { manager, app, audit, accessControl, report } = await assemble({
    settings,
    platform,
    providers: types,
    policy,
    ports,
    codec,
    sealer,
    recollection,
    accessRecollection,
    self,
    memory,
    metrics: createPrometheus(
      { version: VERSION, runtime: platform.process?.runtime ?? "unknown" },
      platform.process?.usage,
    ),
    serverCertificate,
    compressed: false,
  });

  const closing = new AbortController();
  /**
   * Repeats `step`, which says how long to wait then, until the CA is closed. A failure is logged
   * once, and tried again.
   */
  const repeat = async (what: string, step: () => Promise<number>) => {
    let failing: string | null = null;
    while (!closing.signal.aborted) {
      let wait = RETRY_MS;
      try {
        wait = await step();
        if (failing !== null) log.info(`Can ${what} again`);
        failing = null;
      } catch (error) {
        const reason =
          error instanceof CaError
            ? error.message
            : error instanceof Error
              ? error.name
              : "unknown";
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
    if (manager.status.role === "leader") await accessControl?.record();
    return due.until === null
      ? pace()
      : Math.max(100, Math.min(pace(), due.until.getTime() - clock.now().getTime()));
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

  const warnOfExpiry = async () => {
    report.warn();
    return EXPIRY_MS;
  };

  const probe = async () => {
    await manager.probe();
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

  const begin = (): Promise<void> => {
    const { source } = settings;
    return beginState(
      manager,
      platform,
      closing.signal,
      source === null ? undefined : (last) => bringIn(source, last),
    );
  };
  const bringIn = async (source: NonNullable<Settings["source"]>, last: boolean) => {
    try {
      return await manager.restore(await readSource(source, keks, platform), {
        forceWithoutCrossSigning: false,
        onlyWhereEmpty: true,
      });
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
    get firstTokenFile() {
      return accessControl?.firstTokenFile ?? null;
    },
    fetch: app.fetch,
    async start() {
      if (settings.ignored.length > 0)
        log.info("Keys of the configuration file without a meaning here are ignored", {
          keys: settings.ignored,
        });
      if (!settings.connectEnabled) return;
      await manager.start();
      const first = manager.snapshot === null;
      if (first) await begin();
      if (manager.snapshot === null) return;
      try {
        await accessControl?.start();
        if (manager.status.role === "leader")
          await accessControl?.record().catch((error: unknown) => {
            // The next tick tries again.
            if (!(error instanceof CaError)) throw error;
          });
      } catch (error) {
        // Without its records no token can be checked, and nobody knows what is denied; roots need
        // neither.
        if (first || !(error instanceof StoreError) || error.code !== "store_unavailable")
          throw error;
        log.warn(
          "The store is away: access control is not loaded, and what needs a token or asks for a leaf is answered with 503",
          {
            reason: error.message,
          },
        );
      }
      if (!first && settings.bootstrap !== null) {
        const { state } = manager.snapshot;
        const fields = fileDifferences(
          settings.bootstrap,
          state,
          types.get(state.config.provider)?.secretFields ?? [],
        );
        if (fields.length > 0)
          log.warn(
            "The configuration file differs from the stored configuration and has no effect: it is used at the first start only",
            {
              fields,
            },
          );
      }
    },
    async run() {
      if (!settings.connectEnabled) return;
      await Promise.all([
        repeat("do what is due", tick),
        repeat("follow the store", follow),
        repeat("tell the other replicas of this one", heartbeat),
        repeat("look whether the provider is there", probe),
        repeat("look at what expires", warnOfExpiry),
        ...(accessControl === null
          ? []
          : [
              repeat("follow access control", () => followAccess(accessControl)),
              repeat("delete what has expired of access control", () =>
                collectAccess(accessControl),
              ),
            ]),
      ]);
    },
    drain,
    async close() {
      drain();
      await manager.close();
      await audit?.close();
      await ports.store.close();
      backend.close();
    },
  };
}

/**
 * The names of what a configuration file says otherwise than what is stored. A secret is stored as
 * something else than it was sent, so that only its presence can be compared.
 */
function fileDifferences(
  file: NonNullable<Settings["bootstrap"]>,
  { clusterId, config }: CaState,
  secretFields: readonly string[],
): string[] {
  const stored = new Map(
    Object.entries(config.config ?? {}).map(([key, value]) => [key.toLowerCase(), value]),
  );
  const differs = ([key, value]: [string, unknown]) =>
    JSON.stringify(stored.get(key.toLowerCase())) !== JSON.stringify(value);
  return [
    ...Object.entries(redact(file.config, secretFields) ?? {})
      .filter(differs)
      .map(([key]) => key),
    ...(file.provider === config.provider ? [] : ["ca_provider"]),
    ...(file.clusterId === null || file.clusterId === clusterId ? [] : ["cluster_id"]),
  ];
}
