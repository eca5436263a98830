/**
 * Reads request bodies: their media type, within a size and a time.
 * @module
 */

import { concat } from "../core/bytes.ts";
import type { Clock } from "../core/clock.ts";
import { RequestError } from "../core/errors.ts";

/** How long a body may take to come in. */
const BODY_TIME_MS = 10_000;

/** What is read as JSON, and what as it stands. curl's default type counts as the latter. */
const MEDIA_TYPES: Readonly<Record<string, "json" | "raw">> = {
  "application/json": "json",
  "application/x-www-form-urlencoded": "raw",
  "application/pkcs10": "raw",
  "application/x-pem-file": "raw",
  "text/plain": "raw",
};

/**
 * How the body of a request is to be read. No type counts as raw.
 * @throws {RequestError} `media_type_unsupported`
 */
export function bodyForm(contentType: string | undefined): "json" | "raw" {
  if (contentType === undefined || contentType === "") return "raw";
  const essence = (contentType.split(";")[0] ?? "").trim().toLowerCase();
  const form = MEDIA_TYPES[essence];
  if (form === undefined)
    throw new RequestError(
      "media_type_unsupported",
      `Cannot read body: media type ${JSON.stringify(essence)} is not one of ${Object.keys(MEDIA_TYPES).join(", ")}`,
    );
  return form;
}

/**
 * Reads a body as text.
 * @throws {RequestError} `too_large`, `request_malformed` when it takes too long or breaks off
 */
export async function readBody(request: Request, maxBytes: number, clock: Clock): Promise<string> {
  const tooLarge = () => new RequestError("too_large", `Cannot read body: it is longer than ${maxBytes} bytes`);
  const length = request.headers.get("content-length");
  if (length !== null && Number(length) > maxBytes) throw tooLarge();
  if (length === "0" || (length === null && request.body === null)) return "";
  // With a length the runtime reads no more than that; without one the stream is counted here.
  const read = length === null ? readStream(request.body as ReadableStream<Uint8Array>, maxBytes, tooLarge) : request.text();
  return withinTime(read, clock);
}

/** Waits for a body no longer than BODY_TIME_MS. A body that came with its head, as almost all do, costs no timer. */
async function withinTime(read: Promise<string>, clock: Clock): Promise<string> {
  let settled = false;
  const settle = () => {
    settled = true;
  };
  read.then(settle, settle);
  await Promise.resolve();
  if (settled) return read;
  const done = new AbortController();
  const late = clock.sleep(BODY_TIME_MS, done.signal).then(() => {
    if (!done.signal.aborted) throw new RequestError("request_malformed", `Cannot read body: it took more than ${BODY_TIME_MS / 1000} s`);
    return "";
  });
  try {
    return await Promise.race([read, late]);
  } finally {
    done.abort();
  }
}

async function readStream(stream: ReadableStream<Uint8Array>, maxBytes: number, tooLarge: () => RequestError): Promise<string> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  for await (const chunk of stream) {
    total += chunk.length;
    if (total > maxBytes) throw tooLarge();
    chunks.push(chunk);
  }
  return new TextDecoder().decode(concat(...chunks));
}
