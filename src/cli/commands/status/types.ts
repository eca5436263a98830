/**
 * The state of a server, as `meshca status --json` prints it.
 * @module
 */

export interface Problem {
  /** `stopped`: leaves cannot be signed. `warning`: leaves are signed. */
  readonly level: "stopped" | "warning";
  /** A sentence without a period. */
  readonly text: string;
  /** A command of this program, or null if none mends it. */
  readonly command: string | null;
}

export interface RootFacts {
  readonly id: string;
  readonly state: string;
  readonly notBefore: string;
  readonly notAfter: string;
  /** `ec 256` */
  readonly key: string;
}

export interface StatusFacts {
  readonly server: string;
  /** Whether leaves can be signed now. */
  readonly ready: boolean;
  /** Why not, in the server's words; null if it is ready. */
  readonly reason: string | null;
  /** Null: no CA yet. */
  readonly trustDomain: string | null;
  readonly roots: readonly RootFacts[];
  /** The address of the leader, or null. */
  readonly leader: string | null;
  /** Addresses of the live replicas. */
  readonly replicas: readonly string[];
  /** Null: the token lacks operator:read. */
  readonly provider: { readonly name: string; readonly leafCertTtl: string | null } | null;
  /** Lines of /readyz, by their name; null: the caller may not see them. */
  readonly details: Readonly<Record<string, readonly string[]>> | null;
}

export interface Status extends StatusFacts {
  readonly problems: readonly Problem[];
}
