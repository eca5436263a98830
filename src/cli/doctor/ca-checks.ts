/**
 * Checks of the CA: whether it signs and can be changed, its roots, chains, replicas, keys and backups.
 * @module
 */
import { spanText } from "../table.ts";
import { type Facts, remedyOf } from "./look.ts";
import { chainLimits, issuerExpiry, rootExpiry } from "./root-checks.ts";
import { type CheckId, type Finding, found, ok, type Result, skipped, unchecked } from "./types.ts";

const DAY_MS = 86_400_000;
/** How old a backup of an earlier state may be. */
const BACKUP_MS = 7 * DAY_MS;
/** Above this, a replica and the store differ by more than NTP leaves. */
const SKEW_MS = 1000;

const NO_DETAILS = "this caller may not see it: give a token with operator:read by --token-file";

export function caChecks(facts: Facts): Result[] {
  return [
    signing(facts),
    conflict(facts),
    rootExpiry(facts),
    issuerExpiry(facts),
    leaves(facts),
    changes(facts),
    replicas(facts),
    storeClock(facts),
    backup(facts),
    chainLimits(facts),
    keks(facts),
    audit(facts),
  ];
}

/** The lines of /readyz of a name; a reason if they cannot be seen. */
export function linesOf({ readiness }: Facts, name: string): readonly string[] | string {
  if ("error" in readiness) return readiness.error;
  const { details } = readiness.value;
  return details === null ? NO_DETAILS : (details[name] ?? []);
}

/** Commands of ours that a text may recommend; nothing else of a text is offered as a command. */
const KNOWN = /\bmeshca (?:recover|rotate|conflict show|kek rewrap|backup save|status|roots)\b/;

/** The command of ours that a text of the server's recommends, or null. */
export function commandIn(text: string): string | null {
  return KNOWN.exec(text)?.[0] ?? null;
}

function signing(facts: Facts): Result {
  const id = "ca.signing";
  const { readiness } = facts;
  if ("error" in readiness) return unchecked(id, readiness.error);
  const { ready, reason } = readiness.value;
  if (ready) return ok(id, "leaves are signed");
  const why = reason ?? "the reason is shown to callers with operator:read";
  const remedy = /expired/.test(why)
    ? (remedyOf(facts, "the root has expired") ??
      remedyOf(facts, "the issuer has expired") ??
      "meshca recover")
    : remedyOf(facts, "the provider");
  return found(id, why, [
    {
      severity: "critical",
      what: `Leaves cannot be signed: ${why}`,
      why: "Workloads go on until their leaves expire, and then their connections fail",
      fix: remedy ?? commandIn(why) ?? "meshca status, and the server's log",
    },
  ]);
}

function conflict(facts: Facts): Result {
  const id = "ca.conflict";
  const state = linesOf(facts, "conflict");
  const acl = linesOf(facts, "access_control");
  if (typeof state === "string") return unchecked(id, state);
  if (typeof acl === "string") return unchecked(id, acl);
  return found(
    id,
    "none",
    [...state, ...acl].map((text) => ({
      severity: "critical",
      what: sentence(text),
      why: "The store lost writes or was changed by others; until an operator decides, no change is possible",
      fix: "meshca conflict show, then meshca conflict resolve",
    })),
  );
}

function leaves(facts: Facts): Result {
  const id = "root.leaves";
  const lines = linesOf(facts, "leaves_alarm");
  if (typeof lines === "string") return unchecked(id, lines);
  return found(
    id,
    "none outlives its root, as far as they are counted",
    lines.map((text) => ({
      severity: "critical",
      what: sentence(text),
      why: "A client that fetched the roots after the root was pruned refuses these leaves",
      fix: "Restart the agents or clients that hold such leaves, so that they get others; GET /v1/connect/ca/leaves has the number",
    })),
  );
}

function changes(facts: Facts): Result {
  const id = "ca.changes";
  const lines = linesOf(facts, "changes");
  if (typeof lines === "string") return unchecked(id, lines);
  const stopped = lines.filter((line) => line !== "possible");
  return found(
    id,
    "possible",
    stopped.map((text) => ({
      severity: "warning",
      what: `The CA cannot be changed: ${text.replace(/^not possible: /, "")}`,
      why: "Leaves are signed, but the issuer is not renewed and no root can be rotated",
      fix: commandIn(text) ?? "Mend the reason: docs/operations.md, readyz, lists each",
    })),
  );
}

