/**
 * Writes the audit log: one JSON object a line, buffered for leaves and refusals, flushed for changes.
 * @module
 */
import { type Audit, type AuditRecord, NOBODY } from "../core/audit.ts";
import { utf8 } from "../core/bytes.ts";
import type { Clock } from "../core/clock.ts";
import { CaError, NotReadyError, RateLimitedError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";

/** Where the lines go. */
export interface AuditSink {
  /** Appends. @returns how many octets were written, at least one. @throws {Error} with a `code` such as ENOSPC */
  write(bytes: Uint8Array): Promise<number>;
  /** Resolves when everything written would outlive a crash. @throws {Error} */
  sync(): Promise<void>;
  close(): Promise<void>;
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
/** While nothing can be written, records up to so many characters wait in memory; the rest is counted. */
const KEEP = 8 * 1024 * 1024;
const RETRY_MS = 1000;
/** Refusals by a limit come by the thousand: after the first, one record says how many came within this. */
const TALLY_MS = 1000;

/** What JSON lets through and a terminal or a reader of lines may act on: DEL and C1, line ends of Unicode, changes of direction. */
const UNSAFE = /[\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufeff]/g;

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
  /** By the code of the limit. */
  const tallies = new Map<string, { count: number }>();
  const closing = new AbortController();

  const enqueue = (record: AuditRecord, count?: number) => {
    if (queuedLength > KEEP) {
      lost++;
      return;
    }
    const { caller, action, subject, outcome, code, serial, keyId, detail } = record;
    const line = JSON.stringify({
      kind: "audit",
      time: clock.now().toISOString(),
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
    queued.push(`${line.replace(UNSAFE, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`)}\n`);
    queuedLength += line.length;
    taken++;
    if (failure !== null) return;
    if (queuedLength >= FLUSH_AT) void flush();
    else schedule(FLUSH_MS);
  };

  const schedule = (ms: number) => {
    if (scheduled) return;
    scheduled = true;
    void clock.sleep(ms, closing.signal).then(() => {
      scheduled = false;
      return flush();
    });
  };

  const fail = (error: unknown) => {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown";
    if (failure === null) log.error("Cannot write the audit log", { code, stops: onFailure });
    failure = code;
    if (!closed) schedule(RETRY_MS);
  };

  const drain = async () => {
    try {
      while (pending.length > 0 || queued.length > 0) {
        if (pending.length === 0) {
          pending = utf8(queued.join(""));
          [queued, queuedLength] = [[], 0];
        }
        const upTo = taken - queued.length;
        while (pending.length > 0) pending = pending.subarray(await sink.write(pending));
        written = upTo;
      }
    } catch (error) {
      return fail(error);
    }
    if (failure === null) return;
    failure = null;
    log.info("Can write the audit log again", { lost: lost - lostTold });
    if (lost > lostTold)
      enqueue({ caller: NOBODY, action: "audit", subject: null, outcome: "failed", code: "records_lost" }, lost - lostTold);
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
    new NotReadyError("audit_unavailable", `Cannot ${what}: the audit log cannot be written (${failure})`, { retryAfterMs: RETRY_MS });

  const tally = (code: string, make: (code: string) => AuditRecord) => {
    const same = tallies.get(code);
    if (same !== undefined) {
      same.count++;
      return;
    }
    const first = make(code);
    enqueue(first);
    const begun = { count: 0 };
    tallies.set(code, begun);
    void clock.sleep(TALLY_MS, closing.signal).then(() => {
      tallies.delete(code);
      // Who they were is not said.
      if (begun.count > 0) enqueue({ caller: NOBODY, action: first.action, subject: null, outcome: "refused", code }, begun.count);
    });
  };

  return {
    get failure() {
      return failure;
    },
    get stopsSigning() {
      return failure !== null && onFailure === "stop-all";
    },
    get lost() {
      return lost;
    },
    record(record) {
      if (failure !== null && onFailure === "stop-all") throw unavailable("sign leaf");
      enqueue(record);
    },
    async beforeChange(record) {
      enqueue(record);
      if (!(await commit()) && onFailure !== "go-on") throw unavailable("change the CA");
    },
    refusal(error, make) {
      if (typeof error === "object" && error !== null) {
        if (told.has(error)) return;
        told.add(error);
      }
      const code = error instanceof CaError ? error.code : "internal";
      if (error instanceof RateLimitedError) tally(code, make);
      else enqueue(make(code));
    },
    async close() {
      closed = true;
      closing.abort();
      // Whoever slept has said what was left to say.
      await Promise.resolve();
      if (queued.length > 0 || pending.length > 0) await commit();
      await sink.close().catch(() => undefined);
    },
  };
}
