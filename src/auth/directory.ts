/**
 * The directory: all of access control as this replica knows it, in memory, following the store. Nothing asks the store
 * for a request; what it says is what the store said last. It has no loop of its own: whoever composes it calls `follow`
 * again and again.
 * @module
 */
import type { AuthMethod, BindingRule, Bootstrap, Denial, Entry, Policy, Token } from "../core/access.ts";
import type { BeforeChange } from "../core/access-control.ts";
import {
  type AccessStore,
  type Changes,
  type Mark,
  NOTHING_WRITTEN,
  type RecordChange,
  type RecordName,
  type StoredRecord,
} from "../core/access-store.ts";
import type { AuditDetail } from "../core/audit.ts";
import { hex } from "../core/bytes.ts";
import type { Clock, Random } from "../core/clock.ts";
import { ConflictError, NotReadyError, StoreError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { Sealer } from "../core/sealer.ts";
import { type AccessKey, makeAccessKey, openAccessKey } from "./access-key.ts";
import { type ContentKind, type Contents, decodeRecord, encodeRecord, RECORD_SCHEMAS, type RecordSchema } from "./records.ts";

/** A quiet store is looked at this often, in milliseconds, so that its silence is told from its absence. */
const QUIET_MS = 10_000;
/** How often, and how long between, a write without an answer is looked for, in milliseconds: what a failover of Redis takes. */
const [LOOKS, BETWEEN_MS] = [5, 1000];

export interface StoredToken extends Entry<Token> {
  /** The keyed hash of its secret. */
  readonly hash: string;
}

/** One thing to write. */
export interface Draft<K extends ContentKind = ContentKind> {
  readonly kind: K;
  readonly id: string;
  /** What is replaced or deleted, or null for a new one. */
  readonly replaces: Pick<Entry<unknown>, "version"> | null;
  /** Null deletes. */
  readonly content: Contents[K] | null;
  /** A token's hash, a policy's name, and null for the rest. */
  readonly key?: string | null;
  /** What the audit log says of it besides its name. */
  readonly detail?: AuditDetail;
}

export interface Directory {
  readonly tokens: ReadonlyMap<string, StoredToken>;
  readonly tokensByHash: ReadonlyMap<string, StoredToken>;
  readonly policies: ReadonlyMap<string, Entry<Policy>>;
  readonly authMethods: ReadonlyMap<string, Entry<AuthMethod>>;
  readonly bindingRules: ReadonlyMap<string, Entry<BindingRule>>;
  readonly denials: ReadonlyMap<string, Entry<Denial>>;
  readonly bootstrap: Entry<Bootstrap> | null;
  /** Names of records that are not ours: `kind/id`. */
  readonly faulty: ReadonlySet<string>;
  /** Grows with every change of anything. */
  readonly revision: number;
  /** Grows with every change of a policy. */
  readonly policyRevision: number;
  /** Grows with every change of a denial. */
  readonly denialRevision: number;
  /** The index of the last write that was seen. */
  readonly index: number;
  /** When the store answered last, by this replica's clock. */
  readonly seenAt: Date;
  /** The keyed hash by which a token is found. */
  hashSecret(secret: string): Promise<string>;
  /** Seals a text of a record under the access key, bound to a context. */
  sealText(text: string, context: string, random: Random): Promise<string>;
  /** @throws {StoreError} `state_corrupt` if it was not sealed here for this context */
  openText(sealed: string, context: string): Promise<string>;
  /** Makes the access key where there is none, and reads everything. @throws {StoreError} @throws {SealError} */
  start(): Promise<void>;
  /** Reads what changed. @throws {StoreError} @throws {SealError} */
  refresh(): Promise<void>;
  /** Reads what changed, unless the store was asked within `maxAgeMs`. @throws {StoreError} @throws {SealError} */
  freshen(maxAgeMs: number): Promise<void>;
  /** Waits until something may have changed, and reads it. @throws {StoreError} @throws {SealError} */
  follow(signal: AbortSignal): Promise<void>;
  /**
   * Writes all or none, and reads it back. @returns the index.
   * @throws {ConflictError} `index_mismatch`, `name_taken` @throws {NotReadyError} `outcome_unknown` @throws {StoreError}
   */
  write(drafts: readonly Draft[], before?: BeforeChange): Promise<void>;
  /** True once for each id, until it is forgotten. @throws {StoreError} */
  claim(id: string, ttlMs: number): Promise<boolean>;
  /** Forgets what was claimed until an instant or before it. @throws {StoreError} */
  forgetClaims(until: Date): Promise<void>;
  /** Calls `listener` after each change until the returned function is called. */
  subscribe(listener: () => void): () => void;
  /** The id of the key-encryption key that the access key is sealed with. */
  readonly kek: string | null;
  /** Seals the access key anew with the current key-encryption key. @returns whether anything changed. @throws {CaError} */
  rewrap(before?: BeforeChange): Promise<boolean>;
}

/** What a directory knows: data alone, so that those who serve one request each can share it. */
export interface DirectoryMemory {
  readonly tables: {
    readonly token: Map<string, StoredToken>;
    readonly policy: Map<string, Entry<Policy>>;
    readonly "auth-method": Map<string, Entry<AuthMethod>>;
    readonly "binding-rule": Map<string, Entry<BindingRule>>;
    readonly denial: Map<string, Entry<Denial>>;
    readonly bootstrap: Map<string, Entry<Bootstrap>>;
  };
  readonly byHash: Map<string, StoredToken>;
  readonly faulty: Set<string>;
  /** Documents as they are stored, to find a write of ours again, and not to check twice what is the same. */
  readonly documents: Map<string, StoredRecord>;
  mark: Mark | null;
  /** When the store was asked for what is known, and when it had answered. */
  askedAt: Date;
  seenAt: Date;
  revision: number;
  policyRevision: number;
  denialRevision: number;
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
    },
    byHash: new Map(),
    faulty: new Set(),
    documents: new Map(),
    mark: null,
    askedAt: new Date(0),
    seenAt: new Date(0),
    revision: 0,
    policyRevision: 0,
    denialRevision: 0,
    key: null,
  };
}

