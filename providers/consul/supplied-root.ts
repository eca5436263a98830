/**
 * Checks a root that an operator supplies for all faults for which a verifier rejects its leaves.
 * They are reported together, before anything changes, and force accepts none of them.
 * @module
 */
import { equal } from "../../src/core/bytes.ts";
import { ConfigError, FormatError } from "../../src/core/errors.ts";
import type { ClusterIdentity } from "../../src/core/spiffe/trust-domain.ts";
import { type CaKey, signingUri } from "../../src/core/x509/authority.ts";
import { type Certificate, readCertificatePem } from "../../src/core/x509/certificate.ts";
import { isSignedBy } from "../../src/core/x509/chain.ts";
import type { PublicKeyInfo } from "../../src/core/x509/keys.ts";
import { CAS_BELOW_ROOT, caFaults, caWarnings } from "../../src/core/x509/usable-ca.ts";
import { Faults } from "../faults.ts";

/**
 * Reads and checks a supplied root.
 * @param key the supplied key, or the public half of the stored one.
 * @throws {ConfigError} with every fault
 */
export async function readSuppliedRoot(
  pem: string,
  key: CaKey | { readonly info: PublicKeyInfo },
  { trustDomain }: Pick<ClusterIdentity, "trustDomain">,
  now: Date,
): Promise<Certificate> {
  let root: Certificate;
  try {
    root = readCertificatePem(pem);
    // RootCert is stored and shown as it was sent. Text around the certificate is skipped (RFC 7468
    // §2), but no key may hide in it.
    if (/PRIVATE KEY/i.test(pem)) throw new FormatError("there must be no private key in RootCert");
  } catch (error) {
    if (error instanceof FormatError)
      throw new ConfigError(`error parsing root certificate: ${error.message}`);
    throw error;
  }
  const faults = new Faults();
  const demand = (holds: boolean, message: string, field = "RootCert") =>
    faults.refuse(!holds, field, message);
  const { uris, key: rootKey } = root;
  demand(equal(rootKey.spki, key.info.spki), "PrivateKey is not the key of RootCert", "PrivateKey");
  for (const fault of caFaults(root, {
    trustDomain,
    issuer: root,
    casBelow: CAS_BELOW_ROOT,
  }))
    demand(false, `RootCert ${fault}`);
  demand(
    equal(root.issuer, root.subject),
    "RootCert is not self-signed: its issuer is not its subject",
  );
  demand(
    rootKey.type !== "ed25519",
    "RootCert must have an EC key on P-256, P-384 or P-521, or an RSA key of 2048, 3072 or 4096 bits",
  );
  demand(root.notAfter > now, `RootCert expired on ${root.notAfter.toISOString()}`);
  demand(root.notBefore <= now, `RootCert is not valid before ${root.notBefore.toISOString()}`);
  const wanted = signingUri({ trustDomain });
  demand(
    uris.length === 1 && uris[0]?.toLowerCase() === wanted,
    `RootCert must have exactly the URI ${wanted} in its subject alternative name; it has ${uris.length === 0 ? "none" : uris.join(", ")}`,
  );
  // If the names differ, that is the fault.
  if (equal(root.issuer, root.subject))
    demand(await isSignedBy(root, root), "RootCert is not signed by its own key");
  faults.throwIfAny();
  return root;
}

/** What an operator should know of a supplied root that was taken. */
export function suppliedRootWarnings(root: Certificate): string[] {
  return caWarnings(root).map((warning) => `RootCert ${warning}`);
}
