/**
 * The store port over Redis: one document, replaced by one script that compares index, commit id,
 * term and stop mark.
 * @module
 */
import * as v from "valibot";
import { StoreError } from "../../core/errors.ts";
import type { Expected, NewStopMark, Store, Stored } from "../../core/ports/store.ts";
import type { CaState } from "../../core/state.ts";
import { requireExpected } from "../commit-check.ts";
import type { Codec } from "../state-document.ts";
import type { RedisCalls } from "./calls.ts";
import type { ChangePoll } from "./change-poll.ts";
import type { RedisKeys } from "./keys.ts";

/** In milliseconds: how long a lost change notice goes unnoticed, without jitter. */
const POLL_MS = 4000;

const ReadAnswer = v.tuple([v.string(), v.string(), v.string(), v.string(), v.string()]);
const CommitAnswer = v.tuple([v.string(), v.string(), v.string(), v.string()]);
const MarkAnswer = v.union([
  v.tuple([v.string(), v.string(), v.string(), v.string(), v.string()]),
  v.tuple([]),
]);

/** Survives the connection: plain data. */
export interface StateMemory {
  /** What was read last, which is neither sent nor verified again while it is what is stored. */
  known: { readonly state: CaState; readonly kek: string } | null;
}

export class RedisStore implements Store {
  readonly #calls: RedisCalls;
  readonly #codec: Codec;
  readonly #changes: ChangePoll;
  readonly #memory: StateMemory;

  constructor(calls: RedisCalls, codec: Codec, changes: ChangePoll, memory: StateMemory) {
    this.#calls = calls;
    this.#codec = codec;
    this.#changes = changes;
    this.#memory = memory;
  }

  async read(): Promise<Stored> {
    const stored = await this.#readStored();
    if (stored.state !== null || stored.stopped !== null) return stored;
    // A replica of an older version may have created the state under the other prefix.
    return (await this.#calls.reconsiderKeys()) ? this.#readStored() : stored;
  }

  async #readStored(): Promise<Stored> {
    const { known } = this.#memory;
    const [index, commitId, term, stopped, document] = await this.#read(known?.state.commitId);
    const stored = { term: Number(term), stopped: textOrNull(stopped) };
    if (commitId === "") return { ...stored, state: null, kek: null };
    if (known?.state.commitId === commitId) return { ...stored, ...known };
    const state = await this.#codec.decode(document);
    // The fields are compared at each commit; only the document has a MAC.
    if (String(state.index) !== index || state.commitId !== commitId)
      throw new StoreError(
        "state_corrupt",
        "Cannot trust the stored CA state: its index and commit id in Redis differ from those in its document",
      );
    this.#memory.known = { state, kek: this.#codec.kekOf(document) };
    return { ...stored, ...this.#memory.known };
  }

  async commit(next: CaState, expected: Expected): Promise<void> {
    const args = [
      String(next.index),
      next.commitId,
      await this.#codec.encode(next),
      String(expected.index),
      expected.commitId ?? "",
      String(expected.term),
      expected.resolves ?? "",
    ];
    const [index, commitId, term, stopped] = await this.#calls.run(
      "commit",
      CommitAnswer,
      (keys) => [stateKeys(keys), [...args, keys.changed]],
    );
    const found = { index: Number(index), commitId: textOrNull(commitId), term: Number(term) };
    requireExpected({ ...found, stopped: textOrNull(stopped) }, expected);
    await this.#calls.awaitReplicas();
  }

  async stop({ state, term, reason, by, found }: NewStopMark): Promise<void> {
    const document = await this.#codec.encode(state);
    const mark = [String(state.index), state.commitId, String(term), document, reason, by];
    await this.#calls.run("stop", v.number(), (keys) => [
      [keys.stop, keys.state],
      [...mark, keys.changed, found ?? ""],
    ]);
  }

  async stopMark(): ReturnType<Store["stopMark"]> {
    const [document, term, reason = "", by = "", at] = await this.#calls.run(
      "mark",
      MarkAnswer,
      ({ stop }) => [[stop]],
    );
    if (document === undefined) return null;
    const state = await this.#codec.decode(document);
    return { state, term: Number(term), reason, by, at: new Date(Number(at)) };
  }

  async watch(commitId: string | null, signal: AbortSignal): Promise<void> {
    await this.#changes.within(POLL_MS, signal, async (end) => {
      // Listens before it reads, so that no change is missed in between. A notice may be of a change
      // that is known already.
      for (let before: string | null = null; !end.aborted; ) {
        const changed = this.#changes.next(end);
        const [, stored, , stopped] = await this.#read(commitId ?? "");
        if (stored !== (commitId ?? "") || (before !== null && stopped !== before)) return;
        before = stopped;
        await changed;
      }
    });
  }

  async now(): Promise<Date> {
    return new Date(Number(await this.#calls.run("now", v.string(), ({ state }) => [[state]])));
  }

  /** @param known the commit id whose document the caller has. */
  #read(known = ""): Promise<v.InferOutput<typeof ReadAnswer>> {
    return this.#calls.run("read", ReadAnswer, (keys) => [stateKeys(keys), [known]]);
  }
}

/** The keys that are read and compared together. */
function stateKeys({ state, lease, stop }: RedisKeys): readonly string[] {
  return [state, lease("operation"), stop];
}

function textOrNull(text: string): string | null {
  return text === "" ? null : text;
}