export interface DirectoryOptions {
  readonly store: AccessStore;
  readonly sealer: Sealer;
  /** Asked for once there is a state. */
  readonly clusterId: () => string;
  /** The newest schema of records that every live replica reads. @default the first one */
  readonly recordSchema?: () => RecordSchema;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** @default one that has seen nothing */
  readonly memory?: DirectoryMemory | undefined;
}

const KEY_RECORD: RecordName = { kind: "access-key", id: "current" };

export function createDirectory(options: DirectoryOptions): Directory {
  const { store, sealer, clusterId, clock, random, log, memory = createDirectoryMemory() } = options;
  const { tables, byHash, faulty, documents } = memory;
  const recordSchema = options.recordSchema ?? (() => RECORD_SCHEMAS[0]);
  const listeners = new Set<() => void>();
  const nameOf = ({ kind, id }: RecordName) => `${kind}/${id}`;
  const newTip = () => hex(random.bytes(16));

  const requireKey = (): AccessKey => {
    if (memory.key === null) throw new NotReadyError("state_stale", "Access control is not loaded yet", { retryAfterMs: 1000 });
    return memory.key.opened;
  };

  const drop = ({ kind, id }: RecordName) => {
    memory.revision++;
    documents.delete(nameOf({ kind, id }));
    faulty.delete(nameOf({ kind, id }));
    if (kind === "access-key") return;
    const token = kind === "token" ? tables.token.get(id) : undefined;
    if (token !== undefined && byHash.get(token.hash) === token) byHash.delete(token.hash);
    tables[kind].delete(id);
    if (kind === "policy") memory.policyRevision++;
    if (kind === "denial") memory.denialRevision++;
  };

  const put = async (record: StoredRecord, { opened }: NonNullable<typeof memory.key>) => {
    const { kind, id, version, createIndex, modifyIndex } = record;
    if (kind === "access-key") return null;
    const value = await decodeRecord({ ...record, kind }, opened);
    return () => {
      drop(record);
      documents.set(nameOf(record), record);
      if (value === null) {
        faulty.add(nameOf(record));
        log.error("A record of access control is not ours, and is left out", { record: nameOf(record) });
        return;
      }
      const entry = { value, version, createIndex, modifyIndex };
      if (kind !== "token") (tables[kind] as Map<string, Entry<unknown>>).set(id, entry);
      else {
        const token = { ...(entry as Entry<Token>), hash: record.key ?? "" };
        tables.token.set(id, token);
        byHash.set(token.hash, token);
      }
    };
  };

  /** Takes the access key among what was read, before all that depends on it. */
  const takeKey = async ({ records, gone, complete }: Changes) => {
    const stored = records.find(({ kind }) => kind === "access-key");
    if (stored !== undefined && stored.document !== memory.key?.sealed.document)
      memory.key = { sealed: stored, opened: await openAccessKey(stored.document, sealer, clusterId()) };
    const lost =
      stored === undefined && (complete ? records.length > 0 || memory.key !== null : gone.some(({ kind }) => kind === "access-key"));
    if (lost) throw new StoreError("state_corrupt", "Cannot trust the stored access control: its key is gone");
  };

  const read = async (): Promise<void> => {
    const [before, asked] = [memory.mark, clock.now()];
    const changes = await store.read(before);
    await takeKey(changes);
    const current = memory.key;
    // What is the same as before was checked before.
    const fresh = changes.records.filter((record) => !isSame(record, documents.get(nameOf(record))));
    const puts = current === null ? [] : await Promise.all(fresh.map((record) => put(record, current)));
    const kept = new Set(changes.records.map(nameOf));
    const gone = changes.complete ? [...documents.values()].filter((record) => !kept.has(nameOf(record))) : changes.gone;
    // No await from here on: whoever asks sees all of it or nothing.
    if (memory.mark !== before) {
      // Another one who shares the memory has read meanwhile. What was asked for later is newer than this; else it is read again.
      if (memory.askedAt > asked) return;
      return read();
    }
    for (const name of gone) drop(name);
    for (const apply of puts) apply?.();
    memory.mark = { index: changes.index, tip: changes.tip };
    [memory.askedAt, memory.seenAt] = [asked, clock.now()];
    if (before !== null && before.index > 0 && changes.complete)
      log.warn("Access control was read anew: this replica was far behind, or the store lost writes", {
        from: before.index,
        to: memory.mark.index,
      });
    if (before?.tip !== memory.mark.tip) for (const listener of [...listeners]) listener();
  };

  let running: Promise<void> = Promise.resolve();
  let queued: Promise<void> | null = null;
  /** One read at a time; all who ask while one runs share the next. */
  const refresh = (): Promise<void> => {
    queued ??= running
      .catch(() => undefined)
      .then(() => {
        queued = null;
        running = read();
        return running;
      });
    return queued;
  };

  /** Whether what is stored is what these changes make. */
  const holds = (changes: readonly RecordChange[]) =>
    changes.every((change) => {
      const stored = documents.get(nameOf(change));
      return change.next === null ? stored === undefined : isSame({ ...change.next, version: change.expected + 1 }, stored);
    });

  /** Sends a write once, and reads it back. Where no answer comes, what is stored tells whether it was made. */
  const send = async (changes: readonly RecordChange[]) => {
    let silence: StoreError | null = null;
    try {
      await store.write(changes, newTip());
    } catch (error) {
      if (error instanceof ConflictError) await refresh();
      if (!(error instanceof StoreError)) throw error;
      silence = error;
    }
    for (let looks = 0; looks < LOOKS; looks++) {
      if (looks > 0) await clock.sleep(BETWEEN_MS);
      const seen = await refresh().then(
        () => true,
        () => false,
      );
      if (seen && (silence === null || holds(changes))) return;
      // The store answers, and the write is not there: whether it is still on its way, versions will tell.
      if (seen) break;
    }
    throw new NotReadyError("outcome_unknown", "The store did not say whether the change was made; look before you try again", {
      cause: silence,
      retryAfterMs: BETWEEN_MS,
    });
  };

  return {
    tokens: tables.token,
    tokensByHash: byHash,
    policies: tables.policy,
    authMethods: tables["auth-method"],
    bindingRules: tables["binding-rule"],
    denials: tables.denial,
    faulty,
    get bootstrap() {
      return tables.bootstrap.get("bootstrap") ?? null;
    },
    get revision() {
      return memory.revision;
    },
    get policyRevision() {
      return memory.policyRevision;
    },
    get denialRevision() {
      return memory.denialRevision;
    },
    get index() {
      return memory.mark?.index ?? 0;
    },
    get seenAt() {
      return memory.seenAt;
    },
    get kek() {
      return memory.key === null ? null : sealer.kekOf(memory.key.sealed.document);
    },
    hashSecret: (secret) => requireKey().hashSecret(secret),
    sealText: (text, context, source) => requireKey().seal(text, context, source),
    async openText(sealed, context) {
      const text = await requireKey().open(sealed, context);
      if (text === null) throw new StoreError("state_corrupt", "Cannot open a secret of access control: it was not sealed for its place");
      return text;
    },
    async start() {
      await refresh();
      if (memory.key !== null) return;
      const document = await makeAccessKey(sealer, clusterId(), random);
      try {
        await store.write([{ ...KEY_RECORD, expected: 0, next: { key: null, document } }], newTip());
      } catch (error) {
        // Another replica made one first.
        if (!(error instanceof ConflictError)) throw error;
      }
      await refresh();
    },
    refresh,
    async freshen(maxAgeMs) {
      const age = clock.now().getTime() - memory.askedAt.getTime();
      if (age < 0 || age > maxAgeMs) await refresh();
    },
    async follow(signal) {
      const quiet = new AbortController();
      void clock.sleep(QUIET_MS, quiet.signal).then(() => quiet.abort());
      try {
        await store.watch((memory.mark ?? NOTHING_WRITTEN).tip, AbortSignal.any([signal, quiet.signal]));
      } finally {
        quiet.abort();
      }
      if (!signal.aborted) await refresh();
    },
    async write(drafts, before) {
      const opened = requireKey();
      const changes = await Promise.all(
        drafts.map(async ({ kind, id, replaces, content, key: unique = null }): Promise<RecordChange> => {
          const expected = replaces?.version ?? 0;
          if (content === null) return { kind, id, expected, next: null };
          const document = await encodeRecord({ kind, id, version: expected + 1, key: unique }, content, opened, recordSchema());
          return { kind, id, expected, next: { key: unique, document } };
        }),
      );
      const details = drafts.flatMap(({ detail }) => (detail === undefined ? [] : [detail]));
      await before?.(changes.map(nameOf).join(" "), details.length === 0 ? undefined : Object.assign({}, ...details));
      await send(changes);
    },
    claim: (id, ttlMs) => store.claim(id, ttlMs),
    forgetClaims: (until) => store.forgetClaims(until),
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async rewrap(before) {
      await refresh();
      requireKey();
      const sealed = memory.key?.sealed;
      if (sealed === undefined || sealer.kekOf(sealed.document) === sealer.keks[0]) return false;
      await before?.(nameOf(KEY_RECORD));
      await send([{ ...KEY_RECORD, expected: sealed.version, next: { key: null, document: await sealer.rewrap(sealed.document) } }]);
      return true;
    },
  };
}

/** The same directory, each of whose writes awaits `before`. */
export function watched(directory: Directory, before: BeforeChange): Directory {
  const write: Directory["write"] = (drafts) => directory.write(drafts, before);
  return Object.create(directory, { write: { value: write } }) as Directory;
}

type Stamp = Pick<StoredRecord, "version" | "key" | "document">;

/** Whether two are the same in all that the MAC covers, where they have one name. */
function isSame(a: Stamp, b: Stamp | undefined): boolean {
  return a.version === b?.version && a.key === b.key && a.document === b.document;
}
