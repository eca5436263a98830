/**
 * Key sets of JWT issuers, from a URL or through OpenID Connect Discovery, cached. jose's
 * `createRemoteJWKSet` would do this by the clock of the machine, and without the last key set while
 * the issuer is away.
 * @module
 */
import type { JSONWebKeySet } from "jose";
import * as v from "valibot";
import { ProviderError, RequestError } from "../core/errors.ts";
import { GuardedFetch, type GuardedFetchOptions, RETRY_MS } from "../net/guarded-fetch.ts";

/**
 * How long a key set is used before it is fetched again, in milliseconds: less than what Kubernetes'
 * API server allows in Cache-Control.
 */
const FRESH_MS = 5 * 60_000;
/** How long the last key set is used while the issuer is away (stale-while-error). */
const STALE_MS = 3_600_000;
/** How soon a key set is fetched again for a key id that it lacks: key ids can be made up. */
const COOLDOWN_MS = 30_000;

/** Where a key set comes from. */
export interface KeySource {
  readonly url: string;
  /**
   * Whether the URL is that of the issuer, whose configuration names the key set (OpenID Connect
   * Discovery 1.0 §4).
   */
  readonly discovery: boolean;
  /** PEM of the CA certificates that the host's certificate must lead to, or null. */
  readonly ca: string | null;
}

interface CachedKeySet {
  readonly keys: JSONWebKeySet;
  /** When it was fetched, in milliseconds since 1970. */
  readonly at: number;
}

/** The key sets that were fetched, and when each was last asked for, by source. Data only. */
export interface KeySetCache {
  readonly sets: Map<string, CachedKeySet>;
  readonly askedAt: Map<string, number>;
}

export function createKeySetCache(): KeySetCache {
  return { sets: new Map(), askedAt: new Map() };
}

const KeySet = v.object({ keys: v.array(v.looseObject({ kty: v.string() })) });
const ProviderConfiguration = v.object({ issuer: v.string(), jwks_uri: v.string() });

export class KeySets {
  readonly #options: GuardedFetchOptions;
  readonly #fetch: GuardedFetch;
  readonly #cache: KeySetCache;
  /** Single-flight: concurrent callers share one fetch. */
  readonly #running = new Map<string, Promise<JSONWebKeySet>>();

  constructor(options: GuardedFetchOptions, cache: KeySetCache = createKeySetCache()) {
    this.#options = options;
    this.#fetch = new GuardedFetch(options, "fetch the auth method's keys", "the issuer");
    this.#cache = cache;
  }

  /** Checks that a source may be asked. @throws {RequestError} `request_malformed` */
  check(source: KeySource): void {
    this.#urlOf(source);
  }

  #urlOf({ url: text, discovery }: KeySource): URL {
    const url = this.#fetch.check(text, discovery ? "OIDCDiscoveryURL" : "JWKSURL");
    // OpenID Connect Discovery 1.0 §3: an issuer has neither query nor fragment.
    if (discovery && url.search !== "")
      throw new RequestError(
        "request_malformed",
        "Invalid OIDCDiscoveryURL: must not have a query",
      );
    return url;
  }

  /**
   * @param missing whether the key set that was returned last lacks a key that a token names.
   * @throws {ProviderError}
   * @throws {RequestError}
   */
  async get(source: KeySource, missing: boolean): Promise<JSONWebKeySet> {
    const { sets, askedAt } = this.#cache;
    const url = this.#urlOf(source);
    const name = JSON.stringify([source.url, source.discovery, source.ca]);
    const now = this.#options.clock.now().getTime();
    const cached = sets.get(name);
    const inCooldown = now - (askedAt.get(name) ?? Number.NEGATIVE_INFINITY) < COOLDOWN_MS;
    if (cached !== undefined && (inCooldown || (!missing && now - cached.at < FRESH_MS)))
      return cached.keys;
    let fetched = this.#running.get(name);
    if (fetched === undefined) {
      if (inCooldown) throw this.#fetch.unavailable("did not respond a moment ago");
      askedAt.set(name, now);
      fetched = this.#download(source, url).finally(() => this.#running.delete(name));
      this.#running.set(name, fetched);
    }
    try {
      const keys = await fetched;
      sets.set(name, { keys, at: now });
      return keys;
    } catch (error) {
      askedAt.set(name, now - COOLDOWN_MS + RETRY_MS);
      if (cached !== undefined && now - cached.at < STALE_MS) return cached.keys;
      throw error;
    }
  }

  async #download(source: KeySource, url: URL): Promise<JSONWebKeySet> {
    const { ca } = source;
    const at = source.discovery ? await this.#discover(source) : url;
    const body = v.safeParse(KeySet, await this.#fetch.json({ url: at, ca }));
    if (!body.success) throw this.#fetch.unavailable("did not respond with a key set");
    return body.output as JSONWebKeySet;
  }

  /** The URL of an issuer's key set. @throws {ProviderError} */
  async #discover({ url: issuer, ca }: KeySource): Promise<URL> {
    const url = this.#fetch.check(
      `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`,
      "OIDCDiscoveryURL",
    );
    const found = v.safeParse(ProviderConfiguration, await this.#fetch.json({ url, ca }));
    if (!found.success)
      throw this.#fetch.unavailable("did not respond with a configuration of an OpenID provider");
    if (found.output.issuer !== issuer)
      throw this.#fetch.unavailable("names an issuer other than OIDCDiscoveryURL");
    try {
      return this.#fetch.check(found.output.jwks_uri, "jwks_uri");
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      throw new ProviderError(
        "provider_rejected",
        `Cannot fetch the auth method's keys: the issuer's configuration has an unusable URL: ${error.message}`,
      );
    }
  }
}
