/**
 * The replicas port: the live replicas of a CA. It prevents changes that a live replica could not
 * read, and shows the replicas to an operator; no write depends on it.
 *
 * - `announce` is the heartbeat: this replica counts as live for `ttlMs` by the store's clock. It
 *   returns all live replicas, including this one.
 * - `leave` removes a replica from the list.
 * @module
 */

/** The heartbeat of a replica. */
export interface Replica {
  /** Another one at each start of a process. */
  readonly id: string;
  /** The `host:port` on which it listens. */
  readonly address: string;
  /** Ids of its key-encryption keys, the one that it encrypts with first. */
  readonly keks: readonly string[];
  /** The newest schema of the state that it reads. */
  readonly schema: number;
  /** Index of the state that it serves; 0 before there is one. */
  readonly index: number;
  /** How far the store's clock is ahead of its own, in milliseconds. */
  readonly clockOffsetMs: number;
  /**
   * The leaves that it signed and has not written into the shared counts, in the form of the leaf
   * counts port, or empty. Absent: it does not count leaves.
   */
  readonly leaves?: string | undefined;
}

export interface Replicas {
  /** @throws {StoreError} */
  announce(self: Replica, ttlMs: number): Promise<Replica[]>;
  /** @throws {StoreError} */
  leave(id: string): Promise<void>;
}
