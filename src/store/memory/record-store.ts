/**
 * The reference record store, in memory.
 * @module
 */

import type { Clock } from "../../core/ports/clock.ts";
import {
  CHANGES_KEPT,
  type Changes,
  type Mark,
  type RecordChange,
  type RecordName,
  type RecordStore,
  type SetChange,
  type StoredRecord,
} from "../../core/ports/record-store.ts";
import { changesOf, type Records, requireSet, requireVersions } from "../record-checks.ts";
import { Waiter } from "../waiter.ts";

const keyOf = ({ kind, id }: RecordName) => `${kind}/${id}`;

export class MemoryRecordStore implements RecordStore {
  readonly #clock: Clock;
  readonly #waiter = new Waiter();
  #records = new Map<string, StoredRecord>();
  /** The end of each claim, in milliseconds since 1970. */
  readonly #claims = new Map<string, number>();
  /** The last writes, with the records that they changed. */
  #log: (Mark & { readonly touched: readonly RecordName[] })[] = [];
  #last: Mark = { index: 0, tip: "" };
  #set: string | null = null;
  #stopped: string | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async read(since: Mark | null): Promise<Changes> {
    const head = { ...this.#last, set: this.#set, stopped: this.#stopped };
    if (since?.tip === head.tip) return { ...head, ...changesOf([], this.#lookup) };
    const at = this.#log.findIndex(({ index }) => index === since?.index);
    if (since === null || this.#log[at]?.tip !== since.tip)
      return { ...head, complete: true, records: [...this.#records.values()], gone: [] };
    const touched = this.#log.slice(at + 1).flatMap((write) => write.touched);
    const names = [...new Map(touched.map((name) => [keyOf(name), name])).values()];
    return { ...head, ...changesOf(names, this.#lookup) };
  }

  async write(changes: readonly RecordChange[], tip: string, set?: SetChange): Promise<number> {
    const replacesAll = set?.at === null;
    requireVersions(changes, replacesAll ? null : this.#lookup);
    if (set !== undefined) requireSet(this.#last, this.#stopped, set);
    const index = set?.index ?? this.#last.index + 1;
    if (replacesAll) [this.#records, this.#log] = [new Map(), []];
    if (set !== undefined) [this.#set, this.#stopped] = [set.document, null];
    for (const { kind, id, expected, next } of changes) {
      const name = keyOf({ kind, id });
      const createIndex = this.#records.get(name)?.createIndex ?? index;
      const version = expected + 1;
      if (next === null) this.#records.delete(name);
      else this.#records.set(name, { kind, id, version, ...next, createIndex, modifyIndex: index });
    }
    this.#last = { index, tip };
    this.#log.push({ index, tip, touched: changes.map(({ kind, id }) => ({ kind, id })) });
    if (this.#log.length > CHANGES_KEPT) this.#log.shift();
    this.#waiter.notify();
    return index;
  }

  async stop(mark: string, found: string): Promise<void> {
    if (found !== this.#last.tip) return;
    this.#stopped = mark;
    this.#waiter.notify();
  }

  async claim(id: string, ttlMs: number, until: Date): Promise<boolean> {
    if (this.#claims.has(id)) return false;
    this.#claims.set(id, Math.max(this.#clock.now().getTime() + ttlMs, until.getTime()));
    return true;
  }

  async forgetClaims(until: Date): Promise<void> {
    for (const [id, end] of this.#claims) if (end <= until.getTime()) this.#claims.delete(id);
  }

  async watch(tip: string, signal: AbortSignal): Promise<void> {
    if (tip === this.#last.tip) await this.#waiter.wait(signal);
  }

  readonly #lookup: Records = {
    find: (name) => this.#records.get(keyOf(name)) ?? null,
    owner: (kind, key) =>
      [...this.#records.values()].find((record) => record.kind === kind && record.key === key) ??
      null,
  };
}
