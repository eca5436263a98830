/**
 * The directory: all of access control as this replica knows it, in memory, following the store.
 * Nothing asks the store for a request; it answers by what the store held last. It has no loop of
 * its own: the composition root calls `follow` again and again.
 * @module
 */

import type { AclConflict, AclResolution, AclState, BeforeChange } from "../core/acl/ports.ts";
import type {
  AclPolicy,
  AuthMethod,
  BindingRule,
  Bootstrap,
  DenylistEntry,
  Entry,
  Tombstone,
} from "../core/acl/types.ts";
import { StoreError } from "../core/errors.ts";
import type { Clock, Random } from "../core/ports/clock.ts";
import type { AclLastSeenStore } from "../core/ports/last-seen.ts";
import type { Log } from "../core/ports/log.ts";
import type { AccessStore } from "../core/ports/record-store.ts";
import type { Sealer } from "../core/ports/sealer.ts";
import type { AccessRecord } from "../core/state.ts";
import {
  createDirectoryMemory,
  type DirectoryMemory,
  requireKey,
  type StoredToken,
} from "./cache.ts";
import { AccessConflicts } from "./conflict.ts";
import type { RecordSchema } from "./record-codec.ts";
import { AccessSync } from "./sync.ts";
import { AccessWriter, type Draft } from "./write.ts";

export { createDirectoryMemory, type DirectoryMemory, type StoredToken } from "./cache.ts";
export type { Draft } from "./write.ts";

export interface DirectoryOptions {
  readonly store: AccessStore;
  readonly sealer: Sealer;
  /** Asked for once there is a state. */
  readonly clusterId: () => string;
  /**
   * What the CA document says of access control: from then on the set document is required.
   * @default null
   */
  readonly trust?: () => AccessRecord | null;
  /** Reads the CA document again. @throws {StoreError} */
  readonly refreshTrust?: () => Promise<void>;
  /** Commits what the CA document says of access control. @throws {CaError} */
  readonly record?: (next: AccessRecord) => Promise<void>;
  /** The newest schema of records that every live replica reads. @default by `trust` */
  readonly recordSchema?: () => RecordSchema;
  /** @default null: nothing is kept over a restart */
  readonly recollection?: AclLastSeenStore | null;
  /** What this replica is called where it stops changes. */
  readonly address?: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** @default one that has seen nothing */
  readonly memory?: DirectoryMemory | undefined;
}

interface Parts {
  readonly memory: DirectoryMemory;
  readonly store: AccessStore;
  readonly sealer: Sealer;
  readonly trust: () => AccessRecord | null;
  readonly clock: Clock;
  readonly sync: AccessSync;
  readonly writer: AccessWriter;
  readonly conflicts: AccessConflicts;
}

export class Directory {
  readonly #parts: Parts;
  readonly #memory: DirectoryMemory;
  readonly #before: BeforeChange | undefined;

  /** @param before awaited by each write, unless the write itself has another one. */
  constructor(parts: Parts, before?: BeforeChange) {
    this.#parts = parts;
    this.#memory = parts.memory;
    this.#before = before;
  }

  get tokens(): ReadonlyMap<string, StoredToken> {
    return this.#memory.tables.token;
  }
  get tokensByHash(): ReadonlyMap<string, StoredToken> {
    return this.#memory.byHash;
  }
  get policies(): ReadonlyMap<string, Entry<AclPolicy>> {
    return this.#memory.tables.policy;
  }
  get authMethods(): ReadonlyMap<string, Entry<AuthMethod>> {
    return this.#memory.tables["auth-method"];
  }
  get bindingRules(): ReadonlyMap<string, Entry<BindingRule>> {
    return this.#memory.tables["binding-rule"];
  }
  get denylist(): ReadonlyMap<string, Entry<DenylistEntry>> {
    return this.#memory.tables.denial;
  }
  /** What was deleted, by `kind.id`, for as long as its document could be put back. */
  get tombstones(): ReadonlyMap<string, Entry<Tombstone>> {
    return this.#memory.tables.tombstone;
  }
  get bootstrap(): Entry<Bootstrap> | null {
    return this.#memory.tables.bootstrap.get("bootstrap") ?? null;
  }
  /** The accessor of the first token, as the CA document has it, or null. */
  get recordedBootstrap(): string | null {
    return this.#parts.trust()?.bootstrapAccessorId ?? null;
  }
  /** Names of records that are not ours: `kind/id`. */
  get faulty(): ReadonlySet<string> {
    return this.#memory.faulty;
  }
  /** Grows with every change of anything. */
  get revision(): number {
    return this.#memory.revision;
  }
  /** Grows with every change of a policy. */
  get policyRevision(): number {
    return this.#memory.policyRevision;
  }
  /** Grows with every change of a denial. */
  get denylistRevision(): number {
    return this.#memory.denylistRevision;
  }
  /** The index of the last write that is in force. */
  get index(): number {
    return this.#memory.mark?.index ?? 0;
  }
  /** When the store answered last, by this replica's clock. */
  get seenAt(): Date {
    return this.#memory.seenAt;
  }
  /** The id of the key-encryption key that the access key is sealed with. */
  get kek(): string | null {
    const { key } = this.#memory;
    return key === null ? null : this.#parts.sealer.kekOf(key.sealed.document);
  }
  /** The id of the access key, or null before it is loaded. */
  get keyId(): string | null {
    return this.#memory.key?.opened.id ?? null;
  }
  /** Whether there is a set that can be trusted, and whether it can be changed. */
  get state(): AclState {
    const { mark, refused, stop } = this.#memory;
    const stopped =
      refused?.reason ??
      (stop === null ? null : (stop.mark?.reason ?? "the stored stop mark is not ours"));
    return { loaded: mark !== null, stopped, index: mark?.index ?? 0 };
  }