function replicas({ leader, replicas: live, diagnosis }: Facts): Result {
  const id = "ca.replicas";
  if ("error" in leader) return unchecked(id, leader.error);
  if ("error" in live) return unchecked(id, live.error);
  const findings: Finding[] = [];
  if (leader.value === "")
    findings.push({
      severity: "warning",
      what: "No replica is the leader",
      why: "The issuer is not renewed and retired roots are not removed",
      fix: "meshca status --watch; a leader is found within seconds if the store answers",
    });
  const isRedis = "value" in diagnosis && diagnosis.value.Store.Value?.Kind === "redis";
  if (isRedis && live.value.length < 2)
    findings.push({
      severity: "note",
      what: "One replica serves this CA",
      why: "While it is away, no leaf is signed",
      fix: "Start further replicas with the same MESHCA_STORE and MESHCA_KEK",
    });
  return found(id, `leader ${leader.value}, ${live.value.length} live`, findings);
}

function storeClock(facts: Facts): Result {
  const id = "clock.store";
  const alarm = linesOf(facts, "alarm");
  const [offset] = linesOf(facts, "clock_offset_ms");
  if (typeof alarm === "string") return unchecked(id, alarm);
  const ms = Number(offset);
  if (!Number.isFinite(ms)) return unchecked(id, "the server does not report the difference");
  const findings: Finding[] = alarm.map((text) => ({
    severity: "warning",
    what: sentence(text),
    why: "Changes are stopped until the clocks agree",
    fix: "Set the clock of the store's machine: timedatectl set-ntp true",
  }));
  if (alarm.length === 0 && Math.abs(ms) > SKEW_MS)
    findings.push({
      severity: "warning",
      what: `The clock of this replica differs from the store's by ${spanText(Math.abs(ms))}`,
      why: "Above MESHCA_MAX_CLOCK_SKEW the replica neither signs nor changes anything",
      fix: "Set the clock of the replica's machine: timedatectl set-ntp true",
    });
  return found(id, `${ms} ms`, findings);
}

function backup({ diagnosis, now }: Facts): Result {
  const id = "backup.age";
  if ("error" in diagnosis) return unchecked(id, diagnosis.error);
  const { State, LastBackup } = diagnosis.value;
  if (LastBackup.Error !== null) return unchecked(id, LastBackup.Error);
  if (State === null) return skipped(id, "there is no CA yet");
  const last = LastBackup.Value;
  const finding = (what: string): Result =>
    found(id, what, [
      {
        severity: "warning",
        what,
        why: "If the store is lost, what a backup does not have is lost: without the root's key every workload needs new trust",
        fix: "meshca backup save, kept away from the server, and the key-encryption key elsewhere",
      },
    ]);
  if (last === null) return finding("No backup of the CA is known");
  const age = now.getTime() - new Date(last.Time).getTime();
  const text = `${spanText(Math.max(0, age))} old`;
  if (last.ActiveRootID !== State.ActiveRootID)
    return finding(`The last backup, ${text}, was made before the active root`);
  if (last.Index === State.Index) return ok(id, `of the present state, ${text}`);
  if (age > BACKUP_MS) return finding(`The last backup is of an earlier state and ${text}`);
  return ok(id, text);
}

function keks({ keks: use }: Facts): Result {
  const id = "kek.use";
  if ("error" in use) return unchecked(id, use.error);
  const { Current, InUse, Replicas } = use.value;
  const old = InUse.filter((key) => key !== Current);
  const lacking = Replicas.filter(({ KEKs }) => Current !== null && !KEKs.includes(Current));
  const findings: Finding[] = lacking.map(({ Address }) => ({
    severity: "warning",
    what: `Replica ${Address} does not have the current key-encryption key ${Current}`,
    why: "It could not decrypt what others encrypt with it, so that changes are refused",
    fix: "Add the key to MESHCA_KEK of that replica, and restart it",
  }));
  if (old.length > 0)
    findings.push({
      severity: "warning",
      what: `Keys are still encrypted with ${old.join(", ")}, and not with the current key-encryption key`,
      why: "An old key-encryption key must not be removed before, and one that leaked still opens the CA",
      fix: "meshca kek rewrap",
    });
  return found(id, Current ?? "none", findings);
}

function audit(facts: Facts): Result {
  const id: CheckId = "audit.log";
  const lines = linesOf(facts, "audit");
  if (typeof lines === "string") return unchecked(id, lines);
  if (lines.length === 0) return skipped(id, "no audit log is configured (MESHCA_AUDIT)");
  return found(
    id,
    "ok",
    lines
      .filter((text) => text !== "ok")
      .map((text) => ({
        severity: "warning",
        what: `The audit log: ${text}`,
        why: "Who got which leaf is not recorded; by MESHCA_AUDIT_FAILURE changes or signing stop",
        fix: "Free the disk of the audit log, or correct its path and permissions (MESHCA_AUDIT)",
      })),
  );
}

export const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
