/**
 * Time and randomness as ports, so that nothing in core depends on the clock or on chance.
 * @module
 */
import type { Bytes } from "../bytes.ts";

export interface Clock {
  /** The current instant. */
  now(): Date;
  /** Resolves after `ms` milliseconds, or when `signal` fires. Never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /**
   * Milliseconds of a monotonic clock since an instant that is fixed for the life of the process.
   * Absent if the runtime has no such clock that runs on between requests.
   */
  monotonicMs?(): number;
}

export interface Random {
  /** `length` bytes of a cryptographically secure source, which the caller may change. */
  bytes(length: number): Bytes;
  /** A uniform number in [0, 1), only for jitter. */
  fraction(): number;
}
