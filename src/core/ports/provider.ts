/**
 * The provider port: what holds a CA's root and signs with it. `providers/index.ts` lists the
 * implementations by wire name.
 *
 * `ProviderType.parse` reads a configuration without any effect and refuses all its faults at once.
 * The result `C` is opaque to the CA, which passes it back to the same type only. `prepare` creates
 * or finds the root that the configuration describes, while the active one stays in use, and returns
 * the provider's new state; it never writes the store. Before it creates an external resource it
 * registers a compensating action with `onRollback`: if the change fails before its commit, the CA
 * runs all of them, the latest first, and retries those that fail. `open` turns a committed state into an object
 * that signs; it calls nothing outside, so that a restart neither needs nor changes anything there.
 *
 * The CA calls `prepare`, `requestIntermediate`, `renew` and `collect` under the operation lease
 * only. `open`, and every method of an opened provider, may run at any time and concurrently.
 *
 * A provider must not put a secret into an error, a log or `ProviderState` unsealed.
 * @module
 */
import type { ClusterIdentity } from "../spiffe/trust-domain.ts";
import type { ConfigMap, ProviderState } from "../state.ts";
import type { Certificate } from "../x509/certificate.ts";
import type { LeafDraft, LeafFields, LeafTemplate } from "../x509/leaf.ts";
import type { DnsTemplate, IpRange } from "../x509/service-names.ts";
import type { Random } from "./clock.ts";
import type { Examination } from "./examination.ts";
import type { Sealer, SealPurpose } from "./sealer.ts";

/**
 * Compensating action for one external resource. Idempotent; also safe if the resource was never
 * created.
 */
export type Compensation = () => Promise<void>;

/** What every provider's configuration has, with defaults filled in. */
export interface CommonConfig {
  readonly leafTtlMs: number;
  readonly intermediateTtlMs: number;
  readonly rootTtlMs: number;
  /** The share of its life after which the root is rotated by itself; 0: never. */
  readonly rootAutoRotate: number;
  /** Leaves a second, or null for no limit. */
  readonly csrMaxPerSecond: number | null;
  /** Concurrent leaves, or null for no limit. */
  readonly csrMaxConcurrent: number | null;
  /** Which DNS names the leaves of services may have. */
  readonly serviceDnsNames: readonly DnsTemplate[];
  /** Which IP addresses they may have. */
  readonly serviceIpRanges: readonly IpRange[];
}

/** Whose external resources a provider creates, uses and deletes. */
export interface ResourceOwner extends Pick<ClusterIdentity, "clusterId"> {
  /**
   * Tells its resources from those of other datacenters, whose cluster ID is the same; null in a
   * deployment of one datacenter.
   */
  readonly datacenter: string | null;
}

export interface ProviderContext extends ClusterIdentity, ResourceOwner {
  readonly sealer: Sealer;
  readonly random: Random;
}

/** What a call that creates external resources gets from the change that it is part of. */
export interface ExternalWork {
  /** The store's clock. */
  readonly now: Date;
  /**
   * Registers a compensating action before its resource is created.
   * @throws {NotReadyError} if the operation lease expired; then nothing may be created.
   */
  readonly onRollback: (compensation: Compensation) => void;
}

export interface PrepareRequest<C> extends ExternalWork {
  /** What is active now, if it is of the same provider. */
  readonly previous: {
    readonly config: C;
    readonly state: ProviderState;
    readonly root: Certificate;
  } | null;
  /** Create a new root even if the active one fits the configuration. */
  readonly fresh: boolean;
  /**
   * The result has to be the root of `previous`, which is retired: no other one is created or taken.
   * @default false
   */
  readonly onlyPrevious?: boolean;
  /**
   * Called once the new root is known, before anything is created for it.
   * @param root null: one that is still to be created.
   * @throws {ConfigError} if a root in use is not allowed to certify it
   */
  readonly checkRoot: (root: Certificate | null) => Promise<void>;
}

/** A provider state to be committed. */
export interface Provisioned {
  readonly state: ProviderState;
  /** For the operator, such as a lifetime that was cut. @default none */
  readonly warnings?: readonly string[];
}

export interface Prepared extends Provisioned {
  /** The previous root if the configuration still describes it. */
  readonly root: Certificate;
}

/** A new issuer under the active root. */
export interface RenewRequest extends ExternalWork {
  readonly state: ProviderState;
  readonly root: Certificate;
}

/** The issuer of a secondary datacenter, under the primary's root. */
export interface SecondaryRequest<C> extends ExternalWork {
  /** The present issuer's, if it is of the same provider. */
  readonly previous: { readonly config: C; readonly state: ProviderState } | null;
}

