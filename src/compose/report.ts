/**
 * The state of a running CA for an operator: the lines of `/readyz`, and warnings of expiry in the log.
 * @module
 */
import type { Status } from "../core/ca/api.ts";
import type { CertificateAuthority } from "../core/ca/ca.ts";
import {
  type Delay,
  type Expiring,
  ExpiryWatch,
  expiringOf,
  renewalDelay,
  type ServerCertificate,
  warningDays,
} from "../core/ca/expiry.ts";
import { unexpiredIntermediates } from "../core/ca/intermediates.ts";
import { overdueTexts } from "../core/ca/leaf-summary.ts";
import { otherPrimaryText } from "../core/ca/other-primary.ts";
import type { Audit } from "../core/ports/audit.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import { REMEDIES, type Trouble } from "./remedies.ts";

/** Reads the certificate that the server shows; null without TLS. */
export type ReadServerCertificate = () => ServerCertificate | null;

type Validity = Pick<Expiring, "notBefore" | "notAfter">;

interface ReportOptions {
  readonly ca: Pick<
    CertificateAuthority,
    "snapshot" | "status" | "isSecondary" | "autoRotation" | "rotationObstacle" | "leaves"
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
  /** Whether leaves that outlive their root were seen, and logged, last. */
  #loggedOverdue = false;
  /** The root whose automatic rotation was announced last. */
  #announced: string | null = null;
  /** The intermediate and its delay, as they were seen and logged last; null: it is not late. */
  #seenDelay: string | null = null;
  #loggedDelay: string | null = null;

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
      ...promotionLines(ca.status),
      ...dropLines(ca.status),
      ...this.#intermediatesLine(),
      ...this.#overdueLeaves().map((text): [string, string] => ["leaves_alarm", text]),
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
        if (what === "intermediate") return this.#intermediateTroubles(validity);
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

  /** The leaves that outlive their root, a clause for each root. */
  #overdueLeaves(): readonly string[] {
    const { ca } = this.#options;
    return ca.snapshot === null ? [] : overdueTexts(ca.leaves);
  }

  /** What is wrong with an intermediate that the primary datacenter does not renew. */
  #intermediateTroubles(validity: Validity): (readonly [string, Trouble])[] {
    const at = validity.notAfter.toISOString();
    if (validity.notAfter <= this.#options.clock.now())
      return [[`the intermediate has expired at ${at}`, "intermediate expired"]];
    const delay = this.#delayOf(validity);
    if (delay === null) return [];
    const text = "the intermediate was not renewed at half of its life and expires at";
    return [
      [`${text} ${at}`, delay === "urgent" ? "intermediate expires" : "intermediate overdue"],
    ];
  }

  /** How far behind the renewal of an intermediate is, or null. */
  #delayOf(validity: Validity): Delay | null {
    const { ca, clock } = this.#options;
    const { snapshot } = ca;
    return snapshot === null
      ? null
      : renewalDelay(validity, snapshot.config.leafTtlMs, clock.now());
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

  /**
   * Logs what expires within 30, 7 and 1 days or has expired, and an intermediate that is not renewed,
   * once each.
   */
  warn(): void {
    const { clock, log } = this.#options;
    this.#warnOfDelay();
    const expiring = this.#expiring().filter(
      // A day may be all of its life, at half of which it is renewed.
      ({ what, notAfter }) =>
        what !== "intermediate" || this.#loggedDelay !== null || notAfter <= clock.now(),
    );
    for (const { what, id, notAfter, days } of this.#watch.check(expiring, clock.now())) {
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
    this.#warnOfOverdueLeaves();
  }

  /** Logs once that leaves outlive their root, until none does. */
  #warnOfOverdueLeaves(): void {
    const roots = this.#overdueLeaves();
    if (roots.length > 0 && !this.#loggedOverdue)
      this.#options.log.error(
        "Leaves outlive their root: they are refused by all who have fetched the roots after it was pruned; GET /v1/connect/ca/leaves has their number",
        { roots },
      );
    this.#loggedOverdue = roots.length > 0;
  }

  /**
   * Logs once for each delay that an intermediate is not renewed. It must be seen twice: the first look
   * may be at the start, before the renewal that was due while this replica was down.
   */
  #warnOfDelay(): void {
    const { ca, clock, log } = this.#options;
    const late = this.#expiring().find(
      ({ what, notAfter }) => what === "intermediate" && notAfter > clock.now(),
    );
    const delay = late === undefined ? null : this.#delayOf(late);
    const now = late === undefined || delay === null ? null : `${late.id} ${delay}`;
    const isConfirmed = now === this.#seenDelay;
    this.#seenDelay = now;
    if (!isConfirmed || now === this.#loggedDelay) return;
    this.#loggedDelay = now;
    if (late === undefined || delay === null) return;
    const { primary } = ca.status;
    const fields = {
      id: late.id,
      notAfter: late.notAfter.toISOString(),
      primary: primary?.datacenter ?? null,
      reason: primary?.fault?.reason ?? null,
    };
    if (delay === "overdue")
      log.warn(
        `The intermediate was not renewed at half of its life: ${REMEDIES["intermediate overdue"].text}`,
        fields,
      );
    else
      log.error(
        `The intermediate is not renewed, and little of its life is left: ${REMEDIES["intermediate expires"].text}`,
        fields,
      );
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

  /** The intermediates of other datacenters that are not expired. */
  #intermediatesLine(): [string, string][] {
    const { ca, clock } = this.#options;
    const { count, firstNotAfter } = unexpiredIntermediates(
      ca.snapshot?.state ?? null,
      clock.now(),
    );
    if (firstNotAfter === null) return [];
    return [["intermediates", `${count}, the first expires at ${firstNotAfter.toISOString()}`]];
  }

  #expiring(): Expiring[] {
    const { ca, serverCertificate } = this.#options;
    return expiringOf(ca.snapshot, serverCertificate());
  }
}

