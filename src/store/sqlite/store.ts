/**
 * The store port over SQLite: one row, replaced in a transaction that compares index, commit id,
 * term and stop mark.
 * @module
 */
import type { DatabaseSync } from "node:sqlite";
import * as v from "valibot";
import { StoreError } from "../../core/errors.ts";
import type { Clock } from "../../core/ports/clock.ts";
import type { Expected, NewStopMark, Store, Stored } from "../../core/ports/store.ts";
import type { CaState } from "../../core/state.ts";
import { requireExpected } from "../commit-check.ts";
import { type Grants, termOf } from "../leases.ts";
import type { Codec } from "../state-document.ts";
import type { Waiter } from "../waiter.ts";
import { optionalRow, type Transaction } from "./transaction.ts";

/** Grows with every transaction of another connection. */
const DataVersion = v.object({ data_version: v.number() });
const StateRow = v.object({ idx: v.number(), commit_id: v.string(), document: v.string() });
const MarkRow = v.object({
  idx: v.number(),
  commit_id: v.string(),
  term: v.number(),
  document: v.string(),
  reason: v.string(),
  noticed_by: v.string(),
  set_at: v.number(),
});

export interface SqliteParts {
  readonly db: DatabaseSync;
  readonly transaction: Transaction;
  readonly clock: Clock;
  /** How often to read the writes of other connections, in milliseconds; null if there are none. */
  readonly pollMs: number | null;
}

export class SqliteStore implements Store {
  readonly #parts: SqliteParts;
  readonly #grants: Grants;
  readonly #codec: Codec;
  readonly #waiter: Waiter;
  readonly #sql: ReturnType<typeof statements>;

  /** @param waiter notified of each commit by this process. */
  constructor(parts: SqliteParts, grants: Grants, codec: Codec, waiter: Waiter) {
    this.#parts = parts;
    this.#grants = grants;
    this.#codec = codec;
    this.#waiter = waiter;
    this.#sql = statements(parts.db);
  }

  async read(): Promise<Stored> {
    const { row, term, stopped } = this.#parts.transaction(() => ({
      row: this.#state(),
      term: termOf(this.#grants, "operation"),
      stopped: this.#mark()?.commit_id ?? null,
    }));
    if (row === null) return { state: null, term, stopped, kek: null };
    const state = await this.#codec.decode(row.document);
    // The columns are compared at each commit; only the document has a MAC.
    if (state.index !== row.idx || state.commitId !== row.commit_id)
      throw new StoreError(
        "state_corrupt",
        "Cannot trust the stored CA state: the columns of its row differ from its document",
      );
    return { state, term, stopped, kek: this.#codec.kekOf(row.document) };
  }

  async commit(next: CaState, expected: Expected): Promise<void> {
    const document = await this.#codec.encode(next);
    this.#parts.transaction(() => {
      const [state, mark, term] = [this.#state(), this.#mark(), termOf(this.#grants, "operation")];
      const [index, commitId] = [state?.idx ?? 0, state?.commit_id ?? null];
      requireExpected({ index, commitId, term, stopped: mark?.commit_id ?? null }, expected);
      this.#sql.write.run(next.index, next.commitId, document);
      if (mark === null) return;
      this.#sql.clearMark.run();
      // A replica that saw a higher term would take the store for one that lost writes.
      if (mark.term > term)
        this.#grants.set("operation", { holder: null, term: mark.term, expiresMs: 0 });
    });
    this.#emptyLog();
    this.#waiter.notify();
  }

  async stop({ state, term, reason, by, found }: NewStopMark): Promise<void> {
    const document = await this.#codec.encode(state);
    this.#parts.transaction(() => {
      if (this.#commitId() !== found) return;
      const mark = this.#mark();
      if (mark !== null && mark.idx >= state.index) {
        this.#sql.raiseMark.run(term);
        return;
      }
      const { index, commitId } = state;
      const highest = Math.max(term, mark?.term ?? 0);
      const at = this.#parts.clock.now().getTime();
      this.#sql.setMark.run(index, commitId, highest, document, reason, by, at);
    });
    this.#waiter.notify();
  }

  async stopMark(): ReturnType<Store["stopMark"]> {
    const mark = this.#parts.transaction(() => this.#mark());
    if (mark === null) return null;
    const { document, term, reason, noticed_by: by, set_at: at } = mark;
    return { state: await this.#codec.decode(document), term, reason, by, at: new Date(at) };
  }

  async watch(commitId: string | null, signal: AbortSignal): Promise<void> {
    const { pollMs, clock } = this.#parts;
    // Outside of a transaction: it reads one row and must not lock others out.
    if (this.#commitId() !== commitId) return;
    if (pollMs === null) return this.#waiter.wait(signal);
    const stopped = this.#mark()?.commit_id;
    for (let seen = this.#version(); !signal.aborted; await clock.sleep(pollMs, signal)) {
      const version = this.#version();
      if (version !== seen && this.#mark()?.commit_id !== stopped) return;
      // Always compared: the version does not show commits of this process.
      if (this.#commitId() !== commitId) return;
      seen = version;
    }
  }

  async now(): Promise<Date> {
    return this.#parts.clock.now();
  }

  #state() {
    return optionalRow(StateRow, this.#sql.state.get());
  }

  #mark() {
    return optionalRow(MarkRow, this.#sql.mark.get());
  }

  #commitId(): string | null {
    return this.#state()?.commit_id ?? null;
  }

  #version(): number {
    return v.parse(DataVersion, this.#sql.version.get()).data_version;
  }

  /** Removes keys that a commit deleted from the log too: secure_delete clears only the file. */
  #emptyLog(): void {
    try {
      this.#parts.db.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    } catch {
      // The commit stands; the next commit empties the log.
    }
  }
}

function statements(db: DatabaseSync) {
  return {
    version: db.prepare("PRAGMA data_version"),
    state: db.prepare("SELECT idx, commit_id, document FROM state WHERE id = 1"),
    write: db.prepare(
      "INSERT INTO state (id, idx, commit_id, document) VALUES (1, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET idx = excluded.idx, commit_id = excluded.commit_id, document = excluded.document",
    ),
    mark: db.prepare(
      "SELECT idx, commit_id, term, document, reason, noticed_by, set_at FROM stop_mark WHERE id = 1",
    ),
    setMark: db.prepare(
      "INSERT OR REPLACE INTO stop_mark (id, idx, commit_id, term, document, reason, noticed_by, set_at) VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
    ),
    raiseMark: db.prepare("UPDATE stop_mark SET term = max(term, ?)"),
    clearMark: db.prepare("DELETE FROM stop_mark"),
  };
}
