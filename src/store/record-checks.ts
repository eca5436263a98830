/**
 * What every record store compares before it writes, so that all refuse in the same order and with
 * the same texts, and the changes that the stores of one machine read.
 * @module
 */

import { ConflictError, StoreError } from "../core/errors.ts";
import type {
  Changes,
  Mark,
  RecordChange,
  RecordName,
  SetChange,
  StoredRecord,
} from "../core/ports/record-store.ts";

/** Looks records up. */
export interface Records {
  find(name: RecordName): StoredRecord | null;
  /** The record of a kind that has a key. */
  owner(kind: string, key: string): RecordName | null;
}

/**
 * @param records what is stored; null if the write replaces it.
 * @throws {ConflictError} `index_mismatch`, `name_taken`
 */
export function requireVersions(changes: readonly RecordChange[], records: Records | null): void {
  if (records !== null) requireStored(changes, records);
  const taken = new Set<string>();
  for (const change of changes) {
    const key = change.next?.key ?? null;
    if (key === null) continue;
    if (taken.has(`${change.kind}/${key}`)) throw keyConflict(change);
    taken.add(`${change.kind}/${key}`);
  }
}

function requireStored(changes: readonly RecordChange[], records: Records): void {
  const touched = new Set(changes.map(({ kind, id }) => `${kind}/${id}`));
  for (const change of changes) {
    if ((records.find(change)?.version ?? 0) !== change.expected) throw versionConflict(change);
    const key = change.next?.key ?? null;
    const owner = key === null ? null : records.owner(change.kind, key);
    // A record that this write changes too may give its key up.
    if (owner !== null && owner.id !== change.id && !touched.has(`${owner.kind}/${owner.id}`))
      throw keyConflict(change);
  }
}

/**
 * What a write with a set document expects of the last write and of the stop mark.
 * @throws {ConflictError} `set_moved` @throws {StoreError} `state_regressed`
 */
export function requireSet(last: Mark, stopped: string | null, { at, resolves }: SetChange): void {
  if (at === null) return;
  if (last.index !== at.index || last.tip !== at.tip) throw setMoved();
  if (stopped !== resolves) throw accessStopped();
}

/** The changes of some records as they are now. */
export function changesOf(
  names: readonly RecordName[],
  records: Pick<Records, "find">,
): Pick<Changes, "complete" | "records" | "gone"> {
  const found = names.map((name) => ({ name, record: records.find(name) }));
  return {
    complete: false,
    records: found.flatMap(({ record }) => (record === null ? [] : [record])),
    gone: found.flatMap(({ name, record }) => (record === null ? [name] : [])),
  };
}

/** A record is not at the version that a write expects. */
export function versionConflict({ kind, id }: RecordName): ConflictError {
  return new ConflictError(
    "index_mismatch",
    `Cannot change ${kind} ${JSON.stringify(id)}: it was changed concurrently`,
  );
}

/** Another record has the key that a write asks for. */
export function keyConflict({ kind }: RecordName): ConflictError {
  return new ConflictError("name_taken", `Cannot write ${kind}: another one has its name`);
}

export function setMoved(): ConflictError {
  return new ConflictError(
    "set_moved",
    "Cannot change the ACL: another write was made since it was read",
  );
}

export function accessStopped(): StoreError {
  return new StoreError(
    "state_regressed",
    "Cannot change the ACL: changes are stopped until an operator decides; see GET /v1/acl/state-conflict",
  );
}
