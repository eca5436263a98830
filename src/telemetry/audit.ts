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

interface AuditOptions {
  readonly sink: AuditSink;
  readonly onFailure: AuditFailure;
  readonly clock: Clock;
  readonly log: Log;
}

/** How long a record of a leaf may wait to be written: what a crash may lose. */
const FLUSH_MS = 100;
/** So many characters are written without waiting for that. */
const FLUSH_AT = 64 * 1024;
/** While nothing can be written, so many characters of records wait in memory; others are lost. */
const MAX_QUEUED = 8 * 1024 * 1024;
const RETRY_MS = 1000;
/** Octets that the line of a change may have: a reserve with less left counts as full. */
const MAX_LINE = 4096;

export class AuditLog implements Audit {
  readonly #options: AuditOptions;
  readonly #closing = new AbortController();
  readonly #tally: RefusalTally;
  /** Errors that are recorded, since several callers see one error. */
  readonly #recorded = new WeakSet<object>();
  #queued: string[] = [];
  #queuedLength = 0;
  /** What was taken from the queue and is not written yet. */
  #pending: Uint8Array = new Uint8Array();
  /** How many lines were queued, and how many of them were written. */
  #taken = 0;
  #written = 0;
  /** How many records were given up, and how many of them the log has a line about. */
  #lost = 0;
  #lostRecorded = 0;
  #failure: string | null = null;
  #draining: Promise<void> | null = null;
  #scheduled = false;
  #closed = false;
  /** The lines that an earlier process left in the reserve are read before anything is written. */
  #reserveState: "unread" | "ready" | "unusable";

  constructor(options: AuditOptions) {
    this.#options = options;
    this.#tally = new RefusalTally(options.clock, this.#closing.signal, (record, count) =>
      this.#enqueue(record, count),
    );
    this.#reserveState = this.#reserve === null ? "unusable" : "unread";
    if (this.#reserve !== null) void this.#flush();
  }

  get failure(): string | null {
    return this.#failure;
  }

