/**
 * Replica state shared across requests: plain data without connections, timers or promises. A
 * process has one for its life. On Workers all requests of an isolate share one.
 * @module
 */
import type { PrimacyClaim, PrimaryListing } from "../ports/primary.ts";
import type { Replica as LiveReplica } from "../ports/replicas.ts";
import type { Snapshot } from "./snapshot.ts";

/** What the replica has seen in the store. */
export interface SeenMemory {
  /** The last snapshot, or null before there is a state. */
  current: Snapshot | null;
  /** The highest term seen of the lease `operation`. */
  term: number;
  /** Why changes are stopped until an operator decides, or null. */
  stopped: string | null;
  lastReadCommitId: string | null;
}

/** Instants are in milliseconds since 1970, by this replica's clock. */
export interface HealthMemory {
  /** When the store was asked that last confirmed the snapshot. */
  confirmedAt: number | null;
  /** When the last heartbeat was sent. */
  announcedAt: number | null;
  live: readonly LiveReplica[];
  /** How far the store's clock is ahead, in milliseconds. */
  offset: number;
  /** Why the store's last answer could not be used; null if there was none. */
  unreadable: string | null;
  /** Whether the last read got no answer. */
  unanswered: boolean;
  /** Why the last write failed, or null. */
  unwritten: string | null;
  /** Consecutive comparisons that found the clock skewed; the very first one counts twice. */
  skewStrikes: number;
  compared: boolean;
}

export interface LimiterMemory {
  /** When the bucket, which holds one token, is full again, in milliseconds since 1970. */
  nextTokenAt: number;
  readonly signed: SignedMemory;
}

/** How many leaves were signed when; it begins empty with each process or isolate. */
export interface SignedMemory {
  /** One count for each length of time, the shortest buckets first. */
  readonly histories: readonly SignedHistory[];
  /** The most that were signed in one bucket of the first history. */
  most: number;
}

/** Leaves signed, in a ring of buckets of time. */
export interface SignedHistory {
  readonly bucketMs: number;
  readonly counts: number[];
  /** The place of the present bucket in the ring. */
  at: number;
  /** When the present bucket began, in milliseconds. */
  since: number;
}

/** Why a step fails, and since when. */
export interface Fault {
  readonly reason: string;
  /** As `faultCodeOf` has it. */
  readonly code: string;
  readonly since: Date;
}

/** A step that is retried. */
export interface RetryMemory {
  failures: number;
  /** In milliseconds since 1970. */
  failedAt: number;
  /** The pause since then, in milliseconds. */
  waitMs: number;
  /** Null after a success. */
  fault: Fault | null;
}

/** What is known of the primary datacenter. */
export interface PrimaryMemory {
  /** Its roots as they were read last, or null. */
  listing: PrimaryListing | null;
  readAt: Date | null;
  /** The name of the datacenter that it was read from, or null. */
  readFrom: string | null;
  /** Whether this replica led when it last looked at what is due. */
  isAsked: boolean;
  /** The attempts to read the roots, and to follow them. */
  readonly reading: RetryMemory;
  readonly step: RetryMemory;
}

/** What is known of datacenters that may be the primary one in place of this one. */
export interface OtherPrimaryMemory {
  /** What a server of each reported when it answered last. */
  claims: readonly PrimacyClaim[];
  lookedAt: Date | null;
  /** The one that is the primary one in place of this one, or null. */
  found: PrimacyClaim | null;
}

export interface ReplicaMemory {
  readonly seen: SeenMemory;
  readonly health: HealthMemory;
  readonly limiter: LimiterMemory;
  readonly primary: PrimaryMemory;
  readonly otherPrimary: OtherPrimaryMemory;
}

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/**
 * Buckets of a minute for a day, of an hour for a month, and of a day for the longest LeafCertTTL,
 * 8760 h (Consul's agent/structs/connect_ca.go), and the bucket that is not full.
 */
const BUCKETS = [
  [MINUTE, 24 * 60 + 1],
  [HOUR, 31 * 24 + 1],
  [DAY, 365 + 1],
] as const;

export function createLimiterMemory(): LimiterMemory {
  const histories = BUCKETS.map(([bucketMs, length]) => ({
    bucketMs,
    counts: new Array<number>(length).fill(0),
    at: 0,
    since: 0,
  }));
  return { nextTokenAt: 0, signed: { histories, most: 0 } };
}

export function createRetryMemory(): RetryMemory {
  return { failures: 0, failedAt: 0, waitMs: 0, fault: null };
}

/** The memory of a replica that has seen nothing yet. */
export function createReplicaMemory(): ReplicaMemory {
  return {
    seen: { current: null, term: 0, stopped: null, lastReadCommitId: null },
    health: {
      confirmedAt: null,
      announcedAt: null,
      live: [],
      offset: 0,
      unreadable: null,
      unanswered: false,
      unwritten: null,
      skewStrikes: 0,
      compared: false,
    },
    limiter: createLimiterMemory(),
    primary: {
      listing: null,
      readAt: null,
      readFrom: null,
      isAsked: false,
      reading: createRetryMemory(),
      step: createRetryMemory(),
    },
    otherPrimary: { claims: [], lookedAt: null, found: null },
  };
}
