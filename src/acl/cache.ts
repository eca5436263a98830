/**
 * What a replica knows of access control, in memory: every record that it has read and trusts,
 * ready to be asked. Data, and how a record is put in and taken out; who reads the store, and what
 * is trusted, is sync.ts's business.
 * @module
 */
import type {
  AclPolicy,
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
import type { AccessKey } from "./access-key.ts";
import type { ContentKind, Contents } from "./record-codec.ts";
import { type AccessStop, changedDigest, nameOf } from "./record-set.ts";

export interface StoredToken extends Entry<Token> {
  /** The keyed hash of its secret. */
  readonly hash: string;
}

/** What a directory knows: data only, so that those who serve one request each can share it. */
export interface DirectoryMemory {
  readonly tables: {
    readonly token: Map<string, StoredToken>;
    readonly policy: Map<string, Entry<AclPolicy>>;
    readonly "auth-method": Map<string, Entry<AuthMethod>>;
    readonly "binding-rule": Map<string, Entry<BindingRule>>;
    readonly denial: Map<string, Entry<DenylistEntry>>;
    readonly bootstrap: Map<string, Entry<Bootstrap>>;
    readonly tombstone: Map<string, Entry<Tombstone>>;
  };
  readonly byHash: Map<string, StoredToken>;
  readonly faulty: Set<string>;
  /**
   * Documents as they are stored, to find a write of ours again, and not to check twice what is the
   * same.
   */
  readonly documents: Map<string, StoredRecord>;
  /** What each document adds to the digest. */
  readonly elements: Map<string, bigint>;
  digest: bigint;
  /** The last write that is in force here; null before there is one. */
  mark: Mark | null;
  /** The set document of that write as it is stored, and the writes that it came from. */
  set: string | null;
  ancestors: readonly Mark[];
  /** The latest write that this replica, or another one by its stop mark, has seen. */
  seen: Mark | null;
  /** Why what is stored is refused, and its tip where there is one; null while it is in force. */
  refused: { readonly reason: string; readonly tip: string | null } | null;
  /** The stop mark as it is stored, and what it says: null if it is not ours. */
  stop: { readonly text: string; readonly mark: AccessStop | null } | null;
  /** When the store was asked for what is known, and when it had answered. */
  askedAt: Date;
  seenAt: Date;
  revision: number;
  policyRevision: number;
  denylistRevision: number;
  key: { readonly sealed: StoredRecord; readonly opened: AccessKey } | null;
}

export function createDirectoryMemory(): DirectoryMemory {
  return {
    tables: {
      token: new Map(),
      policy: new Map(),
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

/** A record that was read: its content, null if it is not ours, and what it adds to the digest. */
export interface ReadRecord {
  readonly record: StoredRecord;
  readonly content: Contents[ContentKind] | null;
  readonly element: bigint;
}

/** Whether two stored records are the same in all that is stored of them. */
export function isSameRecord(a: StoredRecord, b: StoredRecord | undefined): boolean {
  return isSameStamp(a, b) && a.createIndex === b?.createIndex && a.modifyIndex === b.modifyIndex;
}

type Stamp = Pick<StoredRecord, "version" | "key" | "document">;

/** Whether two are the same in all that a record's MAC covers, if they have one name. */
export function isSameStamp(a: Stamp, b: Stamp | undefined): boolean {
  return a.version === b?.version && a.key === b.key && a.document === b.document;
}

/** The digest of a set after records of it were replaced and removed. */
export function digestAfter(
  { digest, elements }: Pick<DirectoryMemory, "digest" | "elements">,
  put: readonly { readonly name: string; readonly element: bigint }[],
  gone: readonly string[],
): bigint {
  const replaced = [...put.map(({ name }) => name), ...gone].map(
    (name) => elements.get(name) ?? 0n,
  );
  return changedDigest(
    digest,
    replaced,
    put.map(({ element }) => element),
  );
}

/** Takes a record out. */
export function dropRecord(memory: DirectoryMemory, { kind, id }: RecordName): void {
  const { tables, byHash } = memory;
  const name = nameOf({ kind, id });
  memory.revision++;
  memory.digest = changedDigest(memory.digest, [memory.elements.get(name) ?? 0n], []);
  memory.elements.delete(name);
  memory.documents.delete(name);
  memory.faulty.delete(name);
  if (kind === "access-key") return;
  const token = kind === "token" ? tables.token.get(id) : undefined;
  if (token !== undefined && byHash.get(token.hash) === token) byHash.delete(token.hash);
  tables[kind].delete(id);
  if (kind === "policy") memory.policyRevision++;
  if (kind === "denial") memory.denylistRevision++;
}

/** Puts a record in, in the place of what was there under its name. */
export function putRecord(memory: DirectoryMemory, { record, content, element }: ReadRecord): void {
  const { kind, id, version, createIndex, modifyIndex } = record;
  const name = nameOf(record);
  dropRecord(memory, record);
  memory.documents.set(name, record);
  memory.elements.set(name, element);
  memory.digest = changedDigest(memory.digest, [], [element]);
  if (kind === "access-key") return;
  if (content === null) {
    memory.faulty.add(name);
    return;
  }
  const entry = { value: content, version, createIndex, modifyIndex };
  if (kind !== "token") (memory.tables[kind] as Map<string, Entry<unknown>>).set(id, entry);
  else {
    const token = { ...(entry as Entry<Token>), hash: record.key ?? "" };
    memory.tables.token.set(id, token);
    memory.byHash.set(token.hash, token);
  }
}

/**
 * The opened access key.
 * @throws {NotReadyError} `state_stale` before there is one, or a set that can be trusted
 */
export function requireKey({ key, refused, mark }: DirectoryMemory): AccessKey {
  if (key !== null && mark !== null) return key.opened;
  throw new NotReadyError(
    "state_stale",
    refused === null
      ? "Access control is not loaded yet"
      : `Access control cannot be loaded: ${refused.reason}; see GET /v1/acl/state-conflict`,
    { retryAfterMs: refused === null ? 1000 : 10_000 },
  );
}
