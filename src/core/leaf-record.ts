/**
 * The record of leaf counts that the replicas of a CA share, and what a replica announces of it: pure
 * functions.
 *
 * Each replica adds what it signed since its last write, under a number that grows with each write,
 * so that a write whose answer was lost is not added twice. Until then its heartbeat announces what it
 * has not written.
 * @module
 */

import { HOUR_MS, type LeafRow, sumOfRows } from "./leaf-table.ts";

/** A replica that counts. */
export interface LeafWriter {
  /** The number of its last write. */
  readonly writes: number;
  /** When it wrote last, in milliseconds since 1970. */
  readonly at: number;
  /** Whether it may have signed since: it did not end, as far as is known. */
  readonly isOpen: boolean;
}

export interface LeafRecord {
  /**
   * Every leaf is counted that was signed since, in milliseconds since 1970; of earlier ones some may
   * be missing. 0: none is missing.
   */
  readonly since: number;
  /** By the id of the replica. */
  readonly writers: Readonly<Record<string, LeafWriter>>;
  readonly rows: readonly LeafRow[];
}

/** What a replica has signed and not written yet. */
export interface LeafAnnouncement {
  /** Id of the replica. */
  readonly replica: string;
  /** The number of the write that it will be part of. */
  readonly write: number;
  readonly rows: readonly LeafRow[];
}

/** Replicas that ended are remembered for a day, in which one that was only cut off may be back. */
const REMEMBERED_MS = 24 * HOUR_MS;

/** The most replicas in a record: a replica that restarts in a loop leaves one each time. */
const MAX_WRITERS = 256;

/**
 * The most issuers in a record. One root has as many as its leaf life is longer than half the life of
 * an issuer, and the roots response has room for some 60 roots (maxRootsBytes).
 */
const MAX_ROWS = 256;

interface Step {
  /** In milliseconds since 1970. */
  readonly nowMs: number;
  /** What this replica adds. */
  readonly mine: LeafAnnouncement;
  /** False: it ends, and signs nothing more. */
  readonly isOpen: boolean;
  /** Ids of the live replicas that count. */
  readonly live: readonly string[];
  /** Ids of replicas in the record that ended without their last write. */
  readonly lost: readonly string[];
  /** Whether a live replica signs leaves and does not count them. */
  readonly hasUncounted: boolean;
}

/** The record after a write of this replica. */
export function nextRecord(record: LeafRecord, step: Step): LeafRecord {
  const { nowMs, mine, isOpen, live, lost, hasUncounted } = step;
  const writers: Record<string, LeafWriter> = { ...record.writers };
  for (const id of live) writers[id] ??= { writes: 0, at: nowMs, isOpen: true };
  for (const id of lost) {
    const writer = writers[id];
    if (writer !== undefined) writers[id] = { ...writer, isOpen: false };
  }
  writers[mine.replica] = { writes: mine.write, at: nowMs, isOpen };
  const kept = keptWriters(writers, nowMs);
  // The hour before the present one stays, for a clock that is ahead.
  const rows = sumOfRows([record.rows, mine.rows], Math.floor(nowMs / HOUR_MS) - 1);
  const dropped = rows.length > MAX_ROWS;
  return {
    since: lost.length > 0 || hasUncounted || dropped ? nowMs : record.since,
    writers: kept,
    rows: dropped ? rows.toSorted((a, b) => endOf(b) - endOf(a)).slice(0, MAX_ROWS) : rows,
  };
}

function keptWriters(
  writers: Readonly<Record<string, LeafWriter>>,
  nowMs: number,
): Record<string, LeafWriter> {
  const kept = Object.entries(writers)
    .filter(([, { isOpen, at }]) => isOpen || Math.abs(nowMs - at) < REMEMBERED_MS)
    .toSorted(([, a], [, b]) => Number(b.isOpen) - Number(a.isOpen) || b.at - a.at);
  return Object.fromEntries(kept.slice(0, MAX_WRITERS));
}

function endOf({ hours }: LeafRow): number {
  return hours.at(-1)?.[0] ?? 0;
}

/** Whether an announcement has leaves that are not in the record. */
export function isUnwritten(
  { replica, write }: LeafAnnouncement,
  { writers }: Pick<LeafRecord, "writers">,
): boolean {
  return write > (writers[replica]?.writes ?? 0);
}

/**
 * Whether a replica has made, or tried, a write that is not in the record as it was read last.
 */
export function isBehind(
  { replica, write }: LeafAnnouncement,
  { writers }: Pick<LeafRecord, "writers">,
): boolean {
  return write > (writers[replica]?.writes ?? 0) + 1;
}
