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

/**
 * The response to an error. One that is not a `CaError`, or a bug of meshca, gets a generic body:
 * its text may contain secrets.
 */
export function errorResponse(error: unknown, requestId: string): ErrorResponse {
  const known = error instanceof CaError ? error : null;
  const code = known === null ? "invariant" : known.code;
  const retryAfterMs = known?.retryAfterMs;
  return {
    status: statusOf(code),
    body:
      known === null || code === "invariant"
        ? `Internal error; the server's log has the reason under request ${requestId}`
        : known.message,
    retryAfter:
      retryAfterMs === undefined ? undefined : Math.max(1, Math.ceil(retryAfterMs / 1000)),
  };
}

/** The compiler requires a case for each code. */
function statusOf(code: ErrorCode): ErrorResponse["status"] {
  switch (code) {
    case "config_invalid":
    case "request_malformed":
    case "csr_malformed":
    case "csr_proof_failed":
    case "spiffe_id_malformed":
    case "profile_violation":
    case "body_late":
      return 400;
    case "token_unknown":
    case "permission_denied":
    case "denylisted":
      return 403;
    case "not_found":
      return 404;
    case "index_mismatch":
    case "no_conflict":
    case "cluster_differs":
    case "root_abandoned":
    case "transition_invalid":
    case "budget_exceeded":
    case "name_taken":
    case "set_moved":
      return 409;
    case "too_large":
      return 413;
    case "media_type_unsupported":
      return 415;
    case "sign_rate_limited":
    case "client_rate_limited":
    case "server_rate_limited":
    case "watchers_exceeded":
    case "token_rate_limited":
    case "login_tokens_exceeded":
      return 429;
    case "provider_rejected":
      return 502;
    case "ca_uninitialized":
    case "ca_expired":
    case "ca_not_valid_yet":
    case "ca_disabled":
    case "operation_running":
    case "lease_lost":
    case "closing":
    case "state_stale":
    case "clock_skewed":
    case "replica_behind":
    case "outcome_unknown":
    case "audit_unavailable":
    case "provider_unavailable":
    case "store_unavailable":
    case "store_refused":
    case "store_busy":
    case "state_regressed":
      return 503;
    case "provider_contract":
    case "state_corrupt":
    case "schema_unknown":
    case "cluster_mismatch":
    case "kek_unknown":
    case "open_failed":
    case "invariant":
      return 500;
    default:
      code satisfies never;
      return 500;
  }
}
