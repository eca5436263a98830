/**
 * The provider port: what holds a CA's root and signs with it. Implementations stand in a plain map by wire name.
 *
 * Order: `parse` reads a configuration and refuses all its faults at once, without any effect. `prepare` makes or finds
 * the root that the configuration asks for, *beside* whatever is active, and gives back the provider's new state; it
 * never writes the store, and what it made is abandoned when the change fails before its commit. `open` turns a
 * committed record into something that signs. The manager calls `prepare` under the operation lease only; `open` and
 * all that an opened provider does may run at any time and concurrently.
 *
 * A provider must not put a secret into an error, a log or `ProviderState` unsealed.
 * @module
 */
import type { ConfigMap, ProviderRecord, ProviderState } from "./ca/state.ts";
import type { Random } from "./clock.ts";
import type { Sealer } from "./sealer.ts";
import type { Certificate } from "./x509/certificate.ts";
import type { LeafDraft, LeafTemplate } from "./x509/leaf.ts";

/** What every provider's configuration has, with defaults filled in. */
export interface CommonConfig {
  readonly leafTtlMs: number;
  readonly intermediateTtlMs: number;
  readonly rootTtlMs: number;
  /** Leaves a second, or null for no limit. */
  readonly csrMaxPerSecond: number | null;
  /** Leaves at once, or null for no limit. */
  readonly csrMaxConcurrent: number | null;
}

export interface ProviderContext {
  readonly clusterId: string;
  readonly sealer: Sealer;
  readonly random: Random;
}

export interface PrepareRequest {
  /** Secret fields are values as sent, or HIDDEN where the stored one is to be kept. */
  readonly config: ConfigMap | null;
  /** What is active now, when it is of the same provider. */
  readonly previous: { readonly record: ProviderRecord; readonly root: Certificate } | null;
  /** Make a new root even where the present one would do. */
  readonly fresh: boolean;
  /** The store's clock. */
  readonly now: Date;
}

export interface Prepared {
  /** The same certificate as the previous root where the configuration still means that one. */
  readonly root: Certificate;
  readonly state: ProviderState;
}

/** A provider opened for signing. */
export interface Provider {
  /** What signs leaves now. Leaves never outlive it. */
  readonly issuer: Certificate;
  /** The template by which this provider's leaves are encoded. */
  readonly template: LeafTemplate;
  /** Signs a leaf that was prepared and checked. @returns its DER. @throws {ProviderError} */
  signLeaf(draft: LeafDraft): Promise<Uint8Array>;
  /** Whether `crossSign` can work at all. */
  readonly canCrossSign: boolean;
  /** Certifies another root by this provider's root. @throws {ProviderError} */
  crossSign(root: Certificate, now: Date): Promise<Certificate>;
  /** Ends this instance; nothing outside is deleted. Leaves that were prepared before may still be signed afterwards. */
  close(): void;
}

export interface ProviderType {
  /** The wire name: `consul`. */
  readonly name: string;
  /** What a root of this provider is called in the roots listing. */
  readonly rootName: string;
  /** Configuration fields that are secret, in their CamelCase spelling. */
  readonly secretFields: readonly string[];
  /** @throws {ConfigError} with every fault */
  parse(config: ConfigMap | null): CommonConfig;
  /** @throws {ConfigError} @throws {SealError} @throws {ProviderError} */
  prepare(request: PrepareRequest, context: ProviderContext): Promise<Prepared>;
  /** @throws {SealError} @throws {ProviderError} */
  open(record: ProviderRecord, root: Certificate, context: ProviderContext): Promise<Provider>;
  /** Why "rotate now" cannot work with this configuration, or null where it can. */
  rotateObstacle(config: ConfigMap | null): string | null;
}

export type ProviderTypes = ReadonlyMap<string, ProviderType>;
