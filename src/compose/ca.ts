/**
 * Builds the CA with its API over open ports. It starts nothing.
 * @module
 */
import { readRenewalToken } from "../acl/renewal-token.ts";
import { isLoopback } from "../config/addresses.ts";
import { reservedNames } from "../config/reserved-names.ts";
import type { Settings } from "../config/settings.ts";
import { CertificateAuthority } from "../core/ca/ca.ts";
import { createReplicaMemory, type ReplicaMemory } from "../core/ca/replica-memory.ts";
import { DEFAULT_POLICY, type Policy } from "../core/ca/timing-and-limits.ts";
import { ConflictError, NotReadyError, ProviderError } from "../core/errors.ts";
import type { Random } from "../core/ports/clock.ts";
import type { AclLastSeenStore, LastSeenStore } from "../core/ports/last-seen.ts";
import type { LeafCountPorts } from "../core/ports/leaf-counts.ts";
import type { Metrics } from "../core/ports/metrics.ts";
import type { PrimaryDatacenter } from "../core/ports/primary.ts";
import type { ProviderTypes } from "../core/ports/provider.ts";
import type { Replica } from "../core/ports/replicas.ts";
import type { Sealer } from "../core/ports/sealer.ts";
import { App } from "../http/app.ts";
import type { OtherDatacenters } from "../http/forwarding.ts";
import { HINTS } from "../http/hints.ts";
import type { AppOptions } from "../http/options.ts";
import { signingObstacle } from "../http/routes/status.ts";
import type { Ports } from "../store/backend.ts";
import type { Codec } from "../store/state-document.ts";
import { AuditLog } from "../telemetry/audit.ts";
import type { PrometheusMetrics } from "../telemetry/prometheus.ts";
import { AccessControl } from "./access-control.ts";
import { type AclMemory, createAclMemory } from "./acl.ts";
import { BootstrapFiles } from "./bootstrap-files.ts";
import { boundDatacenter } from "./datacenter-settings.ts";
import { diagnose } from "./diagnosis.ts";
import { httpLimits } from "./http-limits.ts";
import { peersOf } from "./peers.ts";
import type { Platform } from "./platform.ts";
import { type ReadServerCertificate, Report } from "./report.ts";

/** State that the requests of one isolate share (plain data). */
export interface CaMemory {
  readonly ca: ReplicaMemory;
  readonly access: AclMemory;
}

export function createCaMemory(random: Random): CaMemory {
  return { ca: createReplicaMemory(), access: createAclMemory(random) };
}

/** The open store, and what encrypts and encodes its documents. */
export interface Storage {
  readonly ports: Ports;
  readonly codec: Codec;
  readonly sealer: Sealer;
  /** Null if leaves are not counted, as on Workers, where no process sees all requests. */
  readonly leafCounts: LeafCountPorts | null;
  /** The last-seen state; null if it does not survive a restart. */
  readonly lastSeen: {
    readonly ca: LastSeenStore | null;
    readonly access: AclLastSeenStore | null;
  };
}

interface ServiceParts {
  /** The primary datacenter; null if this is the primary one. */
  readonly primary: PrimaryDatacenter | null;
  readonly settings: Settings;
  readonly platform: Platform;
  readonly providers: ProviderTypes;
  readonly policy: Policy;
  readonly storage: Storage;
  readonly self: Pick<Replica, "id" | "address">;
  readonly memory: CaMemory;
  /** Null if no process sees all requests. */
  readonly metrics: PrometheusMetrics | null;
  readonly serverCertificate: ReadServerCertificate;
  readonly others: OtherDatacenters;
  /** Whether a proxy compresses responses. */
  readonly compressed: boolean;
  /** Routes of an agent, and the text of the 404 to those that are not served. @default neither */
  readonly agent?: Pick<AppOptions, "agentRoutes" | "textOfUnknown">;
}

export interface Service {
  readonly ca: CertificateAuthority;
  readonly app: App;
  readonly audit: AuditLog | null;
  readonly accessControl: AccessControl | null;
  readonly report: Report;
}

/**
 * The TTLs that Consul's agent configures by default (`DefaultConfig` in agent/config/default.go,
 * `CAConfiguration` in agent/structs/connect_ca.go).
 */
const DEFAULT_CONFIG = { IntermediateCertTTL: "8760h", LeafCertTTL: "72h", RootCertTTL: "87600h" };
/** How long a start waits for the state that another replica creates, in milliseconds. */
const START_MS = 20_000;

const NO_METRICS: Metrics = {
  leafIssued: () => undefined,
  leafRefused: () => undefined,
  change: () => undefined,
  primaryFailed: () => undefined,
  intermediateRenewed: () => undefined,
  intermediateRequested: () => undefined,
};

/** The policy of the CA with these settings. */
export function policyOf(settings: Settings): Policy {
  return {
    ...DEFAULT_POLICY,
    maxStalenessMs: settings.store.kind === "redis" ? settings.maxStalenessMs : null,
    maxClockSkewMs: settings.maxClockSkewMs,
    maxChainLength: settings.maxChainLength,
    maxPendingLeaves: settings.limits.maxPendingLeaves ?? DEFAULT_POLICY.maxPendingLeaves,
  };
}

