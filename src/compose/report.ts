/**
 * The state of a running CA for an operator: the lines of `/readyz`, and warnings of expiry in the log.
 * @module
 */
import type { Status } from "../core/ca/api.ts";
import type { CertificateAuthority } from "../core/ca/ca.ts";
import {
  type Expiring,
  ExpiryWatch,
  expiringOf,
  type ServerCertificate,
  warningDays,
} from "../core/ca/expiry.ts";
import type { Audit } from "../core/ports/audit.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import { REMEDIES, type Trouble } from "./remedies.ts";

/** Reads the certificate that the server shows; null without TLS. */
export type ReadServerCertificate = () => ServerCertificate | null;

interface ReportOptions {
  readonly ca: Pick<
    CertificateAuthority,
    "snapshot" | "status" | "isSecondary" | "autoRotation" | "rotationObstacle"
  >;
  readonly audit: Audit | null;
  readonly serverCertificate: ReadServerCertificate;
  readonly clock: Clock;
  readonly log: Log;
}

/** How long before an automatic rotation it is announced, in milliseconds. */
const ANNOUNCE_MS = 30 * 86_400_000;

export class Report {
  readonly #options: ReportOptions;
  readonly #watch = new ExpiryWatch();
  /** The root whose automatic rotation was announced last. */
  #announced: string | null = null;

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
      ...this.#rotationLine(),
      ...primaryLines(ca.status),
      ...this.troubles().map(([subject, trouble]): [string, string] => [
        "remedy",
        `${subject}: ${REMEDIES[trouble].text}`,
      ]),
    ];
  }

  /** What has to be mended now: a clause about what happened, and the trouble. */
  troubles(): readonly (readonly [subject: string, trouble: Trouble])[] {
    const { ca, serverCertificate, clock } = this.#options;
    const now = clock.now();
    const roots = new Set<string>();
    const expiries = this.#expiring().flatMap(
      ({ what, id, ...validity }): (readonly [string, Trouble])[] => {
        const days = warningDays(validity, now);
        // A root that signs leaves itself is named once.
        if (days === null || (what === "issuer" && roots.has(id))) return [];
        if (what === "root") roots.add(id);
        const at = validity.notAfter.toISOString();
        return days === 0
          ? [[`the ${what} has expired at ${at}`, this.#troubleOf(what, "expired")]]
          : [[`the ${what} expires at ${at}`, this.#troubleOf(what, "expires")]];
      },
    );
    const fallback = serverCertificate()?.fallback ?? null;
    return [
      ...expiries,
      ...(fallback === null
        ? []
        : [["TLS is served with the fallback certificate", "fallback certificate"] as const]),
      ...(ca.status.providerUnavailable
        ? [["the provider of the CA does not answer", "provider unavailable"] as const]
        : []),
    ];
  }

  #troubleOf(what: Expiring["what"], when: "expires" | "expired"): Trouble {
    const { isSecondary, rotationObstacle } = this.#options.ca;
    if (what === "root" && isSecondary) return "followed root expires";
    if (what === "root" && when === "expires" && rotationObstacle !== null)
      return "supplied root expires";
    return `${what} ${when}`;
  }

  /** When RootAutoRotate rotates, or why it does not. */
  #rotationLine(): [string, string][] {
    const next = this.#options.ca.autoRotation;
    if (next === null) return [];
    const at = next.at.toISOString();
    return [["root_auto_rotate", next.obstacle === null ? at : `not at ${at}: ${next.obstacle}`]];
  }

  /** Logs what expires within 30, 7 and 1 days or has expired, once each. */
  warn(): void {
    const { clock, log } = this.#options;
    for (const { what, id, notAfter, days } of this.#watch.check(this.#expiring(), clock.now())) {
      const fields = { what, id, notAfter: notAfter.toISOString() };
      if (days === 0)
        log.error(
          `The ${what} has expired: ${REMEDIES[this.#troubleOf(what, "expired")].text}`,
          fields,
        );
      else
        log.warn(
          `The ${what} expires within ${days} ${days === 1 ? "day" : "days"}: ${REMEDIES[this.#troubleOf(what, "expires")].text}`,
          fields,
        );
    }
    this.#announceRotation(clock.now());
  }

  /** Logs once, 30 days before, that RootAutoRotate is going to rotate the root, or cannot. */
  #announceRotation(now: Date): void {
    const { ca, log } = this.#options;
    const next = ca.autoRotation;
    const id = ca.snapshot?.active.id ?? null;
    if (next === null || id === null || id === this.#announced) return;
    if (next.at.getTime() - now.getTime() > ANNOUNCE_MS) return;
    this.#announced = id;
    const fields = { root: id, at: next.at.toISOString() };
    if (next.obstacle === null) log.info("RootAutoRotate rotates the root within 30 days", fields);
    else
      log.warn(
        `RootAutoRotate does not rotate the root, whose share of life ends within 30 days: ${REMEDIES["supplied root expires"].text}`,
        { ...fields, reason: next.obstacle },
      );
  }

  #expiring(): Expiring[] {
    const { ca, serverCertificate } = this.#options;
    return expiringOf(ca.snapshot, serverCertificate());
  }
}

/** What a secondary datacenter follows, and why it does not. */
function primaryLines({ primary }: Status): [string, string][] {
  if (primary === null) return [];
  const { datacenter, lastContact, index, fault } = primary;
  const contact =
    lastContact === null
      ? "no contact yet"
      : `last contact ${lastContact.toISOString()}, index ${index ?? "unknown"}`;
  const reason =
    fault === null ? "" : `; not followed since ${fault.since.toISOString()}: ${fault.reason}`;
  return [["primary", `${datacenter}, ${contact}${reason}`]];
}

function fallbackLines({ fallback, fingerprint }: ServerCertificate): [string, string][] {
  if (fallback === null) return [];
  return [["tls", `self-signed fallback certificate, fingerprint ${fingerprint}: ${fallback}`]];
}

const NAMES = { root: "root", issuer: "issuer", "server certificate": "tls" } as const;
