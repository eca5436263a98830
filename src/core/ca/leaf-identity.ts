/**
 * Which SPIFFE ID a request for a leaf asks for, and which ones a leaf may have: those of this trust
 * domain and datacenter, in the default namespace and partition.
 * @module
 */
import { RequestError } from "../errors.ts";
import {
  formatSpiffeId,
  type InDatacenter,
  type LeafId,
  parseSpiffeId,
  requireDefaultScope,
  type SpiffeId,
  serviceId,
} from "../spiffe/id.ts";
import { MAX_URI_LENGTH } from "../x509/csr.ts";

/** Which identity a CSR without a URI gets. */
export interface IdentitySource {
  /** The service that the request names. @default null */
  readonly service?: string | null;
  /**
   * The caller's own identity, if the request names no service.
   * @throws {RequestError} `csr_malformed` if the caller has no identity, or several
   * @default undefined: the CSR must have a URI, or the request name a service
   */
  readonly ownIdentity?: (scope: InDatacenter) => SpiffeId;
}

/** Whether the identity is known without a URI in the CSR. */
export function mayLackUri({ service = null, ownIdentity }: IdentitySource): boolean {
  return service !== null || ownIdentity !== undefined;
}

/**
 * The identity that a request asks for: that of the CSR's URI; without one, the service that the
 * request names, or the caller's own.
 * @param uri null only if `mayLackUri`.
 * @throws {RequestError} `spiffe_id_malformed`, and those of `ownIdentity`
 */
export function requestedId(
  uri: string | null,
  { service = null, ownIdentity }: IdentitySource,
  scope: InDatacenter,
): SpiffeId {
  if (uri !== null) return parseSpiffeId(uri);
  if (service !== null && service.length > MAX_URI_LENGTH) throw tooLong("service");
  const id = service === null ? ownIdentity?.(scope) : serviceId(scope, service);
  if (id === undefined) throw new TypeError("The CSR has no URI, and nothing names an identity");
  if (formatSpiffeId(id).length > MAX_URI_LENGTH) throw tooLong("SPIFFE ID");
  return id;
}

/** As for the URI of a CSR. */
function tooLong(what: string): RequestError {
  return new RequestError(
    "spiffe_id_malformed",
    `Cannot sign leaf: the ${what} is longer than ${MAX_URI_LENGTH} characters`,
  );
}

/**
 * @param ours the trust domain and datacenter that leaves are signed for.
 * @param service the one that the request names, or null.
 * @throws {RequestError} `spiffe_id_malformed` for an ID that no leaf has; `profile_violation` for
 * one of another trust domain, datacenter, namespace, partition or service
 */
export function requireLeafId(
  id: SpiffeId,
  { trustDomain, datacenter }: InDatacenter,
  service: string | null = null,
): LeafId {
  // Consul's texts, in its order (agent/consul/leader_connect_ca.go).
  if (id.kind === "signing")
    throw new RequestError(
      "spiffe_id_malformed",
      "SPIFFE ID in CSR must be a service, mesh-gateway, or agent ID",
    );
  requireDefaultScope(id);
  if (id.datacenter !== datacenter)
    throw new RequestError(
      "profile_violation",
      `SPIFFE ID in CSR from a different datacenter: ${id.datacenter}, we are ${datacenter}`,
    );
  if (id.trustDomain !== trustDomain)
    throw new RequestError(
      "profile_violation",
      `SPIFFE ID in CSR from a different trust domain: ${id.trustDomain}, we are ${trustDomain}`,
    );
  if (service !== null && !(id.kind === "service" && id.service === service))
    throw new RequestError(
      "profile_violation",
      `Cannot sign leaf: the CSR is for ${JSON.stringify(formatSpiffeId(id))}, and the request names the service ${JSON.stringify(service.slice(0, MAX_URI_LENGTH))}`,
    );
  return id;
}
