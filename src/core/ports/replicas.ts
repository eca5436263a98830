/**
 * The replicas port: who else serves this CA. It decides nothing about what is true; it only keeps
 * a change from being made that a replica alive could not follow, and tells an operator who is
 * there.
 *
 * - `announce` says that this replica lives, for `ttlMs` from now on by the store's clock, and
 *   gives all that live, this
 *   one among them.
 * - `leave` takes this replica off the list.
 * @module
 */

/** What a replica says of itself. */
export interface Replica {
  /** Its own for each start of a process. */
  readonly id: string;
  /** `host:port` where it listens. */
  readonly address: string;
  /** Ids of the key-encryption keys that it has, the one that it seals with first. */
  readonly keks: readonly string[];
  /** The newest schema of the state that it reads. */
  readonly schema: number;
  /** Index of the state that it serves; 0 before there is one. */
  readonly index: number;
  /** How far the store's clock is ahead of its own, in milliseconds. */
  readonly clockOffsetMs: number;
}

export interface Replicas {
  /** @throws {StoreError} */
  announce(self: Replica, ttlMs: number): Promise<Replica[]>;
  /** @throws {StoreError} */
  leave(id: string): Promise<void>;
}
