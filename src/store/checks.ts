/**
 * What every store compares before it writes, in one place so that all refuse in the same order and words.
 * @module
 */
import { ConflictError, NotReadyError } from "../core/errors.ts";
import type { Expected } from "../core/store.ts";

/** What is stored now. */
export interface Stored {
  readonly index: number;
  readonly commitId: string | null;
  /** The highest term ever granted for the lease `operation`. */
  readonly term: number;
}

/** @throws {NotReadyError} `lease_lost` @throws {ConflictError} `index_mismatch` */
export function requireExpected(stored: Stored, expected: Expected): void {
  if (expected.term < stored.term)
    throw new NotReadyError("lease_lost", `Cannot commit: another operation took over with term ${stored.term}, ours is ${expected.term}`, {
      retryAfterMs: 1000,
    });
  if (expected.index !== stored.index || expected.commitId !== stored.commitId)
    throw new ConflictError("index_mismatch", `Cannot commit: the state is at index ${stored.index}, expected ${expected.index}`);
}
