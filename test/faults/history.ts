/**
 * The record of one run: requests and responses of clients, states that replicas took into use, and
 * writes that each Redis accepted, in their order. check.ts has its invariants.
 * @module
 */
import type { CaState } from "../../src/core/state.ts";

/** A write that one Redis accepted, or its contents when it was first read. */
export type StoreEvent =
  /** The contents when the record began, or after a time without a monitor. */
  | {
      readonly kind: "found";
      readonly state: CaState | null;
      readonly writtenUnder: number;
      readonly granted: number;
    }
  | { readonly kind: "write"; readonly state: CaState; readonly term: number }
  /** A term of the lease `operation`; the holder is empty if a term was only raised. */
  | { readonly kind: "grant"; readonly term: number; readonly holder: string }
  | { readonly kind: "mark"; readonly state: CaState }
  | { readonly kind: "unmark" };

/**
 * What one Redis accepted, in its order. A copy of it that became the master has a line of its own.
 */
export interface Line {
  readonly server: string;
  readonly events: readonly StoreEvent[];
}

/** When something was asked and answered, in milliseconds of the test's own clock. */
export interface Span {
  readonly begin: number;
  readonly end: number;
}

export interface RootsRead extends Span {
  readonly client: string;
  /** One start of a process. */
  readonly replica: string;
  readonly index: number;
  readonly activeRootId: string;
  readonly roots: readonly {
    readonly id: string;
    readonly active: boolean;
    readonly pem: string;
  }[];
}

export interface Leaf extends Span {
  readonly client: string;
  readonly replica: string;
  /** The leaf and all that is presented with it. */
  readonly pem: string;
}

/** A change that a client asked for. */
export interface Change extends Span {
  readonly client: string;
  readonly replica: string;
  /**
   * By which it is found among what was written: a life of leaves that no other change asks for, or
   * the new root.
   */
  readonly asked: { readonly leafTtl: string } | { readonly rootId: string | null };
  /** `unknown` if the response is missing, or reports an unknown outcome. */
  readonly outcome: "made" | "refused" | "unknown";
  readonly answer: string;
}

/** A replica took a state into use. */
export interface Adoption {
  readonly replica: string;
  readonly index: number;
  readonly commitId: string;
}

export interface History {
  readonly lines: readonly Line[];
  readonly reads: readonly RootsRead[];
  readonly leaves: readonly Leaf[];
  readonly changes: readonly Change[];
  readonly adoptions: readonly Adoption[];
  /** The server that is the master in the end, and the state that it holds. */
  readonly last: { readonly server: string; readonly state: CaState };
  /** Whether a failover lost writes: then a change may be missing that was reported. */
  readonly lossy: boolean;
}

/** What a run writes into as it goes. */
export interface Recorder {
  readonly reads: RootsRead[];
  readonly leaves: Leaf[];
  readonly changes: Change[];
  readonly adoptions: Adoption[];
}

export function createRecorder(): Recorder {
  return { reads: [], leaves: [], changes: [], adoptions: [] };
}
