/**
 * Deletion of many records.
 * @module
 */
import { ConflictError } from "../core/errors.ts";
import type { AclReplica } from "./replica.ts";
import type { Draft } from "./write.ts";

/**
 * Deletions in one write: a record's name has about 50 octets, and a write of 100 does not hold up
 * any store.
 */
const BATCH = 100;

export function deletionOf(
  kind: Draft["kind"],
  id: string,
  { version }: { readonly version: number },
): Draft {
  return { kind, id, replaces: { version }, content: null };
}

/**
 * Deletes records, a batch in one write. A batch with a record that was changed concurrently stays.
 * @returns how many it deleted.
 */
export async function deleteInBatches(
  replica: AclReplica,
  drafts: readonly Draft[],
): Promise<number> {
  let count = 0;
  for (let start = 0; start < drafts.length; start += BATCH) {
    const batch = drafts.slice(start, start + BATCH);
    try {
      await replica.write(batch);
      count += batch.length;
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error;
    }
  }
  return count;
}
