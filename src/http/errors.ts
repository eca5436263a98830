/**
 * From an error to an HTTP response: status, body and Retry-After.
 * @module
 */
import { CaError, type ErrorCode } from "../core/errors.ts";

interface ErrorResponse {
  readonly status: 400 | 403 | 404 | 409 | 413 | 415 | 429 | 500 | 502 | 503;
  readonly body: string;
  /** Retry-After in seconds, if trying again may help. */
  readonly retryAfter: number | undefined;
}

/** The status of each error code, which the compiler requires to be complete. */
export const STATUSES: Readonly<Record<ErrorCode, ErrorResponse["status"]>> = {
  config_invalid: 400,
  request_malformed: 400,
  csr_malformed: 400,
  csr_proof_failed: 400,
  spiffe_id_malformed: 400,
  profile_violation: 400,
  body_late: 400,
  token_unknown: 403,
  permission_denied: 403,
  denylisted: 403,
  not_found: 404,
  index_mismatch: 409,
  no_conflict: 409,
  cluster_differs: 409,
  root_abandoned: 409,
  transition_invalid: 409,
  root_dropped: 409,
  budget_exceeded: 409,
  name_taken: 409,
  set_moved: 409,
  too_large: 413,
  media_type_unsupported: 415,
  sign_rate_limited: 429,
  client_rate_limited: 429,
  server_rate_limited: 429,
  watchers_exceeded: 429,
  token_rate_limited: 429,
  login_tokens_exceeded: 429,
  provider_rejected: 502,
  ca_uninitialized: 503,
  ca_expired: 503,
  ca_not_valid_yet: 503,
  ca_disabled: 503,
  operation_running: 503,
  lease_lost: 503,
  closing: 503,
  state_stale: 503,
  clock_skewed: 503,
  replica_behind: 503,
  outcome_unknown: 503,
  audit_unavailable: 503,
  datacenter_unavailable: 503,
  provider_unavailable: 503,
  store_unavailable: 503,
  store_refused: 503,
  store_busy: 503,
  state_regressed: 503,
  provider_contract: 500,
  state_corrupt: 500,
  schema_unknown: 500,
  cluster_mismatch: 500,
  datacenter_differs: 500,
  kek_unknown: 500,
  open_failed: 500,
  invariant: 500,
};

/**
 * The response to an error. One that is not a `CaError`, or a bug of meshca, gets a generic body:
 * its text may contain secrets.
 */
export function errorResponse(error: unknown, requestId: string): ErrorResponse {
  const known = error instanceof CaError ? error : null;
  const code = known === null ? "invariant" : known.code;
  const retryAfterMs = known?.retryAfterMs;
  return {
    status: STATUSES[code],
    body:
      known === null || code === "invariant"
        ? `Internal error; the server's log has the reason under request ${requestId}`
        : known.message,
    retryAfter:
      retryAfterMs === undefined ? undefined : Math.max(1, Math.ceil(retryAfterMs / 1000)),
  };
}
