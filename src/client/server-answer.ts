/**
 * What a response of a server means: a value, a refusal, or a reason to ask the next server.
 * @module
 */
import { FormatError } from "../core/errors.ts";
import { ClientError } from "./errors.ts";
import { retryAfterMs } from "./http-values.ts";
import type { TransportResponse } from "./transport.ts";

/** A server that did not do its part: the next one is asked. */
export class NextServer extends Error {
  readonly untrusted: boolean;
  readonly retryAfterMs: number | undefined;

  /** @param message the predicate of a sentence whose subject is the server */
  constructor(
    message: string,
    options: { readonly untrusted?: boolean; readonly retryAfterMs?: number | undefined } = {},
  ) {
    super(message);
    this.name = "NextServer";
    this.untrusted = options.untrusted ?? false;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** The statuses that say something about the request and not about the server. */
const REJECTIONS: readonly number[] = [400, 409, 413, 415];

interface Answered {
  /** Of the server, for texts. */
  readonly origin: string;
  readonly method: string;
  readonly now: Date;
  /** The server's Date, or null. */
  readonly serverNow: Date | null;
}

/**
 * Reads a response.
 * @param read reads one of status 200 or 304. @throws {ClientError} @throws {NextServer}
 */
export function readAnswer<T>(
  response: TransportResponse,
  { origin, method, now, serverNow }: Answered,
  read: (response: TransportResponse) => T,
): T {
  const { status } = response;
  if (status === 200 || status === 304) {
    try {
      return read(response);
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      throw new NextServer(`sent an unexpected response: ${error.message}`);
    }
  }
  const after = retryAfterMs(response.header("retry-after"), serverNow, now);
  const text = textOf(response);
  const says = text === "" ? "" : `: ${text}`;
  if (status === 401 || status === 403)
    throw new ClientError("refused", `The CA server ${origin} refused (${status})${says}`, {
      status,
      text,
    });
  if (REJECTIONS.includes(status))
    throw new ClientError(
      "rejected",
      `The CA server ${origin} rejected the request (${status})${says}`,
      { status, text },
    );
  // To ask another server would go round the limit; a read may.
  if (status === 429 && method !== "GET")
    throw new ClientError("limited", `The CA server ${origin} limits the rate of requests (429)`, {
      status,
      text,
      retryAfterMs: after,
    });
  const redirect = status >= 300 && status < 400 ? ", a redirect, which is not followed" : "";
  throw new NextServer(`answered ${status}${redirect}${status >= 500 ? says : ""}`, {
    retryAfterMs: after,
  });
}

/** The text of an error response, short and in one line; nothing of a page of HTML. */
function textOf(response: TransportResponse): string {
  if (!(response.header("content-type") ?? "text/plain").startsWith("text/plain")) return "";
  return response.body
    .slice(0, 300)
    .replaceAll(/\p{Cc}+/gu, " ")
    .trim();
}
