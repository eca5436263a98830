/**
 * What the files of a credential folder contain: the SPIFFE filesystem delivery (SPIFFE Workload
 * Endpoint, credential folder), and the names of Kubernetes' secrets of type kubernetes.io/tls for
 * servers that do not know SPIFFE.
 * @module
 */
import type { TrustBundle, X509Svid } from "../../client/svid.ts";
import { FormatError } from "../../core/errors.ts";
import { certificatePem, writePem } from "../../core/pem.ts";

/** The names that do not depend on the trust domain. */
export const FILE = {
  /** SPIFFE: the key, then the chain. */
  bundle: "credential-bundle.private-key.pem",
  chain: "tls.crt",
  key: "tls.key",
  /** Every published root, the oldest first. */
  roots: "ca.crt",
  /** Chain and key in one file, which HAProxy's `crt` takes: named after tls.crt and tls.key. */
  combined: "tls.pem",
} as const;

/** The longest name of a file in octets (NAME_MAX of Linux, limits.h). */
const MAX_NAME = 255;

export interface CredentialFile {
  readonly name: string;
  /** PEM. */
  readonly text: string;
  /** Whether it has the private key. */
  readonly isSecret: boolean;
}

/** The name of the file with the roots of a trust domain. */
export function trustBundleName(trustDomain: string): string {
  return `${trustDomain}.spiffe-trust-bundle.pem`;
}

/**
 * The files of one generation.
 * @throws {FormatError} if the SVID is not of the bundle's trust domain, the bundle has no root, or
 * the trust domain cannot be a file name
 */
export function contentOf(svid: X509Svid, bundle: TrustBundle): readonly CredentialFile[] {
  const { trustDomain } = bundle;
  if (!/^[a-z0-9_-][a-z0-9._-]*$/.test(trustDomain))
    throw new FormatError(`Trust domain ${JSON.stringify(trustDomain)} cannot be a file name`);
  if (!svid.spiffeId.startsWith(`spiffe://${trustDomain}/`))
    throw new FormatError(`${svid.spiffeId} is not of trust domain ${trustDomain}`);
  if (bundle.roots.length === 0)
    throw new FormatError(`Trust bundle of ${trustDomain} has no root`);
  if (svid.chain.length === 0) throw new FormatError(`${svid.spiffeId} has no certificate`);
  const name = trustBundleName(trustDomain);
  if (name.length > MAX_NAME)
    throw new FormatError(`File name ${name} is longer than ${MAX_NAME} octets`);
  const key = writePem("PRIVATE KEY", svid.privateKey);
  const chain = svid.chain.map(certificatePem).join("");
  const roots = bundle.roots.map(certificatePem).join("");
  const file = (fileName: string, text: string) => ({
    name: fileName,
    text,
    isSecret: text.includes(key),
  });
  return [
    file(FILE.bundle, key + chain),
    file(FILE.chain, chain),
    file(FILE.key, key),
    file(FILE.roots, roots),
    file(FILE.combined, chain + key),
    file(name, roots),
  ];
}