/** An issuer's key that the primary datacenter has still to certify. */
export interface RequestedIntermediate {
  /** PEM, for `CrossSigner.signIntermediate` of the primary's provider. */
  readonly csr: string;
  /**
   * Checks and takes the primary's answer.
   * @param answered the certificate first; self-signed ones may follow.
   * @param root the primary's active one. @param now the store's clock.
   * @returns the state to commit, by which `open` signs leaves under that root.
   * @throws {ProviderError} @throws {SealError}
   */
  accept(answered: readonly Certificate[], root: Certificate, now: Date): Promise<Accepted>;
}

export interface Accepted extends Provisioned {
  /**
   * The state does not name what the previous one leaves outside, which is in another place: the
   * previous record is kept until its garbage is deleted. @default false
   */
  readonly dropsPrevious?: boolean;
}

/** A leaf as it was signed. */
export interface SignedLeaf extends Pick<LeafFields, "serial" | "notBefore" | "notAfter"> {
  readonly der: Uint8Array;
}

/** The limits of the leaves that a provider signs. */
export interface LeafLimits {
  /** The shortest life that a caller may ask for, in milliseconds. */
  readonly minTtlMs: number;
  /** How long before the moment of signing a leaf is valid at most, in milliseconds. */
  readonly backdateMs: number;
}

/** A provider opened for signing. */
export interface Provider {
  /** The certificate that signs leaves. No leaf outlives it, and it outlives nothing above it. */
  readonly issuer: Certificate;
  /** From the issuer up to below the root, in path order; empty if the root signs leaves itself. */
  readonly issuerChain: readonly Certificate[];
  /** The template by which leaves are encoded. */
  readonly template: LeafTemplate;
  /**
   * Whether leaves are encoded and signed elsewhere, with a serial number chosen there. `signLeaf`
   * then sends the request as it came, and checks the certificate against the draft.
   */
  readonly remote: boolean;
  readonly leafLimits: LeafLimits;
  /** Null if the root's key is out of reach, as in a secondary datacenter. */
  readonly crossSigner: CrossSigner | null;
  /** Null if nothing outside is needed. */
  readonly external: ExternalResources | null;
  /**
   * Signs a leaf that was prepared and checked.
   * @param csr the request, PEM. @throws {ProviderError} @throws {RateLimitedError}
   */
  signLeaf(draft: LeafDraft, csr: string): Promise<SignedLeaf>;
  /**
   * Ends this instance and revokes what it obtained for itself, such as a token. Leaves that were
   * prepared before may still be signed afterwards.
   * @returns once it has ended; it never rejects.
   */
  close(): Promise<void>;
}

/** Certifies other CAs by the root's key, or by the key next below it. */
export interface CrossSigner {
  /**
   * Checks, without any effect, whether `crossSign` is permitted.
   * @throws {ConfigError} with the missing permission @throws {ProviderError}
   */
  requirePermission(): Promise<void>;
  /**
   * Certifies another root.
   * @param now the store's clock. @param until the latest expiry: anyone who steals the other root's
   * key is trusted through the result until then.
   * @returns the cross-signed certificate, then those between it and the root.
   * @throws {ProviderError}
   */
  crossSign(root: Certificate, now: Date, until: Date): Promise<readonly Certificate[]>;
  /**
   * Certifies the issuer of another datacenter of this trust domain, a CA below which only leaves
   * are allowed.
   * @returns it, then those between it and the root. @throws {RequestError} @throws {ProviderError}
   */
  signIntermediate(csr: string, now: Date): Promise<readonly Certificate[]>;
}

/** The external resources that an opened provider needs. */
export interface ExternalResources {
  readonly health: ProviderHealth;
  /** Updates `health`; called every few seconds. It never rejects. */
  probe(): Promise<void>;
  /** Looks, without any effect, whether the issuer and the root exist. @throws {ProviderError} */
  inspect(): Promise<Inspection>;
  /** Looks, without any effect, what an operator should mend. @throws {ProviderError} */
  examine(): Promise<Examination>;
}

export interface ProviderHealth {
  /** Why no leaf can be signed because of it, or null. */
  readonly obstacle: string | null;
  /** Further faults with what an operator should do, a line each; of a failure since when. */
  readonly notes: readonly string[];
  /** The service that has the external resources does not answer. */
  readonly unavailable: boolean;
}

export interface Inspection {
  /** The issuer was deleted, or is another datacenter's to delete, and has to be renewed. */
  readonly issuerLost: boolean;
  /** Another root took the active one's place: `prepare` finds it. */
  readonly rootReplaced: boolean;
}

/** Deletes external resources of replaced issuers and roots, which provider states name. */
export interface GarbageCollector<C> {
  /** When the first of a state's garbage may be deleted; null if it names none. */
  dueAt(state: ProviderState): Date | null;
  /**
   * Deletes what is due and no other state needs.
   * @returns the state without it. @throws {ProviderError}
   */
  collect(config: C, request: CollectRequest, context: ProviderContext): Promise<ProviderState>;
  /**
   * Keeps of the state of a pruned or abandoned root, without its keys, what `collect` needs.
   * @param after when no leaf under that root is alive any more.
   * @returns null if nothing has to be deleted outside.
   */
  garbageOf(state: ProviderState, after: Date): ProviderState | null;
  /**
   * Keeps of the state of a dropped root, without its keys, what `collect` needs to delete all that
   * was made for it at once: it has been due since 1970. Nothing is changed.
   * @param offline without a look at what is there.
   * @returns a null state if nothing has to be deleted outside, and what stays there since others made
   * it, for an operator. @throws {ProviderError}
   */
  garbageOfDropped(
    config: C,
    state: ProviderState,
    context: ProviderContext,
    offline: boolean,
  ): Promise<{ readonly state: ProviderState | null; readonly left: readonly string[] }>;
}

