/**
 * What has to be known to reach Redis, as configuration reads it and the store uses it. Types
 * alone: no client.
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
  readonly prefix: string;
  readonly connectTimeoutMs: number;
  readonly commandTimeoutMs: number;
  /** Copies that must confirm a commit before it is answered. */
  readonly waitReplicas: number;
}
