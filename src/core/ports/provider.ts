/**
 * The provider port: what holds a CA's root and signs with it. Implementations stand in a plain map
 * by wire name.
 *
 * Order: `parse` reads a configuration and refuses all its faults at once, without any effect.
 * `prepare` makes or finds the root that the configuration asks for, *beside* whatever is active,
 * and gives back the provider's new state; it never writes the store. Whatever it makes outside it
 * announces first, by how to undo it: when the change fails before its commit, the manager undoes
 * all of it, the latest first, and tries again later where that fails. `open` turns a committed
 * record into something that signs; it asks nothing outside, so that a restart neither needs nor
 * changes anything there. The manager calls `prepare`, `requestIntermediate`, `renew` and `collect`
 * under the operation lease only; `open` and all that an opened provider does may run at any time
 * and concurrently.
 *
 * The root need not be held by the provider, and need not sign leaves: `issuers` is the path from
 * what signs them up to the root. What an issuer or a root leaves behind when it is replaced stays
 * named in the provider's state, and is deleted by `collect` when no leaf can need it any more.
 *
 * A provider must not put a secret into an error, a log or `ProviderState` unsealed.
 * @module
 */
import type { ConfigMap, ProviderRecord, ProviderState } from "../state.ts";
import type { Certificate } from "../x509/certificate.ts";
import type { LeafDraft, LeafFields, LeafTemplate } from "../x509/leaf.ts";
import type { Random } from "./clock.ts";
import type { Sealer } from "./sealer.ts";

/**
 * Undoes one thing that was made outside. It may run more than once, and where the thing was never
 * made.
 */
export type Undo = () => Promise<void>;

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
  /**
   * Called when it is known what the root will be, before anything is made for it. It throws where
   * a root in use may not certify it.
   * @param root null: one that is still to be made.
   */
  readonly onRoot: (root: Certificate | null) => Promise<void>;
  /**
   * Takes how to undo what is about to be made outside. It throws where another change may run by
   * now: then nothing is made.
   */
  readonly onAbandon: (undo: Undo) => void;
}

/** What is to be committed of what was made outside. */
export interface Made {
  readonly state: ProviderState;
  /**
   * What an operator should know of how it came out, such as a lifetime that was cut. @default none
   */
  readonly warnings?: readonly string[];
}

export interface Prepared extends Made {
  /** The same certificate as the previous root where the configuration still means that one. */
  readonly root: Certificate;
}

/** A new issuer under the root that there is. */
export type RenewRequest = Pick<PrepareRequest, "now" | "onAbandon"> & {
  readonly record: ProviderRecord;
  readonly root: Certificate;
};

/** What signs leaves in a secondary datacenter, under the root that the primary has. */
export type SecondaryRequest = Pick<PrepareRequest, "config" | "now" | "onAbandon"> & {
  /** What signs leaves until then, when it is of the same provider. */
  readonly previous: ProviderRecord | null;
};

/** A key that is to sign leaves, until the primary datacenter has certified it. */
export interface RequestedIntermediate {
  /** PEM, for `signIntermediate` of the primary's provider. */
  readonly csr: string;
  /**
   * Takes what the primary answered, and checks it.
   * @param answered the certificate first; self-signed ones may be among the others.
   * @param root the primary's active one. @param now the store's clock.
   * @returns the state to commit: `open` signs leaves by it under that root. @throws
   * {ProviderError} @throws {SealError}
   */
  accept(answered: readonly Certificate[], root: Certificate, now: Date): Promise<Made>;
}

export interface CollectRequest {
  readonly record: ProviderRecord;
  /** All others there are: of the active root, of retired ones, of what else was left behind. */
  readonly others: readonly ProviderRecord[];
  /**
   * What ended before this instant may be deleted: the latest that looks at the store's clock have
   * confirmed as past.
   */
  readonly now: Date;
  /**
   * To be called before each deletion: it throws where another change may run by now, and may use
   * what would be deleted.
   */
  readonly requireLease: () => void;
}

/** How what a provider needs outside is doing. */
export interface ProviderHealth {
  /** Why no leaf can be signed because of it, or null. */
  readonly obstacle: string | null;
  /** What else an operator should know and do, a line each; of a failure since when. */
  readonly notes: readonly string[];
}

/** What was found in what a provider relies on outside. */
export interface Inspection {
  /** What signs leaves is gone, and has to be made anew. */
  readonly issuerLost: boolean;
  /** Another root stands where the active one stood: `prepare` finds it. */
  readonly rootReplaced: boolean;
}

