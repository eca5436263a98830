/**
 * The reference access store, in memory.
 * @module
 */

import type { Clock } from "../../core/ports/clock.ts";
import {
  type AccessStore,
  CHANGES_KEPT,
  type RecordName,
  type StoredRecord,
} from "../../core/ports/record-store.ts";
import { keyConflict, keysOf, requireSet, versionConflict } from "../checks.ts";
import { Waiter } from "../waiter.ts";

export function createMemoryAccess(clock: Clock): AccessStore {
  const waiter = new Waiter();
  const records = new Map<string, StoredRecord>();
  const claims = new Map<string, number>();
  /** What the last writes were called and touched. */
  const log: {
    readonly index: number;
    readonly tip: string;
    readonly touched: readonly RecordName[];
  }[] = [];
  let index = 0;
  let tip = "";
  let set: string | null = null;
  let stopped: string | null = null;
  const nameOf = ({ kind, id }: RecordName) => `${kind}/${id}`;
  const keyOwner = (kind: string, key: string) =>
    [...records.values()].find((record) => record.kind === kind && record.key === key);

  return {
    async read(since) {
      const at = since === null ? -1 : log.findIndex((entry) => entry.index === since.index);
      if (since?.tip === tip)
        return { index, tip, set, stopped, complete: false, records: [], gone: [] };
      if (since === null || log[at]?.tip !== since.tip)
        return {
          index,
          tip,
          set,
          stopped,
          complete: true,
          records: [...records.values()],
          gone: [],
        };
      const touched = new Map(
        log
          .slice(at + 1)
          .flatMap((entry) => entry.touched.map((name) => [nameOf(name), name] as const)),
      );
      const changed = [...touched.values()].map((name) => ({
        name,
        record: records.get(nameOf(name)),
      }));
      return {
        index,
        tip,
        set,
        stopped,
        complete: false,
        records: changed.flatMap(({ record }) => (record === undefined ? [] : [record])),
        gone: changed.flatMap(({ name, record }) => (record === undefined ? [name] : [])),
      };
    },
    async write(changes, next, whole) {
      const { twice, gives } = keysOf(changes);
      const replacesAll = whole?.at === null;
      for (const change of replacesAll ? [] : changes) {
        if ((records.get(nameOf(change))?.version ?? 0) !== change.expected)
          throw versionConflict(change);
        const key = change.next?.key ?? null;
        const owner = key === null ? undefined : keyOwner(change.kind, key);
        if (owner !== undefined && owner.id !== change.id && !gives(owner.kind, owner.id))
          throw keyConflict(change);
      }
      if (twice !== null) throw keyConflict(twice);
      if (whole !== undefined) requireSet({ index, tip }, stopped, whole);
      index = whole?.index ?? index + 1;
      tip = next;
      if (replacesAll) {
        records.clear();
        log.length = 0;
      }
      if (whole !== undefined) [set, stopped] = [whole.document, null];
      for (const { kind, id, expected, next: content } of changes) {
        const createIndex = records.get(nameOf({ kind, id }))?.createIndex ?? index;
        if (content === null) records.delete(nameOf({ kind, id }));
        else
          records.set(nameOf({ kind, id }), {
            kind,
            id,
            version: expected + 1,
            ...content,
            createIndex,
            modifyIndex: index,
          });
      }
      log.push({ index, tip, touched: changes.map(({ kind, id }) => ({ kind, id })) });
      if (log.length > CHANGES_KEPT) log.shift();
      waiter.notify();
      return index;
    },
    async stop(mark, found) {
      if (found !== tip) return;
      stopped = mark;
      waiter.notify();
    },
    async claim(id, ttlMs, until) {
      if (claims.has(id)) return false;
      claims.set(id, Math.max(clock.now().getTime() + ttlMs, until.getTime()));
      return true;
    },
    async forgetClaims(until) {
      for (const [claimed, end] of claims) if (end <= until.getTime()) claims.delete(claimed);
    },
    async watch(seen, signal) {
      if (seen === tip) await waiter.wait(signal);
    },
  };
}
