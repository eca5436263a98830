/**
 * The state of a running CA for an operator: the lines of `/readyz`, and warnings of expiry in the log.
 * @module
 */
import type { CertificateAuthority } from "../core/ca/ca.ts";
import {
  type Expiring,
  ExpiryWatch,
  expiringOf,
  type ServerCertificate,
} from "../core/ca/expiry.ts";
import type { Audit } from "../core/ports/audit.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";

/** Reads the certificate that the server shows; null without TLS. */
export type ReadServerCertificate = () => ServerCertificate | null;

interface ReportOptions {
  readonly ca: Pick<CertificateAuthority, "snapshot" | "status">;
  readonly audit: Audit | null;
  readonly serverCertificate: ReadServerCertificate;
  readonly clock: Clock;
  readonly log: Log;
}

export class Report {
  readonly #options: ReportOptions;
  readonly #watch = new ExpiryWatch();

  constructor(options: ReportOptions) {
    this.#options = options;
  }

  /** Why the CA cannot be changed now, or null. */
  get changeObstacle(): string | null {
    const { ca, audit } = this.#options;
    return (
      ca.status.changeObstacle ??
      (audit?.stopsChanges === true ? `the audit log cannot be written (${audit.failure})` : null)
    );
  }

  /** The lines of `/readyz`, each a name and a value. */
  lines(): readonly (readonly [name: string, value: string])[] {
    const { ca, serverCertificate } = this.#options;
    const { storeAway, confirmedAt } = ca.status;
    const certificate = serverCertificate();
    const obstacle = this.changeObstacle;
    return [
      ["store", storeAway ? `away since ${confirmedAt?.toISOString() ?? "the start"}` : "ok"],
      ["changes", obstacle === null ? "possible" : `not possible: ${obstacle}`],
      ...this.#expiring().map(({ what, notAfter }): [string, string] => [
        `${NAMES[what]}_expires`,
        notAfter.toISOString(),
      ]),
      ...(certificate === null ? [] : fallbackLines(certificate)),
    ];
  }

  /** Logs what expires within 30, 7 and 1 days or has expired, once each. */
  warn(): void {
    const { clock, log } = this.#options;
    for (const { what, id, notAfter, days } of this.#watch.check(this.#expiring(), clock.now())) {
      const fields = { what, id, notAfter: notAfter.toISOString() };
      if (days === 0) log.error(`The ${what} has expired: ${REMEDIES[what]}`, fields);
      else
        log.warn(
          `The ${what} expires within ${days} ${days === 1 ? "day" : "days"}: ${REMEDIES[what]}`,
          fields,
        );
    }
  }

  #expiring(): Expiring[] {
    const { ca, serverCertificate } = this.#options;
    return expiringOf(ca.snapshot, serverCertificate());
  }
}

function fallbackLines({ fallback, fingerprint }: ServerCertificate): [string, string][] {
  if (fallback === null) return [];
  return [["tls", `self-signed fallback certificate, fingerprint ${fingerprint}: ${fallback}`]];
}

const NAMES = { root: "root", issuer: "issuer", "server certificate": "tls" } as const;

/** What an operator can do about an expiry. */
const REMEDIES = {
  root: "without a valid root no leaf can be signed; rotate it with PUT /v1/connect/ca/rotate",
  issuer:
    "it should have been renewed at half of its lifetime; see /readyz for the reason, or rotate with PUT /v1/connect/ca/rotate",
  "server certificate":
    "replace the files of MESHCA_TLS_CERT_FILE and MESHCA_TLS_KEY_FILE, or with MESHCA_TLS=self see /readyz why it was not renewed",
} as const;