/** A leaf as it was signed. */
export interface SignedLeaf extends Pick<LeafFields, "serial" | "notBefore" | "notAfter"> {
  readonly der: Uint8Array;
}

/** A provider opened for signing. */
export interface Provider {
  /** What signs leaves now. Leaves never outlive it, and it outlives nothing above it. */
  readonly issuer: Certificate;
  /**
   * From the issuer up to below the root, in path order; none where the root signs leaves itself.
   */
  readonly issuers: readonly Certificate[];
  /** The template by which this provider's leaves are encoded. */
  readonly template: LeafTemplate;
  /** Leaves are encoded and signed elsewhere, with a serial number of its choice. */
  readonly remote: boolean;
  /**
   * Signs a leaf that was prepared and checked. A remote provider has it made, by the fields of the
   * draft and the request as it came, and reads back and checks what it was given.
   * @throws {ProviderError} @throws {RateLimitedError}
   */
  signLeaf(draft: LeafDraft, csr: string): Promise<SignedLeaf>;
  /** Whether `crossSign` can work at all. */
  readonly canCrossSign: boolean;
  /**
   * Looks whether it may certify another root; it changes nothing.
   * @throws {ConfigError} naming what is missing
   * @throws {ProviderError}
   */
  requireCrossSigning?(): Promise<void>;
  /**
   * Certifies another root, by this provider's root or by what is next below it.
   * @param now the store's clock. @param until when the result ends at the latest: anyone who
   * steals the other root's key is trusted through it for as long.
   * @returns the cross-signed certificate, and what stands between it and the root. @throws
   * {ProviderError}
   */
  crossSign(root: Certificate, now: Date, until: Date): Promise<readonly Certificate[]>;
  /**
   * Certifies the key of what signs leaves in another datacenter of this trust domain: a CA whose
   * certificates can be leaves alone.
   * @returns it, and what stands between it and the root. @throws {RequestError} @throws
   * {ProviderError} `provider_rejected` in a secondary datacenter
   */
  signIntermediate(csr: string, now: Date): Promise<readonly Certificate[]>;
  /** How what it needs outside is doing; without it, it needs nothing. */
  readonly health?: ProviderHealth;
  /**
   * Looks whether what is outside answers, for `health`; called every few seconds. It never
   * rejects.
   */
  probe?(): Promise<void>;
  /**
   * Looks whether what is relied on outside is still there; it changes nothing.
   * @throws {ProviderError}
   */
  inspect?(): Promise<Inspection>;
  /**
   * Ends this instance; nothing outside is deleted but what it needed for itself, such as a token.
   * Leaves that were prepared before may still be signed afterwards.
   * @returns once it has ended; it never rejects.
   */
  close(): Promise<void>;
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
  /**
   * In a secondary datacenter, in place of `prepare` and `renew`: makes a key for what signs leaves
   * there. Its provider certifies nothing but leaves. Both calls are of one change. @throws
   * {ConfigError} @throws {SealError} @throws {ProviderError}
   */
  requestIntermediate(
    request: SecondaryRequest,
    context: ProviderContext,
  ): Promise<RequestedIntermediate>;
  /**
   * Makes a new issuer under the same root. Without it, roots sign leaves themselves.
   * @throws {ProviderError}
   * @throws {SealError}
   */
  renew?(request: RenewRequest, context: ProviderContext): Promise<Made>;
  /**
   * The certificate that signs leaves by a kept state, or null if the root does. It is asked for
   * states of a schema in which the CA did not record it itself. Without it, roots sign leaves
   * themselves. @throws {ProviderError}
   */
  issuerOf?(state: ProviderState): Certificate | null;
  /**
   * When something that was left behind outside may be deleted, or null. Without it, nothing is
   * ever left there.
   */
  collectAt?(state: ProviderState): Date | null;
  /**
   * Deletes what may be deleted by now, and what no other record needs.
   * @returns the state without it.
   * @throws {ProviderError}
   */
  collect?(request: CollectRequest, context: ProviderContext): Promise<ProviderState>;
  /**
   * What to keep of a record whose root is gone, for `collect`: keys are not among it.
   * @param after when no leaf under that root is alive any more.
   * @returns null where nothing is to be deleted outside.
   */
  remnant?(record: ProviderRecord, after: Date): ProviderRecord | null;
}

export type ProviderTypes = ReadonlyMap<string, ProviderType>;
