/**
 * Writes access control: drafts become records and tombstones under a set document, sent once, and
 * read back. Writes of one replica go one after the other, those that wait together as one; a write
 * that another replica was quicker than is worked out again on what is stored then.
 * @module
 */
import type { BeforeChange } from "../core/acl/ports.ts";
import { hex } from "../core/bytes.ts";
import { ConflictError, NotReadyError, StoreError } from "../core/errors.ts";
import type { AuditDetail } from "../core/ports/audit.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import {
  type AccessStore,
  NOTHING_WRITTEN,
  type RecordChange,
  type RecordName,
  type SetChange,
  type StoredRecord,
} from "../core/ports/record-store.ts";
import type { Sealer } from "../core/ports/sealer.ts";
import type { AccessRecord } from "../core/state.ts";
import { type AccessKey, makeAccessKey, openAccessKey } from "./access-key.ts";
import { type DirectoryMemory, digestAfter, isSameStamp, requireKey } from "./cache.ts";
import {
  type ContentKind,
  type Contents,
  encodeRecord,
  type RecordSchema,
} from "./record-codec.ts";
import { ancestorsOf, elementOf, encodeSet, nameOf } from "./record-set.ts";
import type { AccessSync } from "./sync.ts";

/**
 * How often, and how long between, a write without an answer is looked for, in milliseconds: what a
 * failover of Redis takes.
 */
const [LOOKS, BETWEEN_MS] = [5, 1000];
/**
 * How often a write is sent that other replicas were quicker than. Of all who race one always wins.
 */
const MAX_TRIES = 40;
/** From this try on it waits before it tries again, up to so long, in milliseconds. */
const [EAGER_TRIES, MAX_PAUSE_MS] = [16, 50];
/**
 * How long a deleted record without an end of its own is remembered, in milliseconds: longer than a
 * backup of the store is of use.
 */
const TOMBSTONE_MS = 30 * 24 * 3_600_000;

/** Records in writes that go together: a write of so many blocks no store for long. */
const MAX_BATCH = 200;

/** The record that holds the access key. */
export const KEY_RECORD: RecordName = { kind: "access-key", id: "current" };

/** One thing to write. */
export interface Draft<K extends ContentKind = ContentKind> {
  readonly kind: K;
  readonly id: string;
  /** What is replaced or deleted, or null for a new one. */
  readonly replaces: { readonly version: number } | null;
  /** Null deletes. */
  readonly content: Contents[K] | null;
  /** A token's hash, a policy's name, and null for the rest. */
  readonly key?: string | null;
  /** What the audit log says of it besides its name. */
  readonly detail?: AuditDetail;
}

export interface WriterOptions {
  readonly store: AccessStore;
  readonly sync: AccessSync;
  readonly sealer: Sealer;
  /** Asked for once there is a state. */
  readonly clusterId: () => string;
  readonly trust: () => AccessRecord | null;
  readonly recordSchema: () => RecordSchema;
  readonly clock: Clock;
  readonly random: Random;
  readonly memory: DirectoryMemory;
}

