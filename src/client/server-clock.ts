/**
 * Compares the clock of this machine with that of the servers, by their Date header.
 * @module
 */
import type { Log } from "../core/ports/log.ts";
import { httpDate, wholeNumber } from "./http-values.ts";
import type { TransportResponse } from "./transport.ts";

/**
 * The difference of the clocks that is a fault, in milliseconds: the leeway that servers give
 * proofs of a leaf's key; leaves are valid from a minute before they are signed.
 */
const MAX_SKEW_MS = 30_000;

export class ServerClock {
  readonly #log: Log;
  /** How far this machine's clock is behind the last server's, in milliseconds; negative: ahead. */
  #skewMs: number | null = null;

  constructor(log: Log) {
    this.#log = log;
  }

  /** How far the last server's clock is ahead of this one, in milliseconds; null: not known. */
  get offsetMs(): number | null {
    return this.#skewMs;
  }

  /** A sentence if the clocks differ by more than MAX_SKEW_MS, or null. */
  get problem(): string | null {
    const skewMs = this.#skewMs ?? 0;
    if (Math.abs(skewMs) <= MAX_SKEW_MS) return null;
    const seconds = Math.round(Math.abs(skewMs) / 1000);
    return `The clock of this machine is ${seconds} s ${skewMs > 0 ? "behind" : "ahead of"} the clock of the CA server; set it right, for example with NTP`;
  }

  /** Takes the Date of a response. @returns it, or null if there is none */
  note(response: TransportResponse, now: Date): Date | null {
    const date = httpDate(response.header("date"));
    // A shared cache repeats the Date of the response that it keeps (RFC 9111 §4.2.3).
    if (date === null || (wholeNumber(response.header("age")) ?? 0) > 0) return date;
    const before = this.problem;
    // The header has whole seconds, cut off.
    this.#skewMs = date.getTime() + 500 - now.getTime();
    const after = this.problem;
    if (after !== null && before === null) this.#log.error(after);
    if (after === null && before !== null)
      this.#log.info("The clock of this machine agrees with that of the CA server again");
    return date;
  }
}
