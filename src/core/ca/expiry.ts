/**
 * Warnings before the active root, the issuer and the server certificate expire.
 * @module
 */
import type { Certificate } from "../x509/certificate.ts";
import type { Snapshot } from "./snapshot.ts";

/** The certificate that new TLS connections are shown. */
export interface ServerCertificate {
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** SHA-256 over its DER, in hexadecimal with colons. */
  readonly fingerprint: string;
  /** Why it is the self-signed fallback certificate, or null if it is not. */
  readonly fallback: string | null;
}

/** Something that expires. */
export interface Expiring {
  readonly what: "root" | "issuer" | "server certificate";
  /** The SHA-1 ID of a CA certificate, or the fingerprint of the server certificate. */
  readonly id: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
}

/** An expiry that an operator has to be warned of. */
interface ExpiryWarning extends Expiring {
  /** Days left at most; 0 if it has expired. */
  readonly days: WarningDays;
}

type WarningDays = 30 | 7 | 1 | 0;

const DAY_MS = 86_400_000;
/** Days before an expiry at which an operator is warned. */
const WARNING_DAYS = [30, 7, 1] as const;

/**
 * The active root, the issuer of leaves, which may be the same certificate, and the server's, as
 * far as there are any.
 */
export function expiringOf(
  snapshot: Snapshot | null,
  server: ServerCertificate | null,
): Expiring[] {
  const expiring: Expiring[] = [];
  if (snapshot !== null) {
    const { id, certificate } = snapshot.active;
    expiring.push({ what: "root", id, ...validityOf(certificate) });
    const issuer = snapshot.provider?.issuer;
    if (issuer !== undefined)
      expiring.push({ what: "issuer", id: issuer.id, ...validityOf(issuer) });
  }
  if (server !== null && server.fallback === null)
    expiring.push({ what: "server certificate", id: server.fingerprint, ...validityOf(server) });
  return expiring;
}

function validityOf({ notBefore, notAfter }: Pick<Certificate, "notBefore" | "notAfter">) {
  return { notBefore, notAfter };
}

/**
 * How near an expiry is. In the first half of its life no certificate is near it: automatic renewal
 * happens at half of the life, so that a short-lived certificate that is renewed in time causes no
 * warning.
 * @returns the smallest number of days that contains it, 0 if it has expired, or null
 */
export function warningDays(
  { notBefore, notAfter }: Pick<Expiring, "notBefore" | "notAfter">,
  now: Date,
): WarningDays | null {
  const left = notAfter.getTime() - now.getTime();
  if (left <= 0) return 0;
  if (left > (notAfter.getTime() - notBefore.getTime()) / 2) return null;
  return WARNING_DAYS.findLast((days) => left <= days * DAY_MS) ?? null;
}

/** Warns once for each certificate and threshold. */
export class ExpiryWatch {
  /** The last threshold that was warned of, by what expires. */
  readonly #warned = new Map<string, WarningDays>();

  /** @returns a warning for each certificate that has passed a new threshold since the last call. */
  check(expiring: readonly Expiring[], now: Date): ExpiryWarning[] {
    const keyOf = ({ what, id }: Expiring) => `${what} ${id}`;
    const present = new Set(expiring.map(keyOf));
    // A root that signs leaves itself is warned of once.
    const roots = new Set(expiring.filter(({ what }) => what === "root").map(({ id }) => id));
    for (const key of this.#warned.keys()) if (!present.has(key)) this.#warned.delete(key);
    return expiring.flatMap((one) => {
      const days = warningDays(one, now);
      if (one.what === "issuer" && roots.has(one.id)) return [];
      if (days === null || days >= (this.#warned.get(keyOf(one)) ?? Number.POSITIVE_INFINITY))
        return [];
      this.#warned.set(keyOf(one), days);
      return [{ ...one, days }];
    });
  }
}
