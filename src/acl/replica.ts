/**
 * The ACL of this replica: all records in memory, kept in sync with the store. No request reads the
 * store. It has no loop of its own: the composition root calls `follow` repeatedly.
 * @module
 */

import type { AclConflict, AclResolution, AclState, BeforeChange } from "../core/acl/ports.ts";
import type {
  AclPolicy,
  AclRole,
  AuthMethod,
  BindingRule,
  Bootstrap,
  DenylistEntry,
  Entry,
  Tombstone,
} from "../core/acl/types.ts";
import { StoreError } from "../core/errors.ts";
import type { Random } from "../core/ports/clock.ts";
import { type AclCache, requireKey, type StoredToken, stopReason } from "./cache.ts";
import { AclConflicts } from "./conflict.ts";
import { AclSync, type AclSyncOptions } from "./sync.ts";
import { AclWriter, type AclWriterOptions, type Draft } from "./write.ts";

type AclReplicaOptions = AclSyncOptions & AclWriterOptions;

interface Parts {
  readonly options: AclReplicaOptions;
  readonly sync: AclSync;
  readonly writer: AclWriter;
  readonly conflicts: AclConflicts;
}

export class AclReplica {
  readonly #parts: Parts;
  readonly #cache: AclCache;
  readonly #before: BeforeChange | undefined;

  /** @param before awaited by each write that has no `before` of its own. */
  constructor(parts: Parts, before?: BeforeChange) {
    this.#parts = parts;
    this.#cache = parts.options.cache;
    this.#before = before;
  }