/** Builds the CA. @throws {ConfigError} if the audit log cannot be opened */
export async function buildService(parts: ServiceParts): Promise<Service> {
  const { settings, platform, policy, storage, serverCertificate } = parts;
  const { clock, log } = platform;
  const audit = await openAudit(settings, platform);
  const ca = createCa(parts, audit);
  const accessControl =
    settings.acl === "off"
      ? null
      : new AccessControl(settings, {
          platform,
          defaultPolicy: settings.acl,
          policy,
          store: storage.ports.access,
          sealer: storage.sealer,
          ca,
          audit,
          memory: parts.memory.access,
          lastSeen: storage.lastSeen.access,
          address: parts.self.address,
        });
  const report = new Report({ ca, audit, serverCertificate, clock, log });
  const app = buildApp(parts, { ca, audit, accessControl, report });
  return { ca, app, audit, accessControl, report };
}

async function openAudit(
  { audit, auditFailure: onFailure }: Settings,
  platform: Platform,
): Promise<AuditLog | null> {
  if (audit === null) return null;
  const { clock, log } = platform;
  return new AuditLog({ sink: await platform.openAuditSink(audit), onFailure, clock, log });
}

function createCa(parts: ServiceParts, audit: AuditLog | null): CertificateAuthority {
  const { settings, platform, providers, policy, storage, self, memory, metrics } = parts;
  const { primary, others } = parts;
  const { clock, random, log } = platform;
  const { bootstrap, tls } = settings;
  const { store, leases, replicas, looks } = storage.ports;
  return new CertificateAuthority({
    ports: {
      store,
      leases,
      replicas,
      looks,
      sealer: storage.sealer,
      providers,
      clock,
      random,
      log,
      metrics: metrics ?? NO_METRICS,
      audit,
      hints: HINTS,
    },
    self,
    lastSeen: storage.lastSeen.ca,
    leafCounts: storage.leafCounts,
    datacenter: settings.datacenter,
    hasDatacenters: boundDatacenter(settings) !== null,
    primary,
    peers: boundDatacenter(settings) === null ? null : peersOf(others, settings.datacenter),
    ...(tls?.source.kind === "self" ? { serverNames: tls.source.names } : {}),
    reservedNames: (addresses) => reservedNames(settings, addresses),
    bootstrap: {
      clusterId: bootstrap?.clusterId ?? null,
      trustDomain: bootstrap?.trustDomain ?? null,
      provider: bootstrap?.provider ?? "consul",
      config: { ...DEFAULT_CONFIG, ...bootstrap?.config },
      forceWithoutCrossSigning: false,
    },
    policy,
    memory: memory.ca,
  });
}

function buildApp(
  {
    settings,
    platform,
    storage,
    metrics,
    serverCertificate,
    primary,
    others,
    compressed,
    agent,
  }: ServiceParts,
  { ca, audit, accessControl, report }: Omit<Service, "app">,
): App {
  const { clock, random, log } = platform;
  const bootstrapFiles = new BootstrapFiles(platform);
  const app: App = new App({
    ca,
    acl: {
      control: accessControl?.control ?? null,
      bootstrapReset: () => bootstrapFiles.resetIndex(),
      bootstrapSecret: () => bootstrapFiles.secret(),
      managementToken: settings.managementToken,
    },
    codec: storage.codec,
    readRenewalToken,
    server: {
      datacenter: settings.datacenter,
      connectEnabled: settings.connectEnabled,
      loopbackOnly: isLoopback(settings.listen.host),
      hosts: settings.hosts,
      behindProxy: settings.plainHttp !== null,
      compressedInFront: compressed,
    },
    limits: httpLimits(settings),
    runtime: {
      clock,
      random,
      log,
      inRequest: (requestId, work) => log.inRequest(requestId, work),
    },
    metrics: {
      render:
        metrics === null
          ? null
          : () =>
              metrics.render({
                snapshot: ca.snapshot,
                signing: ca.signing,
                renewWindowMs: ca.snapshot === null ? null : ca.renewWindowMs,
                status: ca.status,
                leaves: ca.snapshot === null ? null : ca.leaves,
                now: clock.now(),
                watchers: app.watchers.count,
                audit,
                obstacle: signingObstacle({ ca, control: accessControl?.control ?? null, audit }),
                changeObstacle: report.changeObstacle,
                certificate: serverCertificate(),
              }),
      countRequest: (...request) => metrics?.request(...request),
      countWrongToken: () => metrics?.wrongToken(),
    },
    audit,
    others,
    details: () => report.lines(),
    backups: storage.ports.backups,
    diagnose: () =>
      diagnose({
        ...{ settings, ca, primary, clock, control: accessControl?.control ?? null },
        backups: storage.ports.backups,
        facts: storage.ports.facts,
        fileFacts: platform.fileFacts,
      }),
    ...agent,
  });
  return app;
}

/**
 * Creates the first state, or waits for the one that another replica creates.
 * @param create tries to create it; `isLast` is true if it is not called again.
 * @throws {CaError}
 */
export async function createFirstState(
  ca: CertificateAuthority,
  { clock, random }: Platform,
  signal: AbortSignal,
  create: (isLast: boolean) => Promise<unknown> = () => ca.tick(),
): Promise<void> {
  const until = clock.now().getTime() + START_MS;
  // A secondary datacenter says why it waits for the primary one, and joins in the background.
  const isLast = () => ca.hasPrimary || clock.now().getTime() >= until;
  for (;;) {
    await create(isLast()).catch((error: unknown) => {
      // Another replica holds the lease or took it over, or the provider does not answer: retry.
      const isAway = error instanceof ProviderError && error.code === "provider_unavailable";
      if (!(isAway || error instanceof NotReadyError || error instanceof ConflictError))
        throw error;
    });
    if (ca.snapshot !== null || ca.status.stopped !== null || isLast()) return;
    await clock.sleep(100 * (1 + random.fraction()), signal);
    await ca.refresh();
  }
}
