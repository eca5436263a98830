/**
 * What the agent serves: identities with their SVIDs, and the trust bundle.
 * @module
 */
import type { Source } from "../client/source.ts";
import type { TrustBundle, X509Svid } from "../client/svid.ts";

/** One identity that the agent keeps a fresh SVID of. */
export interface Workload {
  /** The name of the service; tells the identities of one socket apart. */
  readonly service: string;
  readonly svid: Source<X509Svid>;
  /** Why there is no SVID, or why the present one could not be renewed; null if all is well. */
  readonly problem: string | null;
}

/** The identities that one socket, folder or listener serves, the default one first. */
export interface WorkloadSet {
  readonly workloads: readonly Workload[];
  readonly bundle: Source<TrustBundle>;
}
