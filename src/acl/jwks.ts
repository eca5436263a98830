/**
 * Key sets of issuers, by URL or found through OpenID Connect Discovery, kept for a while.
 * @module
 */
import type { JSONWebKeySet } from "jose";
import * as v from "valibot";
import { ProviderError, RequestError } from "../core/errors.ts";
import {
  createGuardedFetch,
  type GuardedFetchOptions,
  RETRY_MS,
  unavailable,
} from "../net/guarded-fetch.ts";

/**
 * How long a set is used without being asked for again: what Kubernetes' API server names in
 * Cache-Control is less.
 */
const FRESH_MS = 5 * 60_000;
/** How long the last set is used while the issuer is away. */
const STALE_MS = 3_600_000;
/**
 * How soon a set is asked for again for a key that is not in it, so that made-up key ids cannot
 * make us ask.
 */
const COOLDOWN_MS = 30_000;
const PURPOSE = "fetch keys";

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

export interface JwksOptions extends GuardedFetchOptions {
  /** @default one that has nothing */
  readonly memory?: KeySetMemory | undefined;
}

/** The sets that were fetched, and when each was asked for, by where it comes from. */
export interface KeySetMemory {
  readonly kept: Map<string, Kept>;
  readonly askedAt: Map<string, number>;
}

export function createKeySetMemory(): KeySetMemory {
  return { kept: new Map(), askedAt: new Map() };
}

export interface KeySets {
  /**
   * @param missing the set that was given lacks a key that a token names.
   * @throws {ProviderError}
   * @throws {RequestError}
   */
  get(source: KeySource, missing: boolean): Promise<JSONWebKeySet>;
  /** Whether a source may be asked at all. @throws {RequestError} `request_malformed` */
  check(source: KeySource): void;
}

const KeySet = v.object({ keys: v.array(v.looseObject({ kty: v.string() })) });
const ProviderConfiguration = v.object({ issuer: v.string(), jwks_uri: v.string() });

interface Kept {
  readonly keys: JSONWebKeySet;
  readonly at: number;
}

export function createKeySets(options: JwksOptions): KeySets {
  const { clock, memory } = options;
  const outside = createGuardedFetch(options);
  const { kept, askedAt } = memory ?? createKeySetMemory();
  const asking = new Map<string, Promise<JSONWebKeySet>>();
  const check = ({ url: text, discovery }: KeySource): URL => {
    const url = outside.check(text, discovery ? "OIDCDiscoveryURL" : "JWKSURL");
    // OpenID Connect Discovery 1.0 §3: an issuer has neither query nor fragment.
    if (discovery && url.search !== "")
      throw new RequestError("request_malformed", "Invalid OIDCDiscoveryURL: it has a query");
    return url;
  };

  /** The URL of an issuer's key set. @throws {ProviderError} */
  const discover = async ({ url: issuer, ca }: KeySource): Promise<URL> => {
    const url = outside.check(
      `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`,
      "OIDCDiscoveryURL",
    );
    const found = v.safeParse(
      ProviderConfiguration,
      await outside.ask({ url, ca, purpose: PURPOSE }),
    );
    if (!found.success)
      throw unavailable(PURPOSE, "it answered no configuration of an OpenID provider");
    if (found.output.issuer !== issuer)
      throw unavailable(PURPOSE, "its configuration names another issuer than OIDCDiscoveryURL");
    try {
      return outside.check(found.output.jwks_uri, "jwks_uri");
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      throw new ProviderError(
        "provider_rejected",
        `Cannot fetch keys: the issuer's configuration leads elsewhere: ${error.message}`,
      );
    }
  };

  const download = async (source: KeySource, url: URL): Promise<JSONWebKeySet> => {
    const at = source.discovery ? await discover(source) : url;
    const body = v.safeParse(
      KeySet,
      await outside.ask({ url: at, ca: source.ca, purpose: PURPOSE }),
    );
    if (!body.success) throw unavailable(PURPOSE, "it answered no key set");
    return body.output as JSONWebKeySet;
  };

  return {
    check: (source) => void check(source),
    async get(source, missing) {
      const url = check(source);
      const name = JSON.stringify([source.url, source.discovery, source.ca]);
      const now = clock.now().getTime();
      const before = kept.get(name);
      const cooling = now - (askedAt.get(name) ?? Number.NEGATIVE_INFINITY) < COOLDOWN_MS;
      if (before !== undefined && (cooling || (!missing && now - before.at < FRESH_MS)))
        return before.keys;
      let answer = asking.get(name);
      if (answer === undefined) {
        if (cooling) throw unavailable(PURPOSE, "it did not answer a moment ago");
        askedAt.set(name, now);
        answer = download(source, url).finally(() => asking.delete(name));
        asking.set(name, answer);
      }
      try {
        const keys = await answer;
        kept.set(name, { keys, at: now });
        return keys;
      } catch (error) {
        askedAt.set(name, now - COOLDOWN_MS + RETRY_MS);
        if (before !== undefined && now - before.at < STALE_MS) return before.keys;
        throw error;
      }
    },
  };
}
