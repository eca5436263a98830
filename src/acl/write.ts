/**
 * Writes ACL records: drafts become records and tombstones under a set document, which are sent once
 * and read back. A write that follows another replica's is prepared again on the records of that
 * time.
 * @module
 */
import type { BeforeChange } from "../core/acl/ports.ts";
import { hex } from "../core/bytes.ts";
import { ConflictError, NotReadyError, StoreError } from "../core/errors.ts";
import type { AuditDetail } from "../core/ports/audit.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import {
  NOTHING_WRITTEN,
  type RecordChange,
  type RecordName,
  type RecordStore,
  type SetChange,
  type StoredRecord,
} from "../core/ports/record-store.ts";
import type { Sealer } from "../core/ports/sealer.ts";
import { type AclKey, createAclKey, openAclKey } from "./acl-key.ts";
import type { CaDocument } from "./ca-document.ts";
import { type AclCache, isSameStamp, requireKey, stopReason } from "./cache.ts";
import { type ContentKind, type Contents, encodeRecord, needsSchema3 } from "./record-codec.ts";
import { ancestorsOf, changedDigest, elementOf, encodeSet, nameOf } from "./record-set.ts";
import type { AclSync } from "./sync.ts";
import { WriteQueue } from "./write-queue.ts";

/**
 * How often a write without a response is looked for, and the time between two looks in
 * milliseconds: as long as a failover of Redis takes.
 */
const [LOOKS, BETWEEN_MS] = [5, 1000];
/** How often a write is prepared after another replica's. Of concurrent writes one always wins. */
const MAX_TRIES = 40;
/** The try from which on it waits before the next one, and for how long at most in milliseconds. */
const [EAGER_TRIES, MAX_PAUSE_MS] = [16, 50];
/**
 * How long a deleted record without expiry is remembered, in milliseconds: longer than a backup of
 * the store is useful.
 */
const TOMBSTONE_MS = 30 * 24 * 3_600_000;

/** The record of the ACL key. */
export const KEY_RECORD: RecordName = { kind: "access-key", id: "current" };

/** A record that is to be written. */
export interface Draft<K extends ContentKind = ContentKind> {
  readonly kind: K;
  readonly id: string;
  /** The record that is replaced or deleted; null for a new one. */
  readonly replaces: { readonly version: number } | null;
  /** Null deletes. */
  readonly content: Contents[K] | null;
  /** The hash of a token, the name of a policy or role; null for other kinds. */
  readonly key?: string | null;
  /** Further fields for the audit log. */
  readonly detail?: AuditDetail;
}

export interface AclWriterOptions {
  readonly store: RecordStore;
  readonly sealer: Sealer;
  readonly ca: CaDocument;
  readonly clock: Clock;
  readonly random: Random;
  readonly cache: AclCache;
}

export class AclWriter {
  readonly #options: AclWriterOptions;
  readonly #sync: AclSync;
  readonly #cache: AclCache;
  readonly #queue = new WriteQueue((changes, key) => this.#send(changes, key));

  constructor(options: AclWriterOptions, sync: AclSync) {
    this.#options = options;
    this.#sync = sync;
    this.#cache = options.cache;
  }

