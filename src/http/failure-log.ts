/**
 * Logs failed requests, at most one line a second for each code and route with the number of
 * omitted ones: while a store or provider is unavailable every request fails.
 * @module
 */
import { CaError, InvariantError } from "../core/errors.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { Log } from "../core/ports/log.ts";

/** Milliseconds between two lines of a kind. */
const EVERY_MS = 1000;
/** Frames of a stack trace that are logged. */
const FRAMES = 5;

export class FailureLog {
  readonly #log: Log;
  readonly #clock: Clock;
  /** The last line of each code and route, of which there are few. */
  readonly #kinds = new Map<string, { at: number; omitted: number }>();

  constructor(log: Log, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  /**
   * Logs why a request failed: the text of a `CaError`; name and stack trace of any other error,
   * whose text may contain secrets.
   */
  add(error: unknown, status: number, path: string, requestId: string): void {
    const known = error instanceof CaError;
    const code = known ? error.code : error instanceof Error ? error.name : "unknown";
    // Responses that refer to the log need their line in it.
    const always = !known || error instanceof InvariantError;
    const omitted = always ? 0 : this.#take(`${code} ${path}`);
    if (omitted === null) return;
    this.#log.error("Request failed", {
      requestId,
      path,
      status,
      code,
      reason: known ? error.logged : undefined,
      stack: known ? undefined : framesOf(error),
      omitted: omitted === 0 ? undefined : omitted,
    });
  }

  /** Logs a request that exceeds a rate of `request_limits` in permissive mode. */
  overRate(kind: "read" | "write", requestId: string | undefined): void {
    const omitted = this.#take(`rate ${kind}`);
    if (omitted === null) return;
    this.#log.warn("Request exceeds the server rate limit (permissive mode)", {
      kind,
      requestId,
      omitted: omitted === 0 ? undefined : omitted,
    });
  }

  /** @returns how many lines of a kind were omitted since its last one, or null to omit this one. */
  #take(kind: string): number | null {
    const now = this.#clock.now().getTime();
    const last = this.#kinds.get(kind);
    // After the clock was set back a line is logged.
    if (last !== undefined && now >= last.at && now - last.at < EVERY_MS) {
      last.omitted++;
      return null;
    }
    this.#kinds.set(kind, { at: now, omitted: 0 });
    return last?.omitted ?? 0;
  }
}

/** The frames of a stack trace, without the message, which may have several lines. */
function framesOf(error: unknown): string[] | undefined {
  if (!(error instanceof Error)) return undefined;
  return (error.stack ?? "")
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line.startsWith("at "))
    .slice(0, FRAMES);
}
