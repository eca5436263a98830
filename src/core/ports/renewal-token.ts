/**
 * The renewal port: a caller's proof that it has the key of a leaf, for one signing request.
 * @module
 */
import type { Certificate } from "../x509/certificate.ts";

/** A proof that was parsed but not verified. */
export interface RenewalToken {
  /** The leaf in the proof; the caller checks first that this CA signed it. */
  readonly leaf: Certificate;
  /**
   * Verifies the proof with the key of the leaf.
   * @param audience the CA's own SPIFFE ID, `spiffe://<trust domain>`. @param now by this replica's
   * clock.
   * @returns the SHA-256 of the DER of the signing request, in base64url (RFC 4648 §5)
   * without padding.
   * @throws {DeniedError} `permission_denied`
   */
  verify(audience: string, now: Date): Promise<string>;
}

/** Parses a proof without verifying it. @throws {DeniedError} `permission_denied` */
export type ReadRenewalToken = (jwt: string) => RenewalToken;
