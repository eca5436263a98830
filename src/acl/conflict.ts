/**
 * What an operator decides when the stored ACL is refused or its changes are stopped: which set of
 * records is kept. That set replaces all stored records, at an index above every write that was seen.
 * @module
 */
import type { AclConflict, AclResolution, AclSetSummary, BeforeChange } from "../core/acl/ports.ts";
import { ConflictError, SealError, StoreError } from "../core/errors.ts";
import {
  type Changes,
  type Mark,
  NOTHING_WRITTEN,
  type RecordChange,
  type StoredRecord,
} from "../core/ports/record-store.ts";
import { type AclKey, createAclKey, openAclKey } from "./acl-key.ts";
import { isSameStamp, type ReadRecord, stopReason } from "./cache.ts";
import type { Contents } from "./record-codec.ts";
import {
  ancestorsOf,
  changedDigest,
  decodeSet,
  elementOf,
  encodeSet,
  nameOf,
} from "./record-set.ts";
import { type AclSync, readRecord } from "./sync.ts";
import { type AclWriter, type AclWriterOptions, KEY_RECORD, recordsAfter } from "./write.ts";

/** How many names of differing records a report has. */
const MAX_DIFFERENCES = 1000;

/** The stored records, as far as they can be read. */
interface Found {
  readonly changes: Changes | null;
  readonly key: AclKey | null;
  /** Those with a valid MAC, tombstones included. */
  readonly records: readonly ReadRecord[];
  readonly ancestors: readonly Mark[];
  readonly authentic: boolean;
}

export class AclConflicts {
  readonly #options: AclWriterOptions;
  readonly #sync: AclSync;
  readonly #writer: AclWriter;

  constructor(options: AclWriterOptions, sync: AclSync, writer: AclWriter) {
    this.#options = options;
    this.#sync = sync;
    this.#writer = writer;
  }

  /** What there is to decide, or null. @throws {StoreError} */
  async report(): Promise<AclConflict | null> {
    const { cache } = this.#options;
    await this.#sync.verify();
    const { stop, mark } = cache;
    const reason = stopReason(cache);
    if (reason === null) return null;
    const { changes, records, authentic } = await this.#find();
    const ours = [...cache.documents.values()];
    const theirs = changes?.records ?? [];
    return {
      reason,
      by: stop?.mark?.by ?? null,
      at: stop?.mark?.at ?? null,
      snapshot: mark && summaryOf(mark, ours, true, 0),
      stored: changes && summaryOf(changes, theirs, authentic, theirs.length - records.length),
      differences: mark && changes ? differingNames(ours, theirs).slice(0, MAX_DIFFERENCES) : [],
    };
  }

  /** Decides. @throws {ConflictError} `no_conflict` @throws {CaError} */
  async resolve(keep: AclResolution, before?: BeforeChange): Promise<void> {
    const { cache, ca } = this.#options;
    await this.#sync.verify();
    if (stopReason(cache) === null)
      throw new ConflictError(
        "no_conflict",
        "There is no ACL conflict to resolve: the stored ACL is in force",
      );
    const found = await this.#find();
    const plan =
      keep === "snapshot"
        ? this.#snapshot()
        : keep === "stored"
          ? this.#stored(found)
          : this.#nothing();
    const { key, records, began } = await plan;
    await before?.(`state-conflict/${keep}`);
    if (began !== null) await ca.record(began);
    await this.#replace(records, key, found);
    cache.stop = null;
    await this.#sync.verify();
  }

