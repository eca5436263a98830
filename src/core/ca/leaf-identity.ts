/**
 * Which SPIFFE IDs a leaf may have: those of this trust domain and datacenter, in the default
 * namespace and partition.
 * @module
 */
import { RequestError } from "../errors.ts";
import { type LeafId, requireDefaultScope, type SpiffeId } from "../spiffe/id.ts";

/**
 * @param ours the trust domain and datacenter that leaves are signed for.
 * @throws {RequestError} `spiffe_id_malformed` for an ID that no leaf has; `profile_violation` for
 * one of another trust domain, datacenter, namespace or partition
 */
export function requireLeafId(
  id: SpiffeId,
  { trustDomain, datacenter }: { readonly trustDomain: string; readonly datacenter: string },
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
  return id;
}
