/**
 * The IPC messages between a test and its replicas, and the options of a replica.
 * @module
 */
import type { RedisUrl } from "../../src/config/store-url.ts";
import type { Policy } from "../../src/core/ca/timing-and-limits.ts";

/** A fault put into the code, to see that the checker notices it. */
export type Mutation =
  /** The commit script does not compare the term. */
  | "no-term"
  /** The commit script compares neither index nor commit id. */
  | "no-index"
  /** What is committed lacks the cross-signed certificates. */
  | "no-crossing";

export interface ReplicaOptions {
  readonly store: RedisUrl;
  readonly kek: string;
  readonly dataDir: string;
  readonly policy: Partial<Policy>;
  readonly maxStalenessMs: number;
  /** How far its clock is ahead of the machine's. */
  readonly clockOffsetMs: number;
  readonly mutation: Mutation | null;
  /** Where it is to wait while it starts. */
  readonly arm: Arm | null;
}

/** Where a replica is to wait. */
export interface Arm {
  /**
   * Only calls that a change makes which came in over HTTP, or those of the background loops too.
   */
  readonly scope: "change" | "any";
  /** Before the call is made, or after its answer has come. */
  readonly moment: "before" | "after";
  /** For example `store.commit`; null for every port and function. */
  readonly port: string | null;
  /** Which call of those, counted from 1. */
  readonly call: number;
}

export type Command =
  | ({ readonly kind: "arm" } & Arm)
  | { readonly kind: "disarm" }
  | { readonly kind: "go" };

export type Report =
  | { readonly kind: "listening"; readonly url: string }
  | { readonly kind: "failed"; readonly reason: string }
  /** It waits at this call until the test lets it go on. */
  | { readonly kind: "held"; readonly port: string }
  | {
      readonly kind: "adopted";
      readonly index: number;
      readonly commit: string;
      readonly active: string;
    }
  | {
      readonly kind: "log";
      readonly level: string;
      readonly message: string;
      readonly fields: object | undefined;
    };
