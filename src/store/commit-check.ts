/**
 * What every store compares before it commits a state, so that all refuse in the same order and
 * with the same texts.
 * @module
 */

import { ConflictError, NotReadyError, StoreError } from "../core/errors.ts";
import type { Expected } from "../core/ports/store.ts";

/** What a commit is compared with. */
interface StoredPosition {
  readonly index: number;
  readonly commitId: string | null;
  /** The highest term ever granted for the lease `operation`. */
  readonly term: number;
  /** The commit id in the stop mark, or null. */
  readonly stopped: string | null;
}

/**
 * @throws {NotReadyError} `lease_lost`
 * @throws {StoreError} `state_regressed`
 * @throws {ConflictError} `index_mismatch`
 */
export function requireExpected(stored: StoredPosition, expected: Expected): void {
  if (expected.term < stored.term)
    throw new NotReadyError(
      "lease_lost",
      `Cannot commit: another operation took over with term ${stored.term}, ours is ${expected.term}`,
      { retryAfterMs: 1000 },
    );
  if (expected.term > stored.term)
    throw new StoreError(
      "state_regressed",
      `Cannot commit: the store lost writes: its highest term is ${stored.term}, ours is ${expected.term}`,
    );
  if (stored.stopped !== (expected.resolves ?? null))
    throw new StoreError(
      "state_regressed",
      stored.stopped === null
        ? "Cannot commit: the state conflict was resolved already"
        : "Cannot commit: the store lost writes, and changes are stopped until an operator resolves it; see GET /v1/connect/ca/state-conflict",
    );
  if (expected.index !== stored.index || expected.commitId !== stored.commitId)
    throw new ConflictError(
      "index_mismatch",
      `Cannot commit: the state is at index ${stored.index}, expected ${expected.index}`,
    );
}
