/**
 * The agent's settings, as the rest of the agent takes them.
 * @module
 */

/** A hook of a folder. */
export type HookSettings = (
  | { readonly kind: "command"; readonly command: readonly string[] }
  | {
      readonly kind: "signal";
      readonly signal: "HUP" | "USR1" | "USR2";
      readonly pidFile: string;
    }
) & { /** Null: the default. */ readonly timeoutMs: number | null };

export interface IdentitySettings {
  /** Null: the identity of the token. */
  readonly service: string | null;
  readonly dnsNames: readonly string[];
  readonly ipAddresses: readonly string[];
  /** Null: LeafCertTTL. */
  readonly ttlMs: number | null;
}

export interface SocketSettings {
  readonly at: { readonly path: string } | { readonly host: string; readonly port: number };
  /** Indices of the identities, the default one first. */
  readonly identities: readonly number[];
  readonly mode: number;
  /** A name or a number; null: the user's own. */
  readonly group: string | null;
}

export interface FolderSettings {
  readonly path: string;
  /** The index of the identity. */
  readonly identity: number;
  /** Of the files with the private key. Null: the default. */
  readonly mode: number | null;
  readonly owner: string | null;
  readonly group: string | null;
  /** Whether those who can write into the folder or replace it are trusted. */
  readonly isShared: boolean;
  readonly onChange: HookSettings | null;
}

export interface AgentSettings {
  /** Origins, in order of preference. */
  readonly servers: readonly string[];
  readonly caFile: string | null;
  /** SHA-256 of a root, in lower-case hex. */
  readonly caPin: string | null;
  readonly datacenter: string | null;
  /** Of the environment; a secret. */
  readonly token: string | null;
  readonly tokenFile: string | null;
  readonly login: { readonly authMethod: string; readonly tokenFile: string } | null;
  readonly identities: readonly IdentitySettings[];
  readonly sockets: readonly SocketSettings[];
  readonly folders: readonly FolderSettings[];
  readonly listen:
    | { readonly host: string; readonly port: number }
    | { readonly path: string }
    | null;
  readonly defaultIntentionPolicy: "allow" | "deny" | null;
  readonly cacheDir: string | null;
  readonly logLevel: "debug" | "info" | "warning" | "error";
  readonly onceTimeoutMs: number;
}
