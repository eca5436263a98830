/**
 * What a request for a leaf asks for: its CSR, in the body, and the service and how long the leaf is
 * to live, in JSON or in the query. Which form a CSR has is seen from the body, since clients send
 * the same form with many media types.
 * @module
 */
import { parseDuration } from "../consul/duration.ts";
import { type Json, readJson } from "../consul/go-json.ts";
import { isObject } from "../consul/go-struct.ts";
import { fromBase64 } from "../core/bytes.ts";
import { RequestError, readOrNull } from "../core/errors.ts";
import { writePem } from "../core/pem.ts";
import { MAX_CSR_LENGTH } from "../core/x509/csr.ts";
import { type QueryPairs, queryPairs, rawQuery } from "./query.ts";
import { type BodyReader, bodyForm, tooLarge } from "./request-body.ts";
import type { Call } from "./route.ts";

/** What a caller of sign or renew asks for, in the body or in the query. */
export interface LeafRequest {
  /** PEM, or text that the parser of CSRs will refuse. */
  readonly csr: string;
  /** The name of the service that the leaf is for, unchecked; null if the request names none. */
  readonly service: string | null;
  /** How long the leaf is to live from the moment of signing, in milliseconds; null: not said. */
  readonly ttlMs: number | null;
}

/** The keys that a body in JSON may have, in any case. */
const KEYS = ["CSR", "Service", "TTL"] as const;
type Key = (typeof KEYS)[number];
type Fields = ReadonlyMap<Key, Json>;
const NO_FIELDS: Fields = new Map();

/**
 * Reads a request for a leaf. Its CSR is PEM, DER or base64 of DER, or PEM or base64 in JSON.
 * @param maxBytes of JSON; of other forms `MAX_CSR_LENGTH` at most.
 * @throws {RequestError} as `BodyReader.json`, `csr_malformed`, `request_malformed`
 */
export async function readLeafRequest(
  call: Call,
  bodies: BodyReader,
  maxBytes: number,
): Promise<LeafRequest> {
  const { csr, fields } = await readBody(call, bodies, maxBytes);
  const { url } = call.request;
  const pairs = url.includes("?") ? queryPairs(rawQuery(url)) : [];
  const service = oneOf("Service", textsOf("Service", fields, pairs), (text) => text);
  return { csr, service, ttlMs: oneOf("TTL", textsOf("TTL", fields, pairs), ttlOf) };
}

/** The CSR, and the fields of a body in JSON. */
async function readBody(
  call: Call,
  bodies: BodyReader,
  maxBytes: number,
): Promise<{ readonly csr: string; readonly fields: Fields }> {
  const form = bodyForm(call.header("content-type") ?? null);
  const maxRaw = Math.min(maxBytes, MAX_CSR_LENGTH);
  // In JSON each line end takes two characters. Only the media type of CSRs excludes JSON.
  const bytes = await bodies.bytes(call.request, form === "csr" ? maxRaw : maxBytes);
  if (isDer(bytes)) return { csr: writePem(CSR_LABEL, bytes), fields: NO_FIELDS };
  // PowerShell's ">" writes UTF-16 with a byte order mark.
  if ((bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff))
    throw malformed("the body is text in UTF-16; send it in UTF-8");
  const text = new TextDecoder().decode(bytes);
  if (form === "json" || text.trimStart().startsWith("{")) {
    const fields = fieldsOf(text);
    return { csr: csrOfField(fields), fields };
  }
  if (bytes.length > maxRaw) throw tooLarge(maxRaw);
  const remedy = "send the file as it is, with curl --data-binary @FILE in place of -d";
  return { csr: csrOfText(text, remedy), fields: NO_FIELDS };
}

/**
 * The texts of a field of the body, and of the parameters of the query with its name, in any case.
 * @returns those that are given. @throws {RequestError} `request_malformed`
 */
function textsOf(key: Key, fields: Fields, pairs: QueryPairs): string[] {
  const inBody = fields.get(key) ?? null;
  if (inBody !== null && typeof inBody !== "string")
    throw invalid(`${key} in the body must be a string`);
  const inQuery = pairs.flatMap(([name, text]) =>
    name.toLowerCase() === key.toLowerCase() ? [text] : [],
  );
  return inBody === null ? inQuery : [inBody, ...inQuery];
}

/** The one value that was given; null if none was. @throws {RequestError} `request_malformed` */
function oneOf<T>(key: Key, texts: readonly string[], read: (text: string) => T): T | null {
  const [value = null, ...others] = texts.map(read);
  const at = others.findIndex((other) => other !== value);
  if (at >= 0)
    throw invalid(
      `${key} is given as ${quoted(texts[0] ?? "")} and as ${quoted(texts[at + 1] ?? "")}, in the body or the query; send one of them`,
    );
  return value;
}

/** @returns milliseconds. @throws {RequestError} `request_malformed` */
function ttlOf(text: string): number {
  const ms = readOrNull(() => parseDuration(text));
  if (ms === null) throw invalid(`TTL ${quoted(text)} must be a duration such as "30m" or "12h"`);
  return ms;
}

function invalid(reason: string): RequestError {
  return new RequestError("request_malformed", `Cannot sign leaf: ${reason}`);
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

/** The fields of a body in JSON. @throws {RequestError} `request_malformed`, `csr_malformed` */
function fieldsOf(text: string): Fields {
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
  const fields = new Map<Key, Json>();
  for (const [key, value] of Object.entries(body)) {
    const known = KEYS.find((name) => name.toLowerCase() === key.toLowerCase());
    if (known === undefined)
      throw malformed(
        `the body has an unknown key ${JSON.stringify(key.slice(0, 64))}, known are ${KEYS.join(", ")}; ${JSON_FORM}`,
      );
    if (fields.has(known))
      throw malformed(`the body has the key ${known} more than once; ${JSON_FORM}`);
    fields.set(known, value);
  }
  return fields;
}

/** @throws {RequestError} `csr_malformed` */
function csrOfField(fields: Fields): string {
  const value = fields.get("CSR");
  if (value === undefined) throw malformed(`the body has no CSR; ${JSON_FORM}`);
  if (typeof value !== "string") throw malformed(`the body's CSR is not a string; ${JSON_FORM}`);
  return csrOfText(value, "write each of them as \\n in the JSON string");
}

/** A text of the caller, for an error. */
function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 64));
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
