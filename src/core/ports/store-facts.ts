/**
 * The store-facts port: the settings of a store on which its promises depend, as they are now.
 * @module
 */

/** One Redis server that takes writes: the master, or each master of a Cluster. */
export interface RedisFacts {
  /** Whether it has an append-only file; without one a restart loses changes. */
  readonly appendOnly: boolean;
  /** What failed last: the append-only file, the snapshot; empty if nothing did. */
  readonly failing: readonly ("appendonly" | "snapshot")[];
  /** `noeviction` if it never deletes keys by itself. */
  readonly evictionPolicy: string;
  /** In octets. */
  readonly memoryUsed: number;
  /** `maxmemory` in octets; 0: no limit. */
  readonly memoryLimit: number;
  readonly replicas: number;
  /** Whether it refuses writes without replicas (`min-replicas-to-write`). */
  readonly requiresReplicas: boolean;
}

export interface StoreFacts {
  readonly kind: "memory" | "sqlite" | "redis";
  /** How it finds its master; null of another store. */
  readonly mode: "single" | "sentinel" | "cluster" | null;
  /** The prefix of the keys in Redis; null of another store. */
  readonly prefix: string | null;
  /** How many replicas of Redis should acknowledge a change before it is answered. */
  readonly waitReplicas: number;
  /** Empty of another store. */
  readonly servers: readonly RedisFacts[];
}

/** @throws {StoreError} if the store does not answer */
export type ReadStoreFacts = () => Promise<StoreFacts>;
