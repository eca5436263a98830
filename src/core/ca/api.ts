/**
 * What an operator can ask of a replica, and decide.
 * @module
 */
import type { Replica } from "../ports/replicas.ts";
import type { CaState } from "../state.ts";

/** How this replica stands, for an operator. */
export interface Status {
  readonly role: "leader" | "follower";
  /** The highest term of the lease `operation` that was seen. */
  readonly term: number;
  readonly index: number;
  /**
   * Milliseconds since the store last said what is stored; null if it never did, or the clock was
   * set back since.
   */
  readonly stalenessMs: number | null;
  /** The store is overdue with its answer: what is served may be old. */
  readonly storeAway: boolean;
  /**
   * When the store last confirmed what is served, by this replica's clock; null if it never did.
   */
  readonly confirmedAt: Date | null;
  /** Why the CA cannot be changed now, or null. */
  readonly changeObstacle: string | null;
  readonly clockOffsetMs: number;
  /** All replicas alive say that it is the store's clock that is off. */
  readonly clockAlarm: boolean;
  /** Why changes are stopped until an operator decides, or null. */
  readonly stopped: string | null;
  readonly live: readonly Replica[];
  /** Of what the provider needs outside: what an operator should know and do, a line each. */
  readonly notes: readonly string[];
}

/** Two states between which an operator has to decide. */
export interface StateConflict {
  readonly reason: string;
  readonly by: string;
  readonly at: Date;
  readonly snapshot: { readonly state: CaState; readonly term: number };
  /** The state is null where the store holds none. */
  readonly stored: { readonly state: CaState | null; readonly term: number };
}

export interface ResolutionRequest {
  readonly keep: "snapshot" | "stored";
  readonly forceWithoutCrossSigning: boolean;
}

/** Which key-encryption keys there are. */
export interface KekUse {
  /** The one that this replica seals with. */
  readonly current: string;
  /** Without any of these something stored cannot be opened. */
  readonly inUse: readonly string[];
  readonly live: readonly Replica[];
}

export interface RestoreOptions {
  readonly forceWithoutCrossSigning: boolean;
  /** ModifyIndex of the present configuration; 0 or null: no comparison. @default null */
  readonly modifyIndex?: bigint | null;
  /** Do nothing where there is a state already. @default false */
  readonly onlyWhereEmpty?: boolean;
}
