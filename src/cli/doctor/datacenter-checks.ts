/**
 * Checks of other datacenters: of a secondary one whether it reaches and follows the primary one and
 * has its intermediate renewed, of a primary one whether it knows those that it signed for.
 * @module
 */

import type { DatacenterStatus } from "../datacenter-status.ts";
import { lifeText, spanText } from "../table.ts";
import { BACKDATE_MS, SKEW_MS } from "./contact-checks.ts";
import { type Facts, remedyOf } from "./look.ts";
import {
  type CheckId,
  type Finding,
  found,
  ok,
  type Result,
  type Severity,
  skipped,
  unchecked,
} from "./types.ts";

type Primary = NonNullable<DatacenterStatus["Primary"]>;

/** A secondary datacenter as a check sees it. */
interface Secondary {
  readonly facts: Facts;
  readonly primary: Primary;
  readonly intermediate: DatacenterStatus["Intermediate"];
  /** Of a fault that keeps it from following: without an intermediate no leaf is signed. */
  readonly severity: Severity;
}

/** The codes of faults that have a check of their own; `primary.followed` has the others. */
const FAULTS = {
  "primary.reachable": ["unreachable", "untrusted", "limited"],
  "primary.token": ["refused"],
  "primary.role": ["not_primary"],
  "primary.trust_domain": ["cluster_differs"],
} as const satisfies Partial<Record<CheckId, readonly string[]>>;

const OF_SECONDARY = {
  "primary.reachable": reachable,
  "primary.token": token,
  "primary.role": role,
  "primary.trust_domain": trustDomain,
  "primary.followed": followed,
  "primary.clock": clock,
  "intermediate.renewal": renewal,
} as const;

const OF_PRIMARY = ["primary.other", "datacenters.listed"] as const satisfies readonly CheckId[];

export function datacenterChecks(facts: Facts): Result[] {
  const { datacenter } = facts;
  const ids = Object.keys(OF_SECONDARY) as (keyof typeof OF_SECONDARY)[];
  if ("error" in datacenter)
    return [...ids, ...OF_PRIMARY].map((id) => unchecked(id, datacenter.error));
  const { Primary: primary, Intermediate: intermediate } = datacenter.value;
  const listed = [otherPrimary(datacenter.value), listedDatacenters(datacenter.value)];
  if (primary === null)
    return [...ids.map((id) => skipped(id, "this datacenter follows no other one")), ...listed];
  const severity = intermediate === null ? "critical" : "warning";
  const secondary = { facts, primary, intermediate, severity } as const;
  return [...ids.map((id) => OF_SECONDARY[id](id, secondary)), ...listed];
}

/** The fault, if a check is the one for it. */
function faultOf({ primary: { Fault } }: Secondary, codes: readonly string[]) {
  return Fault !== null && codes.includes(Fault.Code) ? Fault : null;
}

/** Why nothing is known of a fault, if this replica does not ask the primary datacenter. */
function unlessAsked(id: CheckId, { primary, facts: { leader } }: Secondary): Result | null {
  if (primary.Asked) return null;
  const address = "value" in leader && leader.value !== "" ? `, ${leader.value}` : "";
  return unchecked(
    id,
    `this replica does not ask datacenter ${primary.Datacenter}: check the leader${address}`,
  );
}

function reachable(id: CheckId, secondary: Secondary): Result {
  const { primary, severity, facts } = secondary;
  const { Datacenter, Fault, Asked, LastContact } = primary;
  const fault = faultOf(secondary, FAULTS["primary.reachable"]);
  const { diagnosis } = facts;
  // Every replica asks there what its token is allowed.
  const failed = !Asked && "value" in diagnosis ? diagnosis.value.Replication.Error : null;
  const reason = fault?.Reason ?? failed;
  if (reason === null) {
    if (!Asked && "error" in diagnosis) return unchecked(id, diagnosis.error);
    if (Asked && LastContact === null)
      return unchecked(id, Fault?.Reason ?? `datacenter ${Datacenter} was not asked yet`);
    return ok(id, Asked ? `last contact ${LastContact}` : `${Datacenter} answers`);
  }
  const since = fault === null ? "" : ` since ${fault.Since}`;
  return found(id, reason, [
    {
      severity,
      what: `The primary datacenter ${Datacenter} cannot be used${since}: ${reason}`,
      why: whyNotFollowed(secondary),
      fix:
        fault?.Code === "untrusted"
          ? "Correct MESHCA_PRIMARY_CA_FILE or MESHCA_PRIMARY_CA_PIN, or the certificate of that server, and send SIGHUP; meshca inspect HOST:PORT shows what it presents"
          : "Start the servers of the primary datacenter or mend the network to them, or correct MESHCA_PRIMARY_SERVERS and send SIGHUP; meshca doctor --http-addr ADDRESS checks one of them",
    },
  ]);
}

