/**
 * The composition root of a process: settings and a platform become a running CA. Only the files of
 * this folder know both a port and its implementation.
 * @module
 */
import { createProviders } from "../../providers/index.ts";
import { NodeTransport } from "../client/node/transport.ts";
import { ownAddress } from "../config/addresses.ts";
import type { DatacenterSettings } from "../config/datacenters.ts";
import type { Settings } from "../config/settings.ts";
import { hex } from "../core/bytes.ts";
import type { CertificateAuthority } from "../core/ca/ca.ts";
import type { Policy } from "../core/ca/timing-and-limits.ts";
import { CaError, StoreError } from "../core/errors.ts";
import type { ProviderTypes } from "../core/ports/provider.ts";
import type { Sealer } from "../core/ports/sealer.ts";
import type { CaState } from "../core/state.ts";
import { createSealer } from "../seal/envelope.ts";
import { readKeks } from "../seal/kek.ts";
import { hasWrapped } from "../seal/wrapped.ts";
import type { Backend } from "../store/backend.ts";
import { AclLastSeenFile, LastSeenFile } from "../store/last-seen-file.ts";
import { SealedLeafCounts } from "../store/leaf-counts.ts";
import { type Codec, createCodec } from "../store/state-document.ts";
import { PrometheusMetrics } from "../telemetry/prometheus.ts";
import { VERSION } from "../version.ts";
import { openBackend, readSource } from "./backend.ts";
import { BackgroundTasks } from "./background.ts";
import {
  buildService,
  createCaMemory,
  createFirstState,
  policyOf,
  type Service,
  type Storage,
} from "./ca.ts";
import { boundDatacenter, datacenterRole, LiveDatacenterSettings } from "./datacenter-settings.ts";
import { fileDifferences } from "./file-differences.ts";
import {
  type Keks,
  kekSource,
  lastSeenFile,
  readKekText,
  vaultConnector,
} from "./key-encryption-keys.ts";
import { agentPathText, LocalAgent, servesAgentRoutes } from "./local-agent.ts";
import { ConfiguredDatacenters } from "./other-datacenters.ts";
import type { DataFolder, Platform, RequestEnvironment } from "./platform.ts";
import { PrimaryServers } from "./primary.ts";
import type { ReadServerCertificate } from "./report.ts";

/**
 * Builds a CA.
 * @param serverCertificate reads the certificate that the server shows.
 * @throws {ConfigError}
 * @throws {StoreError} `store_unavailable` if Redis does not answer and there is no last-seen state
 */
export async function compose(
  settings: Settings,
  platform: Platform,
  serverCertificate?: ReadServerCertificate,
): Promise<Meshca> {
  // Malformed keys are reported without waiting for a store that does not answer.
  if (settings.kek !== null && !hasWrapped(settings.kek))
    await readKeks(settings.kek, kekSource(settings));
  const lastSeen =
    settings.store.kind === "redis" ? platform.persistentFile(lastSeenFile("redis")) : null;
  const hasLastSeen = lastSeen !== null && lastSeen.read() !== null;
  const backend = await openBackend(settings, platform, hasLastSeen);
  try {
    return await composeOver(backend, settings, platform, {}, serverCertificate);
  } catch (error) {
    backend.close();
    throw error;
  }
}

/**
 * Builds a CA over an open backend.
 * @param numbers overrides of the policy.
 * @param serverCertificate reads the certificate that the server shows. @default without TLS
 * @throws {ConfigError} @throws {StoreError}
 */
