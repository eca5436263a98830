/**
 * Bounds the lines of refusals in the audit log, since callers without any right can cause
 * thousands: repeated refusals are counted, and their number is written once a second.
 * @module
 */

import { RateLimitedError } from "../core/errors.ts";
import { type AuditRecord, NOBODY } from "../core/ports/audit.ts";
import type { Clock } from "../core/ports/clock.ts";

/** Milliseconds in which refusals of the same kind are counted together. */
const TALLY_MS = 1000;
/** Refusals of one token with one code that are written in full within that time. */
const FULL_LINES = 10;

interface Tally {
  /** Lines written in full so far. */
  written: number;
  counted: number;
}

export class RefusalTally {
  readonly #tallies = new Map<string, Tally>();
  readonly #clock: Clock;
  readonly #closing: AbortSignal;
  readonly #write: (record: AuditRecord, count?: number) => void;

  /**
   * @param closing ends every count early, with its line.
   * @param write takes a record, and how many more refusals it stands for.
   */
  constructor(
    clock: Clock,
    closing: AbortSignal,
    write: (record: AuditRecord, count?: number) => void,
  ) {
    this.#clock = clock;
    this.#closing = closing;
    this.#write = write;
  }

  /**
   * Writes a refusal, or counts it. Of a limit, and of callers without a token or with an unknown
   * one, the first of a code within a second is written in full; of a known token, the first ten.
   * @param make gives the record; it is not called for a limit that was just written.
   */
  add(error: unknown, code: string, make: (code: string) => AuditRecord): void {
    if (error instanceof RateLimitedError) {
      this.#count(`limit ${code}`, 1, () => make(code));
      return;
    }
    const record = make(code);
    const { accessor, requestId } = record.caller;
    // Background work of the CA has no request, and is rarely refused.
    if (requestId === null) this.#write(record);
    else if (accessor === null) this.#count(`anonymous ${code}`, 1, () => record);
    else this.#count(`${accessor} ${code}`, FULL_LINES, () => record);
  }

  #count(key: string, inFull: number, make: () => AuditRecord): void {
    const tally = this.#tallies.get(key);
    if (tally !== undefined) {
      if (tally.written >= inFull) tally.counted++;
      else {
        tally.written++;
        this.#write(make());
      }
      return;
    }
    const first = make();
    // The getters of a caller may return nothing once its request is over.
    const { accessor } = first.caller;
    this.#write(first);
    const begun: Tally = { written: 1, counted: 0 };
    this.#tallies.set(key, begun);
    void this.#clock.sleep(TALLY_MS, this.#closing).then(() => {
      this.#tallies.delete(key);
      if (begun.counted === 0) return;
      const { action, outcome, code } = first;
      // The refusals that were counted have only these fields in common.
      this.#write(
        {
          caller: { ...NOBODY, accessor: key.startsWith("limit ") ? null : accessor },
          action,
          subject: null,
          outcome,
          code,
        },
        begun.counted,
      );
    });
  }
}