  get tokens(): ReadonlyMap<string, StoredToken> {
    return this.#cache.tables.token;
  }
  get tokensByHash(): ReadonlyMap<string, StoredToken> {
    return this.#cache.byHash;
  }
  get policies(): ReadonlyMap<string, Entry<AclPolicy>> {
    return this.#cache.tables.policy;
  }
  get roles(): ReadonlyMap<string, Entry<AclRole>> {
    return this.#cache.tables.role;
  }
  get authMethods(): ReadonlyMap<string, Entry<AuthMethod>> {
    return this.#cache.tables["auth-method"];
  }
  get bindingRules(): ReadonlyMap<string, Entry<BindingRule>> {
    return this.#cache.tables["binding-rule"];
  }
  get denylist(): ReadonlyMap<string, Entry<DenylistEntry>> {
    return this.#cache.tables.denial;
  }
  /** Deleted records, by `kind.id`, for as long as their documents could be put back. */
  get tombstones(): ReadonlyMap<string, Entry<Tombstone>> {
    return this.#cache.tables.tombstone;
  }
  get bootstrap(): Entry<Bootstrap> | null {
    return this.#cache.tables.bootstrap.get("bootstrap") ?? null;
  }
  /** The accessor of the first token that the CA document names, or null. */
  get recordedBootstrap(): string | null {
    return this.#parts.options.ca.acl()?.bootstrapAccessorId ?? null;
  }
  /** Names of records with an invalid MAC: `kind/id`. */
  get faulty(): ReadonlySet<string> {
    return this.#cache.faulty;
  }
  /** Grows with every change of a record. */
  get revision(): number {
    return this.#cache.revision;
  }
  /** Grows with every change of a policy or role. */
  get policyRevision(): number {
    return this.#cache.policyRevision;
  }
  /** Grows with every change of the denylist. */
  get denylistRevision(): number {
    return this.#cache.denylistRevision;
  }
  /** The index of the last write that is in force. */
  get index(): number {
    return this.#cache.mark?.index ?? 0;
  }
  /** When the store responded last, by this replica's clock. */
  get seenAt(): Date {
    return this.#cache.seenAt;
  }
  /** The id of the key-encryption key of the ACL key, or null before that is loaded. */
  get kek(): string | null {
    const { key } = this.#cache;
    return key === null ? null : this.#parts.options.sealer.kekOf(key.sealed.document);
  }
  /** The id of the ACL key, or null before it is loaded. */
  get keyId(): string | null {
    return this.#cache.key?.opened.id ?? null;
  }
  get state(): AclState {
    const { mark } = this.#cache;
    return { loaded: mark !== null, stopped: stopReason(this.#cache), index: this.index };
  }

  /** @throws {NotReadyError} `state_stale` without records that are trusted */
  requireLoaded(): void {
    if (this.#cache.mark === null) requireKey(this.#cache);
  }

  /** The keyed hash by which a token is found. @throws {NotReadyError} `state_stale` */
  async hashSecret(secret: string): Promise<string> {
    return requireKey(this.#cache).hashSecret(secret);
  }

  /**
   * Encrypts a text of a record under the ACL key, bound to a context.
   * @throws {NotReadyError} `state_stale`
   */
  async sealText(text: string, context: string, random: Random): Promise<string> {
    return requireKey(this.#cache).seal(text, context, random);
  }

  /** Decrypts it. @throws {StoreError} `state_corrupt` if it was not encrypted for this context */
  async openText(sealed: string, context: string): Promise<string> {
    const text = await requireKey(this.#cache).open(sealed, context);
    if (text === null)
      throw new StoreError(
        "state_corrupt",
        "Cannot decrypt the secret of an auth method: it was encrypted for another Host or CACert",
      );
    return text;
  }

  /**
   * Creates the ACL key if there is none, and reads all records. Records that are not trusted are
   * not an error: see `state`.
   * @throws {StoreError}
   * @throws {SealError}
   */
  async start(): Promise<void> {
    const { sync, writer } = this.#parts;
    await sync.loadLastSeen();
    await sync.refresh();
    if (this.#cache.key === null && this.#cache.refused === null) {
      await writer.createKey();
      await sync.refresh();
    }
    await sync.persistLastSeen();
  }

  /** Reads the changes. @throws {StoreError} @throws {SealError} */
  refresh(): Promise<void> {
    return this.#parts.sync.refresh();
  }

  /** Reads and verifies all records. @throws {StoreError} @throws {SealError} */
  verify(): Promise<void> {
    return this.#parts.sync.verify();
  }

  /**
   * Reads the changes, unless the store was read within `maxAgeMs`.
   * @throws {StoreError}
   * @throws {SealError}
   */
  async refreshIfStale(maxAgeMs: number): Promise<void> {
    const age = this.#parts.options.clock.now().getTime() - this.#cache.askedAt.getTime();
    if (age < 0 || age > maxAgeMs) await this.refresh();
  }

  /**
   * Waits until there may be changes, and reads them.
   * @throws {StoreError}
   * @throws {SealError}
   */
  follow(signal: AbortSignal): Promise<void> {
    return this.#parts.sync.follow(signal);
  }

  /** Writes all drafts or none, and reads them back. @throws as AclWriter.write does */
  write(drafts: readonly Draft[], before: BeforeChange | undefined = this.#before): Promise<void> {
    return this.#parts.writer.write(drafts, before);
  }

  /** Writes a set document for the stored records. @throws as AclWriter.write does */
  writeSetDocument(): Promise<void> {
    return this.#parts.writer.writeSetDocument();
  }

  /**
   * @returns true for the first claim of an id, until `forgetClaims` deletes it.
   * @param until when it may be deleted; a clock that differs from the store's makes it no earlier.
   * @throws {StoreError}
   */
  claim(id: string, until: Date): Promise<boolean> {
    const { store, clock } = this.#parts.options;
    return store.claim(id, Math.max(1, until.getTime() - clock.now().getTime()), until);
  }

  /** Deletes the claims that ended at an instant or before it. @throws {StoreError} */
  forgetClaims(until: Date): Promise<void> {
    return this.#parts.options.store.forgetClaims(until);
  }

  /**
   * Encrypts the ACL key with the current key-encryption key.
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

  /** The same replica, each of whose writes awaits `before`. */
  withBeforeChange(before: BeforeChange): AclReplica {
    return new AclReplica(this.#parts, before);
  }
}

/** Nothing is read before `start`. */
export function createAclReplica(options: AclReplicaOptions): AclReplica {
  const sync = new AclSync(options);
  const writer = new AclWriter(options, sync);
  const conflicts = new AclConflicts(options, sync, writer);
  return new AclReplica({ options, sync, writer, conflicts });
}
