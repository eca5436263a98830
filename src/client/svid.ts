/**
 * An X.509-SVID with its private key, and the trust bundle that verifies others.
 * @module
 */
import type { Bytes } from "../core/bytes.ts";

/** A leaf, its chain and its private key (SPIFFE X509-SVID). It was verified under the bundle. */
export interface X509Svid {
  /** The canonical SPIFFE ID. */
  readonly spiffeId: string;
  /** DER: the leaf, then its chain in path order, without the root. */
  readonly chain: readonly Bytes[];
  /** DER of a PKCS#8 PrivateKeyInfo. */
  readonly privateKey: Bytes;
  /** Colon hex. */
  readonly serialNumber: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** The index of the state it was signed under (Consul's ModifyIndex). */
  readonly index: number;
}

/** The published roots of a trust domain. */
export interface TrustBundle {
  /** Without scheme. */
  readonly trustDomain: string;
  /** DER of every published root, the active one and the retired ones, the oldest first. */
  readonly roots: readonly Bytes[];
  /** Consul's ID of the active root: SHA-1 of its DER in colon hex. */
  readonly activeRootId: string;
  /** Consul's X-Consul-Index of the response. */
  readonly index: number;
  /** The response of GET /v1/connect/ca/roots, octet for octet. */
  readonly json: string;
}
