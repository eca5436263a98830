/**
 * Counts the leaves that this replica signs, and merges the counts of all replicas: what they have
 * written into the shared record, and what their heartbeats announce.
 * @module
 */

import { reasonOf } from "../errors.ts";
import {
  isBehind,
  isUnwritten,
  type LeafAnnouncement,
  type LeafRecord,
  nextRecord,
} from "../leaf-record.ts";
import { LeafTable, sizeOfRows, sumOfRows } from "../leaf-table.ts";
import type { Clock } from "../ports/clock.ts";
import type { LeafCountPorts, ReadLeafRecord } from "../ports/leaf-counts.ts";
import type { Log } from "../ports/log.ts";
import type { Replica as LiveReplica } from "../ports/replicas.ts";
import type { CaState } from "../state.ts";
import { type LeafSummary, summaryOf } from "./leaf-summary.ts";
import type { Snapshot } from "./snapshot.ts";
import type { Policy } from "./timing-and-limits.ts";

/** How often a write is retried that lost against a concurrent one of another replica. */
const TRIES = 5;

/** The most writes without an answer that are remembered: a store that answers reads only is broken. */
const MAX_ATTEMPTS = 16;

/**
 * For how long a replica must be missing from the heartbeats before its last counts are taken for
 * lost, in milliseconds: longer than a Redis that restarts keeps all heartbeats away.
 */
const LOST_MS = 60_000;

/**
 * The most numbers in a heartbeat: some 20 octets each. A minute's leaves of one LeafCertTTL expire
 * within two hours.
 */
const MAX_ANNOUNCED = 500;

interface LeafCounterOptions extends LeafCountPorts {
  /** Id of this replica, another one at each start of a process. */
  readonly id: string;
  readonly policy: Policy;
  readonly clock: Clock;
  readonly log: Log;
}

/** What a write needs to know of the CA. */
interface Surroundings {
  readonly state: CaState;
  /** The live replicas by the last heartbeat. */
  readonly live: readonly LiveReplica[];
}

export class LeafCounter {
  readonly #options: LeafCounterOptions;
  readonly #startedMs: number;
  /** What is not written. */
  readonly #pending = new LeafTable();
  /** The number of the next write. */
  #write = 1;
  /** Writes that may have been made, or may still arrive at the store, each with the text it replaces. */
  #attempts: readonly { readonly text: string; readonly mine: LeafAnnouncement }[] = [];
  /** The record as it was read or written last. */
  #record: LeafRecord | null = null;
  /** What the other replicas announced last. */
  #others: readonly LeafAnnouncement[] = [];
  /** Since when open replicas of the record are not live, in milliseconds since 1970. */
  readonly #missing = new Map<string, number>();
  /** Why the stored record could not be used, as it was logged last. */
  #logged: string | null = null;
  /** Settles when the step before has ended; it never rejects. */
  #running: Promise<unknown> = Promise.resolve();

  constructor(options: LeafCounterOptions) {
    this.#options = options;
    this.#startedMs = options.clock.now().getTime();
  }

  /** Counts a leaf that this replica signed. @param root Root ID. @param issuer certificate's ID. */
  count(root: string, issuer: string, notAfter: Date): void {
    this.#pending.count(root, issuer, notAfter.getTime());
  }

  /** For the heartbeat of this replica; empty before there is a state, or if it would be too long. */
  async announcement(clusterId: string | null): Promise<string> {
    const announcement = this.#unwritten();
    if (clusterId === null || sizeOfRows(announcement.rows) > MAX_ANNOUNCED) return "";
    return this.#options.codec.encodeAnnouncement(announcement, clusterId);
  }

