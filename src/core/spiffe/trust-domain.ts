/**
 * The name of a trust domain: the one that a cluster has by default, and which names an operator may
 * give it.
 * @module
 */

/** Which cluster a CA is of. Both are fixed when the CA is created. */
export interface ClusterIdentity {
  /** A UUID in form, in lower case. */
  readonly clusterId: string;
  /** The trust domain of every SPIFFE ID, in lower case: `<cluster id>.consul`, or one of its own. */
  readonly trustDomain: string;
}

/**
 * The trust domain of a cluster that has none of its own: Consul's top-level domain is fixed
 * (agent/connect/uri_signing.go).
 */
export function defaultTrustDomain(clusterId: string): string {
  return `${clusterId.toLowerCase()}.consul`;
}

/** SPIFFE-ID §2.3. */
const MAX_LENGTH = 255;
/** RFC 1035 §2.3.4. */
const MAX_LABEL = 63;

/**
 * Why a text cannot be the trust domain of a CA, as the predicate of a sentence; null if it can.
 * SPIFFE-ID §2.1 allows letters in lower case, digits, dots, hyphens and underscores. Here it must
 * also be a host name (RFC 1123 §2.1): it is the host of every URI and part of the DNS name
 * `server.<datacenter>.peering.<trust domain>`, Java does not read a name constraint with an
 * underscore, and Go does not match a host that is an IP address with constraints on URIs.
 */
export function trustDomainFault(name: string): string | null {
  const labels = name.split(".");
  const last = labels.at(-1) as string;
  if (name === "") return "must not be empty";
  if (name.length > MAX_LENGTH) return `must have at most ${MAX_LENGTH} characters`;
  if (name.includes("://"))
    return 'must be the name of a trust domain only, such as mesh.example.com, without "spiffe://"';
  if (/[A-Z]/.test(name)) return "must be in lower case";
  if (name.includes("_"))
    return "must not have an underscore: it is part of DNS names, and Java does not read name constraints with an underscore";
  const odd = /[^a-z0-9.-]/u.exec(name)?.[0];
  if (odd !== undefined)
    return `must have letters, digits, dots and hyphens only, and has ${JSON.stringify(odd)}`;
  if (labels.includes(""))
    return "must not have an empty label, which two dots in a row, a first or a last dot make";
  // The ID of a CA, `spiffe://<trust domain>`, has a dot in Consul (agent/connect/uri.go).
  if (labels.length < 2)
    return "must have at least two labels, such as mesh.example.com, since Consul's clients read no shorter one in the ID of a CA";
  if (labels.some((label) => label.length > MAX_LABEL))
    return `must have labels of at most ${MAX_LABEL} characters`;
  if (labels.some((label) => label.startsWith("-") || label.endsWith("-")))
    return "must not have a label that begins or ends with a hyphen";
  if (!/^[a-z]/.test(last))
    return "must have a last label that begins with a letter: verifiers take others for IP addresses, or for no host names";
  return null;
}
