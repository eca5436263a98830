/**
 * The reference access store, in memory.
 * @module
 */
import { type AccessStore, CHANGES_KEPT, type RecordName, type StoredRecord } from "../core/access-store.ts";
import type { Clock } from "../core/clock.ts";
import { keyConflict, versionConflict } from "./checks.ts";
import { createWaiter } from "./waiter.ts";

export function createMemoryAccess(clock: Clock): AccessStore {
  const waiter = createWaiter();
  const records = new Map<string, StoredRecord>();
  const claims = new Map<string, number>();
  /** What the last writes were called and touched; the first one has the index `index - log.length + 1`. */
  const log: { readonly tip: string; readonly touched: readonly RecordName[] }[] = [];
  let index = 0;
  let tip = "";
  const nameOf = ({ kind, id }: RecordName) => `${kind}/${id}`;
  const keyOwner = (kind: string, key: string) => [...records.values()].find((record) => record.kind === kind && record.key === key);

  return {
    async read(since) {
      const at = since === null ? -1 : log.length - (index - since.index) - 1;
      if (since?.tip === tip) return { index, tip, complete: false, records: [], gone: [] };
      if (since === null || log[at]?.tip !== since.tip) return { index, tip, complete: true, records: [...records.values()], gone: [] };
      const touched = new Map(log.slice(at + 1).flatMap((entry) => entry.touched.map((name) => [nameOf(name), name] as const)));
      const changed = [...touched.values()].map((name) => ({ name, record: records.get(nameOf(name)) }));
      return {
        index,
        tip,
        complete: false,
        records: changed.flatMap(({ record }) => (record === undefined ? [] : [record])),
        gone: changed.flatMap(({ name, record }) => (record === undefined ? [name] : [])),
      };
    },
    async write(changes, next) {
      for (const change of changes) {
        if ((records.get(nameOf(change))?.version ?? 0) !== change.expected) throw versionConflict(change);
        const key = change.next?.key ?? null;
        const owner = key === null ? undefined : keyOwner(change.kind, key);
        if (owner !== undefined && owner.id !== change.id) throw keyConflict(change);
      }
      index++;
      tip = next;
      for (const { kind, id, expected, next: content } of changes) {
        const createIndex = records.get(nameOf({ kind, id }))?.createIndex ?? index;
        if (content === null) records.delete(nameOf({ kind, id }));
        else records.set(nameOf({ kind, id }), { kind, id, version: expected + 1, ...content, createIndex, modifyIndex: index });
      }
      log.push({ tip, touched: changes.map(({ kind, id }) => ({ kind, id })) });
      if (log.length > CHANGES_KEPT) log.shift();
      waiter.notify();
      return index;
    },
    async claim(id, ttlMs) {
      if (claims.has(id)) return false;
      claims.set(id, clock.now().getTime() + ttlMs);
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