  /** @throws {NotReadyError} `state_stale` if there is no set that can be trusted */
  requireLoaded(): void {
    if (this.#memory.mark === null) requireKey(this.#memory);
  }

  /** The keyed hash by which a token is found. @throws {NotReadyError} `state_stale` */
  async hashSecret(secret: string): Promise<string> {
    return requireKey(this.#memory).hashSecret(secret);
  }

  /**
   * Seals a text of a record under the access key, bound to a context.
   * @throws {NotReadyError} `state_stale`
   */
  async sealText(text: string, context: string, random: Random): Promise<string> {
    return requireKey(this.#memory).seal(text, context, random);
  }

  /** @throws {StoreError} `state_corrupt` if it was not sealed here for this context */
  async openText(sealed: string, context: string): Promise<string> {
    const text = await requireKey(this.#memory).open(sealed, context);
    if (text === null)
      throw new StoreError(
        "state_corrupt",
        "Cannot open a secret of access control: it was not sealed for its place",
      );
    return text;
  }

  /**
   * Makes the access key if there is none, and reads everything. What cannot be trusted is no
   * error: `state` says so.
   * @throws {StoreError} @throws {SealError}
   */
  async start(): Promise<void> {
    const { sync, writer } = this.#parts;
    await sync.recollect();
    await sync.refresh();
    if (this.#memory.key === null && this.#memory.refused === null) {
      await writer.makeKey();
      await sync.refresh();
    }
    await sync.keep();
  }

  /** Reads what changed. @throws {StoreError} @throws {SealError} */
  refresh(): Promise<void> {
    return this.#parts.sync.refresh();
  }

  /** Reads and checks everything. @throws {StoreError} @throws {SealError} */
  verify(): Promise<void> {
    return this.#parts.sync.verify();
  }

  /**
   * Reads what changed, unless the store was asked within `maxAgeMs`.
   * @throws {StoreError}
   * @throws {SealError}
   */
  async freshen(maxAgeMs: number): Promise<void> {
    const age = this.#parts.clock.now().getTime() - this.#memory.askedAt.getTime();
    if (age < 0 || age > maxAgeMs) await this.refresh();
  }

  /**
   * Waits until something may have changed, and reads it.
   * @throws {StoreError}
   * @throws {SealError}
   */
  follow(signal: AbortSignal): Promise<void> {
    return this.#parts.sync.follow(signal);
  }

  /** Writes all or none, and reads it back. @throws as AccessWriter.write does */
  write(drafts: readonly Draft[], before: BeforeChange | undefined = this.#before): Promise<void> {
    return this.#parts.writer.write(drafts, before);
  }

  /** Makes the set document be about what is stored. @throws as AccessWriter.write does */
  seal(): Promise<void> {
    return this.#parts.writer.seal();
  }

  /**
   * True once for each id, until it is forgotten.
   * @param until when that may be. A clock here that is ahead of the store's, or behind it, does
   * not make it sooner.
   * @throws {StoreError}
   */
  claim(id: string, until: Date): Promise<boolean> {
    const { store, clock } = this.#parts;
    return store.claim(id, Math.max(1, until.getTime() - clock.now().getTime()), until);
  }

  /** Forgets what was claimed until an instant or before it. @throws {StoreError} */
  forgetClaims(until: Date): Promise<void> {
    return this.#parts.store.forgetClaims(until);
  }

  /** Calls `listener` after each change until the returned function is called. */
  subscribe(listener: () => void): () => void {
    return this.#parts.sync.subscribe(listener);
  }

  /**
   * Seals the access key again with the current key-encryption key.
   * @returns whether anything changed.
   * @throws {CaError}
   */
  rewrap(before: BeforeChange | undefined = this.#before): Promise<boolean> {
    return this.#parts.writer.rewrap(before);
  }

  /** What an operator has to decide, or null. @throws {StoreError} */
  conflict(): Promise<AclConflict | null> {
    return this.#parts.conflicts.report();
  }

  /** Decides it. @throws {ConflictError} `no_conflict` @throws {CaError} */
  resolve(keep: AclResolution, before: BeforeChange | undefined = this.#before): Promise<void> {
    return this.#parts.conflicts.resolve(keep, before);
  }

  /** The same directory, each of whose writes awaits `before`. */
  watched(before: BeforeChange): Directory {
    return new Directory(this.#parts, before);
  }
}

/** Makes a directory over a store. Nothing is read before `start`. */
export function createDirectory(options: DirectoryOptions): Directory {
  const { store, sealer, clusterId, clock, random, log } = options;
  const memory = options.memory ?? createDirectoryMemory();
  const trust = options.trust ?? (() => null);
  const recordSchema = options.recordSchema ?? (() => (trust() === null ? 1 : 2));
  const refreshTrust = options.refreshTrust ?? (async () => undefined);
  const record =
    options.record ??
    (async () => {
      throw new TypeError("There is no CA document to record access control in");
    });
  const base = { store, sealer, clusterId, trust, clock, random, log, memory };
  const sync = new AccessSync({
    ...base,
    refreshTrust,
    recollection: options.recollection ?? null,
    address: options.address ?? "",
  });
  const writer = new AccessWriter({ ...base, sync, recordSchema });
  const conflicts = new AccessConflicts({ ...base, sync, writer, record });
  return new Directory({ memory, store, sealer, trust, clock, sync, writer, conflicts });
}
