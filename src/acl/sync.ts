/**
 * Follows the store of access control: reads what changed, decides whether it can be trusted, and
 * takes it into the cache as a whole or not at all. Once the CA document says that access control
 * has a set document, a set without a right one, or one that does not follow what was seen, is
 * refused: what was in force stays in force, and changes stop everywhere.
 * @module
 */

import { reasonOf, SealError, StoreError } from "../core/errors.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { AclLastSeenStore } from "../core/ports/last-seen.ts";
import type { Log } from "../core/ports/log.ts";
import type { Changes, Mark, StoredRecord } from "../core/ports/record-store.ts";
import { type AccessStore, NOTHING_WRITTEN } from "../core/ports/record-store.ts";
import type { Sealer } from "../core/ports/sealer.ts";
import type { AccessRecord } from "../core/state.ts";
import { type AccessKey, openAccessKey } from "./access-key.ts";
import {
  type DirectoryMemory,
  digestAfter,
  dropRecord,
  isSameRecord,
  putRecord,
  type ReadRecord,
} from "./cache.ts";
import { decodeRecord } from "./record-codec.ts";
import {
  decodeSet,
  decodeStop,
  elementOf,
  encodeStop,
  nameOf,
  type RecordSet,
  setRegression,
} from "./record-set.ts";

/**
 * A quiet store is looked at this often, in milliseconds, so that its silence is told from its
 * absence.
 */
const QUIET_MS = 10_000;

export interface SyncOptions {
  readonly store: AccessStore;
  readonly sealer: Sealer;
  /** Asked for once there is a state. */
  readonly clusterId: () => string;
  /**
   * What the CA document says of access control; null as long as the set document is not required.
   */
  readonly trust: () => AccessRecord | null;
  /** Reads the CA document again, which may be behind. @throws {StoreError} */
  readonly refreshTrust: () => Promise<void>;
  readonly recollection: AclLastSeenStore | null;
  /** What this replica is called in a stop mark. */
  readonly address: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly memory: DirectoryMemory;
}

type Opened = NonNullable<DirectoryMemory["key"]>;
/** What a read came to: the parts to apply, or why it is refused. */
type Verdict = { readonly refused: string } | { readonly set: RecordSet | null };

export class AccessSync {
  readonly #options: SyncOptions;
  readonly #memory: DirectoryMemory;
  readonly #listeners = new Set<() => void>();
  #running: Promise<void> = Promise.resolve();
  #queued: Promise<void> | null = null;
  #saving: Promise<void> | null = null;
  #recollected = false;

  constructor(options: SyncOptions) {
    this.#options = options;
    this.#memory = options.memory;
  }

  /**
   * Takes what this replica saw before it was restarted.
   * @throws {StoreError}
   * @throws {SealError}
   */
  async recollect(): Promise<void> {
    const { recollection, clusterId } = this.#options;
    if (this.#recollected) return;
    const seen = (await recollection?.load(clusterId())) ?? null;
    this.#recollected = true;
    if (seen !== null && seen.index > (this.#memory.seen?.index ?? 0)) this.#memory.seen = seen;
  }

  /**
   * Reads what changed: one read at a time, and all who ask while one runs share the next.
   * @throws {StoreError}
   * @throws {SealError}
   */
  refresh(): Promise<void> {
    this.#queued ??= this.#running
      .catch(() => undefined)
      .then(() => {
        this.#queued = null;
        this.#running = this.#read(false);
        return this.#running;
      });
    return this.#queued;
  }

  /**
   * Reads and checks everything that is stored, as a replica that starts does.
   * @throws {StoreError}
   * @throws {SealError}
   */
  verify(): Promise<void> {
    const done = this.#running.catch(() => undefined).then(() => this.#read(true));
    this.#running = done;
    return done;
  }

  /**
   * Waits until something may have changed, and reads it.
   * @throws {StoreError}
   * @throws {SealError}
   */
  async follow(signal: AbortSignal): Promise<void> {
    const { clock, store } = this.#options;
    const { refused, mark } = this.#memory;
    const quiet = new AbortController();
    void clock.sleep(QUIET_MS, quiet.signal).then(() => quiet.abort());
    const either = AbortSignal.any([signal, quiet.signal]);
    try {
      // What is refused is looked at again when something is written; what cannot even be read,
      // after a while.
      if (refused !== null && refused.tip === null) await clock.sleep(QUIET_MS, either);
      else await store.watch(refused?.tip ?? (mark ?? NOTHING_WRITTEN).tip, either);
    } finally {
      quiet.abort();
    }
    if (!signal.aborted) await this.refresh();
  }

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Keeps which write was seen last, under the present key-encryption key; it never rejects. */
  keep(): Promise<void> {
    const { recollection, clusterId, log } = this.#options;
    if (recollection === null) return Promise.resolve();
    // One at a time: what is seen while it is written down is written after that, once.
    this.#saving ??= Promise.resolve().then(async () => {
      for (let kept: Mark | null = null; kept !== this.#memory.seen; ) {
        kept = this.#memory.seen;
        if (kept !== null)
          await recollection.save(clusterId(), kept).catch((error: unknown) =>
            log.warn("Failed to persist which access control was seen last", {
              reason: reasonOf(error),
            }),
          );
      }
      this.#saving = null;
    });
    return this.#saving;
  }

  async #read(everything: boolean): Promise<void> {
    const { store, clock } = this.#options;
    const memory = this.#memory;
    const [before, asked] = [memory.mark, clock.now()];
    const since = everything || memory.refused !== null ? null : before;
    let changes: Changes;
    try {
      changes = await store.read(since);
    } catch (error) {
      if (
        this.#options.trust() === null ||
        !(error instanceof StoreError) ||
        error.code !== "state_corrupt"
      )
        throw error;
      return this.#refuse(error.message, null, asked);
    }
    const fresh = changes.records.filter(
      (record) => !isSameRecord(record, memory.documents.get(nameOf(record))),
    );
    const kept = new Set(changes.records.map(nameOf));
    const gone = changes.complete
      ? [...memory.documents.values()].filter((record) => !kept.has(nameOf(record)))
      : changes.gone;
    const key = await this.#keyOf(changes);
    if (typeof key === "string")
      return changes.complete ? this.#refuse(key, changes, asked) : this.#read(true);
    const read =
      key === null ? [] : await Promise.all(fresh.map((record) => readRecord(record, key.opened)));
    const stop = key === null ? null : await this.#stopOf(changes, key.opened);
    const digest = digestAfter(
      memory,
      read.map(({ record, element }) => ({ name: nameOf(record), element })),
      gone.map(nameOf),
    );
    const verdict = await this.#judge(changes, digest, key?.opened ?? null, stop?.mark ?? null);
    if (memory.mark !== before) {
      // Another one who shares the memory has read concurrently. What was asked for later is newer
      // than this; else it is read again.
      if (memory.askedAt > asked) return;
      return this.#read(everything);
    }
    if ("refused" in verdict) {
      if (!changes.complete) return this.#read(true);
      memory.key ??= key;
      return this.#refuse(verdict.refused, changes, asked);
    }
    // No await from here on: a caller sees all of it or nothing.
    memory.key = key;
    for (const name of gone) dropRecord(memory, name);
    for (const one of read) this.#put(one);
    this.#took(changes, verdict.set, stop, before, asked, everything);
  }

