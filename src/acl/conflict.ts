/**
 * What an operator decides when the stored access control is refused, or changes of it are stopped:
 * which set goes on. Whatever is decided replaces all that is stored, and lands above every write
 * that anybody has seen.
 * @module
 */
import type { AclConflict, AclResolution, AclSetSummary, BeforeChange } from "../core/acl/ports.ts";
import { ConflictError, SealError, StoreError } from "../core/errors.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import {
  type AccessStore,
  type Changes,
  type Mark,
  NOTHING_WRITTEN,
  type RecordChange,
  type StoredRecord,
} from "../core/ports/record-store.ts";
import type { Sealer } from "../core/ports/sealer.ts";
import type { AccessRecord } from "../core/state.ts";
import { type AccessKey, makeAccessKey, openAccessKey } from "./access-key.ts";
import type { DirectoryMemory, ReadRecord } from "./cache.ts";
import type { Contents } from "./record-codec.ts";
import {
  ancestorsOf,
  changedDigest,
  decodeSet,
  elementOf,
  encodeSet,
  nameOf,
} from "./record-set.ts";
import { type AccessSync, readRecord } from "./sync.ts";
import { type AccessWriter, KEY_RECORD, recordsAfter } from "./write.ts";

/** Names of records that differ, in what an operator is shown. */
const MAX_DIFFERENCES = 1000;

export interface ConflictOptions {
  readonly store: AccessStore;
  readonly sync: AccessSync;
  readonly writer: AccessWriter;
  readonly sealer: Sealer;
  readonly clusterId: () => string;
  readonly trust: () => AccessRecord | null;
  /** Commits what the CA document says of access control. @throws {CaError} */
  readonly record: (next: AccessRecord) => Promise<void>;
  readonly clock: Clock;
  readonly random: Random;
  readonly memory: DirectoryMemory;
}

/** What is stored, as far as it can be read. */
interface Found {
  readonly changes: Changes | null;
  readonly key: AccessKey | null;
  /** The records that are ours, tombstones among them. */
  readonly records: readonly ReadRecord[];
  readonly ancestors: readonly Mark[];
  readonly authentic: boolean;
}

export class AccessConflicts {
  readonly #options: ConflictOptions;

  constructor(options: ConflictOptions) {
    this.#options = options;
  }

  /** What there is to decide, or null. @throws {StoreError} */
  async report(): Promise<AclConflict | null> {
    const { sync, memory } = this.#options;
    await sync.verify();
    const { refused, stop, mark } = memory;
    if (refused === null && stop === null) return null;
    const { changes, records, authentic } = await this.#find();
    const mine = mark === null ? null : [...memory.documents.values()];
    const theirs = changes === null ? null : changes.records;
    return {
      reason: refused?.reason ?? stop?.mark?.reason ?? "the stored stop mark is not ours",
      by: stop?.mark?.by ?? null,
      at: stop?.mark?.at ?? null,
      snapshot: mark === null || mine === null ? null : sideOf(mark, mine, true, 0),
      stored:
        changes === null || theirs === null
          ? null
          : sideOf(changes, theirs, authentic, theirs.length - records.length),
      differences:
        mine === null || theirs === null ? [] : differences(mine, theirs).slice(0, MAX_DIFFERENCES),
    };
  }

  /** Decides. @throws {ConflictError} `no_conflict` @throws {CaError} */
  async resolve(keep: AclResolution, before?: BeforeChange): Promise<void> {
    const { sync, memory } = this.#options;
    await sync.verify();
    if (memory.refused === null && memory.stop === null)
      throw new ConflictError(
        "no_conflict",
        "There is no conflict to resolve: the stored access control is in force",
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
    if (began !== null) await this.#options.record(began);
    await this.#replace(records, key, found);
    memory.stop = null;
    await sync.verify();
  }

  async #find(): Promise<Found> {
    const { store, memory, sealer, clusterId } = this.#options;
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
      memory.key?.sealed.document;
    const opened =
      sealed === undefined
        ? null
        : await openAccessKey(sealed, sealer, clusterId()).catch(notASeal);
    const key =
      opened !== null && opened.id === this.#options.trust()?.keyId
        ? opened
        : (memory.key?.opened ?? null);
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
    const { memory } = this.#options;
    const key = memory.key?.opened;
    if (memory.mark === null || key === undefined)
      throw new ConflictError(
        "no_conflict",
        "Cannot keep the snapshot: this replica has none; ask another replica, or keep what is stored",
      );
    const ours = [...memory.documents.values()].filter(
      (record) => !memory.faulty.has(nameOf(record)),
    );
    return { key, records: ours, began: null };
  }

