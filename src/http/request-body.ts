/**
 * Reads request bodies within a size and a time, as octets, text or JSON.
 * @module
 */
import { type Json, readJson } from "../consul/go-json.ts";
import { type Bytes, concat } from "../core/bytes.ts";
import { RequestError } from "../core/errors.ts";
import type { Clock } from "../core/ports/clock.ts";

/**
 * What a media type says of a body: JSON, a CSR (RFC 5967, and what is in use for PEM), or nothing,
 * as curl's default.
 */
const MEDIA_TYPES: Readonly<Record<string, "json" | "csr" | "raw">> = {
  "application/json": "json",
  "application/x-www-form-urlencoded": "raw",
  "application/pkcs10": "csr",
  "application/x-pem-file": "csr",
  "text/plain": "raw",
};

/**
 * The form of a body by its media type; "raw" without one.
 * @throws {RequestError} `media_type_unsupported`
 */
export function bodyForm(contentType: string | null): "json" | "csr" | "raw" {
  if (contentType === null || contentType === "") return "raw";
  const essence = (contentType.split(";")[0] ?? "").trim().toLowerCase();
  const form = Object.hasOwn(MEDIA_TYPES, essence) ? MEDIA_TYPES[essence] : undefined;
  if (form === undefined)
    throw new RequestError(
      "media_type_unsupported",
      `Cannot read body: media type ${JSON.stringify(essence)} is not one of ${Object.keys(MEDIA_TYPES).join(", ")}`,
    );
  return form;
}

interface Incoming {
  readonly until: number;
  readonly late: () => void;
}

/** One timer serves all bodies, since one for each would cost as much as reading it. */
export class BodyReader {
  readonly #clock: Clock;
  readonly #timeMs: number;
  readonly #incoming = new Set<Incoming>();
  #watching = false;

  /** @param timeMs within which a body must arrive. */
  constructor(clock: Clock, timeMs: number) {
    this.#clock = clock;
    this.#timeMs = timeMs;
  }

  /** A body as text. @throws {RequestError} as `bytes` */
  async text(request: Request, maxBytes: number): Promise<string> {
    return new TextDecoder().decode(await this.bytes(request, maxBytes));
  }

  /**
   * A body as octets.
   * @throws {RequestError} `too_large`, `body_late`, `request_malformed` if it is incomplete
   */
  async bytes(request: Request, maxBytes: number): Promise<Bytes> {
    const length = request.headers.get("content-length");
    // The runtime joins repeated lengths, which a server may refuse (RFC 9112 section 6.3).
    if (length !== null && Number.isNaN(Number(length)))
      throw new RequestError(
        "request_malformed",
        "Cannot read body: Content-Length must be one number",
      );
    if (length !== null && Number(length) > maxBytes) throw tooLarge(maxBytes);
    if (length === "0" || (length === null && request.body === null)) return new Uint8Array();
    return this.#withinTime(
      // The runtime reads no more than Content-Length; without one the octets are counted.
      length === null
        ? readStream(request.body as ReadableStream<Uint8Array>, maxBytes)
        : request.arrayBuffer().then((buffer) => new Uint8Array(buffer)),
    );
  }

  /** A body in JSON. @throws {RequestError} as `text`, `media_type_unsupported` */
  async json(request: Request, maxBytes: number): Promise<Json> {
    bodyForm(request.headers.get("content-type"));
    return readJson(await this.text(request, maxBytes));
  }

  /** A body in JSON, `{}` if it is empty. @throws {RequestError} as `json` */
  async optionalJson(request: Request, maxBytes: number): Promise<Json> {
    bodyForm(request.headers.get("content-type"));
    const text = await this.text(request, maxBytes);
    return text.trim() === "" ? {} : readJson(text);
  }

  async #withinTime(read: Promise<Bytes>): Promise<Bytes> {
    const { promise: late, reject } = Promise.withResolvers<never>();
    const seconds = this.#timeMs / 1000;
    const body: Incoming = {
      until: this.#clock.now().getTime() + this.#timeMs,
      late: () => {
        this.#incoming.delete(body);
        reject(new RequestError("body_late", `Cannot read body: it took more than ${seconds} s`));
      },
    };
    this.#incoming.add(body);
    if (!this.#watching) void this.#watch();
    try {
      return await Promise.race([read, late]);
    } catch (error) {
      if (error instanceof RequestError) throw error;
      const message = "Cannot read body: the connection ended before its end";
      throw new RequestError("request_malformed", message, { cause: error });
    } finally {
      this.#incoming.delete(body);
    }
  }

  async #watch(): Promise<void> {
    this.#watching = true;
    while (this.#incoming.size > 0) {
      await this.#clock.sleep(this.#timeMs / 10);
      const now = this.#clock.now().getTime();
      for (const body of this.#incoming) if (body.until <= now) body.late();
    }
    this.#watching = false;
  }
}

export function tooLarge(maxBytes: number): RequestError {
  return new RequestError("too_large", `Cannot read body: it is longer than ${maxBytes} bytes`);
}

async function readStream(stream: ReadableStream<Uint8Array>, maxBytes: number): Promise<Bytes> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  for await (const chunk of stream) {
    total += chunk.length;
    if (total > maxBytes) throw tooLarge(maxBytes);
    chunks.push(chunk);
  }
  return concat(...chunks);
}
