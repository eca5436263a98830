/**
 * The transport over a fetch: to a server in the same process, or that of a platform, which verifies
 * servers by itself.
 * @module
 */
import { concat, fromUtf8 } from "../core/bytes.ts";
import {
  type Transport,
  TransportError,
  type TransportRequest,
  type TransportResponse,
} from "./transport.ts";

/** Answers a request, as a server's app does. */
export type AppFetch = (request: Request) => Response | Promise<Response>;

export class FetchTransport implements Transport {
  readonly #fetch: AppFetch;

  constructor(fetch: AppFetch) {
    this.#fetch = fetch;
  }

  async send(request: TransportRequest): Promise<TransportResponse> {
    const { method, url, headers, body, timeoutMs, maxBytes, signal } = request;
    const limit = AbortSignal.timeout(timeoutMs);
    const ended = signal === undefined ? limit : AbortSignal.any([limit, signal]);
    const aborted = Promise.withResolvers<never>();
    const abort = () =>
      aborted.reject(
        new TransportError("aborted", "did not answer before the request was cancelled"),
      );
    if (ended.aborted) abort();
    ended.addEventListener("abort", abort);
    // The answer may come first, and nobody waits for the other.
    aborted.promise.catch(() => undefined);
    try {
      const sent = new Request(url, { method, headers, body, signal: ended, redirect: "manual" });
      const response = await Promise.race([this.#fetch(sent), aborted.promise]);
      const text = await Promise.race([readBody(response, maxBytes), aborted.promise]);
      return {
        status: response.status,
        header: (name) => response.headers.get(name),
        body: text,
      };
    } catch (error) {
      if (limit.aborted && signal?.aborted !== true)
        throw new TransportError("timeout", `did not answer within ${timeoutMs / 1000} s`, error);
      if (error instanceof TransportError) throw error;
      throw new TransportError("connect", "failed", error);
    } finally {
      ended.removeEventListener("abort", abort);
    }
  }

  close(): void {}
}

/** @throws {TransportError} `too_long`, `malformed` */
async function readBody({ body }: Response, maxBytes: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  // Leaving the loop cancels the stream.
  for await (const chunk of body ?? []) {
    total += chunk.length;
    if (total > maxBytes)
      throw new TransportError("too_long", `answered more than ${maxBytes} octets`);
    chunks.push(chunk);
  }
  try {
    return fromUtf8(concat(...chunks));
  } catch (error) {
    throw new TransportError("malformed", "answered text that is not UTF-8", error);
  }
}
