/**
 * What the agent's routes answer if they have no result.
 * @module
 */
import type { ClientError } from "../../client/errors.ts";
import { plainBody, TEXT } from "../../http/responses.ts";
import type { RouteResponse } from "../../http/route.ts";

/** A refusal with its status. The text is the whole body, as in Consul. */
export class AgentRefusal extends Error {
  readonly status: number;
  /** In how many milliseconds a retry may succeed, if it may. */
  readonly retryAfterMs: number | undefined;

  constructor(status: number, message: string, retryAfterMs?: number) {
    super(message);
    this.name = "AgentRefusal";
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The delay that a 503 asks for if the failure names none, in milliseconds. */
export const RETRY_MS = 1000;
/** The statuses of a server that say something about the request. */
const OF_THE_REQUEST: readonly number[] = [400, 403, 409, 413, 415, 429];

/** The refusal of a request for which a server was asked. @param what was asked for, as a noun. */
export function refusalOf(error: ClientError, what: string): AgentRefusal {
  const { status, text, retryAfterMs } = error;
  // The server's own text, which Consul's clients match on.
  if (status !== undefined && OF_THE_REQUEST.includes(status))
    return new AgentRefusal(status, text ?? error.message, retryAfterMs);
  return new AgentRefusal(503, `Cannot get ${what}: ${error.message}`, retryAfterMs ?? RETRY_MS);
}

/** The response of a handler, or that of its refusal. @throws what is no refusal */
export async function orRefusal(
  handle: () => Promise<RouteResponse> | RouteResponse,
): Promise<RouteResponse> {
  try {
    return await handle();
  } catch (error) {
    if (!(error instanceof AgentRefusal)) throw error;
    const { status, message, retryAfterMs } = error;
    return {
      status,
      ...(retryAfterMs === undefined
        ? {}
        : { headers: { "Retry-After": String(Math.max(1, Math.ceil(retryAfterMs / 1000))) } }),
      body: plainBody(TEXT, message),
      secret: true,
    };
  }
}
