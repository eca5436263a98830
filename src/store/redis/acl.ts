/**
 * Access control's records in Redis: fields of one hash, changed by one script that compares all
 * versions first.
 * @module
 */
import * as v from "valibot";
import { InvariantError, StoreError } from "../../core/errors.ts";
import type { Clock } from "../../core/ports/clock.ts";
import {
  type AccessStore,
  CHANGES_KEPT,
  RECORD_KINDS,
  type RecordName,
  type StoredRecord,
} from "../../core/ports/record-store.ts";
import { accessStopped, keyConflict, setMoved, versionConflict } from "../checks.ts";
import type { RedisKeys, RunScript } from "./ports.ts";

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

export interface RedisAccessOptions {
  readonly run: RunScript;
  readonly keys: RedisKeys;
  readonly clock: Clock;
  /** Waits until copies have the write, where that was asked for. */
  readonly confirm: () => Promise<void>;
  /** Resolves at the next notice or when the signal fires. */
  readonly wait: (signal: AbortSignal) => Promise<void>;
}

export function createRedisAccess({
  run,
  keys,
  clock,
  confirm,
  wait,
}: RedisAccessOptions): AccessStore {
  return {
    async read(since) {
      const have = since === null ? ["", ""] : [String(since.index), since.tip];
      const answer = await run(
        "accessRead",
        ReadAnswer,
        [keys.access, keys.accessRecords, keys.accessLog],
        [...have, String(CHANGES_KEPT)],
      );
      const [index = "0", tip = "", set = "", stopped = "", form, ...fields] = answer;
      const records: StoredRecord[] = [];
      const gone: RecordName[] = [];
      for (let i = 0; i + 1 < fields.length; i += 2) {
        const [name, text] = [readName(fields[i] as string), fields[i + 1] as string];
        if (text === "") gone.push(name);
        else records.push(readRecord(name, text));
      }
      const whole = { set: set === "" ? null : set, stopped: stopped === "" ? null : stopped };
      return { index: Number(index), tip, ...whole, complete: form === "all", records, gone };
    },
    async write(changes, tip, set) {
      const parts = changes.flatMap(({ kind, id, expected, next }) => [
        kind,
        id,
        String(expected),
        next === null ? "delete" : "set",
        next?.key ?? "",
        next?.document ?? "",
      ]);
      const whole =
        set === undefined
          ? ["", "", "", "", ""]
          : [
              set.document,
              set.at === null ? "" : String(set.at.index),
              set.at?.tip ?? "",
              set.resolves ?? "",
              String(set.index),
            ];
      const [outcome, number] = await run(
        "accessWrite",
        WriteAnswer,
        [keys.access, keys.accessRecords, keys.accessKeys, keys.accessLog],
        [tip, keys.accessChanged, String(CHANGES_KEPT), ...whole, ...parts],
      );
      if (outcome === "moved") throw setMoved();
      if (outcome === "stopped") throw accessStopped();
      if (outcome !== "done") {
        const change = changes[Number(number)];
        if (change === undefined)
          throw new InvariantError("Redis names a change that was not asked for");
        throw outcome === "version" ? versionConflict(change) : keyConflict(change);
      }
      await confirm();
      return Number(number);
    },
    async stop(mark, found) {
      await run("accessStop", v.number(), [keys.access], [mark, found, keys.accessChanged]);
    },
    async claim(id, ttlMs, until) {
      const ttl = Math.max(1, Math.ceil(ttlMs));
      return (
        (await run(
          "claim",
          v.number(),
          [keys.claim(id), keys.accessClaims],
          [String(ttl), id, String(until.getTime())],
        )) === 1
      );
    },
    async forgetClaims(until) {
      await run("forgetClaims", v.number(), [keys.accessClaims], [String(until.getTime())]);
    },
    async watch(tip, signal) {
      while (!signal.aborted) {
        const poll = new AbortController();
        void clock.sleep(POLL_MS * (1 + Math.random() / 4), poll.signal).then(() => poll.abort());
        const end = AbortSignal.any([signal, poll.signal]);
        try {
          // Listens before it looks, so that nothing happens in between.
          const changed = wait(end);
          if ((await run("accessTip", v.string(), [keys.access], [])) !== tip) return;
          await changed;
        } finally {
          poll.abort();
        }
      }
    },
  };
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
  return new StoreError(
    "state_corrupt",
    "Cannot trust the stored access control: a record is malformed",
  );
}
