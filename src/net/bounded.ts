/**
 * Bounds of an exchange with another server: how long it takes, and how long its response is.
 * @module
 */
import { concat, fromUtf8 } from "../core/bytes.ts";
import type { Clock } from "../core/ports/clock.ts";

/** Why an exchange that is over is aborted: without a reason each abort makes an error's trace. */
const OVER = "over";

/**
 * Does something within a time.
 * @param work is given a signal that is aborted when the time is over, and when it has ended.
 * @param late makes the error that is thrown when the time is over.
 */
export async function withinTime<T>(
  clock: Clock,
  timeoutMs: number,
  work: (signal: AbortSignal) => Promise<T>,
  late: () => Error,
): Promise<T> {
  const end = new AbortController();
  const timeout = clock.sleep(timeoutMs, end.signal).then(() => {
    if (!end.signal.aborted) throw late();
  });
  timeout.catch(() => end.abort(OVER));
  try {
    // The timeout resolves only after the work has ended.
    return (await Promise.race([work(end.signal), timeout])) as T;
  } finally {
    end.abort(OVER);
  }
}

/**
 * Reads a response in UTF-8 to its end.
 * @param tooLong makes the error that is thrown once it has more than `maxBytes`.
 * @throws {FormatError} if it is not UTF-8
 */
export async function readText(
  body: AsyncIterable<Uint8Array>,
  maxBytes: number,
  tooLong: () => Error,
): Promise<string> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  for await (const chunk of body) {
    total += chunk.length;
    if (total > maxBytes) throw tooLong();
    chunks.push(chunk);
  }
  return fromUtf8(concat(...chunks));
}
