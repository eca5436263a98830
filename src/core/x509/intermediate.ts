/**
 * Checks of intermediates: those of this CA's issuers, and those that a primary datacenter returned.
 * @module
 */
import { equal } from "../bytes.ts";
import { ProviderError } from "../errors.ts";
import type { ClusterIdentity } from "../spiffe/trust-domain.ts";
import { signingUri } from "./authority.ts";
import type { Certificate } from "./certificate.ts";
import { couldHaveIssued, findPath, isSignedBy } from "./chain.ts";
import type { PublicKeyInfo } from "./keys.ts";
import { lint } from "./lint.ts";
import { caFaults } from "./usable-ca.ts";

/** Why a certificate is not an intermediate of this trust domain for a key, by an issuer. */
export async function intermediateFaults(
  certificate: Certificate,
  key: PublicKeyInfo,
  issuer: Certificate,
  cluster: Pick<ClusterIdentity, "trustDomain">,
): Promise<string[]> {
  const faults = await lint(certificate, "intermediate", issuer);
  if (!equal(certificate.key.spki, key.spki))
    faults.push("subjectPublicKeyInfo: Must be the one of the request");
  if (!certificate.uris.includes(signingUri(cluster)))
    faults.push("subjectAltName: Must be the trust domain's SPIFFE ID");
  if (!(await isSignedBy(certificate, issuer))) faults.push("signature: Must be the issuer's");
  return faults;
}

/**
 * Finds the path from a key to below a root among the certificates that a primary datacenter
 * returned, which may contain self-signed and unrelated certificates.
 * @param answered the certificate of the key first.
 * @returns the path, in order. @throws {ProviderError} `provider_contract` if leaves under it would
 * not verify
 */
export async function requireIntermediates(
  answered: readonly Certificate[],
  key: PublicKeyInfo,
  root: Certificate,
  cluster: Pick<ClusterIdentity, "trustDomain">,
  now: Date,
): Promise<readonly Certificate[]> {
  const refuse = (why: string) =>
    new ProviderError(
      "provider_contract",
      `Cannot take the intermediate that the primary datacenter signed: ${why}`,
    );
  const [first, ...above] = answered;
  if (first === undefined) throw refuse("the answer has no certificate");
  const path = await findPath(
    first,
    above.filter((certificate) => !couldHaveIssued(certificate, certificate)),
    root,
    now,
  );
  if (path === null) throw refuse("no path of valid certificates leads from it to the root");
  const faults = await intermediateFaults(first, key, path[1] as Certificate, cluster);
  // Verifiers that go by names would take the root for its own issuer.
  if (equal(first.subject, first.issuer)) faults.push("subject: Must not be the issuer's");
  // A leaf is below them, so each must allow one certificate more than in findPath() (RFC 5280
  // §4.2.1.9).
  if (path.some(({ pathLength }, below) => pathLength !== null && pathLength < below))
    faults.push("basicConstraints: No certificate of the path may have a pathLen that forbids it");
  if (faults.length === 0) faults.push(...verifierFaults(path, cluster));
  if (faults.length > 0) throw refuse(faults.join("; "));
  return path.slice(0, -1);
}

/** For what a verifier would refuse leaves below a path, of which the last one is the root. */
function verifierFaults(
  path: readonly Certificate[],
  { trustDomain }: Pick<ClusterIdentity, "trustDomain">,
): string[] {
  return path.slice(0, -1).flatMap((certificate, below) =>
    caFaults(certificate, {
      ...{ trustDomain, casBelow: below },
      issuer: path[below + 1] as Certificate,
    }).map((fault) => `${below === 0 ? "it" : "a certificate between it and the root"} ${fault}`),
  );
}
