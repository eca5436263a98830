/**
 * The server certificate of our own CA: requested as any client requests one, and renewed at half
 * of its life and after each rotation. Each certificate has a new key, which never leaves the
 * process.
 * @module
 */
import type { CertificateAuthority } from "../core/ca/ca.ts";
import { reasonOf } from "../core/errors.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import { formatSpiffeId } from "../core/spiffe/id.ts";
import { generateCaKey } from "../core/x509/authority.ts";
import type { ServerNames } from "../core/x509/leaf.ts";
import { makeRequest, privateKeyPem } from "../core/x509/request.ts";
import type { KeyPair } from "./key-pair.ts";

/**
 * The delay before a failed request is retried, in milliseconds: `first` while no certificate is
 * valid.
 */
const RETRY_MS = { first: 1000, renewal: 30_000 };

interface OwnCertificateOptions {
  readonly ca: Pick<CertificateAuthority, "snapshot" | "sign">;
  readonly datacenter: string;
  readonly names: ServerNames;
  readonly clock: Clock;
  readonly log: Log;
}

/** A certificate with the id of its root, and its validity in milliseconds since 1970. */
interface Held {
  readonly pair: KeyPair;
  readonly root: string;
  readonly notBefore: number;
  readonly notAfter: number;
}

export class OwnCertificate {
  readonly #options: OwnCertificateOptions;
  #held: Held | null = null;
  #failed: { readonly at: number; readonly root: string } | null = null;
  #reason: string | null = null;

  constructor(options: OwnCertificateOptions) {
    this.#options = options;
  }

  /** The last certificate, or null if it is not valid now. */
  get pair(): KeyPair | null {
    return this.#valid(this.#options.clock.now().getTime())?.pair ?? null;
  }

  /** Why the last request failed, or null. */
  get reason(): string | null {
    return this.#reason;
  }

  /**
   * Requests a certificate if one is due. A failure is logged; the request is retried after a pause,
   * or at once if the root changed. @returns whether there is a new certificate.
   */
  async renew(): Promise<boolean> {
    const { ca, clock, log } = this.#options;
    const now = clock.now().getTime();
    if (ca.snapshot === null) return false;
    const { state, active } = ca.snapshot;
    if (!this.#isDue(active.id, now)) return false;
    try {
      await this.#request(state.trustDomain, active.id);
      this.#failed = this.#reason = null;
      return true;
    } catch (error) {
      this.#failed = { at: now, root: active.id };
      // Consul's texts about expired certificates end with a line break.
      const reason = reasonOf(error).trim();
      if (reason !== this.#reason)
        log.error("Failed to renew the TLS certificate of this server; will retry", { reason });
      this.#reason = reason;
      return false;
    }
  }

  /** @throws {Error} */
  async #request(trustDomain: string, root: string): Promise<void> {
    const { ca, datacenter, names, log } = this.#options;
    const key = await generateCaKey({ type: "ec", bits: 256 });
    const uri = formatSpiffeId({ kind: "server", trustDomain, datacenter });
    const csr = await makeRequest(key, { uri, ...names });
    const leaf = await ca.sign(csr, { priority: "renewal" });
    // A rotation during the request is noticed at the next call.
    this.#held = {
      pair: { cert: leaf.certificatePem, key: await privateKeyPem(key.privateKey) },
      root,
      notBefore: leaf.notBefore.getTime(),
      notAfter: leaf.notAfter.getTime(),
    };
    log.info("Renewed the TLS certificate of this server", {
      serial: leaf.serialNumber,
      until: leaf.notAfter.toISOString(),
      root,
    });
  }

  #valid(now: number): Held | null {
    const held = this.#held;
    return held !== null && held.notBefore <= now && now < held.notAfter ? held : null;
  }

  #isDue(root: string, now: number): boolean {
    const current = this.#valid(now);
    const failed = this.#failed;
    const pause = current === null ? RETRY_MS.first : RETRY_MS.renewal;
    // A request under another root may succeed. A clock that was set back must not prolong the pause.
    if (failed?.root === root && failed.at <= now && now < failed.at + pause) return false;
    return (
      current === null || current.root !== root || now >= (current.notBefore + current.notAfter) / 2
    );
  }
}
