/**
 * The part of the composition root that makes the CA and its API over ports that are open. It
 * starts nothing.
 * @module
 */
import { readRenewalToken } from "../acl/renewal-token.ts";
import { isLoopback, type Settings } from "../config/settings.ts";
import { type CaManager, createManager } from "../core/ca/ca.ts";
import { DEFAULT_POLICY, type Policy } from "../core/ca/policy.ts";
import { createMemory, type Memory } from "../core/ca/replica-memory.ts";
import { ConflictError, NotReadyError, ProviderError } from "../core/errors.ts";
import type { Random } from "../core/ports/clock.ts";
import type { AclLastSeenStore, LastSeenStore } from "../core/ports/last-seen.ts";
import type { Metrics } from "../core/ports/metrics.ts";
import type { ProviderTypes } from "../core/ports/provider.ts";
import type { Replica } from "../core/ports/replicas.ts";
import type { Sealer } from "../core/ports/sealer.ts";
import { type App, createApp } from "../http/app.ts";
import type { Ports } from "../store/backend.ts";
import type { Codec } from "../store/codec.ts";
import { type AuditLog, createAudit } from "../telemetry/audit.ts";
import type { PrometheusMetrics } from "../telemetry/prometheus.ts";
import {
  type Access,
  type AccessMemory,
  bootstrapFiles,
  createAccess,
  createAccessMemory,
} from "./access.ts";
import { httpLimits } from "./limits.ts";
import type { Platform } from "./platform.ts";
import { type ReadServerCertificate, Report } from "./report.ts";

/** What a CA knows from one request to the next: data alone. */
export interface CaMemory {
  readonly ca: Memory;
  readonly access: AccessMemory;
}

export function createCaMemory(random: Random): CaMemory {
  return { ca: createMemory(), access: createAccessMemory(random) };
}

export interface CaParts {
  readonly settings: Settings;
  readonly platform: Platform;
  readonly providers: ProviderTypes;
  readonly policy: Policy;
  readonly ports: Ports;
  readonly codec: Codec;
  readonly sealer: Sealer;
  readonly recollection: LastSeenStore | null;
  readonly accessRecollection: AclLastSeenStore | null;
  readonly self: Pick<Replica, "id" | "address">;
  readonly memory: CaMemory;
  /** Null where no one process sees enough to count. */
  readonly metrics: PrometheusMetrics | null;
  /** The certificate that the server shows. @default none */
  readonly serverCertificate?: ReadServerCertificate;
  /** Whether something in front compresses answers. */
  readonly compressed: boolean;
}

export interface Ca {
  readonly manager: CaManager;
  readonly app: App;
  readonly audit: AuditLog | null;
  readonly accessControl: Access | null;
  readonly report: Report;
}

/** consul-ca.md §2.2: what Consul's agent writes where the operator names nothing. */
const DEFAULT_CONFIG = { IntermediateCertTTL: "8760h", LeafCertTTL: "72h", RootCertTTL: "87600h" };
/** How long a start waits for the state that another replica is making. */
const START_MS = 20_000;

const UNCOUNTED: Metrics = {
  leafIssued: () => undefined,
  leafRefused: () => undefined,
  change: () => undefined,
};

/** The numbers that the settings have a say in. */
export function policyOf(settings: Settings): Policy {
  return {
    ...DEFAULT_POLICY,
    maxStalenessMs: settings.store.kind === "redis" ? settings.maxStalenessMs : null,
    maxClockSkewMs: settings.maxClockSkewMs,
    maxChainLength: settings.maxChainLength,
    maxPendingLeaves: settings.limits.signing_queue ?? DEFAULT_POLICY.maxPendingLeaves,
  };
}

/** Makes the CA. @throws {ConfigError} where the audit log cannot be opened */
export async function assemble(parts: CaParts): Promise<Ca> {
  const {
    settings,
    platform,
    providers,
    policy,
    ports,
    codec,
    sealer,
    self,
    recollection,
    memory,
    metrics,
  } = parts;
  const { clock, random, log } = platform;
  const { serverCertificate = () => null } = parts;
  const audit =
    settings.audit === null
      ? null
      : createAudit({
          sink: await platform.openAuditSink(settings.audit),
          onFailure: settings.auditFailure,
          clock,
          log,
        });
  const manager = createManager({
    ...ports,
    recollection,
    self,
    sealer,
    providers,
    clock,
    random,
    log,
    metrics: metrics ?? UNCOUNTED,
    audit,
    datacenter: settings.datacenter,
    ...(settings.tls?.source.kind === "self" ? { serverNames: settings.tls.source.names } : {}),
    bootstrap: {
      clusterId: settings.bootstrap?.clusterId ?? null,
      provider: settings.bootstrap?.provider ?? "consul",
      config: { ...DEFAULT_CONFIG, ...settings.bootstrap?.config },
      forceWithoutCrossSigning: false,
    },
    policy,
    memory: memory.ca,
  });
  const { accessRecollection } = parts;
  const accessParts = {
    ...platform,
    store: ports.access,
    sealer,
    manager,
    audit,
    memory: memory.access,
    recollection: accessRecollection,
    self,
  };
  const accessControl =
    settings.acl === "off" ? null : createAccess(settings, settings.acl, policy, accessParts);
  const report = new Report({ manager, audit, serverCertificate, clock, log });
  const app: App = createApp({
    manager,
    facts: () => report.lines(),
    codec,
    readRenewalToken,
    access: accessControl?.access ?? null,
    ...bootstrapFiles(platform, settings),
    clock,
    random,
    log,
    inRequest: (requestId, work) => log.inRequest(requestId, work),
    datacenter: settings.datacenter,
    connectEnabled: settings.connectEnabled,
    loopbackOnly: isLoopback(settings.listen.host),
    hosts: settings.hosts,
    limits: httpLimits(settings),
    behindProxy: settings.plainHttp !== null,
    compressed: parts.compressed,
    audit,
    renderMetrics:
      metrics === null
        ? null
        : () => {
            const { snapshot, signing, status } = manager;
            const { changeObstacle } = report;
            const certificate = serverCertificate();
            return metrics.render({
              snapshot,
              signing,
              status,
              now: clock.now(),
              watchers: app.watchers.count,
              audit,
              changeObstacle,
              certificate,
            });
          },
    countRequest: metrics?.request ?? (() => undefined),
    countWrongToken: metrics?.wrongToken ?? (() => undefined),
  });
  return { manager, app, audit, accessControl, report };
}

/**
 * Makes the first state, or waits for the one that another replica makes.
 * @param first tries to make it. @param last whether it is not called again.
 * @throws {CaError}
 */
export async function beginState(
  manager: CaManager,
  { clock, random }: Platform,
  signal: AbortSignal,
  first: (last: boolean) => Promise<unknown> = () => manager.tick(),
): Promise<void> {
  const until = clock.now().getTime() + START_MS;
  const isLast = () => clock.now().getTime() >= until;
  for (;;) {
    // Another one holds the lease, or took it over: what it makes, or leaves behind, is waited for.
    await first(isLast()).catch((error: unknown) => {
      // A provider that is away is waited for, and after that the tick goes on trying.
      const isAway = error instanceof ProviderError && error.code === "provider_unavailable";
      if (!(isAway || error instanceof NotReadyError || error instanceof ConflictError))
        throw error;
    });
    if (manager.snapshot !== null || manager.status.stopped !== null || isLast()) return;
    await clock.sleep(100 * (1 + random.fraction()), signal);
    await manager.refresh();
  }
}
