/**
 * Every error the CA throws on purpose. No HTTP status and no exit code in here: those are made at
 * the edges. Codes are append-only, since clients and dashboards match on them.
 * @module
 */

/** One broken rule, as a checker that can find several of them reports it. */
export interface Violation {
  readonly code: string;
  /** What the rule is about: a configuration field, a certificate field. */
  readonly field: string;
  readonly message: string;
  /** Where the rule comes from, for example `RFC 5280 §4.1.2.2`. */
  readonly reference?: string;
}

export interface CaErrorOptions {
  readonly cause?: unknown;
  /** When trying again may help, in milliseconds from now. */
  readonly retryAfterMs?: number;
}

/** Base of all errors thrown on purpose. */
export abstract class CaError extends Error {
  abstract readonly code: string;
  readonly retryAfterMs: number | undefined;

  constructor(message: string, options: CaErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** A configuration that breaks rules; `violations` names all of them. */
export class ConfigError extends CaError {
  readonly code = "config_invalid";
  readonly violations: readonly Violation[];

  constructor(
    message: string,
    violations: readonly Violation[] = [],
    options: CaErrorOptions = {},
  ) {
    super(message, options);
    this.violations = violations;
  }
}

export type RequestCode =
  | "request_malformed"
  | "csr_malformed"
  | "csr_proof_failed"
  | "spiffe_id_malformed"
  | "profile_violation"
  | "too_large"
  | "body_late"
  | "media_type_unsupported"
  | "not_found";

/** A request that can never succeed as it is. */
export class RequestError extends CaError {
  readonly code: RequestCode;

  constructor(code: RequestCode, message: string, options: CaErrorOptions = {}) {
    super(message, options);
    this.code = code;
  }
}

/** The caller may not do this. */
export class DeniedError extends CaError {
  readonly code: "token_unknown" | "permission_denied" | "denylisted";

  constructor(code: DeniedError["code"], message: string, options: CaErrorOptions = {}) {
    super(message, options);
    this.code = code;
  }
}

export type NotReadyCode =
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
  | "audit_unavailable";

/** The CA cannot do this now; it may later. */
export class NotReadyError extends CaError {
  readonly code: NotReadyCode;

  constructor(code: NotReadyCode, message: string, options: CaErrorOptions = {}) {
    super(message, options);
    this.code = code;
  }
}

export type ConflictCode =
  | "index_mismatch"
  | "no_conflict"
  | "cluster_differs"
  | "root_abandoned"
  | "transition_invalid"
  | "budget_exceeded"
  | "name_taken"
  | "set_moved";

/** The state is not what the caller assumed. */
export class ConflictError extends CaError {
  readonly code: ConflictCode;

  constructor(code: ConflictCode, message: string, options: CaErrorOptions = {}) {
    super(message, options);
    this.code = code;
  }
}

export type RateCode =
  | "sign_rate_limited"
  | "client_rate_limited"
  | "server_rate_limited"
  | "watchers_exceeded"
  | "token_rate_limited"
  | "login_tokens_exceeded";

/** Too many requests: to sign, of one client, of all, blocked, or with tokens that are none. */
export class RateLimitedError extends CaError {
  readonly code: RateCode;

  // Consul's text for signing, which its agents match on (consul-ca.md §4.9).
  constructor(
    retryAfterMs: number,
    code: RateCode = "sign_rate_limited",
    message = "Rate limit reached, try again later",
    options: CaErrorOptions = {},
  ) {
    super(message, { ...options, retryAfterMs });
    this.code = code;
  }
}

/** A provider failed: it is away, it refused, or it broke its contract. */
export class ProviderError extends CaError {
  readonly code: "provider_unavailable" | "provider_rejected" | "provider_contract";

  constructor(code: ProviderError["code"], message: string, options: CaErrorOptions = {}) {
    super(message, options);
    this.code = code;
  }
}

export type StoreCode =
  | "store_unavailable"
  | "store_refused"
  | "store_busy"
  | "state_corrupt"
  | "schema_unknown"
  | "state_regressed"
  | "cluster_mismatch";

/** The store failed, or what it holds cannot be trusted. */
export class StoreError extends CaError {
  readonly code: StoreCode;

  constructor(code: StoreCode, message: string, options: CaErrorOptions = {}) {
    super(message, options);
    this.code = code;
  }
}

/** Something sealed cannot be opened, or nothing can be sealed. */
export class SealError extends CaError {
  readonly code: "kek_unknown" | "open_failed";

  constructor(code: SealError["code"], message: string, options: CaErrorOptions = {}) {
    super(message, options);
    this.code = code;
  }
}

/** A promise of our own does not hold: a bug in meshca. */
export class InvariantError extends CaError {
  readonly code = "invariant";
}

/**
 * Input that is not of its format (PEM, DER, a duration). It never leaves core: the reader of the
 * input turns it into the error that fits what the input was.
 */
export class FormatError extends Error {
  override readonly name = "FormatError";
}
