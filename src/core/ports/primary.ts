/**
 * The primary port: what a secondary datacenter asks the primary one for. The answers are of a
 * server whose TLS certificate was verified, and are checked again before they are used: a server that
 * was taken over must not be able to make this datacenter trust, or sign under, anything else.
 * @module
 */
import type { Certificate } from "../x509/certificate.ts";

/** A root as the primary datacenter publishes it. */
export interface PrimaryRoot {
  readonly name: string;
  readonly certificate: Certificate;
  /** In the order of the listing: cross-signed certificates, and the primary's own issuers. */
  readonly intermediates: readonly Certificate[];
  readonly abandoned: boolean;
}

/** The roots that the primary datacenter publishes. */
export interface PrimaryListing {
  readonly trustDomain: string;
  /** The cluster ID, which the roots name as ExternalTrustDomain. In lower case. */
  readonly clusterId: string;
  readonly activeRootId: string;
  readonly roots: readonly PrimaryRoot[];
  /** X-Consul-Index. */
  readonly index: number;
}

export interface PrimaryDatacenter {
  /** Its name in this deployment's configuration. */
  readonly name: string;
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