export async function composeOver(
  backend: Backend,
  settings: Settings,
  platform: Platform,
  numbers: Partial<Policy> = {},
  serverCertificate: ReadServerCertificate = () => null,
): Promise<Meshca> {
  const { clock, random } = platform;
  const policy = { ...policyOf(settings), ...numbers };
  const self = {
    id: hex(random.bytes(8)),
    address: ownAddress(settings, platform.process?.addresses()),
  };
  const keks = await readKekText(settings, platform);
  const sealer = createSealer(
    await readKeks(keks.text, kekSource(settings)),
    boundDatacenter(settings),
  );
  const codec = createCodec(sealer, datacenterRole(settings));
  const ports = backend.open(codec, `${self.address} ${self.id}`);
  const storage = {
    ports,
    codec,
    sealer,
    leafCounts: {
      store: ports.leaves,
      codec: new SealedLeafCounts({
        sealer,
        datacenter: boundDatacenter(settings),
        readsUnbound: settings.primary === null,
      }),
    },
    lastSeen: openLastSeen(settings, platform, codec, sealer),
  };
  const providers = createProviders({ connect: vaultConnector(settings, platform), clock });
  const runtime = platform.process?.runtime ?? "unknown";
  const metrics = new PrometheusMetrics({ version: VERSION, runtime }, platform.process?.usage);
  const datacenters = new LiveDatacenterSettings(settings);
  const others = new ConfiguredDatacenters({
    ...{
      settings: datacenters,
      openTransport: () => new NodeTransport(),
      isVerifiedByPlatform: false,
    },
    snapshot: () => service.ca.snapshot,
    countForwarded: (...forwarded) => metrics.forwarded(...forwarded),
    ...{ clock, log: platform.log },
  });
  const primary =
    settings.primary === null
      ? null
      : new PrimaryServers(settings.primary, {
          settings: datacenters,
          openTransport: () => new NodeTransport(),
          isVerifiedByPlatform: false,
          snapshot: () => service.ca.snapshot,
          ...{ clock, random, log: platform.log },
        });
  if (primary !== null) datacenters.subscribe(() => primary.useSettings());
  const localAgent = servesAgentRoutes(settings)
    ? new LocalAgent({ settings, platform, fetch: (request) => service.app.fetch(request) })
    : null;
  const service: Service = await buildService({
    settings,
    platform,
    providers,
    policy,
    storage,
    self,
    memory: createCaMemory(random),
    metrics,
    serverCertificate,
    ...{ others, primary },
    compressed: false,
    agent: { agentRoutes: localAgent?.routes ?? [], textOfUnknown: agentPathText },
  });
  return new Meshca({
    ...{ service, policy, settings, platform, providers, keks, backend, localAgent },
    ...{ datacenters, others, primary },
  });
}

/** Each is null if it does not survive a restart. */
function openLastSeen(
  settings: Settings,
  data: DataFolder,
  codec: Codec,
  sealer: Sealer,
): Storage["lastSeen"] {
  const { kind } = settings.store;
  const fileOf = (name: string) => (kind === "memory" ? null : data.persistentFile(name));
  const [ca, access] = [fileOf(lastSeenFile(kind)), fileOf(`seen-access-${kind}.json`)];
  return {
    ca: ca === null ? null : new LastSeenFile(codec, ca),
    access: access === null ? null : new AclLastSeenFile(sealer, access, boundDatacenter(settings)),
  };
}

interface MeshcaParts {
  readonly service: Service;
  readonly policy: Policy;
  readonly settings: Settings;
  readonly platform: Platform;
  readonly providers: ProviderTypes;
  readonly keks: Keks;
  readonly backend: Backend;
  /** Null if the server does not serve the routes of an agent. */
  readonly localAgent: LocalAgent | null;
  readonly datacenters: LiveDatacenterSettings;
  readonly others: ConfiguredDatacenters;
  readonly primary: PrimaryServers | null;
}

/** A composed CA: start, run, drain and close it in this order. */
export class Meshca {
  readonly ca: CertificateAuthority;
  readonly #parts: MeshcaParts;
  readonly #closing = new AbortController();
  #localAgentClosed: Promise<void> | null = null;

  constructor(parts: MeshcaParts) {
    this.#parts = parts;
    this.ca = parts.service.ca;
  }

  /**
   * The file with the secret for the first token; null if access control is off or a first token
   * was created.
   */
  get firstTokenFile(): string | null {
    return this.#parts.service.accessControl?.firstTokenFile ?? null;
  }