function whyNotFollowed({ intermediate }: Secondary): string {
  return intermediate === null
    ? "Until then this datacenter has no CA, and signs no leaf"
    : `Its roots are not followed and the intermediate is not renewed: leaves are signed until ${intermediate.NotAfter}`;
}

function token(id: CheckId, secondary: Secondary): Result {
  const { facts, primary, severity } = secondary;
  const fault = faultOf(secondary, FAULTS["primary.token"]);
  const { diagnosis } = facts;
  const finding = (what: string): Finding => ({
    severity,
    what,
    why:
      secondary.intermediate === null
        ? whyNotFollowed(secondary)
        : "The next intermediate is refused: at half of its life, at a rotation, or if the key type changes",
    fix: `In datacenter ${primary.Datacenter}, give the token a policy with intermediate = "write", or give another one by MESHCA_REPLICATION_TOKEN_FILE and send SIGHUP`,
  });
  if (fault !== null) return found(id, fault.Reason, [finding(fault.Reason)]);
  if ("error" in diagnosis) return unchecked(id, diagnosis.error);
  const { Value, Error: reason } = diagnosis.value.Replication;
  if (reason !== null) return unchecked(id, reason);
  if (Value?.Allowed === true) return ok(id, `datacenter ${primary.Datacenter} accepts it`);
  const what = `Datacenter ${primary.Datacenter} signs no intermediate for the replication token: it lacks the right intermediate:write, or is unknown there`;
  return found(id, what, [finding(what)]);
}

function role(id: CheckId, secondary: Secondary): Result {
  const fault = faultOf(secondary, FAULTS["primary.role"]);
  if (fault === null) return unlessAsked(id, secondary) ?? knownBySignature(id, secondary);
  return found(id, fault.Reason, [
    {
      severity: secondary.severity,
      what: `Datacenter ${secondary.primary.Datacenter} is a secondary one itself: ${fault.Reason}`,
      why: whyNotFollowed(secondary),
      fix: "Name the primary datacenter that it names in MESHCA_PRIMARY_DATACENTER and MESHCA_PRIMARY_SERVERS, and send SIGHUP",
    },
  ]);
}

/** Ok once the primary datacenter signed an intermediate here. */
function knownBySignature(id: CheckId, { primary, intermediate }: Secondary): Result {
  const { Datacenter, Fault } = primary;
  return intermediate === null
    ? unchecked(id, Fault?.Reason ?? `datacenter ${Datacenter} signed no intermediate yet`)
    : ok(id, `${Datacenter} signed the intermediate`);
}

function trustDomain(id: CheckId, secondary: Secondary): Result {
  const fault = faultOf(secondary, FAULTS["primary.trust_domain"]);
  if (fault === null) return unlessAsked(id, secondary) ?? knownBySignature(id, secondary);
  return found(id, fault.Reason, [
    {
      severity: secondary.severity,
      what: fault.Reason,
      why: whyNotFollowed(secondary),
      fix: "Correct MESHCA_PRIMARY_SERVERS and send SIGHUP; a datacenter never changes its trust domain",
    },
  ]);
}

function followed(id: CheckId, secondary: Secondary): Result {
  const { primary, severity } = secondary;
  const { Fault, Index, FollowedIndex } = primary;
  const others: readonly string[] = Object.values(FAULTS).flat();
  if (Fault !== null && others.includes(Fault.Code)) return unchecked(id, Fault.Reason);
  if (Fault === null) {
    const isUnknown = Index === null || FollowedIndex === null;
    return (
      unlessAsked(id, secondary) ??
      (isUnknown
        ? unchecked(id, "its roots were not read yet")
        : ok(id, `index ${Index}, followed index ${FollowedIndex}`))
    );
  }
  return found(id, Fault.Reason, [
    {
      severity,
      what: `The roots of datacenter ${primary.Datacenter} are not followed since ${Fault.Since} (${Fault.Code}): ${Fault.Reason}`,
      why: whyNotFollowed(secondary),
      fix: "Mend the reason; it is tried again within minutes",
    },
  ]);
}