export interface CollectRequest {
  readonly state: ProviderState;
  /** All other states of this provider: of the active root, of retired ones, and garbage. */
  readonly others: readonly ProviderState[];
  /** The latest instant confirmed as past (core/deletion-time.ts): garbage due before is deleted. */
  readonly now: Date;
  /**
   * Called before each deletion.
   * @throws {NotReadyError} if the operation lease expired, so that another change may run
   */
  readonly requireLease: () => void;
}

/**
 * One kind of provider.
 * @template C a parsed configuration. The CA holds types of every `C` in one map: it gives each only
 * what that type's own `parse` returned.
 */
export interface ProviderType<C extends CommonConfig = CommonConfig> {
  /** The wire name: `consul`. */
  readonly name: string;
  /** The name of this provider's roots in the roots listing. */
  readonly rootName: string;
  /** Paths of the secret configuration fields, in their CamelCase spelling. */
  readonly secretFields: readonly string[];
  /**
   * The fields, in their CamelCase spelling, that decide the root, its key and the issuer's key, and
   * where they are: a rollback brings them back with the root.
   */
  readonly rootFields: readonly string[];
  /**
   * @param raw secret fields have the value sent, or HIDDEN, which keeps the stored one.
   * @param datacenter a secondary one needs no root of its own. @default "primary"
   * @throws {ConfigError} with every fault
   */
  parse(raw: ConfigMap | null, datacenter?: "primary" | "secondary"): C;
  /**
   * @throws {ConfigError} @throws {SealError} @throws {ProviderError} @throws {ConflictError} with
   * `onlyPrevious`, if that root is gone or another one took its place
   */
  prepare(config: C, request: PrepareRequest<C>, context: ProviderContext): Promise<Prepared>;
  /** @throws {SealError} @throws {ProviderError} */
  open(
    config: C,
    state: ProviderState,
    root: Certificate,
    context: ProviderContext,
  ): Promise<Provider>;
  /**
   * Whether a provider that was opened with one configuration, for the same root and state, signs as
   * one opened with the other. Absent: it never does.
   */
  opensAlike?(before: C, after: C): boolean;
  /**
   * In a secondary datacenter: whether one configuration needs no other issuer than the one before.
   * Absent: it always does.
   */
  keepsIssuer?(before: C, after: C): boolean;
  /**
   * Why "rotate now" cannot create a new root from this configuration, or null.
   * @param state of the active root; null: it is not known yet, and does not decide.
   */
  rotateObstacle(config: C, state: ProviderState | null): string | null;
  /**
   * In a secondary datacenter, in place of `prepare` and `renew`: creates the issuer's key. `accept`
   * of the result belongs to the same change.
   * @throws {ConfigError} @throws {SealError} @throws {ProviderError}
   */
  requestIntermediate(
    config: C,
    request: SecondaryRequest<C>,
    context: ProviderContext,
  ): Promise<RequestedIntermediate>;
  /**
   * The configuration of a datacenter that is the primary one no more, without the fields of the
   * root. Absent: it has none that a secondary datacenter refuses.
   */
  withoutRoot?(raw: ConfigMap | null): ConfigMap | null;
  /**
   * Creates a new issuer under the same root. Absent if roots sign leaves themselves.
   * @throws {ProviderError} @throws {SealError}
   */
  renew?(config: C, request: RenewRequest, context: ProviderContext): Promise<Provisioned>;
  /**
   * The issuer recorded in a state, or null if the root signs leaves. Needed for states stored in a
   * schema in which the CA did not record it itself. @throws {ProviderError}
   */
  issuerOf?(state: ProviderState): Certificate | null;
  /**
   * The state of a primary datacenter, or of one of its retired roots, for another datacenter that
   * becomes the primary one: it signs as before, and what the former one created outside is never
   * deleted. Absent: the state as it is.
   */
  handOver?(state: ProviderState): ProviderState;
  /**
   * For what each encrypted text of a state was encrypted, by its field.
   * @param root the state's root; null if the state is garbage.
   */
  sealedPurposes(
    state: ProviderState,
    root: Certificate | null,
    clusterId: string,
  ): Readonly<Record<string, SealPurpose>>;
  /** Absent if this provider creates no external resources. */
  readonly garbage?: GarbageCollector<C>;
}

export type ProviderTypes = ReadonlyMap<string, ProviderType>;
