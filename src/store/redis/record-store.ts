/**
 * Access control's records in Redis: fields of one hash, changed by one script that compares all
 * versions first.
 * @module
 */
import * as v from "valibot";
import { InvariantError, StoreError } from "../../core/errors.ts";
import {
  CHANGES_KEPT,
  type Changes,
  type Mark,
  RECORD_KINDS,
  type RecordChange,
  type RecordName,
  type RecordStore,
  type SetChange,
  type StoredRecord,
} from "../../core/ports/record-store.ts";
import { accessStopped, keyConflict, setMoved, versionConflict } from "../record-checks.ts";
import type { RedisCalls } from "./calls.ts";
import type { ChangePoll } from "./change-poll.ts";

/**
 * Behind the change notice, which may get lost, in milliseconds: with a quarter of jitter still
 * within the port's second.
 */
const POLL_MS = 750;

const ReadAnswer = v.array(v.string());
const WriteAnswer = v.tuple([
  v.picklist(["done", "version", "key", "moved", "stopped"]),
  v.string(),
]);
const Name = v.object({ kind: v.picklist(RECORD_KINDS), id: v.string() });

export class RedisRecordStore implements RecordStore {
  readonly #calls: RedisCalls;
  readonly #changes: ChangePoll;

  constructor(calls: RedisCalls, changes: ChangePoll) {
    this.#calls = calls;
    this.#changes = changes;
  }

  async read(since: Mark | null): Promise<Changes> {
    const have = since === null ? ["", ""] : [String(since.index), since.tip];
    const [index = "0", tip = "", set = "", stopped = "", form, ...fields] = await this.#calls.run(
      "accessRead",
      ReadAnswer,
      ({ access, accessRecords, accessLog }) => [
        [access, accessRecords, accessLog],
        [...have, String(CHANGES_KEPT)],
      ],
    );
    const records: StoredRecord[] = [];
    const gone: RecordName[] = [];
    for (let i = 0; i + 1 < fields.length; i += 2) {
      const [name, text] = [readName(fields[i] as string), fields[i + 1] as string];
      if (text === "") gone.push(name);
      else records.push(readRecord(name, text));
    }
    const whole = { set: set === "" ? null : set, stopped: stopped === "" ? null : stopped };
    return { index: Number(index), tip, ...whole, complete: form === "all", records, gone };
  }

  async write(changes: readonly RecordChange[], tip: string, set?: SetChange): Promise<number> {
    const [outcome, number] = await this.#calls.run(
      "accessWrite",
      WriteAnswer,
      ({ access, accessRecords, accessKeys, accessLog, accessChanged }) => [
        [access, accessRecords, accessKeys, accessLog],
        [
          ...[tip, accessChanged, String(CHANGES_KEPT)],
          ...(set === undefined ? ["", "", "", "", ""] : setArguments(set)),
          ...changes.flatMap(changeArguments),
        ],
      ],
    );
    if (outcome === "moved") throw setMoved();
    if (outcome === "stopped") throw accessStopped();
    if (outcome !== "done") {
      const change = changes[Number(number)];
      if (change === undefined)
        throw new InvariantError("Redis names a change that was not asked for");
      throw outcome === "version" ? versionConflict(change) : keyConflict(change);
    }
    await this.#calls.awaitReplicas();
    return Number(number);
  }

  async stop(mark: string, found: string): Promise<void> {
    await this.#calls.run("accessStop", v.number(), ({ access, accessChanged }) => [
      [access],
      [mark, found, accessChanged],
    ]);
  }

  async claim(id: string, ttlMs: number, until: Date): Promise<boolean> {
    const args = [String(Math.max(1, Math.ceil(ttlMs))), id, String(until.getTime())];
    const claimed = await this.#calls.run("claim", v.number(), ({ claim, accessClaims }) => [
      [claim(id), accessClaims],
      args,
    ]);
    return claimed === 1;
  }

  async forgetClaims(until: Date): Promise<void> {
    await this.#calls.run("forgetClaims", v.number(), ({ accessClaims }) => [
      [accessClaims],
      [String(until.getTime())],
    ]);
  }

  async watch(tip: string, signal: AbortSignal): Promise<void> {
    let moved = false;
    while (!moved && !signal.aborted)
      moved = await this.#changes.within(POLL_MS, signal, async (end) => {
        // Listens before it reads, so that no write is missed in between.
        const changed = this.#changes.next(end);
        const stored = await this.#calls.run("accessTip", v.string(), ({ access }) => [[access]]);
        if (stored !== tip) return true;
        await changed;
        return false;
      });
  }
}

/** The arguments of `accessWrite` for a set document. */
function setArguments({ document, at, resolves, index }: SetChange): readonly string[] {
  const expected = at === null ? ["", ""] : [String(at.index), at.tip];
  return [document, ...expected, resolves ?? "", String(index)];
}

/** The arguments of `accessWrite` for a change of a record. */
function changeArguments({ kind, id, expected, next }: RecordChange): readonly string[] {
  const action = next === null ? "delete" : "set";
  return [kind, id, String(expected), action, next?.key ?? "", next?.document ?? ""];
}

function readName(field: string): RecordName {
  const slash = field.indexOf("/");
  const name = v.safeParse(Name, { kind: field.slice(0, slash), id: field.slice(slash + 1) });
  if (!name.success) throw corrupt();
  return name.output;
}

function readRecord(name: RecordName, text: string): StoredRecord {
  const match = /^(\d+) (\d+) (\d+) ([^\n]*)\n/.exec(text);
  if (match === null) throw corrupt();
  const [head, version, createIndex, modifyIndex, key] = match;
  return {
    ...name,
    version: Number(version),
    key: key === "" || key === undefined ? null : key,
    document: text.slice(head.length),
    createIndex: Number(createIndex),
    modifyIndex: Number(modifyIndex),
  };
}

function corrupt(): StoreError {
  return new StoreError("state_corrupt", "Cannot trust the stored ACL: a record is malformed");
}