export class AccessWriter {
  readonly #options: WriterOptions;
  readonly #memory: DirectoryMemory;
  readonly #waiting: Waiting[] = [];
  #running = false;

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#memory = options.memory;
  }

  /**
   * Writes all or none, and reads it back.
   * @param before awaited once, when it is known what is written.
   * @throws {ConflictError} `index_mismatch`, `name_taken` @throws {NotReadyError}
   * `outcome_unknown`, `state_stale`,
   *   `operation_running` if other replicas write all the time @throws {StoreError}
   *   `state_regressed` while changes are stopped
   */
  async write(drafts: readonly Draft[], before?: BeforeChange): Promise<void> {
    const key = requireKey(this.#memory);
    this.#requireWritable();
    const changes = await this.#changesOf(drafts, key);
    const details = drafts.flatMap(({ detail }) => (detail === undefined ? [] : [detail]));
    await before?.(
      drafts.map(nameOf).join(" "),
      details.length === 0 ? undefined : Object.assign({}, ...details),
    );
    await this.#inTurn(changes, key);
  }

  /** Makes the access key, unless another replica is first. @throws {StoreError} */
  async makeKey(): Promise<void> {
    const { sealer, clusterId, random } = this.#options;
    const document = await makeAccessKey(sealer, clusterId(), random);
    const key = await openAccessKey(document, sealer, clusterId());
    try {
      await this.#inTurn([{ ...KEY_RECORD, expected: 0, next: { key: null, document } }], key);
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error;
    }
  }

  /**
   * Makes the set document be about what is stored, and changes nothing else.
   * @throws as `write` does
   */
  async seal(): Promise<void> {
    const key = requireKey(this.#memory);
    await this.#inTurn([], key);
  }

  /**
   * Seals the access key again with the current key-encryption key.
   * @returns whether anything changed.
   * @throws {CaError}
   */
  async rewrap(before?: BeforeChange): Promise<boolean> {
    const { sealer, sync } = this.#options;
    await sync.refresh();
    const key = requireKey(this.#memory);
    const sealed = this.#memory.key?.sealed;
    if (sealed === undefined || sealer.kekOf(sealed.document) === sealer.keks[0]) return false;
    this.#requireWritable();
    await before?.(nameOf(KEY_RECORD));
    const next = { key: null, document: await sealer.rewrap(sealed.document) };
    await this.#inTurn([{ ...KEY_RECORD, expected: sealed.version, next }], key);
    // What is kept in the data folder needs the old key-encryption key no longer either.
    await sync.keep();
    return true;
  }

  /** A name for a write. */
  newTip(): string {
    return hex(this.#options.random.bytes(16));
  }

  /** Sends changes when it is their turn. */
  #inTurn(changes: readonly RecordChange[], key: AccessKey): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ changes, key, resolve, reject });
      if (!this.#running) void this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#running = true;
    for (let batch = takeBatch(this.#waiting); batch.length > 0; batch = takeBatch(this.#waiting)) {
      const refused = await this.#sendAll(batch);
      // Which of them it is that cannot be made shows one by one.
      if (refused && batch.length > 1) for (const one of batch) await this.#sendAll([one]);
    }
    this.#running = false;
  }

  /**
   * Sends what goes together.
   * @returns whether the records conflict; then nothing of it was written, and of several nobody
   * was told.
   */
  async #sendAll(batch: readonly Waiting[]): Promise<boolean> {
    const [first] = batch;
    if (first === undefined) return false;
    try {
      await this.#send(
        batch.flatMap(({ changes }) => changes),
        first.key,
      );
      for (const { resolve } of batch) resolve();
      return false;
    } catch (error) {
      const refused = error instanceof ConflictError;
      if (!refused || batch.length === 1) for (const { reject } of batch) reject(error);
      return refused;
    }
  }

  /** @throws {StoreError} `state_regressed` while an operator has to decide */
  #requireWritable(): void {
    const { refused, stop } = this.#memory;
    if (this.#options.trust() === null || (refused === null && stop === null)) return;
    const reason = refused?.reason ?? stop?.mark?.reason ?? "the stored stop mark is not ours";
    throw new StoreError(
      "state_regressed",
      `Cannot change access control: ${reason}; changes are stopped until an operator decides, see GET /v1/acl/state-conflict`,
    );
  }

  async #changesOf(drafts: readonly Draft[], key: AccessKey): Promise<RecordChange[]> {
    const schema = this.#options.recordSchema();
    const all = [...drafts, ...drafts.flatMap((draft) => this.#tombstoneOf(draft))];
    return Promise.all(
      all.map(
        async ({ kind, id, replaces, content, key: unique = null }): Promise<RecordChange> => {
          const expected = replaces?.version ?? 0;
          if (content === null) return { kind, id, expected, next: null };
          const document = await encodeRecord(
            { kind, id, version: expected + 1, key: unique },
            content,
            key,
            schema,
          );
          return { kind, id, expected, next: { key: unique, document } };
        },
      ),
    );
  }

  /** What is remembered of a record that is deleted, and forgotten of one that is made again. */
  #tombstoneOf({ kind, id, replaces, content }: Draft): Draft<"tombstone">[] {
    // Older versions of meshca read no tombstone.
    if (this.#options.trust() === null || kind === "tombstone" || kind === "bootstrap") return [];
    const name = `${kind}.${id}`;
    const before = this.#memory.tables.tombstone.get(name) ?? null;
    if (content !== null)
      return replaces === null && before !== null
        ? [{ kind: "tombstone", id: name, replaces: before, content: null }]
        : [];
    const now = this.#options.clock.now();
    const entry =
      kind === "token" || kind === "denial" ? this.#memory.tables[kind].get(id) : undefined;
    const expirationTime = entry?.value.expirationTime ?? new Date(now.getTime() + TOMBSTONE_MS);
    // A record that has expired is of no use to an attacker who puts it back.
    if (expirationTime <= now || replaces === null) return [];
    return [
      {
        kind: "tombstone",
        id: name,
        replaces: before,
        content: { kind, id, version: replaces.version, expirationTime },
      },
    ];
  }

  /** Sends a write until it is the next one after what is known here, and reads it back. */
  async #send(changes: readonly RecordChange[], key: AccessKey): Promise<void> {
    const { store, sync, clock, random } = this.#options;
    for (let tries = 1; ; tries++) {
      this.#requireWritable();
      const [tip, set] = [this.newTip(), this.#memory];
      const whole = await this.#setAfter(changes, tip, key, set);
      try {
        await store.write(changes, tip, whole);
        return await this.#readBack(changes, null);
      } catch (error) {
        if (error instanceof StoreError && error.code !== "state_regressed")
          return this.#readBack(changes, error);
        if (error instanceof ConflictError || error instanceof StoreError) await sync.refresh();
        if (!(error instanceof ConflictError) || error.code !== "set_moved") throw error;
      }
      if (tries === MAX_TRIES)
        throw new NotReadyError(
          "operation_running",
          "Other replicas change access control all the time; try again",
          {
            retryAfterMs: 1000,
          },
        );
      if (tries >= EAGER_TRIES) await clock.sleep(MAX_PAUSE_MS * random.fraction());
    }
  }

  /** The set document of a write after what is known here. */
  async #setAfter(
    changes: readonly RecordChange[],
    tip: string,
    key: AccessKey,
    memory: DirectoryMemory,
  ): Promise<SetChange> {
    // All that is known is taken before anything is awaited.
    const at = memory.mark ?? NOTHING_WRITTEN;
    const [index, resolves] = [
      at.index + 1,
      this.#options.trust() === null ? (memory.stop?.text ?? null) : null,
    ];
    const ancestors = ancestorsOf(at, ...memory.ancestors);
    const { digest, elements } = memory;
    const known = {
      digest,
      elements: new Map(changes.flatMap((change) => entryOf(elements, nameOf(change)))),
    };
    const records = recordsAfter(changes, index, memory.documents);
    const put = await Promise.all(
      records.map(async (record) => ({
        name: nameOf(record),
        element: await elementOf(record, key),
      })),
    );
    const gone = changes.filter(({ next }) => next === null).map(nameOf);
    const document = await encodeSet({ index, tip, ancestors }, digestAfter(known, put, gone), key);
    return { at, index, document, resolves };
  }

  /** Reads a write back. If there was no answer, what is stored tells whether it was made. */
  async #readBack(changes: readonly RecordChange[], silence: StoreError | null): Promise<void> {
    const { sync, clock } = this.#options;
    for (let looks = 0; looks < LOOKS; looks++) {
      if (looks > 0) await clock.sleep(BETWEEN_MS);
      const seen = await sync.refresh().then(
        () => true,
        () => false,
      );
      if (seen && (silence === null || this.#holds(changes))) return;
      // The store answers, and the write is not there: it cannot be accepted any more once another
      // one was.
      if (seen) break;
    }
    throw new NotReadyError(
      "outcome_unknown",
      "The store did not say whether the change was made; look before you try again",
      {
        cause: silence,
        retryAfterMs: BETWEEN_MS,
      },
    );
  }

  /** Whether what is stored is what these changes make. */
  #holds(changes: readonly RecordChange[]): boolean {
    return changes.every((change) => {
      const stored = this.#memory.documents.get(nameOf(change));
      return change.next === null
        ? stored === undefined
        : isSameStamp({ ...change.next, version: change.expected + 1 }, stored);
    });
  }
}

/** Changes that wait for their turn. */
interface Waiting {
  readonly changes: readonly RecordChange[];
  readonly key: AccessKey;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Takes those who may go together from the front of a queue: no record and no key is in two of
 * them.
 */
function takeBatch(waiting: Waiting[]): Waiting[] {
  const [taken, batch] = [new Set<string>(), [] as Waiting[]];
  for (const one of waiting) {
    const names = one.changes.flatMap(({ kind, id, next }) => [
      `${kind}/${id}`,
      ...(next?.key ? [`${kind} ${next.key}`] : []),
    ]);
    const goes =
      one.key === waiting[0]?.key &&
      taken.size + names.length <= MAX_BATCH &&
      !names.some((name) => taken.has(name));
    if (batch.length > 0 && !goes) break;
    batch.push(one);
    for (const name of names) taken.add(name);
  }
  waiting.splice(0, batch.length);
  return batch;
}

function entryOf<V>(map: ReadonlyMap<string, V>, name: string): [string, V][] {
  const value = map.get(name);
  return value === undefined ? [] : [[name, value]];
}

/** The records that changes make, as the store will hold them. */
export function recordsAfter(
  changes: readonly RecordChange[],
  index: number,
  before: ReadonlyMap<string, Pick<StoredRecord, "createIndex">>,
): StoredRecord[] {
  return changes.flatMap(({ kind, id, expected, next }) => {
    if (next === null) return [];
    const createIndex = before.get(nameOf({ kind, id }))?.createIndex ?? index;
    return [{ kind, id, version: expected + 1, ...next, createIndex, modifyIndex: index }];
  });
}
