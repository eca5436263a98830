/**
 * Bounds lines in the log that clients can cause: one a second of each kind, with the number of
 * those left out.
 * @module
 */
import type { Clock } from "../core/ports/clock.ts";
import type { Log, LogFields } from "../core/ports/log.ts";

/** Milliseconds between two lines of a kind. */
const EVERY_MS = 1000;

export class LineLimit {
  readonly #log: Log;
  readonly #clock: Pick<Clock, "now">;
  readonly #kinds = new Map<string, { at: number; omitted: number }>();

  constructor(log: Log, clock: Pick<Clock, "now">) {
    this.#log = log;
    this.#clock = clock;
  }

  /** @param message is the kind: a fixed text. */
  warn(message: string, fields: LogFields): void {
    const now = this.#clock.now().getTime();
    const last = this.#kinds.get(message);
    // After the clock was set back a line is logged.
    if (last !== undefined && now >= last.at && now - last.at < EVERY_MS) {
      last.omitted++;
      return;
    }
    this.#kinds.set(message, { at: now, omitted: 0 });
    const omitted = last?.omitted ?? 0;
    this.#log.warn(message, { ...fields, omitted: omitted === 0 ? undefined : omitted });
  }
}
