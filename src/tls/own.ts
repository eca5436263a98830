/**
 * A server certificate of our own CA: asked for as anybody would ask, and asked for anew at half of its life and after
 * each rotation. Its key is made with each certificate and never leaves the process.
 * @module
 */
import type { CaManager } from "../core/ca/manager.ts";
import type { Clock } from "../core/clock.ts";
import { CaError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import { formatSpiffeId, trustDomainOf } from "../core/spiffe/kinds.ts";
import type { ServerNames } from "../core/x509/profile.ts";
import { generateRequestKey, makeRequest, privateKeyPem } from "../core/x509/request.ts";
import type { Pair } from "./pair.ts";

export interface OwnCertificate {
  /** Null before there was one. */
  readonly pair: Pair | null;
  /** Gets a certificate where one is due. A failure is logged, and tried again no sooner than in a while. @returns whether there is a new one. */
  renew(): Promise<boolean>;
}

/** How soon after a failure it is tried again, in milliseconds: sooner while there is nothing to show. */
const RETRY_MS = { first: 1000, renewal: 30_000 };

export interface OwnCertificateOptions {
  readonly manager: Pick<CaManager, "snapshot" | "sign">;
  readonly datacenter: string;
  readonly names: ServerNames;
  readonly clock: Clock;
  readonly log: Log;
}

export function createOwnCertificate({ manager, datacenter, names, clock, log }: OwnCertificateOptions): OwnCertificate {
  let held: { readonly pair: Pair; readonly root: string; readonly halfLife: number } | null = null;
  let failedAt: number | null = null;
  let reason: string | null = null;

  const isDue = (root: string, now: number): boolean => {
    const pause = held === null ? RETRY_MS.first : RETRY_MS.renewal;
    if (failedAt !== null && now < failedAt + pause) return false;
    return held === null || held.root !== root || now >= held.halfLife;
  };

  return {
    get pair() {
      return held?.pair ?? null;
    },
    async renew() {
      const now = clock.now().getTime();
      if (manager.snapshot === null) return false;
      const { state, active } = manager.snapshot;
      if (!isDue(active.id, now)) return false;
      try {
        const key = await generateRequestKey();
        const uri = formatSpiffeId({ kind: "server", trustDomain: trustDomainOf(state.clusterId), datacenter });
        const leaf = await manager.sign(await makeRequest(key, { uri, ...names }), { priority: "renewal" });
        const halfLife = (leaf.notBefore.getTime() + leaf.notAfter.getTime()) / 2;
        // A root that was rotated in meanwhile is noticed the next time.
        held = { pair: { cert: leaf.certificatePem, key: await privateKeyPem(key.privateKey) }, root: active.id, halfLife };
        failedAt = reason = null;
        log.info("The certificate for TLS was renewed", { serial: leaf.serialNumber, until: leaf.notAfter.toISOString(), root: active.id });
        return true;
      } catch (error) {
        failedAt = now;
        const why = error instanceof CaError ? error.message : error instanceof Error ? error.name : "unknown";
        if (why !== reason) log.error("Cannot renew the certificate for TLS", { reason: why });
        reason = why;
        return false;
      }
    },
  };
}
