/**
 * The response to a request that failed, and its record in the audit log and the log.
 * @module
 */
import { CaError, DeniedError, NotReadyError } from "../core/errors.ts";
import type { Audit, Caller } from "../core/ports/audit.ts";
import { errorResponse } from "./errors.ts";
import type { FailureLog } from "./failure-log.ts";
import { BadQueryError, UnknownDatacenterError } from "./query.ts";
import { text } from "./responses.ts";
import type { Method, Route } from "./route.ts";

interface Failed {
  readonly route: Route;
  readonly method: Method;
  readonly requestId: string;
  readonly caller: Caller;
  readonly action: string;
}

interface Recorders {
  readonly audit: Audit | null;
  readonly failures: FailureLog;
  /** Headers of every response of the route. */
  readonly common: Readonly<Record<string, string>>;
}

/** Answers an error; records it in the audit log, and in the log if it is a failure of ours. */
export function refusal(
  error: unknown,
  { route, method, requestId, caller, action }: Failed,
  { audit, failures, common }: Recorders,
): Response {
  const { status, body, retryAfter } = errorResponse(error, requestId);
  const code = error instanceof CaError ? error.code : null;
  // Failed reads are not recorded, except if the caller has no right to them or no valid token.
  if (method !== "GET" || error instanceof DeniedError || code === "token_rate_limited")
    audit?.refusal(error, (refused) => ({
      caller,
      action,
      subject: null,
      outcome: status >= 500 ? "failed" : "refused",
      code: refused,
    }));
  if (status >= 500) failures.add(error, status, route.path, requestId);
  const headers = {
    ...common,
    ...(error instanceof NotReadyError || error instanceof UnknownDatacenterError
      ? route.errorHeaders
      : {}),
    ...(retryAfter === undefined ? {} : { "Retry-After": String(retryAfter) }),
    // The rest of an unread body would block the connection.
    ...(code === "too_large" || code === "body_late" ? { Connection: "close" } : {}),
  };
  return error instanceof BadQueryError
    ? new Response(null, { status, headers })
    : text(status, body, headers);
}
