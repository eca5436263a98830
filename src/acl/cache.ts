/**
 * The ACL records of a replica in cache: data, and how a record is put in and taken out.
 * @module
 */
import type {
  AclPolicy,
  AclRole,
  AuthMethod,
  BindingRule,
  Bootstrap,
  DenylistEntry,
  Entry,
  Token,
  Tombstone,
} from "../core/acl/types.ts";
import { NotReadyError } from "../core/errors.ts";
import type { Mark, RecordName, StoredRecord } from "../core/ports/record-store.ts";
import type { AclKey } from "./acl-key.ts";
import type { ContentKind, Contents } from "./record-codec.ts";
import { changedDigest, nameOf, type StopMark } from "./record-set.ts";

export interface StoredToken extends Entry<Token> {
  /** The keyed hash of its secret. */
  readonly hash: string;
}

/** Data only, so that the requests of an isolate can share it. */
export interface AclCache {
  /** The records with a valid MAC, by kind and id. */
  readonly tables: {
    readonly token: Map<string, StoredToken>;
    readonly policy: Map<string, Entry<AclPolicy>>;
    readonly role: Map<string, Entry<AclRole>>;
    readonly "auth-method": Map<string, Entry<AuthMethod>>;
    readonly "binding-rule": Map<string, Entry<BindingRule>>;
    readonly denial: Map<string, Entry<DenylistEntry>>;
    readonly bootstrap: Map<string, Entry<Bootstrap>>;
    readonly tombstone: Map<string, Entry<Tombstone>>;
  };
  /** Tokens by the hash of their secret. */
  readonly byHash: Map<string, StoredToken>;
  /** Names of records with an invalid MAC. */
  readonly faulty: Set<string>;
  /** All records as they are stored, by name: to find a write again, and to skip unchanged ones. */
  readonly documents: Map<string, StoredRecord>;
  /** What each record adds to the digest of the set, by name. */
  readonly elements: Map<string, bigint>;
  digest: bigint;
  /** The last write that is in force; null before there is one. */
  mark: Mark | null;
  /** The set document of that write, and the writes that precede it. */
  set: string | null;
  ancestors: readonly Mark[];
  /** The latest write that this replica, or another one by its stop mark, has seen. */
  seen: Mark | null;
  /** Why the stored set is refused, and its tip if it has one; null while it is in force. */
  refused: { readonly reason: string; readonly tip: string | null } | null;
  /** The stored stop mark, and its content: null if its MAC is invalid. */
  stop: { readonly text: string; readonly mark: StopMark | null } | null;
  /** When the last read of the store began, and when it ended. */
  askedAt: Date;
  seenAt: Date;
  /** Grow with every change of any record, of a policy or role, of the denylist. */
  revision: number;
  policyRevision: number;
  denylistRevision: number;
  key: { readonly sealed: StoredRecord; readonly opened: AclKey } | null;
}

export function createAclCache(): AclCache {
  return {
    tables: {
      token: new Map(),
      policy: new Map(),
      role: new Map(),
      "auth-method": new Map(),
      "binding-rule": new Map(),
      denial: new Map(),
      bootstrap: new Map(),
      tombstone: new Map(),
    },
    byHash: new Map(),
    faulty: new Set(),
    documents: new Map(),
    elements: new Map(),
    digest: 0n,
    mark: null,
    set: null,
    ancestors: [],
    seen: null,
    refused: null,
    stop: null,
    askedAt: new Date(0),
    seenAt: new Date(0),
    revision: 0,
    policyRevision: 0,
    denylistRevision: 0,
    key: null,
  };
}

/** A record that was read: its content, null if its MAC is invalid, and its part of the digest. */
export interface ReadRecord {
  readonly record: StoredRecord;
  readonly content: Contents[ContentKind] | null;
  readonly element: bigint;
}

/** Whether two stored records are equal. */
export function isSameRecord(a: StoredRecord, b: StoredRecord | undefined): boolean {
  return isSameStamp(a, b) && a.createIndex === b?.createIndex && a.modifyIndex === b.modifyIndex;
}

type Stamp = Pick<StoredRecord, "version" | "key" | "document">;

/** Whether two records of one name are equal in everything that the MAC covers. */
export function isSameStamp(a: Stamp | undefined, b: Stamp | undefined): boolean {
  return a?.version === b?.version && a?.key === b?.key && a?.document === b?.document;
}

/** Takes a record out. */
export function dropRecord(cache: AclCache, { kind, id }: RecordName): void {
  const { tables, byHash } = cache;
  const name = nameOf({ kind, id });
  cache.revision++;
  cache.digest = changedDigest(cache.digest, [cache.elements.get(name) ?? 0n], []);
  cache.elements.delete(name);
  cache.documents.delete(name);
  cache.faulty.delete(name);
  if (kind === "access-key") return;
  const token = kind === "token" ? tables.token.get(id) : undefined;
  if (token !== undefined && byHash.get(token.hash) === token) byHash.delete(token.hash);
  tables[kind].delete(id);
  if (kind === "policy" || kind === "role") cache.policyRevision++;
  if (kind === "denial") cache.denylistRevision++;
}

/** Puts a record in, in the place of the one of its name. */
export function putRecord(cache: AclCache, { record, content, element }: ReadRecord): void {
  const { kind, id, version, createIndex, modifyIndex } = record;
  const name = nameOf(record);
  dropRecord(cache, record);
  cache.documents.set(name, record);
  cache.elements.set(name, element);
  cache.digest = changedDigest(cache.digest, [], [element]);
  if (kind === "access-key") return;
  if (content === null) {
    cache.faulty.add(name);
    return;
  }
  const entry = { value: content, version, createIndex, modifyIndex };
  if (kind !== "token") (cache.tables[kind] as Map<string, Entry<unknown>>).set(id, entry);
  else {
    const token = { ...(entry as Entry<Token>), hash: record.key ?? "" };
    cache.tables.token.set(id, token);
    cache.byHash.set(token.hash, token);
  }
}

/** Why nothing can be changed until an operator decides, or null. */
export function stopReason({ refused, stop }: Pick<AclCache, "refused" | "stop">): string | null {
  if (refused !== null) return refused.reason;
  return stop === null ? null : (stop.mark?.reason ?? "the stored stop mark has an invalid MAC");
}

/**
 * The decrypted ACL key.
 * @throws {NotReadyError} `state_stale` before there is one, or without records that are trusted
 */
export function requireKey({ key, refused, mark }: AclCache): AclKey {
  if (key !== null && mark !== null) return key.opened;
  if (refused === null)
    throw new NotReadyError("state_stale", "The ACL is not loaded yet", { retryAfterMs: 1000 });
  throw new NotReadyError(
    "state_stale",
    `The ACL cannot be loaded: ${refused.reason}; see GET /v1/acl/state-conflict`,
    { retryAfterMs: 10_000 },
  );
}
