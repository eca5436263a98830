/**
 * Keeps the cache in sync with the ACL store: reads the changes, and applies all of them or nothing. A
 * set that is not trusted is refused: the set in force stays in force, and changes stop on all
 * replicas.
 * @module
 */
import { reasonOf, StoreError } from "../core/errors.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { AclLastSeenStore } from "../core/ports/last-seen.ts";
import type { Log } from "../core/ports/log.ts";
import type { Changes, Mark, StoredRecord } from "../core/ports/record-store.ts";
import { NOTHING_WRITTEN, type RecordStore } from "../core/ports/record-store.ts";
import type { AclKey } from "./acl-key.ts";
import { type AclCache, dropRecord, isSameRecord, putRecord, type ReadRecord } from "./cache.ts";
import { decodeRecord } from "./record-codec.ts";
import { changedDigest, elementOf, encodeStop, nameOf, type RecordSet } from "./record-set.ts";
import { AclTrust, type TrustOptions } from "./trust.ts";

/** How often a store without changes is read, in milliseconds: this shows that it is available. */
const QUIET_MS = 10_000;

export interface AclSyncOptions extends TrustOptions {
  readonly store: RecordStore;
  /** Null: the last-seen state does not survive a restart. */
  readonly lastSeen: AclLastSeenStore | null;
  /** The name of this replica in a stop mark. */
  readonly address: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Called after each change. */
  readonly onChange: () => void;
}

export class AclSync {
  readonly #options: AclSyncOptions;
  readonly #cache: AclCache;
  readonly #trust: AclTrust;
  #running: Promise<void> = Promise.resolve();
  #queued: Promise<void> | null = null;
  #saving: Promise<void> | null = null;
  #isLoaded = false;

  constructor(options: AclSyncOptions) {
    this.#options = options;
    this.#cache = options.cache;
    this.#trust = new AclTrust(options);
  }