/** What a secondary datacenter follows, and why it does not. */
function primaryLines({ primary }: Status): [string, string][] {
  if (primary === null) return [];
  const { datacenter, isAsked, lastContact, index, followedIndex, fault } = primary;
  const contact =
    lastContact === null ? "no contact yet" : `last contact ${lastContact.toISOString()}`;
  const read = index === null ? [] : [`index ${index}`];
  const followed = followedIndex === null ? [] : [`followed index ${followedIndex}`];
  const known = isAsked ? [contact, ...read] : ["asked by the leader"];
  const reason =
    fault === null
      ? ""
      : `; not followed since ${fault.since.toISOString()} (${fault.code}): ${fault.reason}`;
  return [["primary", `${[datacenter, ...known, ...followed].join(", ")}${reason}`]];
}

/** What a promotion left to be done: a second primary, and a root that does not sign yet. */
function promotionLines({ otherPrimary: other, preparedRoot: root }: Status): [string, string][] {
  const lines: [string, string][] = [];
  if (other !== null) lines.push(["other_primary", otherPrimaryText(other)]);
  if (root !== null)
    lines.push(["prepared_root", `${root.rootId}, active from ${root.activateAt.toISOString()}`]);
  return lines;
}

/** Who still trusts a root that was dropped. */
function dropLines({ trustOfDropped }: Status): [string, string][] {
  return trustOfDropped.map(({ droppedId, rootId, until }) => [
    "dropped_root",
    `${droppedId} is trusted until ${until.toISOString()} by all who trust root ${rootId}, which certified it`,
  ]);
}

function fallbackLines({ fallback, fingerprint }: ServerCertificate): [string, string][] {
  if (fallback === null) return [];
  return [["tls", `self-signed fallback certificate, fingerprint ${fingerprint}: ${fallback}`]];
}

const NAMES = {
  root: "root",
  issuer: "issuer",
  intermediate: "issuer",
  "server certificate": "tls",
} as const;
