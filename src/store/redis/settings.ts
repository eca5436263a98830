/**
 * The settings of Redis, as src/config reads and the store uses them. Only types: no client.
 * @module
 */

export interface RedisSettings {
  readonly mode: "single" | "sentinel" | "cluster";
  readonly nodes: readonly { readonly host: string; readonly port: number }[];
  /** Sentinel's name of the master. */
  readonly master: string | null;
  readonly username: string | null;
  readonly password: string | null;
  readonly sentinelUsername: string | null;
  readonly sentinelPassword: string | null;
  readonly db: number;
  /** PEM texts, or null for plain TCP. */
  readonly tls: {
    readonly ca: string | null;
    readonly cert: string | null;
    readonly key: string | null;
  } | null;
  /** Of all keys, unless `datacenterPrefix` is in use (prefix.ts). */
  readonly prefix: string;
  /** The prefix with the name of this datacenter; null if `prefix` is used as it is. */
  readonly datacenterPrefix: string | null;
  readonly connectTimeoutMs: number;
  readonly commandTimeoutMs: number;
  /** How many Redis replicas should acknowledge a commit before it is answered. */
  readonly waitReplicas: number;
}
