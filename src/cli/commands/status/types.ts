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

/** What a replica knows of other datacenters. */
export interface DatacenterFacts {
  readonly name: string;
  /** What this datacenter follows; null in a primary one. */
  readonly primary: {
    readonly datacenter: string;
    /** Whether this replica asks it, as the leader does; else some of the rest is null. */
    readonly asked: boolean;
    readonly lastContact: string | null;
    /** Of the roots of the primary datacenter, as they were read last. */
    readonly index: number | null;
    /** Of those that this datacenter has. */
    readonly followedIndex: number | null;
    /** The difference. */
    readonly lag: number | null;
    readonly fault: {
      readonly code: string;
      readonly reason: string;
      readonly since: string;
    } | null;
  } | null;
  /** The intermediate that the primary datacenter signed; null in a primary one. */
  readonly intermediate: {
    readonly notBefore: string;
    readonly notAfter: string;
    /** Null unless it should have been renewed. */
    readonly delay: "overdue" | "urgent" | null;
  } | null;
  /** The intermediates that were signed here for other datacenters. */
  readonly intermediates: { readonly unexpired: number; readonly firstNotAfter: string | null };
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
  /** Null: the caller may not see it, or the server is of an earlier version. */
  readonly datacenter: DatacenterFacts | null;
  /** Live leaves; null: the caller may not see them, or the server is of an earlier version. */
  readonly leaves: {
    /** False: the server does not count, as on Workers. */
    readonly counting: boolean;
    /** Every leaf signed since is counted; null: all are. */
    readonly completeSince: string | null;
    /** Whether leaves may be live that are not counted. */
    readonly lowerBound: boolean;
    readonly roots: readonly {
      readonly id: string;
      readonly leaves: number;
      /** When the last of them has expired. */
      readonly until: string;
    }[];
  } | null;
  /** Lines of /readyz, by their name; null: the caller may not see them. */
  readonly details: Readonly<Record<string, readonly string[]>> | null;
}

export interface Status extends StatusFacts {
  readonly problems: readonly Problem[];
}
