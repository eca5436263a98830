/**
 * The ports to other datacenters: what a secondary one asks the primary one for, and what every
 * datacenter reports about which one is the primary. The answers are of a server whose TLS certificate
 * was verified, and are checked again before they are used: a server that was taken over must not be
 * able to make this datacenter trust, or sign under, anything else.
 * @module
 */
import type { DroppedRoot } from "../state.ts";
import type { Certificate } from "../x509/certificate.ts";

/** A root as the primary datacenter publishes it. */
export interface PrimaryRoot {
  readonly name: string;
  readonly certificate: Certificate;
  /** In the order of the listing: cross-signed certificates, and the primary's own issuers. */
  readonly intermediates: readonly Certificate[];
  readonly abandoned: boolean;
  /** Abandoned since its key was lost, not since it may be stolen. */
  readonly lost: boolean;
  /** Published before it signs: no client has it as its only root. */
  readonly prepared: boolean;
}

/** The roots that the primary datacenter publishes. */
export interface PrimaryListing {
  readonly trustDomain: string;
  /** The cluster ID, which the roots name as ExternalTrustDomain. In lower case. */
  readonly clusterId: string;
  readonly activeRootId: string;
  readonly roots: readonly PrimaryRoot[];
  /** Roots that it dropped, which must not stay published anywhere. */
  readonly dropped: readonly Pick<DroppedRoot, "id" | "keyId" | "notAfter">[];
  /** X-Consul-Index. */
  readonly index: number;
  /** Null: of a version that does not say it. */
  readonly primacy: Primacy | null;
}

/** Which datacenter a server takes for the primary one. */
export interface Primacy {
  /** Its name. */
  readonly datacenter: string;
  /** How often a datacenter of the mesh had been promoted when this one was. */
  readonly promotions: number;
  /** LeafCertTTL there, in milliseconds; null if the server does not say it. */
  readonly leafTtlMs: number | null;
}

/**
 * How far a claim may be above the promotions that a datacenter has seen: a hundred times as many as a
 * mesh sees in years. A higher one is a lie: the next promotion would have to be above it, until none
 * is possible.
 */
export const MAX_CLAIM_AHEAD = 1000;
/** How far the followed datacenter may be above them: every promotion there may be above such a claim. */
export const MAX_FOLLOWED_AHEAD = 1000 * MAX_CLAIM_AHEAD;

/** What a server of another datacenter reports of its mesh. */
export interface PrimacyClaim extends Primacy {
  /** The datacenter of the server. */
  readonly by: string;
  readonly trustDomain: string;
}

/** The other datacenters in this deployment's configuration. */
export interface PeerDatacenters {
  /** Their names as they are configured now. */
  readonly names: readonly string[];
  /** What a server of each reports, of those that answer within seconds. It never rejects. */
  claims(): Promise<readonly PrimacyClaim[]>;
}

export interface PrimaryDatacenter {
  /** Its name in this deployment's configuration. */
  readonly name: string;
  /** Whether the configuration still names it: false once that names this datacenter as the primary. */
  readonly isConfigured: boolean;
  /**
   * How far its clock is ahead of this one, in milliseconds, exact to about a second; null before its
   * first answer.
   */
  readonly clockOffsetMs: number | null;
  /**
   * The published roots.
   * @param after waits until the index is another one, about a minute at most; null: no wait.
   * @throws {PrimaryError} if no server answers, or with something that is not a listing
   */
  roots(after: number | null, signal?: AbortSignal): Promise<PrimaryListing>;
  /**
   * Has an intermediate signed.
   * @param csr PEM. @returns the certificate of the request first, unchecked.
   * @throws {PrimaryError}
   */
  signIntermediate(csr: string): Promise<readonly Certificate[]>;
  /**
   * Whether the replication token is allowed to have an intermediate signed; nothing is signed.
   * @throws {PrimaryError} if no server answers
   */
  maySign(): Promise<boolean>;
}
