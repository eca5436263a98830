/**
 * Key sets by URL. A URL comes from whoever may write auth methods, so a server goes only where its own configuration
 * lets it go: listed hosts, public addresses unless the host is listed as private, no redirects, bounded size and time.
 * @module
 */
import type { JSONWebKeySet } from "jose";
import * as v from "valibot";
import { isPublicAddress } from "../core/addresses.ts";
import { concat, fromUtf8 } from "../core/bytes.ts";
import type { Clock } from "../core/clock.ts";
import { CaError, ProviderError, RequestError } from "../core/errors.ts";

/** A set of a hundred RSA keys with their certificates has less. */
const MAX_BYTES = 256 * 1024;
const TIMEOUT_MS = 5000;
/** How long a set is used without being asked for again: what Kubernetes' API server names in Cache-Control is less. */
const FRESH_MS = 5 * 60_000;
/** How long the last set is used while the issuer is away. */
const STALE_MS = 3_600_000;
/** How soon a set is asked for again for a key that is not in it, so that made-up key ids cannot make us ask. */
const COOLDOWN_MS = 30_000;
/** How soon an issuer that did not answer is asked again. */
const RETRY_MS = 2000;

/**
 * Fetches one URL. `addresses` are the ones that were checked: a runtime that can connect to a given address must take
 * one of them, so that a name which changes its mind between the check and the connection leads nowhere else.
 */
export type FetchKeys = (
  url: string,
  init: {
    readonly signal: AbortSignal;
    readonly redirect: "manual";
    readonly headers: Record<string, string>;
    readonly addresses: readonly string[];
  },
) => Promise<Response>;

/** All addresses of a host. @throws {Error} */
export type Resolve = (host: string) => Promise<readonly string[]>;

export interface JwksOptions {
  readonly fetch: FetchKeys;
  readonly resolve: Resolve;
  /** Hosts that key sets may come from, `host` or `host:port`. */
  readonly hosts: readonly string[];
  /** Those among them that may have addresses that are not public. */
  readonly privateHosts: readonly string[];
  readonly clock: Clock;
  /** @default one that has nothing */
  readonly memory?: KeySetMemory | undefined;
}

/** The sets that were fetched, and when each was asked for, by URL. */
export interface KeySetMemory {
  readonly kept: Map<string, Kept>;
  readonly askedAt: Map<string, number>;
}

export function createKeySetMemory(): KeySetMemory {
  return { kept: new Map(), askedAt: new Map() };
}

export interface KeySets {
  /** @param missing the set that was given lacks a key that a token names. @throws {ProviderError} @throws {RequestError} */
  get(url: string, missing: boolean): Promise<JSONWebKeySet>;
  /** Whether a URL may be asked at all. @throws {RequestError} `request_malformed` */
  check(url: string): void;
}

const KeySet = v.object({ keys: v.array(v.looseObject({ kty: v.string() })) });

interface Kept {
  readonly keys: JSONWebKeySet;
  readonly at: number;
}

export function createKeySets({ fetch, resolve, hosts, privateHosts, clock, memory }: JwksOptions): KeySets {
  const { kept, askedAt } = memory ?? createKeySetMemory();
  const asking = new Map<string, Promise<JSONWebKeySet>>();
  const listed = (list: readonly string[], url: URL) => list.includes(url.host) || list.includes(`${url.hostname}:${url.port || "443"}`);

  const readUrl = (text: string): URL => {
    const url = URL.canParse(text) ? new URL(text) : null;
    const refused = (why: string) => new RequestError("request_malformed", `Invalid JWKSURL: ${why}`);
    if (url === null || url.protocol !== "https:") throw refused("it is not an https URL");
    if (url.username !== "" || url.password !== "" || url.hash !== "") throw refused("it has a user, a password or a fragment");
    if (!listed(hosts, url) && !listed(privateHosts, url))
      throw refused(`host ${JSON.stringify(url.host)} is not among those that this server may ask`);
    return url;
  };

  /** The addresses to ask. @throws {ProviderError} */
  const addressesOf = async (url: URL): Promise<readonly string[]> => {
    const literal = url.hostname.startsWith("[") ? url.hostname.slice(1, -1) : url.hostname;
    const addresses = /^[\d.]+$|:/.test(literal) ? [literal] : await resolve(literal);
    if (addresses.length === 0) throw unavailable("its host has no address");
    if (!listed(privateHosts, url) && !addresses.every(isPublicAddress))
      throw new ProviderError("provider_rejected", "Cannot fetch keys: the host has an address that is not public");
    return addresses;
  };

  const download = async (url: URL, signal: AbortSignal): Promise<JSONWebKeySet> => {
    const addresses = await addressesOf(url);
    const response = await fetch(url.href, { signal, redirect: "manual", headers: { Accept: "application/json" }, addresses });
    if (response.status !== 200 || response.redirected) {
      await response.body?.cancel();
      throw unavailable(`it answered ${response.status}`);
    }
    const body = v.safeParse(v.pipe(v.string(), v.parseJson(), KeySet), await readBody(response));
    if (!body.success) throw unavailable("it answered no key set");
    return body.output as JSONWebKeySet;
  };

  /** Asks within the time. @throws {ProviderError} */
  const ask = async (url: URL): Promise<JSONWebKeySet> => {
    const end = new AbortController();
    const late = clock.sleep(TIMEOUT_MS, end.signal).then((): never => {
      end.abort();
      throw unavailable("it did not answer in time");
    });
    late.catch(() => undefined);
    try {
      return await Promise.race([download(url, end.signal), late]);
    } catch (error) {
      // What else fails may quote what was answered.
      throw error instanceof CaError ? error : unavailable("it cannot be reached", error);
    } finally {
      end.abort();
    }
  };

  return {
    check: (text) => void readUrl(text),
    async get(text, missing) {
      const url = readUrl(text);
      const now = clock.now().getTime();
      const before = kept.get(url.href);
      const cooling = now - (askedAt.get(url.href) ?? Number.NEGATIVE_INFINITY) < COOLDOWN_MS;
      if (before !== undefined && (cooling || (!missing && now - before.at < FRESH_MS))) return before.keys;
      let answer = asking.get(url.href);
      if (answer === undefined) {
        if (cooling) throw unavailable("it did not answer a moment ago");
        askedAt.set(url.href, now);
        answer = ask(url).finally(() => asking.delete(url.href));
        asking.set(url.href, answer);
      }
      try {
        const keys = await answer;
        kept.set(url.href, { keys, at: now });
        return keys;
      } catch (error) {
        askedAt.set(url.href, now - COOLDOWN_MS + RETRY_MS);
        if (before !== undefined && now - before.at < STALE_MS) return before.keys;
        throw error;
      }
    },
  };
}

async function readBody(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  for await (const chunk of response.body ?? []) {
    total += chunk.length;
    if (total > MAX_BYTES) throw unavailable("its answer is too long");
    chunks.push(chunk);
  }
  return fromUtf8(concat(...chunks));
}

function unavailable(why: string, cause?: unknown): ProviderError {
  return new ProviderError("provider_unavailable", `Cannot fetch keys: ${why}`, { cause, retryAfterMs: RETRY_MS });
}
