/**
 * Reads request bodies within a size and a time: JSON, text, or a CSR. Which form a CSR has is seen
 * from the body, since clients send the same form with many media types.
 * @module
 */
import { type Json, readJson } from "../consul/go-json.ts";
import { isObject } from "../consul/go-struct.ts";
import { type Bytes, concat, fromBase64 } from "../core/bytes.ts";
import { RequestError } from "../core/errors.ts";
import { writePem } from "../core/pem.ts";
import type { Clock } from "../core/ports/clock.ts";
import { MAX_CSR_LENGTH } from "../core/x509/csr.ts";

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

  /**
   * The CSR in a body: PEM, DER or base64 of DER, or PEM or base64 in JSON.
   * @param maxBytes of JSON; of other forms `MAX_CSR_LENGTH` at most.
   * @returns PEM, or text that the parser of CSRs will refuse.
   * @throws {RequestError} as `json`, `csr_malformed`
   */
  async csr(request: Request, maxBytes: number): Promise<string> {
    const form = bodyForm(request.headers.get("content-type"));
    const maxRaw = Math.min(maxBytes, MAX_CSR_LENGTH);
    // In JSON each line end takes two characters. Only the media type of CSRs excludes JSON.
    const bytes = await this.bytes(request, form === "csr" ? maxRaw : maxBytes);
    if (isDer(bytes)) return writePem(CSR_LABEL, bytes);
    // PowerShell's ">" writes UTF-16 with a byte order mark.
    if ((bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff))
      throw malformed("the body is text in UTF-16; send it in UTF-8");
    const text = new TextDecoder().decode(bytes);
    if (form === "json" || text.trimStart().startsWith("{")) return csrOfJson(text);
    if (bytes.length > maxRaw) throw tooLarge(maxRaw);
    return csrOfText(text, "send the file as it is, with curl --data-binary @FILE in place of -d");
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

function tooLarge(maxBytes: number): RequestError {
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

/** The PEM label of a CSR (RFC 7468 section 7). */
const CSR_LABEL = "CERTIFICATE REQUEST";
const JSON_FORM = 'the body must be {"CSR": "<PEM>"}';
/** The tag of a SEQUENCE, and the least octet of a length in long form (X.690 section 8.1.3). */
const [SEQUENCE, LONG_LENGTH] = [0x30, 0x80];

/** Whether octets are DER of more than 127 octets: in text no octet of 128 or more follows a "0". */
function isDer(bytes: Uint8Array): boolean {
  return bytes[0] === SEQUENCE && (bytes[1] ?? 0) >= LONG_LENGTH;
}

function csrOfJson(text: string): string {
  let body: Json;
  try {
    body = readJson(text);
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    const reason = error.message.slice(error.message.indexOf(": ") + 2);
    throw new RequestError(
      "request_malformed",
      `Cannot read CSR: the body is not valid JSON (${reason}); ${JSON_FORM}`,
    );
  }
  if (!isObject(body)) throw malformed(`the body is not a JSON object; ${JSON_FORM}`);
  const keys = Object.keys(body);
  const unknown = keys.find((key) => key.toLowerCase() !== "csr");
  if (unknown !== undefined)
    throw malformed(
      `the body has an unknown key ${JSON.stringify(unknown.slice(0, 64))}; ${JSON_FORM}`,
    );
  if (keys.length > 1) throw malformed(`the body has the key CSR more than once; ${JSON_FORM}`);
  const [key] = keys;
  if (key === undefined) throw malformed(`the body has no CSR; ${JSON_FORM}`);
  const value = body[key];
  if (typeof value !== "string") throw malformed(`the body's CSR is not a string; ${JSON_FORM}`);
  return csrOfText(value, "write each of them as \\n in the JSON string");
}

/** @param remedy for lost line ends. */
function csrOfText(text: string, remedy: string): string {
  const begin = text.indexOf("-----BEGIN ");
  if (begin < 0) {
    if (text.includes("-----BEGIN+") || text.includes("-----BEGIN%20"))
      throw malformed(`the CSR is URL-encoded; ${remedy}`);
    const der = fromBase64(text);
    return der !== null && isDer(der) ? writePem(CSR_LABEL, der) : text;
  }
  const end = text.indexOf("-----END ", begin);
  // BEGIN and END are on lines of their own (RFC 7468 section 2).
  if (end >= 0 && !/[\r\n]/.test(text.slice(begin, end)))
    throw malformed(`the line ends of the PEM text are lost; ${remedy}`);
  return text;
}

function malformed(reason: string): RequestError {
  return new RequestError("csr_malformed", `Cannot read CSR: ${reason}`);
}
