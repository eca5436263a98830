/**
 * When a leaf is renewed, and when a failed request is repeated. Pure.
 * @module
 */

/** The part of a leaf's life in which it is renewed (Consul's agent/leafcert/util.go). */
const WINDOW = { from: 0.6, to: 0.9 };
/** A server's hint after this part of the life leaves no time for a retry, and is not followed. */
const LATEST_HINT = 0.95;

/** Delays before a retry, in milliseconds. */
const RETRY_MS = {
  first: 1000,
  /** The longest, while there is a leaf. */
  most: 60_000,
  /** The longest, while there is none. */
  mostWithout: 5000,
  /** The shortest. */
  least: 250,
};
/** The retries that fit into the rest of a leaf's life while the longest delay is halved each time. */
const IN_THE_REST = 8;

/** The validity of a leaf. */
export interface Life {
  readonly notBefore: Date;
  readonly notAfter: Date;
}

/**
 * The moment of a renewal: the server's hint, or a uniform one between 60 and 90 % of the life; if
 * that has passed, a uniform one from now to 90 %, and after it now.
 * @param renewAfter the server's RenewAfter, or null. It must be within the first 95 % of the life.
 * @param fraction uniform in [0, 1)
 */
export function renewalMoment(
  { notBefore, notAfter }: Life,
  renewAfter: Date | null,
  now: Date,
  fraction: number,
): Date {
  const start = notBefore.getTime();
  const life = notAfter.getTime() - start;
  const hint = renewAfter?.getTime() ?? Number.NaN;
  if (hint >= start && hint <= start + life * LATEST_HINT)
    return new Date(Math.max(hint, now.getTime()));
  const from = Math.max(start + life * WINDOW.from, now.getTime());
  const to = start + life * WINDOW.to;
  return new Date(from >= to ? now.getTime() : from + (to - from) * fraction);
}

/**
 * The delay before a failed request is repeated: exponential backoff with full jitter, shorter near
 * the end of the leaf.
 * @param failures in succession, 1 or more. @param leftMs until the leaf expires; 0 without one.
 * @param afterMs the server's Retry-After, which is kept unless the leaf would expire before it.
 * @param fraction uniform in [0, 1)
 * @returns milliseconds, at least RETRY_MS.least
 */
export function retryDelayMs(
  failures: number,
  leftMs: number,
  afterMs: number | undefined,
  fraction: number,
): number {
  const ceiling = leftMs > 0 ? Math.min(RETRY_MS.most, leftMs / IN_THE_REST) : RETRY_MS.mostWithout;
  const most = Math.min(RETRY_MS.first * 2 ** Math.min(failures - 1, 16), ceiling);
  const delay = Math.max(RETRY_MS.least, most * fraction);
  if (afterMs === undefined) return delay;
  const useful = leftMs > 0 ? Math.max(leftMs / 2, RETRY_MS.first) : afterMs;
  // Spread, since all who were refused together got the same number.
  return Math.max(delay, Math.min(afterMs, useful) + RETRY_MS.first * fraction);
}