function clock(id: CheckId, secondary: Secondary): Result {
  const { Datacenter, ClockOffsetMs } = secondary.primary;
  if (ClockOffsetMs === null)
    return (
      unlessAsked(id, secondary) ??
      unchecked(id, `datacenter ${Datacenter} has not answered this server yet`)
    );
  const beyond = Math.abs(ClockOffsetMs);
  const text = `the clock of datacenter ${Datacenter} is ${spanText(beyond)} ${ClockOffsetMs < 0 ? "behind" : "ahead of"} this server's`;
  if (beyond <= SKEW_MS) return ok(id, `within ${SKEW_MS / 1000} s of datacenter ${Datacenter}'s`);
  return found(id, text, [
    {
      severity: beyond > BACKDATE_MS ? "critical" : "warning",
      what: `T${text.slice(1)}`,
      why: `Certificates are valid from ${BACKDATE_MS / 1000} s before they are signed: beyond that, new leaves of one datacenter are refused in the other`,
      fix: "Set the clock that is wrong: timedatectl set-ntp true",
    },
  ]);
}

function renewal(id: CheckId, secondary: Secondary): Result {
  const { intermediate, facts } = secondary;
  if (intermediate === null) return unchecked(id, "there is no intermediate yet");
  const { ID, NotAfter, Delay } = intermediate;
  const life = lifeText(new Date(NotAfter), facts.now);
  if (Delay === null) return ok(id, life);
  return found(id, life, [
    {
      severity: Delay === "urgent" ? "critical" : "warning",
      what: `The intermediate ${ID} was not renewed at half of its life: ${life}`,
      why: "No leaf outlives it, and none is signed after it",
      fix:
        remedyOf(facts, "the intermediate") ??
        "Mend what the checks of the primary datacenter found; it is renewed by itself then",
    },
  ]);
}

/** Two primary datacenters: this one, and one that was promoted. */
function otherPrimary({ Primary: primary, OtherPrimary: other, Others }: DatacenterStatus): Result {
  const id = "primary.other";
  if (primary !== null) return skipped(id, "this datacenter is not the primary one");
  if (Others.length === 0) return skipped(id, "no other datacenter is in the configuration");
  if (other === null) return ok(id, `none of ${Others.join(", ")} is`);
  const { Datacenter, Promotions, By } = other;
  const what = `Datacenter ${Datacenter} is the primary one by promotion ${Promotions}, as a server of ${By} reports`;
  return found(id, what, [
    {
      severity: "critical",
      what,
      why: "This datacenter signs leaves only: it signs no intermediate and changes neither its root nor its configuration, since the others would not follow",
      fix: `Configure this datacenter to follow ${Datacenter} and restart its servers; or run meshca datacenter promote here, if this one is to remain the primary`,
    },
  ]);
}

/** A primary datacenter that signed intermediates has other datacenters. */
function listedDatacenters({ Primary: primary, Others, Intermediates }: DatacenterStatus): Result {
  const id = "datacenters.listed";
  if (primary !== null) return skipped(id, "this datacenter is not the primary one");
  if (Intermediates.Unexpired === 0) return skipped(id, "no other datacenter has an intermediate");
  if (Others.length > 0) return ok(id, Others.join(", "));
  const what = `${Intermediates.Unexpired} ${Intermediates.Unexpired === 1 ? "intermediate was" : "intermediates were"} signed for other datacenters, and none is listed in MESHCA_DATACENTERS`;
  return found(id, what, [
    {
      severity: "warning",
      what,
      why: "Requests with ?dc= cannot be forwarded to them, and this server would not notice if one of them became the primary one",
      fix: "List each datacenter with its servers under datacenters in the configuration file (MESHCA_DATACENTERS), and send SIGHUP",
    },
  ]);
}