  /**
   * What is stored, without what was deleted as far as anybody knows, and with the denials that it
   * lost: rights that were taken away stay so.
   */
  async #stored({ changes, key, records: found }: Found) {
    const { memory, clock } = this.#options;
    if (changes === null || key === null || changes.records.length === 0)
      throw new ConflictError(
        "no_conflict",
        "Cannot keep what is stored: the store holds no access control that can be read; keep the snapshot, or nothing",
      );
    const records = new Map(found.map(({ record }) => [nameOf(record), record]));
    const sealed = memory.key?.sealed;
    if (!found.some(({ record }) => record.kind === "access-key") && sealed !== undefined)
      records.set(nameOf(sealed), sealed);
    const now = clock.now();
    const remembered =
      memory.mark === null
        ? []
        : [...memory.documents.values()].filter(({ kind }) => kind === "tombstone");
    for (const record of remembered)
      records.set(nameOf(record), newer(record, records.get(nameOf(record))));
    const stones = [
      ...found.flatMap(({ record, content }) =>
        record.kind === "tombstone" ? [content as Contents["tombstone"]] : [],
      ),
      ...[...memory.tables.tombstone.values()].map(({ value }) => value),
    ];
    for (const stone of stones) {
      const record = records.get(nameOf(stone));
      if (record !== undefined && record.version <= stone.version) records.delete(nameOf(stone));
    }
    const deleted = new Set(stones.map(nameOf));
    for (const [id, { value }] of memory.tables.denial) {
      const [name, lost] = [`denial/${id}`, memory.documents.get(`denial/${id}`)];
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

  /**
   * Access control begins again, with another key and no record: for when no replica has a set, and
   * what is stored is lost.
   */
  async #nothing() {
    const { memory, sealer, clusterId, random } = this.#options;
    if (memory.mark !== null)
      throw new ConflictError(
        "no_conflict",
        "Cannot keep nothing: this replica has a snapshot; keep that, or what is stored",
      );
    const document = await makeAccessKey(sealer, clusterId(), random);
    const key = await openAccessKey(document, sealer, clusterId());
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

  /** Replaces all that is stored by these records, at the versions that they have. */
  async #replace(
    records: readonly StoredRecord[],
    key: AccessKey,
    { changes, ancestors, authentic }: Found,
  ): Promise<void> {
    const { store, memory, writer } = this.#options;
    // An index that is not under a MAC may be anything.
    const known = [
      memory.seen,
      memory.stop?.mark ?? null,
      memory.mark,
      authentic ? changes : null,
    ].filter((one) => one !== null);
    const index = Math.max(NOTHING_WRITTEN.index, ...known.map((one) => one.index)) + 1;
    const tip = writer.newTip();
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
    const set = { index, tip, ancestors: ancestorsOf(...known, ...memory.ancestors, ...ancestors) };
    const document = await encodeSet(set, changedDigest(0n, [], elements), key);
    await store.write(written, tip, { at: null, index, document, resolves: null });
  }
}

function newer(record: StoredRecord, other: StoredRecord | undefined): StoredRecord {
  return other !== undefined && other.version > record.version ? other : record;
}

function sideOf(
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
function differences(mine: readonly StoredRecord[], theirs: readonly StoredRecord[]): string[] {
  const [a, b] = [mine, theirs].map(
    (side) =>
      new Map(
        side.map((record) => [
          nameOf(record),
          `${record.version} ${record.key} ${record.document}`,
        ]),
      ),
  );
  return [...new Set([...(a?.keys() ?? []), ...(b?.keys() ?? [])])]
    .filter((name) => a?.get(name) !== b?.get(name))
    .toSorted((x, y) => (x < y ? -1 : 1));
}

/** A key that cannot be opened is none; another error is one. */
function notASeal(error: unknown): null {
  if (error instanceof SealError) return null;
  throw error;
}
