/**
 * The part of the composition root that tells an operator how things are: the lines of `/readyz`,
 * and warnings of what expires in the log.
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

export interface ReportOptions {
  readonly manager: Pick<CertificateAuthority, "snapshot" | "status">;
  readonly audit: Audit | null;
  readonly serverCertificate: ReadServerCertificate;
  readonly clock: Clock;
  readonly log: Log;
}

/** What an operator is told of a running CA. */
export class Report {
  readonly #options: ReportOptions;
  readonly #watch = new ExpiryWatch();

  constructor(options: ReportOptions) {
    this.#options = options;
  }

  /** Why the CA cannot be changed now, or null. */
  get changeObstacle(): string | null {
    const { manager, audit } = this.#options;
    return (
      manager.status.changeObstacle ??
      (audit?.stopsChanges === true ? `the audit log cannot be written (${audit.failure})` : null)
    );
  }

  /** Facts for `/readyz`, a name and a value each. */
  lines(): readonly (readonly [name: string, value: string])[] {
    const { manager, serverCertificate } = this.#options;
    const { storeAway, confirmedAt } = manager.status;
    const certificate = serverCertificate();
    const obstacle = this.changeObstacle;
    return [
      ["store", storeAway ? `away since ${confirmedAt?.toISOString() ?? "the start"}` : "ok"],
      ["changes", obstacle === null ? "possible" : `not possible: ${obstacle}`],
      ...this.#expiring().map(({ what, notAfter }): [string, string] => [
        `${NAMES[what]}_expires`,
        notAfter.toISOString(),
      ]),
      ...(certificate === null || certificate.emergency === null
        ? []
        : [
            [
              "tls",
              `self-signed fallback certificate, SHA-256 fingerprint ${certificate.fingerprint}: ${certificate.emergency}`,
            ] as const,
          ]),
    ];
  }

  /** Logs what has come nearer to its expiry than 30, 7 or 1 days, once each. */
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
    const { manager, serverCertificate } = this.#options;
    return expiringOf(manager.snapshot, serverCertificate());
  }
}

const NAMES = { root: "root", issuer: "issuer", "server certificate": "tls" } as const;

/** What an operator can do. */
const REMEDIES = {
  root: "rotate it with PUT /v1/connect/ca/rotate",
  issuer:
    "it is renewed at half of its life, so see /readyz why it was not, or rotate with PUT /v1/connect/ca/rotate",
  "server certificate":
    "replace the files of MESHCA_TLS_CERT_FILE and MESHCA_TLS_KEY_FILE, or see /readyz why it was not renewed",
} as const;