  #put(read: ReadRecord): void {
    putRecord(this.#memory, read);
    if (read.content === null && read.record.kind !== "access-key")
      this.#options.log.error("Ignoring a record of access control whose MAC is invalid", {
        record: nameOf(read.record),
      });
  }

  #took(
    changes: Changes,
    set: RecordSet | null,
    stop: DirectoryMemory["stop"],
    before: Mark | null,
    asked: Date,
    everything: boolean,
  ): void {
    const { log, clock, trust } = this.#options;
    const memory = this.#memory;
    memory.mark = { index: changes.index, tip: changes.tip };
    memory.set = changes.set;
    memory.ancestors = set?.ancestors ?? [];
    this.#stopped(stop);
    [memory.askedAt, memory.seenAt] = [asked, clock.now()];
    if (memory.refused !== null) log.info("The stored access control is in force again");
    else if (before !== null && before.index > 0 && changes.complete && !everything)
      log.warn(
        "Access control was read as a whole: this replica was far behind, or the store lost writes",
        {
          from: before.index,
          to: memory.mark.index,
        },
      );
    memory.refused = null;
    if (trust() !== null && memory.seen?.tip !== memory.mark.tip) {
      memory.seen = memory.mark;
      void this.keep();
    }
    if (before?.tip !== memory.mark.tip) for (const listener of [...this.#listeners]) listener();
  }

  #stopped(stop: DirectoryMemory["stop"]): void {
    const memory = this.#memory;
    if (stop !== null && stop.text !== memory.stop?.text)
      this.#options.log.error(
        "Changes of access control are stopped until an operator decides; see GET /v1/acl/state-conflict",
        {
          reason: stop.mark?.reason ?? "the stored stop mark is not ours",
        },
      );
    memory.stop = stop;
  }

  /**
   * The access key among what was read, before all that depends on it; why it cannot be trusted, in
   * words.
   * @throws {SealError}
   */
  async #keyOf({ records, gone, complete }: Changes): Promise<Opened | null | string> {
    const { sealer, clusterId, trust } = this.#options;
    const { key } = this.#memory;
    const stored = records.find(({ kind }) => kind === "access-key");
    const lost =
      stored === undefined &&
      (complete
        ? records.length > 0 || key !== null
        : gone.some(({ kind }) => kind === "access-key"));
    if (stored === undefined && trust() === null) {
      if (lost)
        throw new StoreError(
          "state_corrupt",
          "Cannot trust the stored access control: its key is gone",
        );
      return key;
    }
    if (stored === undefined) {
      if (complete && records.length === 0)
        return "the store holds no access control, and the CA document names one";
      return lost ? "its key is gone" : key;
    }
    if (stored.document === key?.sealed.document)
      return this.#named({ sealed: stored, opened: key.opened });
    try {
      return await this.#named({
        sealed: stored,
        opened: await openAccessKey(stored.document, sealer, clusterId()),
      });
    } catch (error) {
      if (trust() === null || !(error instanceof SealError) || error.code === "kek_unknown")
        throw error;
      return `its key cannot be opened: ${error.message}`;
    }
  }

  /** The key, if it is the one that the CA document names. */
  async #named(key: Opened): Promise<Opened | string> {
    const isNamed = () => {
      const trust = this.#options.trust();
      return trust === null || trust.keyId === key.opened.id;
    };
    if (isNamed()) return key;
    await this.#options.refreshTrust().catch(() => undefined);
    return isNamed() ? key : "its key is not the one that the CA document names";
  }

  async #stopOf({ stopped }: Changes, key: AccessKey): Promise<DirectoryMemory["stop"]> {
    if (stopped === null) return null;
    return stopped === this.#memory.stop?.text
      ? this.#memory.stop
      : { text: stopped, mark: await decodeStop(stopped, key) };
  }

  /** Whether a set is to be taken, and what its document says. */
  async #judge(
    changes: Changes,
    digest: bigint,
    key: AccessKey | null,
    stop: Mark | null,
  ): Promise<Verdict> {
    const memory = this.#memory;
    const required = this.#options.trust() !== null;
    if (key === null) return { set: null };
    const known =
      !changes.complete &&
      memory.refused === null &&
      changes.tip === memory.mark?.tip &&
      changes.set === memory.set;
    // Nothing was written since it was judged; a stop mark by another replica may say that more was
    // seen.
    const decoded = known
      ? { set: { ...memory.mark, ancestors: memory.ancestors } as RecordSet, authentic: true }
      : changes.set === null
        ? null
        : await decodeSet(changes.set, digest, key);
    const { index, tip } = changes;
    const isOfThis = decoded?.set.index === index && decoded.set.tip === tip;
    if (!required)
      return { set: decoded !== null && isOfThis && decoded.authentic ? decoded.set : null };
    if (changes.set === null)
      return { refused: "its set document is gone, and the CA document says that there is one" };
    if (decoded === null) return { refused: "its set document is malformed" };
    if (!isOfThis)
      return {
        refused: `its set document is about the write at index ${decoded.set.index}, and the last write is at index ${index}`,
      };
    if (!decoded.authentic)
      return {
        refused:
          "the MAC over all records is wrong: some were changed, added or removed by somebody else, or put back",
      };
    const seen = [memory.seen, stop]
      .filter((one) => one !== null)
      .toSorted((a, b) => b.index - a.index);
    for (const one of seen) {
      const lost = setRegression(decoded.set, one);
      if (lost !== null) return { refused: `the store lost writes: ${lost}` };
    }
    return { set: decoded.set };
  }

  /** Leaves in force what is, and stops all changes, here and everywhere. */
  async #refuse(reason: string, changes: Changes | null, asked: Date): Promise<void> {
    const { log, clock } = this.#options;
    const memory = this.#memory;
    const isNews = memory.refused?.reason !== reason;
    memory.refused = { reason, tip: changes?.tip ?? null };
    memory.askedAt = asked;
    if (isNews)
      log.error(
        memory.mark === null
          ? "Refusing the stored access control: requests that need a token are answered 503 until an operator decides; see GET /v1/acl/state-conflict"
          : "Refusing the stored access control: what was read before stays in force, and changes are stopped until an operator decides; see GET /v1/acl/state-conflict",
        { reason },
      );
    const key = memory.key?.opened;
    if (changes !== null && key !== undefined) this.#stopped(await this.#stopOf(changes, key));
    if (memory.mark === null) return;
    // Who is behind what another replica has seen may lack a right that was taken away: it goes on
    // no longer than without a store.
    if ((memory.stop?.mark?.index ?? 0) <= memory.mark.index) memory.seenAt = clock.now();
    if (changes !== null && key !== undefined)
      await this.#stopAll(reason, changes, memory.mark, key);
  }

  /** Sets the stop mark, unless one is there that knows as much. */
  async #stopAll(
    reason: string,
    { tip, stopped }: Changes,
    seen: Mark,
    key: AccessKey,
  ): Promise<void> {
    const { store, address, clock, log } = this.#options;
    const memory = this.#memory;
    const there = memory.stop?.mark ?? null;
    if (stopped !== null && there !== null && there.index >= seen.index) return;
    const mark = { index: seen.index, tip: seen.tip, reason, by: address, at: clock.now() };
    const text = await encodeStop(mark, key);
    try {
      await store.stop(text, tip);
      memory.stop = { text, mark };
    } catch (error) {
      log.warn("Failed to stop changes of access control on other replicas; will retry", {
        reason: reasonOf(error),
      });
    }
  }
}

/** Decodes a record, and works out what it adds to the digest. */
export async function readRecord(record: StoredRecord, key: AccessKey): Promise<ReadRecord> {
  const { kind } = record;
  const [content, element] = await Promise.all([
    kind === "access-key" ? null : decodeRecord({ ...record, kind }, key),
    elementOf(record, key),
  ]);
  return { record, content, element };
}