  async #find(): Promise<Found> {
    const { store, cache, sealer, ca } = this.#options;
    const nothing = { changes: null, key: null, records: [], ancestors: [], authentic: false };
    let changes: Changes;
    try {
      changes = await store.read(null);
    } catch (error) {
      if (error instanceof StoreError && error.code === "state_corrupt") return nothing;
      throw error;
    }
    const sealed =
      changes.records.find(({ kind }) => kind === "access-key")?.document ??
      cache.key?.sealed.document;
    const opened =
      sealed === undefined
        ? null
        : await openAclKey(sealed, sealer, ca.clusterId()).catch(notASeal);
    const key =
      opened !== null && opened.id === ca.acl()?.keyId ? opened : (cache.key?.opened ?? null);
    if (key === null) return { ...nothing, changes };
    const read = await Promise.all(changes.records.map((record) => readRecord(record, key)));
    const digest = changedDigest(
      0n,
      [],
      read.map(({ element }) => element),
    );
    const set = changes.set === null ? null : await decodeSet(changes.set, digest, key);
    const authentic =
      set?.authentic === true && set.set.index === changes.index && set.set.tip === changes.tip;
    const records = read.filter(
      ({ content, record }) => content !== null || record.kind === "access-key",
    );
    return { changes, key, records, ancestors: authentic ? set.set.ancestors : [], authentic };
  }

  async #snapshot() {
    const { cache } = this.#options;
    const key = cache.key?.opened;
    if (cache.mark === null || key === undefined)
      throw new ConflictError(
        "no_conflict",
        "Cannot keep the snapshot of the ACL: this replica has none; ask another replica, or keep what is stored",
      );
    const ours = [...cache.documents.values()].filter(
      (record) => !cache.faulty.has(nameOf(record)),
    );
    return { key, records: ours, began: null };
  }

  /**
   * The stored records, without those of which this replica or the store has a tombstone, and with
   * the denylist entries that the store lost: what was revoked stays revoked.
   */
  async #stored({ changes, key, records: found }: Found) {
    const { cache, clock } = this.#options;
    if (changes === null || key === null || changes.records.length === 0)
      throw new ConflictError(
        "no_conflict",
        'Cannot keep the stored ACL: the store has no ACL records that can be read; keep "snapshot" or "nothing"',
      );
    const records = new Map(found.map(({ record }) => [nameOf(record), record]));
    const sealed = cache.key?.sealed;
    if (!found.some(({ record }) => record.kind === "access-key") && sealed !== undefined)
      records.set(nameOf(sealed), sealed);
    const now = clock.now();
    const remembered =
      cache.mark === null
        ? []
        : [...cache.documents.values()].filter(({ kind }) => kind === "tombstone");
    for (const record of remembered)
      records.set(nameOf(record), newer(record, records.get(nameOf(record))));
    const stones = [
      ...found.flatMap(({ record, content }) =>
        record.kind === "tombstone" ? [content as Contents["tombstone"]] : [],
      ),
      ...[...cache.tables.tombstone.values()].map(({ value }) => value),
    ];
    for (const stone of stones) {
      const record = records.get(nameOf(stone));
      if (record !== undefined && record.version <= stone.version) records.delete(nameOf(stone));
    }
    const deleted = new Set(stones.map(nameOf));
    for (const [id, { value }] of cache.tables.denial) {
      const [name, lost] = [`denial/${id}`, cache.documents.get(`denial/${id}`)];
      if (
        lost !== undefined &&
        !records.has(name) &&
        !deleted.has(name) &&
        value.expirationTime > now
      )
        records.set(name, lost);
    }
    return { key, records: [...records.values()], began: null };
  }

  /** An empty ACL with a new key: for when no replica has records, and the stored ones are lost. */
  async #nothing() {
    const { cache, sealer, ca, random } = this.#options;
    if (cache.mark !== null)
      throw new ConflictError(
        "no_conflict",
        "Cannot start an empty ACL: this replica has a snapshot; keep that, or what is stored",
      );
    const document = await createAclKey(sealer, ca.clusterId(), random);
    const key = await openAclKey(document, sealer, ca.clusterId());
    const record: StoredRecord = {
      ...KEY_RECORD,
      version: 1,
      key: null,
      document,
      createIndex: 0,
      modifyIndex: 0,
    };
    return { key, records: [record], began: { keyId: key.id, bootstrapAccessorId: null } };
  }

  /** Replaces all stored records by these, at the versions that they have. */
  async #replace(
    records: readonly StoredRecord[],
    key: AclKey,
    { changes, ancestors, authentic }: Found,
  ): Promise<void> {
    const { store, cache } = this.#options;
    // An index without a MAC is not trusted.
    const known = [
      cache.seen,
      cache.stop?.mark ?? null,
      cache.mark,
      authentic ? changes : null,
    ].filter((one) => one !== null);
    const index = Math.max(NOTHING_WRITTEN.index, ...known.map((one) => one.index)) + 1;
    const tip = this.#writer.newTip();
    const written = records.map(
      ({ kind, id, version, key: unique, document }): RecordChange => ({
        kind,
        id,
        expected: version - 1,
        next: { key: unique, document },
      }),
    );
    const elements = await Promise.all(
      recordsAfter(written, index, new Map()).map((record) => elementOf(record, key)),
    );
    const set = { index, tip, ancestors: ancestorsOf(...known, ...cache.ancestors, ...ancestors) };
    const document = await encodeSet(set, changedDigest(0n, [], elements), key);
    await store.write(written, tip, { at: null, index, document, resolves: null });
  }
}

function newer(record: StoredRecord, other: StoredRecord | undefined): StoredRecord {
  return other !== undefined && other.version > record.version ? other : record;
}

function summaryOf(
  { index, tip }: Mark,
  records: readonly StoredRecord[],
  authentic: boolean,
  faulty: number,
): AclSetSummary {
  const counts: Record<string, number> = {};
  for (const { kind } of records) counts[kind] = (counts[kind] ?? 0) + 1;
  return { index, tip, authentic, faulty, records: counts };
}

/** The names of records that differ. */
function differingNames(ours: readonly StoredRecord[], theirs: readonly StoredRecord[]): string[] {
  const [a, b] = [ours, theirs].map(
    (side) => new Map(side.map((record) => [nameOf(record), record])),
  );
  const names = new Set([...ours, ...theirs].map(nameOf));
  return [...names]
    .filter((name) => !isSameStamp(a?.get(name), b?.get(name)))
    .toSorted((x, y) => (x < y ? -1 : 1));
}

/** Null for a key that cannot be decrypted. */
function notASeal(error: unknown): null {
  if (error instanceof SealError) return null;
  throw error;
}
