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
  readonly what: "root" | "issuer" | "intermediate" | "server certificate";
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
 * far as there are any. The issuer of a secondary datacenter is its intermediate.
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
    const what = snapshot.state.primary === null ? "issuer" : "intermediate";
    if (issuer !== undefined) expiring.push({ what, id: issuer.id, ...validityOf(issuer) });
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

/**
 * How far behind the renewal of an intermediate is. `overdue`: attempts have failed for longer than
 * between two of them. `urgent`: leaves become shorter, or will before long.
 */
export type Delay = "overdue" | "urgent";

/**
 * The share of its life below which an intermediate counts as overdue. It is renewed at a half. The
 * twentieth between is 9 minutes of the shortest one (IntermediateCertTTL is at least 3 h), twice the
 * longest pause between two attempts (256 s, maintenance.ts), and 18 days of the default year: a
 * primary datacenter that is away for a moment causes no alarm.
 */
const OVERDUE_SHARE = 0.45;
/**
 * A quarter: what was half of its life for a repair is half over, and 91 days of the default year are
 * left.
 */
const URGENT_SHARE = 0.25;

/**
 * How far behind the renewal of a secondary datacenter's intermediate is. Below the life of a leaf it
 * is urgent in any case, since no leaf outlives its issuer; but not before it is overdue: the primary
 * may issue intermediates that live shorter than leaves here are configured to.
 * @param leafTtlMs LeafCertTTL, in milliseconds.
 * @returns null if it is not overdue; `urgent` also of one that has expired.
 */
export function renewalDelay(
  { notBefore, notAfter }: Pick<Expiring, "notBefore" | "notAfter">,
  leafTtlMs: number,
  now: Date,
): Delay | null {
  const left = notAfter.getTime() - now.getTime();
  const share = left / (notAfter.getTime() - notBefore.getTime());
  if (share >= OVERDUE_SHARE) return null;
  return share < URGENT_SHARE || left < leafTtlMs ? "urgent" : "overdue";
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
