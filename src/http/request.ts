/**
 * Reads request bodies: their media type, within a size and a time.
 * @module
 */

import { concat } from "../core/bytes.ts";
import type { Clock } from "../core/clock.ts";
import { RequestError } from "../core/errors.ts";

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

/** Reads bodies as text. One timer serves all that are on their way, since one for each would cost as much as reading it. */
export interface BodyReader {
  /** @throws {RequestError} `too_large`, `body_late`, `request_malformed` when it breaks off */
  read(request: Request, maxBytes: number): Promise<string>;
}

/** @param timeMs how long a body may take to come in. */
export function createBodyReader(clock: Clock, timeMs: number): BodyReader {
  const coming = new Set<{ readonly until: number; readonly late: () => void }>();
  let watching = false;

  const watch = async () => {
    watching = true;
    while (coming.size > 0) {
      await clock.sleep(timeMs / 10);
      const now = clock.now().getTime();
      for (const body of coming) if (body.until <= now) body.late();
    }
    watching = false;
  };

  const withinTime = (read: Promise<string>): Promise<string> =>
    new Promise((resolve, reject) => {
      const body = {
        until: clock.now().getTime() + timeMs,
        late() {
          coming.delete(body);
          reject(new RequestError("body_late", `Cannot read body: it took more than ${timeMs / 1000} s`));
        },
      };
      coming.add(body);
      if (!watching) void watch();
      const done = () => coming.delete(body);
      read.then(
        (text) => {
          done();
          resolve(text);
        },
        (error: unknown) => {
          done();
          const broken = () => new RequestError("request_malformed", "Cannot read body: it broke off", { cause: error });
          reject(error instanceof RequestError ? error : broken());
        },
      );
    });

  return {
    async read(request, maxBytes) {
      const tooLarge = () => new RequestError("too_large", `Cannot read body: it is longer than ${maxBytes} bytes`);
      const length = request.headers.get("content-length");
      // The runtime joins a length that is sent twice, which RFC 9112 §6.3 lets a server refuse.
      if (length !== null && Number.isNaN(Number(length)))
        throw new RequestError("request_malformed", "Cannot read body: Content-Length must be one number");
      if (length !== null && Number(length) > maxBytes) throw tooLarge();
      if (length === "0" || (length === null && request.body === null)) return "";
      // With a length the runtime reads no more than that; without one the stream is counted here.
      return withinTime(length === null ? readStream(request.body as ReadableStream<Uint8Array>, maxBytes, tooLarge) : request.text());
    },
  };
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
