/**
 * Time and randomness as ports, so that nothing in core depends on the moment or on luck.
 * @module
 */
import type { Bytes } from "../bytes.ts";

export interface Clock {
  /** The current instant. */
  now(): Date;
  /**
   * Waits for `ms` milliseconds, or less when `signal` fires first.
   * @returns once the time is over or the signal has fired; never rejects.
   */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /**
   * Milliseconds since an instant that stays the same for the life of the process, by a clock that
   * nobody sets. Absent if the runtime has none that goes on from one request to the next.
   */
  monotonicMs?(): number;
}

export interface Random {
  /** `length` bytes from a cryptographically secure source. The caller may keep and change them. */
  bytes(length: number): Bytes;
  /** A uniform number in [0, 1), for jitter alone. */
  fraction(): number;
}
