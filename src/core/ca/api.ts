/**
 * What an operator can ask a replica for, and decide.
 * @module
 */
import type { PrimacyClaim } from "../ports/primary.ts";
import type { Replica } from "../ports/replicas.ts";
import type { CaState, PreparedRoot } from "../state.ts";
import type { TrustOfDropped } from "./dropped-roots.ts";
import type { PrimaryStatus } from "./follower.ts";

/** The status of this replica. */
export interface Status {
  readonly role: "leader" | "follower";
  /** The highest term of the lease `operation` that was seen. */
  readonly term: number;
  readonly index: number;
  /**
   * Milliseconds since the store last confirmed the snapshot; null if it never did, or if the clock
   * was set back since.
   */
  readonly stalenessMs: number | null;
  /** The store does not answer: the snapshot may be outdated. */
  readonly storeAway: boolean;
  /**
   * When the store last confirmed the snapshot, by this replica's clock; null if it never did.
   */
  readonly confirmedAt: Date | null;
  /** Why the CA cannot be changed now, or null. */
  readonly changeObstacle: string | null;
  readonly clockOffsetMs: number;
  /** All live replicas agree that the store's clock is skewed. */
  readonly clockAlarm: boolean;
  /** Why changes are stopped until an operator decides, or null. */
  readonly stopped: string | null;
  readonly live: readonly Replica[];
  /** Faults of the provider's external resources with what an operator should do, a line each. */
  readonly notes: readonly string[];
  /** The service that has the provider's external resources does not answer. */
  readonly providerUnavailable: boolean;
  /** What this datacenter follows; null in a primary one. */
  readonly primary: PrimaryStatus | null;
  /** The datacenter that is the primary one in place of this primary one, or null. */
  readonly otherPrimary: PrimacyClaim | null;
  /** The published roots that make dropped ones be trusted. */
  readonly trustOfDropped: readonly TrustOfDropped[];
  /** The root that is published and does not sign yet, or null. */
  readonly preparedRoot: Pick<PreparedRoot, "rootId" | "activateAt"> | null;
}

/** Two states between which an operator has to decide. */
export interface StateConflict {
  readonly reason: string;
  readonly by: string;
  readonly at: Date;
  readonly snapshot: { readonly state: CaState; readonly term: number };
  /** The state is null if the store has none. */
  readonly stored: { readonly state: CaState | null; readonly term: number };
}

export interface ResolutionRequest {
  readonly keep: "snapshot" | "stored";
  readonly forceWithoutCrossSigning: boolean;
}

/** Which key-encryption keys there are. */
export interface KekUse {
  /** The one that this replica encrypts with. */
  readonly current: string;
  /** All that are needed to decrypt what is stored. */
  readonly inUse: readonly string[];
  readonly live: readonly Replica[];
}

export interface RestoreOptions {
  readonly forceWithoutCrossSigning: boolean;
  /** ModifyIndex of the present configuration; 0 or null: no comparison. @default null */
  readonly modifyIndex?: bigint | null;
  /** Do nothing if there is a state. @default false */
  readonly onlyWhereEmpty?: boolean;
}
