/**
 * Writes the audit log: one JSON object a line, buffered for leaves and refusals, flushed for
 * changes.
 * @module
 */

import { utf8 } from "../core/bytes.ts";
import { CaError, NotReadyError } from "../core/errors.ts";
import { type Audit, type AuditRecord, NOBODY } from "../core/ports/audit.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";
import type { AuditReserve } from "./audit-reserve.ts";
import { escapeUnsafe } from "./escape.ts";
import { RefusalTally } from "./refusal-tally.ts";

/** Where the lines go. */
export interface AuditSink {
  /**
   * Appends.
   * @returns how many octets were written, at least one.
   * @throws {Error} with a `code` such as ENOSPC
   */
  write(bytes: Uint8Array): Promise<number>;
  /** Resolves when everything written would outlive a crash. @throws {Error} */
  sync(): Promise<void>;
  close(): Promise<void>;
  /**
   * Room for the records of changes while nothing can be appended; null if there is no such room.
   */
  readonly reserve: AuditReserve | null;
}

export type AuditFailure = "stop-changes" | "stop-all" | "go-on";

export interface AuditOptions {
  readonly sink: AuditSink;
  readonly onFailure: AuditFailure;
  readonly clock: Clock;
  readonly log: Log;
}

export interface AuditLog extends Audit {
  /** Writes what is left, if that is possible. */
  close(): Promise<void>;
}

/** How long a record of a leaf may wait to be written: what a crash may lose. */
const FLUSH_MS = 100;
/** So many characters are written without waiting for that. */
const FLUSH_AT = 64 * 1024;
/**
 * While nothing can be written, records up to so many characters wait in memory; the rest is
 * counted.
 */
const KEEP = 8 * 1024 * 1024;
const RETRY_MS = 1000;
/** Octets that the line of a change may have: a reserve with less left counts as full. */
const MAX_LINE = 4096;