  readonly fetch = (
    request: Request,
    environment?: RequestEnvironment,
  ): Response | Promise<Response> => this.#parts.service.app.fetch(request, environment);

  /** Uses other settings of datacenters from now on. */
  reload(next: DatacenterSettings): void {
    this.#parts.datacenters.replace(next);
  }

  /**
   * Loads the state, or creates the first one, and loads access control.
   * @throws {CaError} if the CA cannot start with these settings
   */
  async start(): Promise<void> {
    const { settings, platform } = this.#parts;
    if (settings.ignored.length > 0)
      platform.log.info("Ignoring keys of the configuration file that have no effect in meshca", {
        keys: settings.ignored,
      });
    if (!settings.connectEnabled) return;
    await this.ca.start();
    const isFirst = this.ca.snapshot === null;
    if (isFirst) await this.#createFirstState();
    if (this.ca.snapshot === null) return;
    await this.#startAccess(isFirst);
    if (!isFirst) this.#warnOfFileDifferences(this.ca.snapshot.state);
  }

  /** Runs the background tasks until `drain` is called. */
  async run(): Promise<void> {
    const { service, policy, settings, platform } = this.#parts;
    if (settings.connectEnabled)
      await new BackgroundTasks(service, policy, platform, this.#closing.signal).run();
  }

  /** Answers all blocked queries, and ends the background tasks. Requests are still served. */
  drain(): void {
    this.#closing.abort();
    this.#localAgentClosed ??= this.#parts.localAgent?.close() ?? Promise.resolve();
    this.#parts.service.app.close();
  }

  /** Waits for the change in progress, releases leases and closes the store. */
  async close(): Promise<void> {
    const { service, backend } = this.#parts;
    this.drain();
    await this.#localAgentClosed;
    await this.ca.close();
    await service.audit?.close();
    this.#parts.others.close();
    this.#parts.primary?.close();
    backend.close();
  }

  #createFirstState(): Promise<void> {
    const { settings, platform } = this.#parts;
    const { source } = settings;
    return createFirstState(
      this.ca,
      platform,
      this.#closing.signal,
      source === null ? undefined : (isLast) => this.#importState(source, isLast),
    );
  }

  async #importState(source: NonNullable<Settings["source"]>, isLast: boolean): Promise<unknown> {
    const { keks, platform } = this.#parts;
    try {
      return await this.ca.restore(await readSource(source, keks, platform), {
        forceWithoutCrossSigning: false,
        onlyWhereEmpty: true,
      });
    } catch (error) {
      // Another replica reads the file concurrently.
      if (isLast || !(error instanceof StoreError) || error.code !== "store_busy") throw error;
      return null;
    }
  }

  async #startAccess(isFirst: boolean): Promise<void> {
    const { service, platform } = this.#parts;
    try {
      await service.accessControl?.start();
      if (this.ca.status.role === "leader")
        await service.accessControl?.recordInCa().catch((error: unknown) => {
          // The next maintenance step retries.
          if (!(error instanceof CaError)) throw error;
        });
    } catch (error) {
      // Without its records no token can be checked and no denylist is known; roots need neither.
      if (isFirst || !(error instanceof StoreError) || error.code !== "store_unavailable")
        throw error;
      platform.log.warn(
        "Cannot load ACL records: the store does not answer. Roots are served; requests with a token and requests for leaves are answered with 503 until it answers",
        { reason: error.message },
      );
    }
  }

  #warnOfFileDifferences(state: CaState): void {
    const { settings, platform, providers } = this.#parts;
    if (settings.bootstrap === null) return;
    const secretFields = providers.get(state.config.provider)?.secretFields ?? [];
    const fields = fileDifferences(settings.bootstrap, state, secretFields);
    if (fields.length > 0)
      platform.log.warn(
        "The CA configuration of the configuration file is ignored: it differs from the stored one, and is used at the first start only. Change the stored one with PUT /v1/connect/ca/configuration; cluster_id and trust_domain never change",
        { fields },
      );
  }
}