  get stopsChanges(): boolean {
    if (this.#failure === null || this.#options.onFailure === "go-on") return false;
    const left = this.#reserveState === "ready" ? (this.#reserve?.left ?? 0) : 0;
    return left < MAX_LINE;
  }

  get stopsSigning(): boolean {
    return this.#failure !== null && this.#options.onFailure === "stop-all";
  }

  get lost(): number {
    return this.#lost;
  }

  get reserveLeft(): number | null {
    return this.#reserveState === "unusable" ? null : (this.#reserve?.left ?? null);
  }

  record(record: AuditRecord): void {
    if (this.stopsSigning) throw this.#unavailable("sign leaf");
    this.#enqueue(record);
  }

  async beforeChange(record: AuditRecord, { mayUseReserve = true } = {}): Promise<void> {
    const line = lineOf(record, this.#options.clock.now());
    const queued = this.#enqueueLine(line, false);
    if ((queued && (await this.#commit())) || this.#options.onFailure === "go-on") {
      if (!queued) this.#lost++;
      return;
    }
    const reserved = mayUseReserve && (await this.#appendToReserve(line));
    // What is in the reserve goes to the log as well once that can be written.
    if (reserved && !queued) this.#enqueueLine(line, true);
    if (!reserved) throw this.#unavailable("change the CA");
  }

  refusal(error: unknown, make: (code: string) => AuditRecord): void {
    if (typeof error === "object" && error !== null) {
      if (this.#recorded.has(error)) return;
      this.#recorded.add(error);
    }
    const code = error instanceof CaError ? error.code : "internal";
    this.#tally.add(error, code, make);
  }

  /** Writes what is left, if that is possible. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#closing.abort();
    // The tally adds its last lines first.
    await Promise.resolve();
    if (this.#queued.length > 0 || this.#pending.length > 0) await this.#commit();
    await this.#reserve?.close().catch(() => undefined);
    await this.#options.sink.close().catch(() => undefined);
  }

  get #reserve(): AuditReserve | null {
    return this.#options.sink.reserve;
  }

  #enqueue(record: AuditRecord, count?: number): void {
    const line = lineOf(record, this.#options.clock.now(), count);
    if (!this.#enqueueLine(line, false)) this.#lost++;
  }

  /** @param always also if too many lines wait already. @returns whether the line is queued. */
  #enqueueLine(line: string, always: boolean): boolean {
    if (this.#queuedLength > MAX_QUEUED && !always) return false;
    this.#queued.push(line);
    this.#queuedLength += line.length;
    this.#taken++;
    if (this.#failure !== null) return true;
    if (this.#queuedLength >= FLUSH_AT) void this.#flush();
    else this.#schedule(FLUSH_MS);
    return true;
  }

  #schedule(ms: number): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    void this.#options.clock.sleep(ms, this.#closing.signal).then(() => {
      this.#scheduled = false;
      return this.#flush();
    });
  }

  /** Writes all that waits. Single-flight; it never rejects. */
  #flush(): Promise<void> {
    this.#draining ??= this.#drain().finally(() => {
      this.#draining = null;
    });
    return this.#draining;
  }

  async #drain(): Promise<void> {
    try {
      if (this.#reserveState === "unread") await this.#recover();
      await this.#writeAll();
      if (this.#reserve?.used === true) {
        await this.#options.sink.sync();
        await this.#reserve.clear();
      }
    } catch (error) {
      this.#fail(error);
      return;
    }
    if (this.#failure !== null) this.#resume();
  }

  async #writeAll(): Promise<void> {
    const { sink } = this.#options;
    while (this.#pending.length > 0 || this.#queued.length > 0) {
      if (this.#pending.length === 0) {
        this.#pending = utf8(this.#queued.join(""));
        [this.#queued, this.#queuedLength] = [[], 0];
      }
      const upTo = this.#taken - this.#queued.length;
      while (this.#pending.length > 0)
        this.#pending = this.#pending.subarray(await sink.write(this.#pending));
      this.#written = upTo;
    }
  }

  /** Writes everything queued up to now. @returns whether it would outlive a crash. */
  async #commit(): Promise<boolean> {
    const upTo = this.#taken;
    while (this.#written < upTo) {
      await this.#flush();
      if (this.#failure !== null) return false;
    }
    try {
      await this.#options.sink.sync();
    } catch (error) {
      this.#fail(error);
    }
    return this.#failure === null;
  }

  /** Queues the lines that an earlier process left in the reserve. */
  async #recover(): Promise<void> {
    const { log } = this.#options;
    try {
      this.#pending = (await this.#reserve?.recover()) ?? new Uint8Array();
      this.#reserveState = "ready";
      if (this.#pending.length > 0)
        log.info("Appending audit records of changes from the reserve to the audit log");
    } catch (error) {
      this.#reserveState = "unusable";
      const code = codeOf(error);
      log.error(
        "Failed to read the reserve of the audit log: changes are refused whenever the log cannot be written",
        { code },
      );
    }
  }

  /** Writes a line to the reserve. @returns whether it would outlive a crash. */
  async #appendToReserve(line: string): Promise<boolean> {
    if (this.#reserve === null || this.#reserveState !== "ready") return false;
    try {
      return await this.#reserve.append(utf8(line));
    } catch (error) {
      const code = codeOf(error);
      this.#options.log.error(
        "Failed to write the reserve of the audit log: the change is refused",
        { code },
      );
      return false;
    }
  }

  #fail(error: unknown): void {
    const { log, onFailure } = this.#options;
    const code = codeOf(error);
    if (this.#failure === null) log.error(FAILURES[onFailure], { code, stops: onFailure });
    this.#failure = code;
    if (!this.#closed) this.#schedule(RETRY_MS);
  }

  /** The log can be written again. */
  #resume(): void {
    this.#failure = null;
    const lost = this.#lost - this.#lostRecorded;
    this.#options.log.info("The audit log can be written again", { lost });
    if (lost > 0) this.#enqueue(RECORDS_LOST, lost);
    this.#lostRecorded = this.#lost;
  }

  #unavailable(what: string): NotReadyError {
    return new NotReadyError(
      "audit_unavailable",
      `Cannot ${what}: the audit log cannot be written (${this.#failure})`,
      { retryAfterMs: RETRY_MS },
    );
  }
}

/** What is logged when the audit log cannot be written, by what the operator chose for it. */
const FAILURES: Readonly<Record<AuditFailure, string>> = {
  "stop-changes":
    "Failed to write the audit log: signing goes on, changes only while the reserve has room; will retry",
  "stop-all":
    "Failed to write the audit log: signing stops, changes go on only while the reserve has room; will retry",
  "go-on": "Failed to write the audit log: signing and changes go on without records; will retry",
};

const RECORDS_LOST: AuditRecord = {
  caller: NOBODY,
  action: "audit",
  subject: null,
  outcome: "failed",
  code: "records_lost",
};

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