export function createAudit({ sink, onFailure, clock, log }: AuditOptions): AuditLog {
  let queued: string[] = [];
  let queuedLength = 0;
  let lost = 0;
  let lostTold = 0;
  /** What was taken from the queue and is not written yet. */
  let pending: Uint8Array = new Uint8Array();
  let failure: string | null = null;
  let running: Promise<void> | null = null;
  let scheduled = false;
  let [taken, written] = [0, 0];
  let closed = false;
  const told = new WeakSet<object>();
  const closing = new AbortController();
  const { reserve } = sink;
  /** The lines that an earlier process left in the reserve are read before anything is written. */
  let reserveState: "unread" | "ready" | "unusable" = reserve === null ? "unusable" : "unread";

  /** Queues a line. @param always also if too many wait already. @returns the line */
  const enqueueLine = (line: string, always: boolean): boolean => {
    if (queuedLength > KEEP && !always) return false;
    queued.push(line);
    queuedLength += line.length;
    taken++;
    if (failure !== null) return true;
    if (queuedLength >= FLUSH_AT) void flush();
    else schedule(FLUSH_MS);
    return true;
  };
  const enqueue = (record: AuditRecord, count?: number) => {
    if (!enqueueLine(lineOf(record, clock.now(), count), false)) lost++;
  };
  const tally = new RefusalTally(clock, closing.signal, enqueue);

  const schedule = (ms: number) => {
    if (scheduled) return;
    scheduled = true;
    void clock.sleep(ms, closing.signal).then(() => {
      scheduled = false;
      return flush();
    });
  };

  const fail = (error: unknown) => {
    const code = codeOf(error);
    if (failure === null) log.error("Cannot write the audit log", { code, stops: onFailure });
    failure = code;
    if (!closed) schedule(RETRY_MS);
  };

  const recover = async () => {
    try {
      pending = (await reserve?.recover()) ?? new Uint8Array();
      reserveState = "ready";
      if (pending.length > 0)
        log.info("Appending audit records of changes from the reserve to the audit log");
    } catch (error) {
      reserveState = "unusable";
      log.error("Cannot read the reserve of the audit log", { code: codeOf(error) });
    }
  };

  const drain = async () => {
    try {
      if (reserveState === "unread") await recover();
      while (pending.length > 0 || queued.length > 0) {
        if (pending.length === 0) {
          pending = utf8(queued.join(""));
          [queued, queuedLength] = [[], 0];
        }
        const upTo = taken - queued.length;
        while (pending.length > 0) pending = pending.subarray(await sink.write(pending));
        written = upTo;
      }
      if (reserve?.used === true) {
        await sink.sync();
        await reserve.clear();
      }
    } catch (error) {
      return fail(error);
    }
    if (failure === null) return;
    failure = null;
    log.info("Can write the audit log again", { lost: lost - lostTold });
    if (lost > lostTold)
      enqueue(
        { caller: NOBODY, action: "audit", subject: null, outcome: "failed", code: "records_lost" },
        lost - lostTold,
      );
    lostTold = lost;
  };

  const flush = (): Promise<void> => {
    running ??= drain().finally(() => {
      running = null;
    });
    return running;
  };

  /** Writes everything up to now. @returns whether it would outlive a crash. */
  const commit = async (): Promise<boolean> => {
    const upTo = taken;
    while (written < upTo) {
      await flush();
      if (failure !== null) return false;
    }
    try {
      await sink.sync();
    } catch (error) {
      fail(error);
    }
    return failure === null;
  };

  const unavailable = (what: string) =>
    new NotReadyError(
      "audit_unavailable",
      `Cannot ${what}: the audit log cannot be written (${failure})`,
      { retryAfterMs: RETRY_MS },
    );

  /**
   * Writes a line that is queued, or was given up, to the reserve.
   * @returns whether it would outlive a crash.
   */
  const appendToReserve = async (line: string): Promise<boolean> => {
    if (reserve === null || reserveState !== "ready") return false;
    try {
      return await reserve.append(utf8(line));
    } catch (error) {
      log.error("Cannot write the reserve of the audit log", { code: codeOf(error) });
      return false;
    }
  };

  if (reserve !== null) void flush();
  return {
    get failure() {
      return failure;
    },
    get stopsChanges() {
      return (
        failure !== null &&
        onFailure !== "go-on" &&
        (reserve === null || reserveState !== "ready" || reserve.left < MAX_LINE)
      );
    },
    get stopsSigning() {
      return failure !== null && onFailure === "stop-all";
    },
    get lost() {
      return lost;
    },
    get reserveLeft() {
      return reserveState === "unusable" ? null : (reserve?.left ?? null);
    },
    record(record) {
      if (failure !== null && onFailure === "stop-all") throw unavailable("sign leaf");
      enqueue(record);
    },
    async beforeChange(record, { mayUseReserve = true } = {}) {
      const line = lineOf(record, clock.now());
      const kept = enqueueLine(line, false);
      if ((kept && (await commit())) || onFailure === "go-on") {
        if (!kept) lost++;
        return;
      }
      const reserved = mayUseReserve && (await appendToReserve(line));
      // What is in the reserve goes to the log as well once that can be written.
      if (reserved && !kept) enqueueLine(line, true);
      if (!reserved) throw unavailable("change the CA");
    },
    refusal(error, make) {
      if (typeof error === "object" && error !== null) {
        if (told.has(error)) return;
        told.add(error);
      }
      const code = error instanceof CaError ? error.code : "internal";
      tally.add(error, code, make);
    },
    async close() {
      closed = true;
      closing.abort();
      // Whoever slept has said what was left to say.
      await Promise.resolve();
      if (queued.length > 0 || pending.length > 0) await commit();
      await reserve?.close().catch(() => undefined);
      await sink.close().catch(() => undefined);
    },
  };
}

/** A record as a line of the log. @param count how many more of its kind it stands for */
function lineOf(
  { caller, action, subject, outcome, code, serial, keyId, detail }: AuditRecord,
  now: Date,
  count?: number,
): string {
  const line = JSON.stringify({
    kind: "audit",
    time: now.toISOString(),
    request: caller.requestId,
    accessor: caller.accessor,
    address: caller.address,
    action,
    subject,
    outcome,
    code,
    serial,
    key_id: keyId,
    detail,
    count,
  });
  return `${escapeUnsafe(line)}\n`;
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "unknown";
}
