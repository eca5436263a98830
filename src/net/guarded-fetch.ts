/**
 * Requests to hosts that auth methods name. A URL comes from anyone who may write auth methods, so
 * a server goes only where its own configuration lets it go: listed hosts, public addresses unless
 * the host is listed as private, no redirects, bounded size and time (server-side request forgery,
 * CWE-918).
 * @module
 */
import * as v from "valibot";
import { concat, fromUtf8 } from "../core/bytes.ts";
import { CaError, ProviderError, RequestError } from "../core/errors.ts";
import type { Clock } from "../core/ports/clock.ts";
import { isIpAddress, isPublicAddress } from "./ip.ts";

/** A set of a hundred RSA keys with their certificates has less. */
const MAX_BYTES = 256 * 1024;
const TIMEOUT_MS = 5000;
/** How soon a host that did not answer is asked again. */
export const RETRY_MS = 2000;

export interface FetchInit {
  readonly method: "GET" | "POST";
  readonly headers: Record<string, string>;
  readonly body: string | null;
  /**
   * PEM of the CA certificates that the host's certificate must lead to; null for those that the
   * runtime trusts.
   */
  readonly ca: string | null;
  readonly signal: AbortSignal;
  readonly redirect: "manual";
  readonly addresses: readonly string[];
}

/**
 * Fetches one URL. `addresses` are the ones that were checked: a runtime that can connect to a
 * given address must take one of them, so that a name which changes its mind between the check and
 * the connection leads nowhere else.
 * @throws {ProviderError} `provider_rejected` if the runtime cannot take a CA of one request
 */
export type FetchKeys = (url: string, init: FetchInit) => Promise<Response>;

/** All addresses of a host. @throws {Error} */
export type Resolve = (host: string) => Promise<readonly string[]>;

export interface GuardedFetchOptions {
  readonly fetch: FetchKeys;
  readonly resolve: Resolve;
  /** Hosts that may be asked, `host` or `host:port`. */
  readonly hosts: readonly string[];
  /** Those among them that may have addresses that are not public. */
  readonly privateHosts: readonly string[];
  readonly clock: Clock;
}

/** One request. */
export interface Question {
  /** Of `check`. */
  readonly url: URL;
  readonly ca: string | null;
  /** What is done, as errors name it: `fetch keys`. */
  readonly purpose: string;
  /** Sent as a bearer token. */
  readonly bearer?: string;
  /** Sent as JSON with POST. */
  readonly body?: string;
}

export interface GuardedFetch {
  /**
   * Reads a URL that may be asked.
   * @param field names it in the error.
   * @throws {RequestError} `request_malformed`
   */
  check(text: string, field: string): URL;
  /**
   * @returns the JSON of a 200 or 201.
   * @throws {ProviderError}, of whose texts none is the host's
   */
  ask(question: Question): Promise<unknown>;
}

const Json = v.pipe(v.string(), v.parseJson());

export function createGuardedFetch({
  fetch,
  resolve,
  hosts,
  privateHosts,
  clock,
}: GuardedFetchOptions): GuardedFetch {
  const listed = (list: readonly string[], url: URL) =>
    list.includes(url.host) || list.includes(`${url.hostname}:${url.port || "443"}`);

  const addressesOf = async (url: URL, purpose: string): Promise<readonly string[]> => {
    const literal = url.hostname.startsWith("[") ? url.hostname.slice(1, -1) : url.hostname;
    const addresses = isIpAddress(literal) ? [literal] : await resolve(literal);
    if (addresses.length === 0) throw unavailable(purpose, "its host has no address");
    if (!listed(privateHosts, url) && !addresses.every(isPublicAddress))
      throw new ProviderError(
        "provider_rejected",
        `Cannot ${purpose}: the host has an address that is not public`,
      );
    return addresses;
  };

  const send = async (
    { url, ca, purpose, bearer, body }: Question,
    signal: AbortSignal,
  ): Promise<unknown> => {
    const headers = {
      Accept: "application/json",
      ...(bearer === undefined ? {} : { Authorization: `Bearer ${bearer}` }),
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
    };
    const method = body === undefined ? "GET" : "POST";
    const addresses = await addressesOf(url, purpose);
    const response = await fetch(url.href, {
      method,
      headers,
      body: body ?? null,
      ca,
      signal,
      redirect: "manual",
      addresses,
    });
    if ((response.status !== 200 && response.status !== 201) || response.redirected) {
      await response.body?.cancel();
      const refused = response.status === 401 || response.status === 403;
      if (bearer !== undefined && refused)
        throw new ProviderError(
          "provider_rejected",
          `Cannot ${purpose}: the host refused the token of the auth method (${response.status})`,
        );
      throw unavailable(purpose, `it answered ${response.status}`);
    }
    const json = v.safeParse(Json, await readBody(response, purpose));
    if (!json.success) throw unavailable(purpose, "it did not answer with JSON");
    return json.output;
  };

  return {
    check(text, field) {
      const url = URL.canParse(text) ? new URL(text) : null;
      const refused = (why: string) =>
        new RequestError("request_malformed", `Invalid ${field}: ${why}`);
      if (url === null || url.protocol !== "https:") throw refused("it is not an https URL");
      if (url.username !== "" || url.password !== "" || url.hash !== "")
        throw refused("it has a user, a password or a fragment");
      if (!listed(hosts, url) && !listed(privateHosts, url))
        throw refused(
          `host ${JSON.stringify(url.host)} is not among those that this server may ask`,
        );
      return url;
    },
    async ask(question) {
      const end = new AbortController();
      const late = clock.sleep(TIMEOUT_MS, end.signal).then((): never => {
        end.abort();
        throw unavailable(question.purpose, "it did not answer in time");
      });
      late.catch(() => undefined);
      try {
        return await Promise.race([send(question, end.signal), late]);
      } catch (error) {
        // What else fails may quote what was answered.
        throw error instanceof CaError
          ? error
          : unavailable(question.purpose, "it cannot be reached", error);
      } finally {
        end.abort();
      }
    },
  };
}

async function readBody(response: Response, purpose: string): Promise<string> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  for await (const chunk of response.body ?? []) {
    total += chunk.length;
    if (total > MAX_BYTES) throw unavailable(purpose, "its answer is too long");
    chunks.push(chunk);
  }
  return fromUtf8(concat(...chunks));
}

/** @param purpose what is done, for example `fetch keys`. */
export function unavailable(purpose: string, why: string, cause?: unknown): ProviderError {
  return new ProviderError("provider_unavailable", `Cannot ${purpose}: ${why}`, {
    cause,
    retryAfterMs: RETRY_MS,
  });
}
