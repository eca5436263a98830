/**
 * What a replica knows of its CA from one call to the next: data alone, no connection, timer or
 * promise. A process has one for its life. Where each request is served by itself, all requests of
 * an isolate share one, and none waits for another.
 * @module
 */
import type { Replica } from "../ports/replicas.ts";
import type { Snapshot } from "./snapshot.ts";

export interface FollowerMemory {
  /** The last snapshot, or null before there is a state. */
  current: Snapshot | null;
  /** The highest term of the lease `operation` that was seen. */
  term: number;
  /** Why nothing may be changed until an operator decides, or null. */
  stopped: string | null;
  /** The commit id that was read last. */
  found: string | null;
}

export interface StandingMemory {
  /** When the store was asked that confirmed last what is served, in milliseconds since 1970. */
  confirmedAt: number | null;
  /** The same for the comparison of clocks and the list of replicas. */
  announcedAt: number | null;
  live: readonly Replica[];
  /** How far the store's clock is ahead, in milliseconds. */
  offset: number;
  doubted: string | null;
  /** Whether the store did not answer when it was asked last. */
  unanswered: boolean;
  /** Why the store did not take what was written last, or null. */
  unwritten: string | null;
  /** How often in a row the clocks were apart; the first comparison of all counts twice. */
  apart: number;
  compared: boolean;
}

export interface LimiterMemory {
  /** When the bucket, which holds one token, is full again, in milliseconds since 1970. */
  nextTokenAt: number;
}

export interface Memory {
  readonly follower: FollowerMemory;
  readonly standing: StandingMemory;
  readonly limiter: LimiterMemory;
}

/** The memory of who has seen nothing yet. */
export function createMemory(): Memory {
  return {
    follower: { current: null, term: 0, stopped: null, found: null },
    standing: {
      confirmedAt: null,
      announcedAt: null,
      live: [],
      offset: 0,
      doubted: null,
      unanswered: false,
      unwritten: null,
      apart: 0,
      compared: false,
    },
    limiter: { nextTokenAt: 0 },
  };
}
