/**
 * The log of requests that fail on our side. While a store or a provider is away every request
 * fails, and anyone who sends many must not fill the disk with lines: of each kind there is one a
 * second, with the number of those that were left out.
 * @module
 */

import { CaError, InvariantError } from "../core/errors.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";

/** Milliseconds from one line of a kind to the next. */
const EVERY_MS = 1000;
/** Frames of a stack that are logged. */
const FRAMES = 5;

export class FailureLog {
  readonly #log: Log;
  readonly #clock: Clock;
  /** By code and route, of which there are few. */
  readonly #kinds = new Map<string, { at: number; omitted: number }>();

  constructor(log: Log, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  /**
   * Logs why a request failed: the text of an error of ours, the kind and stack of any other, whose
   * text may hold anything.
   */
  add(error: unknown, status: number, path: string, requestId: string): void {
    const known = error instanceof CaError;
    const code = known ? error.code : error instanceof Error ? error.name : "unknown";
    // An answer that sends its reader to the log must find its line there.
    const always = !known || error instanceof InvariantError;
    const omitted = always ? 0 : this.#take(`${code} ${path}`);
    if (omitted === null) return;
    this.#log.error("Request failed", {
      requestId,
      path,
      status,
      code,
      reason: known ? error.message : undefined,
      stack: known ? undefined : framesOf(error),
      omitted: omitted === 0 ? undefined : omitted,
    });
  }

  /**
   * Logs that a request was served though the rate of the server was reached (`request_limits` that
   * are permissive).
   */
  overRate(kind: "read" | "write", requestId: string | undefined): void {
    const omitted = this.#take(`rate ${kind}`);
    if (omitted === null) return;
    const more = omitted === 0 ? {} : { omitted };
    this.#log.warn("A request is above the rate of the server, and is served", {
      kind,
      requestId,
      ...more,
    });
  }

  /**
   * @returns how many of a kind were left out since its last line, or null if this one is left out
   * too.
   */
  #take(kind: string): number | null {
    const now = this.#clock.now().getTime();
    const last = this.#kinds.get(kind);
    // A clock that was set back lets a line pass.
    if (last !== undefined && now >= last.at && now - last.at < EVERY_MS) {
      last.omitted++;
      return null;
    }
    this.#kinds.set(kind, { at: now, omitted: 0 });
    return last?.omitted ?? 0;
  }
}

/** The frames of a stack without the message, which may have several lines. */
function framesOf(error: unknown): string[] | undefined {
  if (!(error instanceof Error)) return undefined;
  return (error.stack ?? "")
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line.startsWith("at "))
    .slice(0, FRAMES);
}
