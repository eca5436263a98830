/**
 * A cluster with the default trust domain.
 * @module
 */
import { type ClusterIdentity, defaultTrustDomain } from "../../src/core/spiffe/trust-domain.ts";

export function clusterOf(clusterId: string): ClusterIdentity {
  return { clusterId, trustDomain: defaultTrustDomain(clusterId) };
}
