/**
 * A certificate verified by the runtime's own X.509.
 * @module
 */
import assert from "node:assert/strict";
import type { KeyObject, X509Certificate } from "node:crypto";

/**
 * Deno's throws for P-521, which it does not support; the tests verify these certificates with
 * OpenSSL too.
 */
export function assertVerifies(certificate: X509Certificate, issuer: KeyObject): void {
  if (
    process.versions.deno !== undefined &&
    issuer.asymmetricKeyDetails?.namedCurve === "secp521r1"
  )
    assert.throws(() => certificate.verify(issuer), /Unsupported EC curve for X509 verification/);
  else assert.equal(certificate.verify(issuer), true);
}
