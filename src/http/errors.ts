/**
 * From an error of the CA to a status: the only place where the two meet.
 * @module
 */
import {
  CaError,
  ConfigError,
  ConflictError,
  DeniedError,
  InvariantError,
  NotReadyError,
  ProviderError,
  RateLimitedError,
  RequestError,
  SealError,
  StoreError,
} from "../core/errors.ts";

export interface ErrorAnswer {
  readonly status: 400 | 403 | 404 | 409 | 413 | 415 | 429 | 500 | 502 | 503;
  readonly body: string;
  /** Seconds for Retry-After. */
  readonly retryAfter: number | undefined;
}

/** What a client is told of an error of ours that it cannot act on. */
export function internalBody(requestId: string): string {
  return `Internal error; the server's log has the reason under request ${requestId}`;
}

/**
 * The answer for an error. One that is not ours, or a bug of ours, gets a generic body: its text
 * may hold anything.
 */
export function errorAnswer(error: unknown, requestId: string): ErrorAnswer {
  if (!(error instanceof CaError))
    return { status: 500, body: internalBody(requestId), retryAfter: undefined };
  const status = statusOf(error);
  return {
    status,
    body: error instanceof InvariantError ? internalBody(requestId) : error.message,
    retryAfter:
      error.retryAfterMs === undefined
        ? undefined
        : Math.max(1, Math.ceil(error.retryAfterMs / 1000)),
  };
}

function statusOf(error: CaError): ErrorAnswer["status"] {
  if (error instanceof ConfigError) return 400;
  if (error instanceof RequestError) return requestStatus(error.code);
  if (error instanceof DeniedError) return 403;
  if (error instanceof NotReadyError) return 503;
  if (error instanceof ConflictError) return 409;
  if (error instanceof RateLimitedError) return 429;
  if (error instanceof ProviderError) return providerStatus(error.code);
  if (error instanceof StoreError) return storeStatus(error.code);
  if (error instanceof SealError || error instanceof InvariantError) return 500;
  return 500;
}

function requestStatus(code: RequestError["code"]): ErrorAnswer["status"] {
  switch (code) {
    case "too_large":
      return 413;
    case "media_type_unsupported":
      return 415;
    case "not_found":
      return 404;
    default:
      return 400;
  }
}

function storeStatus(code: StoreError["code"]): ErrorAnswer["status"] {
  switch (code) {
    case "store_unavailable":
    case "store_refused":
    case "store_busy":
    case "state_regressed":
      return 503;
    case "state_corrupt":
    case "schema_unknown":
    case "cluster_mismatch":
      return 500;
  }
}

function providerStatus(code: ProviderError["code"]): ErrorAnswer["status"] {
  switch (code) {
    case "provider_unavailable":
      return 503;
    case "provider_rejected":
      return 502;
    case "provider_contract":
      return 500;
  }
}
