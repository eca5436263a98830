/**
 * The transport to a server in the same process.
 * @module
 */
import { utf8 } from "../core/bytes.ts";
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
      const sent = new Request(url, { method, headers, body, signal: ended });
      const response = await Promise.race([this.#fetch(sent), aborted.promise]);
      const text = await response.text();
      if (utf8(text).length > maxBytes)
        throw new TransportError("too_long", `answered with more than ${maxBytes} bytes`);
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
