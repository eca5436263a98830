/**
 * Which SPIFFE IDs a leaf may have: those of this trust domain and datacenter, in the default
 * namespace and partition.
 * @module
 */
import { RequestError } from "../errors.ts";
import { type LeafId, requireDefaultScope, type SpiffeId, trustDomainOf } from "../spiffe/id.ts";

/**
 * @throws {RequestError} `spiffe_id_malformed` for an ID that no leaf has; `profile_violation` for
 * one of another trust domain, datacenter, namespace or partition
 */
export function requireLeafId(id: SpiffeId, clusterId: string, datacenter: string): LeafId {
  // Consul's texts, in its order (agent/consul/leader_connect_ca.go).
  if (id.kind === "signing")
    throw new RequestError(
      "spiffe_id_malformed",
      "SPIFFE ID in CSR must be a service, mesh-gateway, or agent ID",
    );
  requireDefaultScope(id);
  const trustDomain = trustDomainOf(clusterId);
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
  return id;
}
