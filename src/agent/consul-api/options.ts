/**
 * What Consul's routes of the agent are built from.
 * @module
 */
import type { ClientError } from "../../client/errors.ts";
import type { Source } from "../../client/source.ts";
import type { X509Svid } from "../../client/svid.ts";
import type { Clock, Random } from "../../core/ports/clock.ts";
import type { Log } from "../../core/ports/log.ts";
import type { AgentMetrics } from "../agent-metrics.ts";
import type { WorkloadSet } from "../workload.ts";
import type { Rights } from "./caller-rights.ts";

/** How the agent stands to its servers. */
export interface Contact {
  /** Whether the last request got an answer; null before the first. */
  readonly reachable: boolean | null;
  /** Since when no server answers, or null. */
  readonly lostAt: Date | null;
  /** Why no server can be used, or null. */
  readonly problem: string | null;
}

/** A leaf of an identity that is kept fresh until it is closed. */
export interface OpenLeaf extends Source<X509Svid> {
  /** The last failure to get one, or null. */
  readonly failure: Source<ClientError>;
  close(): unknown;
}

export interface LeafIdentity {
  readonly service: string;
  /** Null: the servers' own. */
  readonly datacenter: string | null;
}

/** Keeps a leaf of an identity fresh. @param token of the caller, which signs it; null: none. */
export type OpenLeafOf = (identity: LeafIdentity, token: string | null) => OpenLeaf;

export interface ConsulApiOptions {
  /** The identities of the agent's configuration, and the roots. */
  readonly set: WorkloadSet;
  readonly contact: Contact;
  readonly rights: Rights;
  readonly openLeaf: OpenLeafOf;
  /** The servers' default policy; "deny" before it is known. */
  readonly defaultPolicy: () => "allow" | "deny";
  /** What `authorize` answers, Consul's setting of this name; null: it follows the servers. */
  readonly defaultIntentionPolicy: "allow" | "deny" | null;
  /** Null: taken from a leaf. */
  readonly datacenter: string | null;
  /** The name of this machine. */
  readonly nodeName: string;
  /** Of meshca. */
  readonly version: string;
  /** Whether every connection is over a Unix socket, where clients choose any Host. */
  readonly overSocket: boolean;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Pick<AgentMetrics, "refused">;
}
