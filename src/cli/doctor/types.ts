/**
 * What `meshca doctor` finds, as `--json` prints it.
 * @module
 */

/**
 * `critical`: leaves are not signed or verified, or will not be soon, or the CA can be lost or taken
 * over. `warning`: nothing stopped yet. `note`: may be intended.
 */
export type Severity = "critical" | "warning" | "note";

/** In the order of urgency. */
export const SEVERITIES: readonly Severity[] = ["critical", "warning", "note"];

export interface Finding {
  readonly severity: Severity;
  /** What was found, a sentence without a period. */
  readonly what: string;
  /** Why it matters, a sentence without a period. */
  readonly why: string;
  /** The command that mends it, or what to do if no single command does. */
  readonly fix: string;
}

/**
 * `ok`: checked, nothing found. `found`: see the findings. `unchecked`: it could not be checked.
 * `skipped`: this deployment does not have what is checked.
 */
type Outcome = "ok" | "found" | "unchecked" | "skipped";

export interface Result {
  /** Stable: monitoring may refer to it. */
  readonly id: CheckId;
  /** The agent that was checked; null: the server. */
  readonly subject: string | null;
  readonly outcome: Outcome;
  /** What was seen, or why it was not checked. */
  readonly detail: string;
  readonly findings: readonly Finding[];
}

export interface Report {
  readonly server: string;
  /** When it was looked, by the clock of this machine. */
  readonly time: string;
  /** The worst of all results. */
  readonly status: Severity | "unchecked" | "ok";
  readonly exit: number;
  /** In the order of CHECKS. */
  readonly results: readonly Result[];
}

/** Every check, the most urgent first, and what it is about. */
export const CHECKS = {
  "server.reachable": "the server answers",
  "server.tls": "TLS as this machine sees it",
  "server.api": "the server is one of meshca",
  "server.tls_expiry": "life of the server's TLS certificate",
  "server.anchors": "life of the certificates in the CA file of this machine",
  "server.token": "the token, and its right operator:read",
  "ca.signing": "leaves can be signed",
  "ca.conflict": "no state conflict",
  "root.expiry": "life of the active root",
  "issuer.expiry": "life of the issuer",
  "root.leaves": "no leaf outlives its root",
  "intermediate.renewal": "a secondary datacenter's intermediate is renewed at half of its life",
  "primary.reachable": "the primary datacenter answers",
  "primary.token": "the primary datacenter accepts the replication token",
  "primary.role": "the primary datacenter is one",
  "primary.trust_domain": "the trust domain of the primary datacenter",
  "primary.followed": "the roots of the primary datacenter are followed",
  "primary.other": "no other datacenter is the primary one in place of this one",
  "primary.clock": "the clocks of the primary datacenter and this one",
  "store.reachable": "the store answers",
  "store.eviction": "Redis never deletes keys by itself",
  "store.durability": "the store survives a restart",
  "store.memory": "memory of Redis",
  "store.disk": "space of the data folder",
  "store.replication": "Redis loses no acknowledged change in a failover",
  "provider.available": "Vault answers and signs",
  "provider.token": "life of Vault's token",
  "provider.permissions": "permissions of Vault's token",
  "provider.lifetimes": "limits of Vault's mounts",
  "acl.mode": "access control is on",
  "acl.anonymous": "rights of callers without a token",
  "files.server": "permissions of the server's files",
  "files.client": "permissions of the token and key files of this machine",
  "ca.changes": "the CA can be changed",
  "ca.replicas": "replicas and their leader",
  "clock.store": "the clocks of replica and store",
  "clock.client": "the clocks of this machine and the server",
  "backup.age": "a backup of the present state",
  "chain.limits": "chains that all verifiers accept",
  "kek.use": "key-encryption keys of the replicas",
  "audit.log": "the audit log is written",
  "acl.management_token": "the initial management token is not in use",
  "acl.unlimited_tokens": "tokens that never expire",
  "datacenters.listed": "datacenters that have an intermediate are in the configuration",
  "agent.reachable": "the agent answers",
  "agent.ready": "the agent serves all that it is configured for",
  "agent.trust": "the agent can verify its servers",
  "agent.login": "the agent has a login of its own",
  "agent.clock": "the clock of the agent",
  "agent.paths": "permissions of the agent's sockets and folders",
} as const;

export type CheckId = keyof typeof CHECKS;

/** The ids in their order. */
export const CHECK_IDS = Object.keys(CHECKS) as readonly CheckId[];

const result = (
  id: CheckId,
  outcome: Outcome,
  detail: string,
  findings: readonly Finding[] = [],
): Result => ({ id, subject: null, outcome, detail, findings });

export const ok = (id: CheckId, detail: string): Result => result(id, "ok", detail);
export const skipped = (id: CheckId, detail: string): Result => result(id, "skipped", detail);
export const unchecked = (id: CheckId, reason: string): Result => result(id, "unchecked", reason);

/** With findings; without any it is `ok`. */
export const found = (id: CheckId, detail: string, findings: readonly Finding[]): Result =>
  findings.length === 0 ? ok(id, detail) : result(id, "found", detail, findings);

/** What was read, or why it could not be. */
export type Looked<T> = { readonly value: T } | { readonly error: string };
