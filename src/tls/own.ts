/**
 * A server certificate of our own CA: requested as any client would request it, and renewed at half
 * of its life and after each rotation. Its key is made with each certificate and never leaves the
 * process.
 * @module
 */
import type { CaManager } from "../core/ca/ca.ts";
import { reasonOf } from "../core/errors.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import { formatSpiffeId, trustDomainOf } from "../core/spiffe/id.ts";
import type { ServerNames } from "../core/x509/profile.ts";
import { generateRequestKey, makeRequest, privateKeyPem } from "../core/x509/request.ts";
import type { Pair } from "./pair.ts";

export interface OwnCertificate {
  /** The last certificate that was issued, or null if there is none that is in force now. */
  readonly pair: Pair | null;
  /** Why the last request failed, or null. */
  readonly reason: string | null;
  /**
   * Requests a certificate if one is due. A failure is logged. Under the same root it is retried
   * after `RETRY_MS`, under another root at once. @returns whether there is a new one.
   */
  renew(): Promise<boolean>;
}

/**
 * How soon after a failure a request is retried, in milliseconds: sooner while no certificate is in
 * force.
 */
const RETRY_MS = { first: 1000, renewal: 30_000 };

export interface OwnCertificateOptions {
  readonly manager: Pick<CaManager, "snapshot" | "sign">;
  readonly datacenter: string;
  readonly names: ServerNames;
  readonly clock: Clock;
  readonly log: Log;
}

/** A certificate with its root and its validity in milliseconds since 1970. */
interface Held {
  readonly pair: Pair;
  readonly root: string;
  readonly notBefore: number;
  readonly notAfter: number;
}

export function createOwnCertificate({
  manager,
  datacenter,
  names,
  clock,
  log,
}: OwnCertificateOptions): OwnCertificate {
  let held: Held | null = null;
  let failed: { readonly at: number; readonly root: string } | null = null;
  let reason: string | null = null;

  const inForce = (now: number): Held | null =>
    held !== null && held.notBefore <= now && now < held.notAfter ? held : null;
  const isDue = (root: string, now: number): boolean => {
    const current = inForce(now);
    const pause = current === null ? RETRY_MS.first : RETRY_MS.renewal;
    // What failed under one root says nothing of the next one. A clock that was set back must not
    // make the pause longer.
    if (failed?.root === root && failed.at <= now && now < failed.at + pause) return false;
    return (
      current === null || current.root !== root || now >= (current.notBefore + current.notAfter) / 2
    );
  };

  return {
    get pair() {
      return inForce(clock.now().getTime())?.pair ?? null;
    },
    get reason() {
      return reason;
    },
    async renew() {
      const now = clock.now().getTime();
      if (manager.snapshot === null) return false;
      const { state, active } = manager.snapshot;
      if (!isDue(active.id, now)) return false;
      try {
        const key = await generateRequestKey();
        const uri = formatSpiffeId({
          kind: "server",
          trustDomain: trustDomainOf(state.clusterId),
          datacenter,
        });
        const leaf = await manager.sign(await makeRequest(key, { uri, ...names }), {
          priority: "renewal",
        });
        const [notBefore, notAfter] = [leaf.notBefore.getTime(), leaf.notAfter.getTime()];
        // A rotation during the request is noticed the next time.
        held = {
          pair: { cert: leaf.certificatePem, key: await privateKeyPem(key.privateKey) },
          root: active.id,
          notBefore,
          notAfter,
        };
        failed = reason = null;
        log.info("The certificate for TLS was renewed", {
          serial: leaf.serialNumber,
          until: leaf.notAfter.toISOString(),
          root: active.id,
        });
        return true;
      } catch (error) {
        failed = { at: now, root: active.id };
        // Consul's texts of expired certificates end with a line.
        const why = reasonOf(error).trim();
        if (why !== reason) log.error("Cannot renew the certificate for TLS", { reason: why });
        reason = why;
        return false;
      }
    },
  };
}
