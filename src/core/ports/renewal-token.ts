/**
 * The renewal port: a proof that somebody has the key of a leaf, and for which request.
 * @module
 */
import type { Certificate } from "../x509/certificate.ts";

/** A proof that was read and not yet checked. */
export interface RenewalToken {
  /** The leaf that it names; whether that is one of this CA is for the caller to check first. */
  readonly leaf: Certificate;
  /**
   * Checks the proof against the key of the leaf.
   * @param audience the CA's own SPIFFE ID, `spiffe://<trust domain>`. @param now by this replica's
   * clock.
   * @returns the SHA-256 of the DER of the request that it is for, in base64url (RFC 4648 §5)
   * without padding.
   * @throws {DeniedError} `permission_denied`
   */
  verify(audience: string, now: Date): Promise<string>;
}

/** Reads a proof; it verifies no signature. @throws {DeniedError} `permission_denied` */
export type ReadRenewalToken = (jwt: string) => RenewalToken;
