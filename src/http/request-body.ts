/**
 * Reads request bodies: their media type, within a size and a time.
 * @module
 */

import { type Bytes, concat } from "../core/bytes.ts";
import { RequestError } from "../core/errors.ts";
import type { Clock } from "../core/ports/clock.ts";

/**
 * What a media type says of a body: JSON, a request for a leaf (RFC 5967, and what is in use for
 * PEM), or nothing, as curl's default does.
 */
const MEDIA_TYPES: Readonly<Record<string, "json" | "request" | "raw">> = {
  "application/json": "json",
  "application/x-www-form-urlencoded": "raw",
  "application/pkcs10": "request",
  "application/x-pem-file": "request",
  "text/plain": "raw",
};

/**
 * How the body of a request is to be read. No type counts as raw.
 * @throws {RequestError} `media_type_unsupported`
 */
export function bodyForm(contentType: string | undefined): "json" | "request" | "raw" {
  if (contentType === undefined || contentType === "") return "raw";
  const essence = (contentType.split(";")[0] ?? "").trim().toLowerCase();
  const form = Object.hasOwn(MEDIA_TYPES, essence) ? MEDIA_TYPES[essence] : undefined;
  if (form === undefined)
    throw new RequestError(
      "media_type_unsupported",
      `Cannot read body: media type ${JSON.stringify(essence)} is not one of ${Object.keys(MEDIA_TYPES).join(", ")}`,
    );
  return form;
}

/**
 * Reads bodies. One timer serves all that are on their way, since one for each would cost as much
 * as reading it.
 */
export interface BodyReader {
  /**
   * As text.
   * @throws {RequestError} `too_large`, `body_late`, `request_malformed` when it breaks off
   */
  read(request: Request, maxBytes: number): Promise<string>;
  /** As octets. @throws {RequestError} as `read` */
  readBytes(request: Request, maxBytes: number): Promise<Bytes>;
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

  const withinTime = <T>(read: Promise<T>): Promise<T> =>
    new Promise((resolve, reject) => {
      const body = {
        until: clock.now().getTime() + timeMs,
        late() {
          coming.delete(body);
          reject(
            new RequestError("body_late", `Cannot read body: it took more than ${timeMs / 1000} s`),
          );
        },
      };
      coming.add(body);
      if (!watching) void watch();
      const done = () => coming.delete(body);
      read.then(
        (read) => {
          done();
          resolve(read);
        },
        (error: unknown) => {
          done();
          const broken = () =>
            new RequestError("request_malformed", "Cannot read body: it broke off", {
              cause: error,
            });
          reject(error instanceof RequestError ? error : broken());
        },
      );
    });

  /** With a length the runtime reads no more than that; without one the stream is counted here. */
  const readWith = async <T>(
    request: Request,
    maxBytes: number,
    whole: () => Promise<T>,
    of: (bytes: Bytes) => T,
  ): Promise<T> => {
    const tooLarge = () =>
      new RequestError("too_large", `Cannot read body: it is longer than ${maxBytes} bytes`);
    const length = request.headers.get("content-length");
    // The runtime joins a length that is sent twice, which RFC 9112 §6.3 lets a server refuse.
    if (length !== null && Number.isNaN(Number(length)))
      throw new RequestError(
        "request_malformed",
        "Cannot read body: Content-Length must be one number",
      );
    if (length !== null && Number(length) > maxBytes) throw tooLarge();
    if (length === "0" || (length === null && request.body === null)) return of(new Uint8Array());
    if (length !== null) return withinTime(whole());
    return of(
      await withinTime(readStream(request.body as ReadableStream<Uint8Array>, maxBytes, tooLarge)),
    );
  };

  return {
    read: (request, maxBytes) =>
      readWith(
        request,
        maxBytes,
        () => request.text(),
        (bytes) => new TextDecoder().decode(bytes),
      ),
    readBytes: (request, maxBytes) =>
      readWith(
        request,
        maxBytes,
        async () => new Uint8Array(await request.arrayBuffer()),
        (bytes) => bytes,
      ),
  };
}

async function readStream(
  stream: ReadableStream<Uint8Array>,
  maxBytes: number,
  tooLarge: () => RequestError,
): Promise<Bytes> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  for await (const chunk of stream) {
    total += chunk.length;
    if (total > maxBytes) throw tooLarge();
    chunks.push(chunk);
  }
  return concat(...chunks);
}
