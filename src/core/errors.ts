/**
 * The errors that the CA throws on purpose, each with a code. HTTP and the command line turn codes
 * into statuses and exit codes. Codes are append-only, since clients and dashboards match on them.
 * @module
 */

/** One fault of a configuration. */
export interface Violation {
  /** The name of the field, setting or path. */
  readonly field: string;
  /** A sentence that names it. */
  readonly message: string;
}

interface CaErrorOptions {
  readonly cause?: unknown;
  /** In how many milliseconds a retry may succeed. */
  readonly retryAfterMs?: number | undefined;
  /** @default the message */
  readonly logged?: string;
}

/** The request can never succeed as it is. */
type RequestCode =
  | "request_malformed"
  | "csr_malformed"
  | "csr_proof_failed"
  | "spiffe_id_malformed"
  | "profile_violation"
  | "too_large"
  | "body_late"
  | "media_type_unsupported"
  | "not_found";

/** The caller is not allowed to do this. */
type DeniedCode = "token_unknown" | "permission_denied" | "denylisted";

/** The CA cannot do this now; it may later. */
type NotReadyCode =
  | "ca_uninitialized"
  | "ca_expired"
  | "ca_not_valid_yet"
  | "ca_disabled"
  | "operation_running"
  | "lease_lost"
  | "closing"
  | "state_stale"
  | "clock_skewed"
  | "replica_behind"
  | "outcome_unknown"
  | "audit_unavailable"
  | "datacenter_unavailable";

/** The state is not what the caller assumed. */
type ConflictCode =
  | "index_mismatch"
  | "no_conflict"
  | "cluster_differs"
  | "root_abandoned"
  | "transition_invalid"
  | "budget_exceeded"
  | "root_dropped"
  | "name_taken"
  | "set_moved";

/** Too many requests: to sign, of one client, of all, blocking, or with invalid tokens. */
type RateCode =
  | "sign_rate_limited"
  | "client_rate_limited"
  | "server_rate_limited"
  | "watchers_exceeded"
  | "token_rate_limited"
  | "login_tokens_exceeded";

/** A provider is unavailable, refused, or broke its contract. */
type ProviderCode = "provider_unavailable" | "provider_rejected" | "provider_contract";

/** The store failed, or its content cannot be trusted. */
type StoreCode =
  | "store_unavailable"
  | "store_refused"
  | "store_busy"
  | "state_corrupt"
  | "schema_unknown"
  | "datacenter_differs"
  | "state_regressed"
  | "cluster_mismatch";

/** Something sealed cannot be opened, or nothing can be sealed. */
type SealCode = "kek_unknown" | "open_failed";

/** Every code: `config_invalid` is of a configuration, `invariant` of a bug in meshca. */
export type ErrorCode =
  | "config_invalid"
  | RequestCode
  | DeniedCode
  | NotReadyCode
  | ConflictCode
  | RateCode
  | ProviderCode
  | StoreCode
  | SealCode
  | "invariant";

/** Base of all errors thrown on purpose. */
export abstract class CaError extends Error {
  readonly code: ErrorCode;
  readonly retryAfterMs: number | undefined;
  /** The message for a log: it may name internal servers, of which the caller must not learn. */
  readonly logged: string;

  constructor(code: ErrorCode, message: string, options: CaErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.retryAfterMs = options.retryAfterMs;
    this.logged = options.logged ?? message;
  }
}

/** An error with one of some codes. */
abstract class Coded<Code extends ErrorCode> extends CaError {
  declare readonly code: Code;

  constructor(code: Code, message: string, options?: CaErrorOptions) {
    super(code, message, options);
  }
}

export class RequestError extends Coded<RequestCode> {}
export class DeniedError extends Coded<DeniedCode> {}
export class NotReadyError extends Coded<NotReadyCode> {}
export class ConflictError extends Coded<ConflictCode> {}
export class ProviderError extends Coded<ProviderCode> {}

/**
 * Why the primary datacenter has no result for a secondary one.
 * `unreachable`: no server answered, or only with 5xx or something that is not a CA's answer.
 * `untrusted`: no server answered, and the certificate of one is not that of a CA server of it.
 * `limited`: it asked to come back later (429).
 * `refused`: it refused the replication token (401, 403).
 * `not_primary`: it is a secondary datacenter itself.
 * `rejected`: the request can never succeed as it is.
 * `unusable`: its answer cannot be read.
 */
export type PrimaryFault =
  | "unreachable"
  | "untrusted"
  | "limited"
  | "refused"
  | "not_primary"
  | "rejected"
  | "unusable";

/** The primary datacenter has no result. To clients it is a provider that fails. */
export class PrimaryError extends ProviderError {
  readonly fault: PrimaryFault;

  constructor(fault: PrimaryFault, message: string, options?: CaErrorOptions) {
    const isRefusal = fault === "refused" || fault === "not_primary" || fault === "rejected";
    super(isRefusal ? "provider_rejected" : "provider_unavailable", message, options);
    this.fault = fault;
  }
}

export class StoreError extends Coded<StoreCode> {}
export class SealError extends Coded<SealCode> {}

/** A configuration that breaks rules; `violations` names all of them. */
export class ConfigError extends Coded<"config_invalid"> {
  readonly violations: readonly Violation[];

  constructor(message: string, violations: readonly Violation[] = [], options?: CaErrorOptions) {
    super("config_invalid", message, options);
    this.violations = violations;
  }
}

export class RateLimitedError extends Coded<RateCode> {
  /** @param message by default Consul's text for signing, which its agents match on. */
  constructor(
    retryAfterMs: number,
    code: RateCode = "sign_rate_limited",
    message = "Rate limit reached, try again later",
    options: CaErrorOptions = {},
  ) {
    super(code, message, { ...options, retryAfterMs });
  }
}

export class InvariantError extends Coded<"invariant"> {
  constructor(message: string, options?: CaErrorOptions) {
    super("invariant", message, options);
  }
}

/**
 * The reason of a failure for a log: that of a `CaError`; of any other error, whose message
 * may contain secrets, its name.
 */
export function reasonOf(error: unknown): string {
  return error instanceof CaError ? error.logged : error instanceof Error ? error.name : "unknown";
}

/**
 * The code of a failure for metrics and checks: of the primary datacenter its fault, of every other
 * error its code, `internal` of one that was not thrown on purpose.
 */
export function faultCodeOf(error: unknown): PrimaryFault | ErrorCode | "internal" {
  if (error instanceof PrimaryError) return error.fault;
  return error instanceof CaError ? error.code : "internal";
}

/**
 * Input that does not have its format (PEM, DER, a duration). The reader of the input turns it into
 * the error that fits what the input was.
 */
export class FormatError extends Error {
  override readonly name = "FormatError";
}

/** What a reader returns, or null if it throws a FormatError. */
export function readOrNull<T>(read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    if (error instanceof FormatError) return null;
    throw error;
  }
}
