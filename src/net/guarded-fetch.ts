/**
 * Requests to hosts that auth methods name. Anyone who may write auth methods names a URL, so a
 * server goes only where its own configuration lets it go: listed hosts, public addresses unless
 * the host is listed as private, no redirects, bounded size and time (server-side request forgery,
 * CWE-918).
 * @module
 */
import * as v from "valibot";
import { CaError, FormatError, ProviderError, RequestError } from "../core/errors.ts";
import type { Clock } from "../core/ports/clock.ts";
import { readText, withinTime } from "./bounded.ts";
import { isIpAddress, isPublicAddress } from "./ip.ts";

/** A set of a hundred RSA keys with their certificates has less. */
const MAX_BYTES = 256 * 1024;
const TIMEOUT_MS = 5000;
/** How soon a host that did not respond is asked again, in milliseconds. */
export const RETRY_MS = 2000;

/**
 * Fetches one URL from one of `addresses`, which were checked: a name that is resolved a second
 * time could lead elsewhere. A runtime that cannot connect to a given address ignores them.
 * @throws {ProviderError} `provider_rejected` if the runtime cannot take a CA of one request
 */
export type PinnedFetch = (
  url: string,
  init: {
    readonly method: "GET" | "POST";
    readonly headers: Record<string, string>;
    readonly body: string | null;
    /** PEM of the CA certificates to trust; null for those that the runtime trusts. */
    readonly ca: string | null;
    readonly signal: AbortSignal;
    readonly redirect: "manual";
    readonly addresses: readonly string[];
  },
) => Promise<Response>;

/** All addresses of a host. @throws {Error} */
export type Resolve = (host: string) => Promise<readonly string[]>;

export interface GuardedFetchOptions {
  readonly fetch: PinnedFetch;
  readonly resolve: Resolve;
  /** Hosts that may be asked, `host` or `host:port`. */
  readonly hosts: readonly string[];
  /** Those among them that may have addresses that are not public. */
  readonly privateHosts: readonly string[];
  readonly clock: Clock;
}

interface GuardedRequest {
  /** As `check` returned it. */
  readonly url: URL;
  /** PEM of the CA certificates to trust; null for those that the runtime trusts. */
  readonly ca: string | null;
  /** Sent as a bearer token. */
  readonly bearer?: string;
  /** Sent as JSON with POST. */
  readonly body?: string;
}

const Json = v.pipe(v.string(), v.parseJson());

export class GuardedFetch {
  readonly #options: GuardedFetchOptions;
  readonly #action: string;
  readonly #peer: string;

  /** @param action as errors name it, `fetch keys`. @param peer who is asked, `the issuer`. */
  constructor(options: GuardedFetchOptions, action: string, peer: string) {
    this.#options = options;
    this.#action = action;
    this.#peer = peer;
  }

  /**
   * Reads a URL that may be asked.
   * @param field names it in the error.
   * @throws {RequestError} `request_malformed`
   */
  check(text: string, field: string): URL {
    const { hosts, privateHosts } = this.#options;
    const url = URL.canParse(text) ? new URL(text) : null;
    const refused = (why: string) =>
      new RequestError("request_malformed", `Invalid ${field}: ${why}`);
    if (url === null || url.protocol !== "https:") throw refused("must be an https URL");
    if (url.username !== "" || url.password !== "")
      throw refused("must not have a user or password");
    if (url.hash !== "") throw refused("must not have a fragment");
    if (!isListed(hosts, url) && !isListed(privateHosts, url))
      throw refused(
        `host ${JSON.stringify(url.host)} is not among the hosts that this server may ask: add it to MESHCA_JWKS_HOSTS`,
      );
    return url;
  }

  /**
   * @returns the JSON of a response of status 200 or 201.
   * @throws {ProviderError} whose text has nothing of the response but its status
   */
  async json(request: GuardedRequest): Promise<unknown> {
    const late = () => this.unavailable("did not respond in time");
    try {
      return await withinTime(
        this.#options.clock,
        TIMEOUT_MS,
        (signal) => this.#send(request, signal),
        late,
      );
    } catch (error) {
      if (error instanceof CaError) throw error;
      if (error instanceof FormatError) throw this.unavailable("did not respond in UTF-8");
      // Any other error may quote the response.
      throw this.unavailable("cannot be reached", error);
    }
  }

  /** An error for a peer that did not do its part. @param what of the peer, `did not respond` */
  unavailable(what: string, cause?: unknown): ProviderError {
    return new ProviderError(
      "provider_unavailable",
      `Cannot ${this.#action}: ${this.#peer} ${what}`,
      { cause, retryAfterMs: RETRY_MS },
    );
  }

  async #send({ url, ca, bearer, body }: GuardedRequest, signal: AbortSignal): Promise<unknown> {
    const addresses = await this.#addressesOf(url);
    const headers = {
      Accept: "application/json",
      ...(bearer === undefined ? {} : { Authorization: `Bearer ${bearer}` }),
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
    };
    const response = await this.#options.fetch(url.href, {
      method: body === undefined ? "GET" : "POST",
      headers,
      body: body ?? null,
      ca,
      signal,
      redirect: "manual",
      addresses,
    });
    const { status, redirected } = response;
    if ((status !== 200 && status !== 201) || redirected) {
      await response.body?.cancel();
      if (bearer !== undefined && (status === 401 || status === 403))
        throw this.#rejected(`refused the token of the auth method (${status})`);
      throw this.unavailable(`responded with status ${status}`);
    }
    const tooLong = () => this.unavailable("sent a response that is too long");
    const json = v.safeParse(Json, await readText(response.body ?? none(), MAX_BYTES, tooLong));
    if (!json.success) throw this.unavailable("did not respond with JSON");
    return json.output;
  }

  async #addressesOf(url: URL): Promise<readonly string[]> {
    const { resolve, privateHosts } = this.#options;
    const host = url.hostname.replace(/^\[|\]$/g, "");
    const addresses = isIpAddress(host) ? [host] : await resolve(host);
    if (addresses.length === 0) throw this.unavailable("has no address");
    if (!isListed(privateHosts, url) && !addresses.every(isPublicAddress))
      throw this.#rejected("has an address that is not public");
    return addresses;
  }

  #rejected(what: string): ProviderError {
    return new ProviderError("provider_rejected", `Cannot ${this.#action}: ${this.#peer} ${what}`);
  }
}

/** Whether a list has the host of an https URL, as `host` or as `host:port`. */
function isListed(list: readonly string[], { host, hostname, port }: URL): boolean {
  return list.includes(host) || list.includes(`${hostname}:${port || "443"}`);
}

async function* none(): AsyncGenerator<Uint8Array> {}
