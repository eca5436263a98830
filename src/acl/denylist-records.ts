/**
 * AclAdmin of the denylist, and the question whether it names a leaf.
 * @module
 */
import type { DenylistAdmin, DenylistRequest, LeafSubject } from "../core/acl/admin.ts";
import type { DenylistEntry, Entry } from "../core/acl/types.ts";
import type { AuditDetail } from "../core/ports/audit.ts";
import type { Clock } from "../core/ports/clock.ts";
import { deletionOf } from "./deletion.ts";
import {
  canonicalValue,
  type DenylistIndex,
  type DenylistScope,
  denylistEntryId,
  indexDenylist,
} from "./denylist.ts";
import { notFound } from "./errors.ts";
import type { AclReplica } from "./replica.ts";
import { isExpired, requireDescription, requireWritten } from "./tokens.ts";
import type { Draft } from "./write.ts";

/** What the CA signs, as far as the denylist depends on it. */
export interface Leaves {
  scope(): DenylistScope;
  /** The longest life of a leaf that was signed until now, in milliseconds; it can change. */
  horizonMs(): number;
  /** Until when another datacenter's CA with a key can sign; null: none has it. In colon hex. */
  intermediateEnd(keyId: string): Date | null;
}

export class DenylistRecords implements DenylistAdmin {
  readonly #replica: AclReplica;
  readonly #leaves: Leaves;
  readonly #clock: Clock;
  #index: { readonly revision: number; readonly find: DenylistIndex } | null = null;

  constructor(replica: AclReplica, leaves: Leaves, clock: Clock) {
    this.#replica = replica;
    this.#leaves = leaves;
    this.#clock = clock;
  }

  list(): readonly Entry<DenylistEntry>[] {
    return [...this.#replica.denylist.values()].map((entry) => ({
      ...entry,
      value: { ...entry.value, expirationTime: expiryOf(entry.value, this.#leaves) },
    }));
  }

  async add(request: DenylistRequest): Promise<Entry<DenylistEntry>> {
    const value = canonicalValue(request.kind, request.value, this.#leaves.scope());
    requireDescription("denylist entry", request.reason, "Reason");
    const id = denylistEntryId(request.kind, value);
    const createTime = this.#clock.now();
    const entry = { ...request, id, value, createTime, expirationTime: createTime };
    const content = { ...entry, expirationTime: expiryOf(entry, this.#leaves) };
    const replaces = this.#replica.denylist.get(id) ?? null;
    await this.#replica.write([
      { kind: "denial", id, replaces, content, detail: detailOf(content) },
    ]);
    return requireWritten("denylist entry", this.#replica.denylist.get(id));
  }

  intermediateEnd(entry: DenylistEntry): Date | null {
    return intermediateEndOf(entry, this.#leaves);
  }

  async remove(id: string): Promise<void> {
    const entry = this.#replica.denylist.get(id);
    if (entry === undefined) throw notFound("denylist entry", id);
    await this.#replica.write([
      { ...deletionOf("denial", id, entry), detail: detailOf(entry.value) },
    ]);
  }

  /**
   * The entry that names a leaf, or null.
   * @throws {NotReadyError} `state_stale` without records that are trusted: nothing is signed then
   */
  entryOf(subject: LeafSubject): DenylistEntry | null {
    this.#replica.requireLoaded();
    const { denylist, denylistRevision } = this.#replica;
    if (denylist.size === 0) return null;
    if (this.#index?.revision !== denylistRevision) {
      const find = indexDenylist([...denylist.values()].map(({ value }) => value));
      this.#index = { revision: denylistRevision, find };
    }
    return this.#index.find(subject)[0] ?? null;
  }

  /** The deletions of all entries that expired at an instant or before it. */
  expired(until: Date): Draft[] {
    const { denylist } = this.#replica;
    if (denylist.size === 0) return [];
    return [...denylist.values()]
      .filter(({ value }) => isExpired(expiryOf(value, this.#leaves), until))
      .map((entry) => deletionOf("denial", entry.value.id, entry));
  }
}

/**
 * When an entry expires. A root with longer leaves may be published since it was created: by a
 * restored backup, or by an operator's choice between two states. A key for which an intermediate
 * was signed is denied until that ends.
 */
function expiryOf(entry: DenylistEntry, leaves: Leaves): Date {
  const { createTime, expirationTime } = entry;
  return new Date(
    Math.max(
      expirationTime.getTime(),
      createTime.getTime() + leaves.horizonMs(),
      intermediateEndOf(entry, leaves)?.getTime() ?? 0,
    ),
  );
}

function intermediateEndOf({ kind, value }: DenylistEntry, leaves: Leaves): Date | null {
  return kind === "key-id" ? leaves.intermediateEnd(value) : null;
}

function detailOf({ kind, value, reason }: DenylistEntry): AuditDetail {
  return { [kind]: value, reason };
}