  /**
   * Takes what the other replicas announce, and reads the record if one of them has written since, or
   * has left with a last write.
   * @throws {StoreError}
   */
  heard({ state, live }: Surroundings): Promise<void> {
    const { id, codec } = this.#options;
    return this.#inTurn(async () => {
      const others: LeafAnnouncement[] = [];
      for (const replica of live) {
        if (replica.id === id || !replica.leaves) continue;
        const read = await codec.decodeAnnouncement(replica.leaves, state.clusterId);
        if (read?.replica === replica.id) others.push(read);
      }
      this.#others = others;
      const known = this.#record;
      const hasLeft =
        known !== null &&
        this.#goneOf(
          known,
          live.map((one) => one.id),
        ).length > 0;
      if (known !== null && !hasLeft && !others.some((other) => isBehind(other, known))) return;
      const { text, read } = await this.#load(state.clusterId);
      if (read.kind !== "record") return;
      this.#settle(read.record, text);
      this.#record = read.record;
    });
  }

  /**
   * Adds what is not written to the record.
   * @param isEnd whether this replica signs nothing more.
   * @returns false if it has to be tried again soon. @throws {StoreError}
   */
  save(surroundings: Surroundings, isEnd = false): Promise<boolean> {
    return this.#inTurn(async () => {
      for (let tries = 1; tries <= TRIES; tries++)
        if (await this.#trySave(surroundings, isEnd)) return true;
      return false;
    });
  }

  /** All leaves that are counted, by the last heartbeats. */
  summary(snapshot: Pick<Snapshot, "state" | "config">): LeafSummary {
    const { policy, clock } = this.#options;
    const record = this.#record ?? { since: this.#startedMs, writers: {}, rows: [] };
    const announced = this.#others.filter((other) => isUnwritten(other, record));
    const rows = sumOfRows([
      record.rows,
      this.#pending.rows(),
      ...announced.map((other) => other.rows),
    ]);
    return summaryOf({ rows, since: record.since }, snapshot, policy, clock.now());
  }

  /** @returns false if another replica wrote concurrently. @throws {StoreError} */
  async #trySave(surroundings: Surroundings, isEnd: boolean): Promise<boolean> {
    const { id, store, codec, clock } = this.#options;
    const { state, live } = surroundings;
    const { text, read } = await this.#load(state.clusterId);
    if (this.#mustLeave(read, live)) return true;
    const record = read.kind === "record" ? read.record : this.#newRecord(state, read);
    this.#settle(record, text);
    const nowMs = clock.now().getTime();
    const counting = live.filter(({ leaves }) => leaves !== undefined).map((one) => one.id);
    const lost = this.#lostOf(record, counting, nowMs);
    const hasUncounted = counting.length < live.length;
    const mine = this.#unwritten();
    const written = record.writers[id];
    const isDue =
      !(read.kind === "record" && read.isCurrent) ||
      hasUncounted ||
      mine.rows.length > 0 ||
      lost.length > 0 ||
      written?.isOpen !== !isEnd;
    if (!isDue) {
      this.#record = record;
      return true;
    }
    const step = { nowMs, mine, isOpen: !isEnd, live: counting, lost, hasUncounted };
    const next = nextRecord(record, step);
    const encoded = await codec.encode(next, state.clusterId);
    this.#attempts = [...this.#attempts, { text, mine }].slice(-MAX_ATTEMPTS);
    this.#write++;
    if (!(await store.save(encoded, text))) return false;
    this.#settle(next, encoded);
    this.#record = next;
    this.#logLost(lost, record);
    return true;
  }

  /** Takes what the stored record has of this replica's writes as written. */
  #settle({ writers }: LeafRecord, stored: string): void {
    const written = writers[this.#options.id]?.writes ?? 0;
    const made = this.#attempts.find(({ mine }) => mine.write === written);
    if (made !== undefined) this.#pending.subtract(made.mine.rows);
    // A write that replaces another text than the stored one fails whenever it arrives.
    this.#attempts = this.#attempts.filter(({ text }) => text === stored);
    this.#write = Math.max(this.#write, written + 1);
  }

  #unwritten(): LeafAnnouncement {
    return { replica: this.#options.id, write: this.#write, rows: this.#pending.rows() };
  }

  async #load(clusterId: string): Promise<{ text: string; read: ReadLeafRecord }> {
    const { store, codec } = this.#options;
    const text = await store.load();
    return { text, read: await codec.decode(text, clusterId) };
  }

  /** A record that other replicas can read and this one cannot is left as it is. */
  #mustLeave(read: ReadLeafRecord, live: readonly LiveReplica[]): boolean {
    const reason =
      read.kind === "newer"
        ? read.reason
        : read.kind === "unknown-key" && live.some(({ keks }) => keks.includes(read.kek))
          ? `it is under key-encryption key ${read.kek}, which this replica does not have`
          : null;
    if (reason !== null && reason !== this.#logged)
      this.#options.log.warn(
        "Cannot use the stored leaf counts: the leaves that this replica signs are counted in its memory only",
        { reason },
      );
    this.#logged = reason;
    return reason !== null;
  }

  /** The record of a store that has none that can be used. */
  #newRecord({ roots }: CaState, read: ReadLeafRecord): LeafRecord {
    // A root that this replica has seen come up has no leaf from before.
    const isFirst = roots.every(
      ({ since, rotatedOutAt }) => rotatedOutAt === null && since.getTime() >= this.#startedMs,
    );
    if (read.kind !== "empty")
      this.#options.log.warn(
        "The stored leaf counts cannot be used and are replaced: leaves signed before are not counted",
        {
          reason: read.kind === "unusable" ? read.reason : "no replica has its key-encryption key",
        },
      );
    const since = isFirst && read.kind === "empty" ? 0 : this.#startedMs;
    return { since, writers: {}, rows: [] };
  }

  /** Other replicas of the record that are not live, and did not end in order as far as it says. */
  #goneOf({ writers }: LeafRecord, live: readonly string[]): string[] {
    return Object.entries(writers).flatMap(([id, { isOpen }]) =>
      isOpen && !live.includes(id) && id !== this.#options.id ? [id] : [],
    );
  }

  /** Those that are not live for `LOST_MS`. */
  #lostOf(record: LeafRecord, live: readonly string[], nowMs: number): string[] {
    const missing = this.#missing;
    const gone = this.#goneOf(record, live);
    for (const id of missing.keys()) if (!gone.includes(id)) missing.delete(id);
    for (const id of gone) if (!missing.has(id)) missing.set(id, nowMs);
    return [...missing].filter(([, since]) => nowMs - since >= LOST_MS).map(([id]) => id);
  }

  #logLost(lost: readonly string[], { writers }: LeafRecord): void {
    for (const id of lost)
      this.#options.log.warn(
        "A replica ended without writing its last leaf counts: the counts are a lower bound until the leaves signed before now have expired",
        { replica: id, lastWrite: new Date(writers[id]?.at ?? 0).toISOString() },
      );
  }

  /** Runs steps one after the other, since each goes by the record that the one before left. */
  #inTurn<T>(step: () => Promise<T>): Promise<T> {
    const result = this.#running.then(step);
    this.#running = result.catch(() => undefined);
    return result;
  }

  /** Writes the last counts; it never rejects. */
  async close(surroundings: Surroundings): Promise<void> {
    const saved = await this.save(surroundings, true).catch((error: unknown) => {
      this.#options.log.warn(
        "Failed to write the last leaf counts: the counts of the other replicas are a lower bound",
        { reason: reasonOf(error) },
      );
      return true;
    });
    if (!saved)
      this.#options.log.warn(
        "Failed to write the last leaf counts: the counts of the other replicas are a lower bound",
        { reason: "other replicas wrote concurrently" },
      );
  }
}