  /**
   * Writes all drafts or none, and reads them back.
   * @param before awaited once, before anything is sent.
   * @throws {ConflictError} `index_mismatch`, `name_taken`
   * @throws {NotReadyError} `outcome_unknown`, `state_stale`, `operation_running` if other replicas
   * write all the time
   * @throws {StoreError} `state_regressed` while changes are stopped
   */
  async write(drafts: readonly Draft[], before?: BeforeChange): Promise<void> {
    const key = requireKey(this.#cache);
    this.#requireWritable();
    const changes = await this.#changesOf(drafts, key);
    const details = drafts.flatMap(({ detail }) => (detail === undefined ? [] : [detail]));
    await before?.(
      drafts.map(nameOf).join(" "),
      details.length === 0 ? undefined : Object.assign({}, ...details),
    );
    if (drafts.some(({ kind, content }) => needsSchema3(kind, content)))
      await this.#raiseRecordSchema();
    await this.#queue.add(changes, key);
  }

  /** Creates the ACL key, unless another replica is first. @throws {StoreError} */
  async createKey(): Promise<void> {
    const { sealer, ca, random } = this.#options;
    const document = await createAclKey(sealer, ca.clusterId(), random);
    const key = await openAclKey(document, sealer, ca.clusterId());
    try {
      await this.#queue.add([{ ...KEY_RECORD, expected: 0, next: { key: null, document } }], key);
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error;
    }
  }

  /**
   * Writes a set document for the stored records, and changes nothing else.
   * @throws as `write` does
   */
  async writeSetDocument(): Promise<void> {
    const key = requireKey(this.#cache);
    await this.#queue.add([], key);
  }

  /**
   * Encrypts the ACL key with the current key-encryption key.
   * @returns whether anything changed.
   * @throws {CaError}
   */
  async rewrap(before?: BeforeChange): Promise<boolean> {
    const { sealer } = this.#options;
    await this.#sync.refresh();
    const key = requireKey(this.#cache);
    const sealed = this.#cache.key?.sealed;
    if (sealed === undefined || sealer.kekOf(sealed.document) === sealer.keks[0]) return false;
    this.#requireWritable();
    await before?.(nameOf(KEY_RECORD));
    const next = { key: null, document: await sealer.rewrap(sealed.document) };
    await this.#queue.add([{ ...KEY_RECORD, expected: sealed.version, next }], key);
    // So that the last-seen state no longer needs the old key-encryption key either.
    await this.#sync.persistLastSeen();
    return true;
  }

  /** A random name for a write. */
  newTip(): string {
    return hex(this.#options.random.bytes(16));
  }

  /** @throws {StoreError} `state_regressed` while an operator has to decide */
  #requireWritable(): void {
    const reason = stopReason(this.#cache);
    if (this.#options.ca.acl() === null || reason === null) return;
    throw new StoreError(
      "state_regressed",
      `Cannot change the ACL: ${reason}; changes are stopped until an operator decides, see GET /v1/acl/state-conflict`,
    );
  }

  /** Makes sure that no replica is alive, or starts, that does not know these rights. */
  async #raiseRecordSchema(): Promise<void> {
    const { ca } = this.#options;
    if (ca.recordSchema() < 3) await ca.raiseRecordSchema();
  }

  async #changesOf(drafts: readonly Draft[], key: AclKey): Promise<RecordChange[]> {
    const schema = this.#options.ca.recordSchema() < 2 ? 1 : 2;
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
            needsSchema3(kind, content) ? 3 : schema,
          );
          return { kind, id, expected, next: { key: unique, document } };
        },
      ),
    );
  }

  /** The tombstone of a deleted record; its deletion if the record is created again. */
  #tombstoneOf({ kind, id, replaces, content }: Draft): Draft<"tombstone">[] {
    // Older versions of meshca do not read tombstones.
    if (this.#options.ca.acl() === null || kind === "tombstone" || kind === "bootstrap") return [];
    const name = `${kind}.${id}`;
    const before = this.#cache.tables.tombstone.get(name) ?? null;
    if (content !== null)
      return replaces === null && before !== null
        ? [{ kind: "tombstone", id: name, replaces: before, content: null }]
        : [];
    const now = this.#options.clock.now();
    const entry =
      kind === "token" || kind === "denial" ? this.#cache.tables[kind].get(id) : undefined;
    const expirationTime = entry?.value.expirationTime ?? new Date(now.getTime() + TOMBSTONE_MS);
    // An expired record is useless to an attacker who puts it back.
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

  /** Sends a write until it directly follows the write known here, and reads it back. */
  async #send(changes: readonly RecordChange[], key: AclKey): Promise<void> {
    const { store, clock, random } = this.#options;
    for (let tries = 1; ; tries++) {
      this.#requireWritable();
      const tip = this.newTip();
      const set = await this.#setAfter(changes, tip, key);
      try {
        await store.write(changes, tip, set);
        return await this.#readBack(changes, null);
      } catch (error) {
        if (error instanceof StoreError && error.code !== "state_regressed")
          return this.#readBack(changes, error);
        if (error instanceof ConflictError || error instanceof StoreError)
          await this.#sync.refresh();
        if (!(error instanceof ConflictError) || error.code !== "set_moved") throw error;
      }
      if (tries === MAX_TRIES)
        throw new NotReadyError(
          "operation_running",
          "Cannot change the ACL: other replicas change it all the time; try again",
          { retryAfterMs: 1000 },
        );
      if (tries >= EAGER_TRIES) await clock.sleep(MAX_PAUSE_MS * random.fraction());
    }
  }

  /** The set document of a write that follows the one known here. */
  async #setAfter(changes: readonly RecordChange[], tip: string, key: AclKey): Promise<SetChange> {
    // Everything is read from the cache before the first await.
    const cache = this.#cache;
    const at = cache.mark ?? NOTHING_WRITTEN;
    const [index, resolves] = [
      at.index + 1,
      this.#options.ca.acl() === null ? (cache.stop?.text ?? null) : null,
    ];
    const ancestors = ancestorsOf(at, ...cache.ancestors);
    const { digest, elements } = cache;
    const removed = changes.map((change) => elements.get(nameOf(change)) ?? 0n);
    const records = recordsAfter(changes, index, cache.documents);
    const added = await Promise.all(records.map((record) => elementOf(record, key)));
    const after = changedDigest(digest, removed, added);
    const document = await encodeSet({ index, tip, ancestors }, after, key);
    return { at, index, document, resolves };
  }

  /**
   * Reads a write back.
   * @param silence the error of the store if it did not respond: then the records show the outcome.
   */
  async #readBack(changes: readonly RecordChange[], silence: StoreError | null): Promise<void> {
    const { clock } = this.#options;
    for (let looks = 0; looks < LOOKS; looks++) {
      if (looks > 0) await clock.sleep(BETWEEN_MS);
      const seen = await this.#sync.refresh().then(
        () => true,
        () => false,
      );
      if (seen && (silence === null || this.#holds(changes))) return;
      // The store responds without the write, which it may still accept until another write.
      if (seen) break;
    }
    throw new NotReadyError(
      "outcome_unknown",
      "The ACL store did not respond to the change, whose outcome is unknown; read the record before you repeat the change",
      { cause: silence, retryAfterMs: BETWEEN_MS },
    );
  }

  /** Whether the records are as these changes make them. */
  #holds(changes: readonly RecordChange[]): boolean {
    return changes.every((change) => {
      const stored = this.#cache.documents.get(nameOf(change));
      return change.next === null
        ? stored === undefined
        : isSameStamp({ ...change.next, version: change.expected + 1 }, stored);
    });
  }
}

/** The records that changes make, as the store will have them. */
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
