/**
 * The reference store: all in memory, gone with the process. Several holders can share one backend,
 * as replicas share a server.
 * @module
 */
import * as v from "valibot";
import type { Clock } from "../../core/ports/clock.ts";
import type { Replica, Replicas } from "../../core/ports/replicas.ts";
import type { Expected, NewStopMark, Store, Stored } from "../../core/ports/store.ts";
import type { CaState } from "../../core/state.ts";
import type { Backend, Ports } from "../backend.ts";
import { MemoryBackups } from "../backups.ts";
import { requireExpected } from "../commit-check.ts";
import { MemoryLeafCounts } from "../leaf-counts.ts";
import { type Grants, TableLeases, termOf } from "../leases.ts";
import { MemoryLooks } from "../looks.ts";
import type { Codec } from "../state-document.ts";
import { Waiter } from "../waiter.ts";
import { MemoryRecordStore } from "./record-store.ts";

/**
 * A heartbeat that expires after more than this many times its TTL was sent by a clock that has
 * been set back since.
 */
const MAX_TTLS = 10;

const Position = v.pipe(
  v.string(),
  v.parseJson(),
  v.object({ index: v.number(), commitId: v.string() }),
);

/** A stop mark as it is stored. */
interface StoredMark extends Omit<NewStopMark, "state" | "found"> {
  readonly document: string;
  readonly index: number;
  readonly commitId: string;
  readonly at: Date;
}

/** What all holders share. */
export class MemoryBackend implements Backend {
  readonly clock: Clock;
  readonly grants: Grants = new Map();
  readonly waiter = new Waiter();
  document: string | null = null;
  mark: StoredMark | null = null;
  readonly #replicas: Replicas;
  readonly #access: MemoryRecordStore;
  readonly #looks = new MemoryLooks();
  readonly #leaves = new MemoryLeafCounts();
  readonly #backups = new MemoryBackups();

  constructor(clock: Clock) {
    this.clock = clock;
    this.#replicas = memoryReplicas(clock);
    this.#access = new MemoryRecordStore(clock);
  }

  open(codec: Codec, holder: string): Ports {
    return {
      store: new MemoryStore(this, codec),
      leases: new TableLeases(this.grants, (step) => step(), this.clock, holder),
      replicas: this.#replicas,
      access: this.#access,
      looks: this.#looks,
      leaves: this.#leaves,
      backups: this.#backups,
      facts: async () => ({
        kind: "memory",
        mode: null,
        prefix: null,
        waitReplicas: 0,
        servers: [],
      }),
    };
  }

  close(): void {}
}

class MemoryStore implements Store {
  readonly #shared: MemoryBackend;
  readonly #codec: Codec;

  constructor(shared: MemoryBackend, codec: Codec) {
    this.#shared = shared;
    this.#codec = codec;
  }

  async read(): Promise<Stored> {
    const { document } = this.#shared;
    const { term, stopped } = this.#position();
    if (document === null) return { state: null, term, stopped, kek: null };
    const state = await this.#codec.decode(document);
    return { state, term, stopped, kek: this.#codec.kekOf(document) };
  }

  async commit(next: CaState, expected: Expected): Promise<void> {
    const document = await this.#codec.encode(next);
    // No await from here on: comparison and write are one step.
    const { grants, mark, waiter } = this.#shared;
    const stored = this.#position();
    requireExpected(stored, expected);
    // A replica that saw a higher term would take the store for one that lost writes.
    if (mark !== null && mark.term > stored.term)
      grants.set("operation", { holder: null, term: mark.term, expiresMs: 0 });
    this.#shared.document = document;
    this.#shared.mark = null;
    waiter.notify();
  }

  async stop({ state, term, reason, by, found }: NewStopMark): Promise<void> {
    const document = await this.#codec.encode(state);
    if (this.#position().commitId !== found) return;
    const { mark, clock, waiter } = this.#shared;
    const { index, commitId } = state;
    const highest = Math.max(term, mark?.term ?? 0);
    if (mark !== null && mark.index >= index) {
      this.#shared.mark = { ...mark, term: highest };
      return;
    }
    this.#shared.mark = { document, index, commitId, term: highest, reason, by, at: clock.now() };
    waiter.notify();
  }

  async stopMark(): ReturnType<Store["stopMark"]> {
    const { mark } = this.#shared;
    if (mark === null) return null;
    const { document, term, reason, by, at } = mark;
    return { state: await this.#codec.decode(document), term, reason, by, at };
  }

  async watch(commitId: string | null, signal: AbortSignal): Promise<void> {
    if (this.#position().commitId === commitId) await this.#shared.waiter.wait(signal);
  }

  async now(): Promise<Date> {
    return this.#shared.clock.now();
  }

  /** Index and commit id of the document, as far as it is one, with term and stop mark. */
  #position() {
    const { document, grants, mark } = this.#shared;
    const outer = v.safeParse(Position, document);
    const { index, commitId } = outer.success ? outer.output : { index: 0, commitId: null };
    const stopped = mark?.commitId ?? null;
    return { index, commitId, term: termOf(grants, "operation"), stopped };
  }
}

function memoryReplicas(clock: Clock): Replicas {
  const announced = new Map<string, { readonly replica: Replica; readonly untilMs: number }>();
  return {
    async announce(self, ttlMs) {
      const nowMs = clock.now().getTime();
      announced.set(self.id, { replica: self, untilMs: nowMs + ttlMs });
      for (const [id, { untilMs }] of announced)
        if (untilMs <= nowMs || untilMs - nowMs > MAX_TTLS * ttlMs) announced.delete(id);
      return [...announced.values()].map(({ replica }) => replica);
    },
    async leave(id) {
      announced.delete(id);
    },
  };
}
