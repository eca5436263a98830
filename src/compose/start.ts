/**
 * Starts a CA behind a server that listens already: what is answered before the CA is ready, and how
 * it waits for a store that does not answer.
 * @module
 */
import { isLoopback } from "../config/addresses.ts";
import type { DatacenterSettings } from "../config/datacenters.ts";
import type { Settings } from "../config/settings.ts";
import { NotReadyError, StoreError } from "../core/errors.ts";
import { isLocal } from "../http/client.ts";
import type { Platform, RequestEnvironment } from "./platform.ts";
import { compose, type Meshca } from "./process.ts";
import type { ReadServerCertificate } from "./report.ts";

/** The delays before the first and the last retries of a store, in milliseconds. */
const [FIRST_RETRY_MS, LAST_RETRY_MS] = [250, 3000];
/** The value of Retry-After, in seconds. */
const RETRY_AFTER = 3;

/** The response while the server listens and the start has not begun. */
export function notYet(): Response {
  const headers = { "Retry-After": String(RETRY_AFTER), "X-Request-Id": crypto.randomUUID() };
  return new Response("The CA is not ready: starting\n", { status: 503, headers });
}

export class Start {
  #settings: Settings;
  readonly #platform: Platform;
  readonly #serverCertificate: ReadServerCertificate;
  /** The one that serves. */
  #meshca: Meshca | null = null;
  /** The one that serves or starts. */
  #composed: Meshca | null = null;
  /** Why the store does not answer, or null. */
  #reason: string | null = null;

  constructor(settings: Settings, platform: Platform, serverCertificate: ReadServerCertificate) {
    this.#serverCertificate = serverCertificate;
    this.#settings = settings;
    this.#platform = platform;
  }

  /** Until the CA is ready, `/healthz` is answered with 200 and every other request with 503. */
  fetch(request: Request, environment: RequestEnvironment): Response | Promise<Response> {
    return this.#meshca?.fetch(request, environment) ?? this.#unavailable(request, environment);
  }

  /** Uses other settings of datacenters from now on, also while the CA waits to be ready. */
  reload({ primary, primaryDatacenter, datacenters }: DatacenterSettings): void {
    const next = { primary, primaryDatacenter, datacenters };
    this.#settings = { ...this.#settings, ...next };
    this.#composed?.reload(next);
  }

  /**
   * Starts the CA. It waits for a Redis that does not answer, unless this replica has a last-seen
   * state.
   * @param prepare the last step before requests reach the CA.
   * @throws {CaError} if the CA cannot start, or if `signal` fires first
   */
  async run(prepare: (meshca: Meshca) => Promise<void>, signal: AbortSignal): Promise<Meshca> {
    const { clock, random, log } = this.#platform;
    for (let wait = FIRST_RETRY_MS; !signal.aborted; wait = Math.min(LAST_RETRY_MS, 2 * wait))
      try {
        const meshca = await this.#attempt(prepare, signal);
        if (this.#reason !== null) log.info("The store responds again; starting");
        this.#meshca = meshca;
        return meshca;
      } catch (error) {
        if (
          this.#settings.store.kind !== "redis" ||
          !(error instanceof StoreError) ||
          error.code !== "store_unavailable"
        )
          throw error;
        if (this.#reason !== error.message)
          log.warn(
            "Waiting for the store: only /healthz is served until it answers, because this replica has no last-seen state",
            {
              reason: error.message,
            },
          );
        this.#reason = error.message;
        await clock.sleep(wait * (1 + random.fraction() / 4), signal);
      }
    throw new NotReadyError("closing", "Stopped before the CA was ready");
  }

  async #attempt(prepare: (meshca: Meshca) => Promise<void>, signal: AbortSignal): Promise<Meshca> {
    const settings = this.#settings;
    const meshca = await compose(settings, this.#platform, this.#serverCertificate);
    this.#composed = meshca;
    if (settings !== this.#settings) meshca.reload(this.#settings);
    // A start that waits for the state of another replica ends with the process.
    const drain = () => meshca.drain();
    signal.addEventListener("abort", drain, { once: true });
    try {
      await meshca.start();
      await prepare(meshca);
      return meshca;
    } catch (error) {
      this.#composed = null;
      await meshca.close();
      throw error;
    } finally {
      signal.removeEventListener("abort", drain);
    }
  }

  #unavailable(request: Request, environment: RequestEnvironment): Response {
    const headers = {
      "Content-Type": "text/plain; charset=utf-8",
      "X-Content-Type-Options": "nosniff",
      "Cache-Control": "no-store",
      "X-Request-Id": crypto.randomUUID(),
    };
    const answer = (status: number, text: string, more: Readonly<Record<string, string>> = {}) =>
      new Response(request.method === "HEAD" ? null : text, {
        status,
        headers: { ...headers, ...more },
      });
    const isRead = request.method === "GET" || request.method === "HEAD";
    // On some runtimes the URL of an HTTP/1.0 request without a Host is a path.
    const url = request.url.startsWith("/") ? `http://localhost${request.url}` : request.url;
    if (isRead && URL.canParse(url) && new URL(url).pathname === "/healthz")
      return answer(200, "ok\n");
    // The store and its failure are shown to callers on this machine only.
    const { acl, plainHttp, listen } = this.#settings;
    const serving = { loopbackOnly: isLoopback(listen.host), behindProxy: plainHttp !== null };
    const mayKnow = acl === "off" || isLocal(request, environment, serving);
    const reason =
      mayKnow && this.#reason !== null ? `waiting for the store: ${this.#reason}` : "starting";
    return answer(503, `The CA is not ready: ${reason}\n`, { "Retry-After": String(RETRY_AFTER) });
  }
}