  /**
   * Loads the last write that this replica saw before its restart.
   * @throws {StoreError}
   * @throws {SealError}
   */
  async loadLastSeen(): Promise<void> {
    const { lastSeen, ca } = this.#options;
    if (this.#isLoaded) return;
    const seen = (await lastSeen?.load(ca.clusterId())) ?? null;
    this.#isLoaded = true;
    if (seen !== null && seen.index > (this.#cache.seen?.index ?? 0)) this.#cache.seen = seen;
  }

  /**
   * Reads the changes. Reads run one at a time; all callers during one share the next.
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
   * Reads and verifies all records, as at the start.
   * @throws {StoreError}
   * @throws {SealError}
   */
  verify(): Promise<void> {
    const done = this.#running.catch(() => undefined).then(() => this.#read(true));
    this.#running = done;
    return done;
  }

  /**
   * Waits until there may be changes, and reads them.
   * @throws {StoreError}
   * @throws {SealError}
   */
  async follow(signal: AbortSignal): Promise<void> {
    const { clock, store } = this.#options;
    const { refused, mark } = this.#cache;
    const quiet = new AbortController();
    void clock.sleep(QUIET_MS, quiet.signal).then(() => quiet.abort());
    const either = AbortSignal.any([signal, quiet.signal]);
    try {
      // A refused set is read again after a write; one that cannot be read, after a while.
      if (refused !== null && refused.tip === null) await clock.sleep(QUIET_MS, either);
      else await store.watch(refused?.tip ?? (mark ?? NOTHING_WRITTEN).tip, either);
    } finally {
      quiet.abort();
    }
    if (!signal.aborted) await this.refresh();
  }

  /** Persists the last write seen, under the current key-encryption key. It never rejects. */
  persistLastSeen(): Promise<void> {
    const { lastSeen, ca, log } = this.#options;
    if (lastSeen === null) return Promise.resolve();
    // One at a time: what is seen during a save is saved after it, once.
    this.#saving ??= Promise.resolve().then(async () => {
      for (let saved: Mark | null = null; saved !== this.#cache.seen; ) {
        saved = this.#cache.seen;
        if (saved !== null)
          await lastSeen.save(ca.clusterId(), saved).catch((error: unknown) =>
            log.warn("Failed to persist the last-seen state of the ACL", {
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
    const cache = this.#cache;
    const [before, asked] = [cache.mark, clock.now()];
    const since = everything || cache.refused !== null ? null : before;
    let changes: Changes;
    try {
      changes = await store.read(since);
    } catch (error) {
      if (
        this.#options.ca.acl() === null ||
        !(error instanceof StoreError) ||
        error.code !== "state_corrupt"
      )
        throw error;
      return this.#refuse(error.message, null, asked);
    }
    const fresh = changes.records.filter(
      (record) => !isSameRecord(record, cache.documents.get(nameOf(record))),
    );
    const kept = new Set(changes.records.map(nameOf));
    const gone = changes.complete
      ? [...cache.documents.values()].filter((record) => !kept.has(nameOf(record)))
      : changes.gone;
    const key = await this.#trust.keyOf(changes);
    if (typeof key === "string")
      return changes.complete ? this.#refuse(key, changes, asked) : this.#read(true);
    const read =
      key === null ? [] : await Promise.all(fresh.map((record) => readRecord(record, key.opened)));
    const stop = key === null ? null : await this.#trust.stopOf(changes, key.opened);
    const replaced = [...fresh, ...gone].map((record) => cache.elements.get(nameOf(record)) ?? 0n);
    const added = read.map(({ element }) => element);
    const digest = changedDigest(cache.digest, replaced, added);
    const verdict = await this.#trust.judge(
      changes,
      digest,
      key?.opened ?? null,
      stop?.mark ?? null,
    );
    if (cache.mark !== before) {
      // Another request that shares the cache has read concurrently. A read that began later is
      // newer than this one; otherwise this one is repeated.
      if (cache.askedAt > asked) return;
      return this.#read(everything);
    }
    if ("refused" in verdict) {
      if (!changes.complete) return this.#read(true);
      cache.key ??= key;
      return this.#refuse(verdict.refused, changes, asked);
    }
    // No await from here on: a caller sees all of the changes or none.
    cache.key = key;
    for (const name of gone) dropRecord(cache, name);
    for (const one of read) this.#put(one);
    this.#apply(changes, verdict.set, stop, since, asked);
  }

  #put(read: ReadRecord): void {
    putRecord(this.#cache, read);
    if (read.content === null && read.record.kind !== "access-key")
      this.#options.log.error("Ignoring ACL record with an invalid MAC", {
        record: nameOf(read.record),
      });
  }

  #apply(
    changes: Changes,
    set: RecordSet | null,
    stop: AclCache["stop"],
    since: Mark | null,
    asked: Date,
  ): void {
    const { log, clock, ca, onChange } = this.#options;
    const cache = this.#cache;
    const before = cache.mark;
    cache.mark = { index: changes.index, tip: changes.tip };
    cache.set = changes.set;
    cache.ancestors = set?.ancestors ?? [];
    this.#setStop(stop);
    [cache.askedAt, cache.seenAt] = [asked, clock.now()];
    if (cache.refused !== null)
      log.info(
        stop === null
          ? "The stored ACL is trusted again and in force; ACL changes are possible"
          : "The stored ACL is trusted again and in force; ACL changes stay stopped until an operator decides with PUT /v1/acl/state-conflict",
      );
    else if (since !== null && since.index > 0 && changes.complete)
      log.warn("Read all ACL records: this replica was far behind, or the store lost writes", {
        from: since.index,
        to: cache.mark.index,
      });
    cache.refused = null;
    if (ca.acl() !== null && cache.seen?.tip !== cache.mark.tip) {
      cache.seen = cache.mark;
      void this.persistLastSeen();
    }
    if (before?.tip !== cache.mark.tip) onChange();
  }

  #setStop(stop: AclCache["stop"]): void {
    const cache = this.#cache;
    if (stop !== null && stop.text !== cache.stop?.text)
      this.#options.log.error(
        "ACL changes are stopped on all replicas until an operator decides with PUT /v1/acl/state-conflict; each replica that has loaded the ACL goes on authorizing and signing (/readyz shows whether this one has)",
        { reason: stop.mark?.reason ?? "the stored stop mark has an invalid MAC" },
      );
    cache.stop = stop;
  }

  /** Keeps the set that is in force, and stops changes on all replicas. */
  async #refuse(reason: string, changes: Changes | null, asked: Date): Promise<void> {
    const { log, clock } = this.#options;
    const cache = this.#cache;
    const isNew = cache.refused?.reason !== reason;
    cache.refused = { reason, tip: changes?.tip ?? null };
    cache.askedAt = asked;
    if (isNew)
      log.error(
        cache.mark === null
          ? "Refusing the stored ACL: requests that need a token get status 503 until an operator decides with PUT /v1/acl/state-conflict"
          : "Refusing the stored ACL: tokens and signing go on by the ACL that was read before; ACL changes are stopped until an operator decides with PUT /v1/acl/state-conflict",
        { reason },
      );
    const key = cache.key?.opened;
    if (changes !== null && key !== undefined)
      this.#setStop(await this.#trust.stopOf(changes, key));
    if (cache.mark === null) return;
    // A replica that is behind what another one has seen may lack a revocation: it goes on no
    // longer than without a store.
    if ((cache.stop?.mark?.index ?? 0) <= cache.mark.index) cache.seenAt = clock.now();
    if (changes !== null && key !== undefined)
      await this.#stopAll(reason, changes, cache.mark, key);
  }

  /** Sets the stop mark, unless there is one of the same or a later write. */
  async #stopAll(
    reason: string,
    { tip, stopped }: Changes,
    seen: Mark,
    key: AclKey,
  ): Promise<void> {
    const { store, address, clock, log } = this.#options;
    const cache = this.#cache;
    const there = cache.stop?.mark ?? null;
    if (stopped !== null && there !== null && there.index >= seen.index) return;
    const mark = { index: seen.index, tip: seen.tip, reason, by: address, at: clock.now() };
    const text = await encodeStop(mark, key);
    try {
      await store.stop(text, tip);
      cache.stop = { text, mark };
    } catch (error) {
      log.warn("Failed to stop ACL changes on other replicas; will retry", {
        reason: reasonOf(error),
      });
    }
  }
}

/** Decodes a record, and computes its part of the digest. */
export async function readRecord(record: StoredRecord, key: AclKey): Promise<ReadRecord> {
  const { kind } = record;
  const [content, element] = await Promise.all([
    kind === "access-key" ? null : decodeRecord({ ...record, kind }, key),
    elementOf(record, key),
  ]);
  return { record, content, element };
}
