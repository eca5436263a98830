/**
 * Values of HTTP headers.
 * @module
 */

/**
 * The longest delay that is kept, in milliseconds: pages of maintenance ask for an hour, in which
 * certificates would expire.
 */
const MAX_RETRY_AFTER_MS = 300_000;

/**
 * Retry-After (RFC 9110 §10.2.3), seconds or a date.
 * @param serverNow the Date of the same response, which the date is compared with if there is one.
 * @returns milliseconds from now, or undefined if there is none that can be read.
 */
export function retryAfterMs(
  value: string | null,
  serverNow: Date | null,
  now: Date,
): number | undefined {
  if (value === null) return undefined;
  const text = value.trim();
  const ms = /^\d{1,9}$/.test(text)
    ? Number(text) * 1000
    : (httpDate(text)?.getTime() ?? Number.NaN) - (serverNow ?? now).getTime();
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS);
}

/** An IMF-fixdate (RFC 9110 §5.6.7), the one form that senders generate; null for any other text. */
export function httpDate(value: string | null): Date | null {
  if (value === null || !/^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} [\d:]{8} GMT$/.test(value))
    return null;
  const date = new Date(value);
  return Number.isNaN(date.getTime()) ? null : date;
}

/** A decimal number of at most 15 digits, which is exact; null for any other text. */
export function wholeNumber(value: string | null): number | null {
  return value !== null && /^\d{1,15}$/.test(value) ? Number(value) : null;
}
