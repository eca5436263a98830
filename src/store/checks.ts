/**
 * What every store compares before it writes, in one place so that all refuse in the same order and
 * words.
 * @module
 */

import { ConflictError, NotReadyError, StoreError } from "../core/errors.ts";
import type { Mark, RecordChange, RecordName, SetChange } from "../core/ports/record-store.ts";
import type { Expected } from "../core/ports/store.ts";

/** What is stored now. */
export interface Stored {
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
export function requireExpected(stored: Stored, expected: Expected): void {
  if (expected.term < stored.term)
    throw new NotReadyError(
      "lease_lost",
      `Cannot commit: another operation took over with term ${stored.term}, ours is ${expected.term}`,
      {
        retryAfterMs: 1000,
      },
    );
  if (expected.term > stored.term)
    throw new StoreError(
      "state_regressed",
      `Cannot commit: the store knows no operation beyond term ${stored.term}, ours is ${expected.term}: it lost writes`,
    );
  if (stored.stopped !== (expected.resolves ?? null))
    throw new StoreError(
      "state_regressed",
      stored.stopped === null
        ? "Cannot commit: the conflict was resolved already"
        : "Cannot commit: changes are stopped, since the store lost writes; see GET /v1/connect/ca/state-conflict",
    );
  if (expected.index !== stored.index || expected.commitId !== stored.commitId)
    throw new ConflictError(
      "index_mismatch",
      `Cannot commit: the state is at index ${stored.index}, expected ${expected.index}`,
    );
}

/** A record is not at the version that a write expects. */
export function versionConflict({ kind, id }: RecordName): ConflictError {
  return new ConflictError(
    "index_mismatch",
    `Cannot change ${kind} ${JSON.stringify(id)}: it was changed meanwhile`,
  );
}

/** Another record has the key that a write asks for. */
export function keyConflict({ kind }: RecordName): ConflictError {
  return new ConflictError("name_taken", `Cannot write ${kind}: another one has its name`);
}

/**
 * What a write with a set document expects of the store. The texts are the same in every store.
 * @throws {ConflictError} `set_moved` @throws {StoreError} `state_regressed`
 */
export function requireSet(last: Mark, stopped: string | null, { at, resolves }: SetChange): void {
  if (at === null) return;
  if (last.index !== at.index || last.tip !== at.tip) throw setMoved();
  if (stopped !== resolves) throw accessStopped();
}

export function setMoved(): ConflictError {
  return new ConflictError(
    "set_moved",
    "Cannot change access control: another write was made since it was read",
  );
}

export function accessStopped(): StoreError {
  return new StoreError(
    "state_regressed",
    "Cannot change access control: changes are stopped until an operator decides; see GET /v1/acl/state-conflict",
  );
}

/** The keys that a write asks for twice, and the records whose present keys it gives up. */
export function keysOf(changes: readonly RecordChange[]): {
  readonly twice: RecordChange | null;
  gives(kind: string, id: string): boolean;
} {
  const touched = new Set(changes.map(({ kind, id }) => `${kind}/${id}`));
  const asked = new Set<string>();
  let twice: RecordChange | null = null;
  for (const change of changes) {
    const key = change.next?.key ?? null;
    if (key === null) continue;
    if (asked.has(`${change.kind}/${key}`)) twice ??= change;
    asked.add(`${change.kind}/${key}`);
  }
  return { twice, gives: (kind, id) => touched.has(`${kind}/${id}`) };
}
