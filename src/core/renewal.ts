/**
 * The renewal port: a proof that somebody has the key of a leaf, and for which request.
 * @module
 */
import type { Certificate } from "./x509/certificate.ts";

export interface RenewalToken {
  readonly leaf: Certificate;
  /** What the holder sent along, in order. */
  readonly chain: readonly Certificate[];
  /** SHA-256 of the DER of the request that it is for, in base64url (RFC 4648 §5) without padding. */
  readonly csr: string;
}

/** Checks a proof against the key of the leaf in it. @throws {DeniedError} `permission_denied` */
export type VerifyRenewalToken = (jwt: string, audience: string, now: Date) => Promise<RenewalToken>;
