/**
 * A certificate verified by the runtime's own X.509.
 * @module
 */
import assert from "node:assert/strict";
import type { KeyObject, X509Certificate } from "node:crypto";

/**
 * Deno's has no P-521: it says so, and OpenSSL, which these certificates are shown to as well, is
 * the second opinion.
 */
export function assertVerifies(certificate: X509Certificate, issuer: KeyObject): void {
  if (
    process.versions.deno !== undefined &&
    issuer.asymmetricKeyDetails?.namedCurve === "secp521r1"
  )
    assert.throws(() => certificate.verify(issuer), /Unsupported EC curve for X509 verification/);
  else assert.equal(certificate.verify(issuer), true);
}
