/**
 * The request for a leaf in a body: PEM, DER or base64 of DER as it stands, or PEM or base64 in
 * JSON. Which of them is seen from the body, since clients send the same text with many a media
 * type.
 * @module
 */

import { type Json, readJson } from "../consul/go-json.ts";
import { isObject } from "../consul/go-struct.ts";
import { fromBase64 } from "../core/bytes.ts";
import { RequestError } from "../core/errors.ts";
import { writePem } from "../core/pem.ts";
import { MAX_CSR_LENGTH } from "../core/x509/csr.ts";
import { type BodyReader, bodyForm } from "./request-body.ts";

/** The label of a request (RFC 7468 section 7). */
const LABEL = "CERTIFICATE REQUEST";
const JSON_FORM = 'the body must be {"CSR": "<PEM>"}';
/**
 * The tag of a SEQUENCE (X.690 section 8.9), with which every DER request begins, and the least
 * octet that a long length has.
 */
const [SEQUENCE, LONG_LENGTH] = [0x30, 0x80];

/**
 * Reads the request in a body.
 * @param maxBytes the most octets of JSON; of anything else it is `MAX_CSR_LENGTH` at most.
 * @returns PEM text, or what stands for it; whether it is a request is still to be checked.
 * @throws {RequestError} `media_type_unsupported`, `too_large`, `request_malformed`,
 * `csr_malformed`, `body_late`
 */
export async function readCsrBody(
  request: Request,
  bodies: BodyReader,
  maxBytes: number,
): Promise<string> {
  const type = request.headers.get("content-type") ?? undefined;
  const form = bodyForm(type);
  const maxRaw = Math.min(maxBytes, MAX_CSR_LENGTH);
  // In JSON each line end of a request is two characters. A type that is not that of requests may
  // be JSON as well.
  const bytes = await bodies.readBytes(request, form === "request" ? maxRaw : maxBytes);
  if (isDer(bytes)) return writePem(LABEL, bytes);
  // What PowerShell writes with ">" begins with a byte order mark.
  if ((bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff))
    throw malformed("the body is text in UTF-16; send it in UTF-8");
  const text = new TextDecoder().decode(bytes);
  if (form === "json" || text.trimStart().startsWith("{")) return csrOfJson(text);
  if (bytes.length > maxRaw)
    throw new RequestError("too_large", `Cannot read body: it is longer than ${maxRaw} bytes`);
  return csrOfText(text, "send the file as it is, with curl --data-binary @FILE in place of -d");
}

/**
 * Whether octets are DER: no text has an octet of 128 or more after a "0". A request is longer than
 * 127 octets.
 */
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
  const value = body[keys[0] ?? ""];
  if (typeof value !== "string")
    throw malformed(`the body has no CSR that is a string; ${JSON_FORM}`);
  return csrOfText(value, "write each of them as \\n in the JSON string");
}

/** @param remedy for lost line ends. */
function csrOfText(text: string, remedy: string): string {
  const begin = text.indexOf("-----BEGIN ");
  if (begin < 0) {
    if (text.includes("-----BEGIN+") || text.includes("-----BEGIN%20"))
      throw malformed(`it is URL-encoded; ${remedy}`);
    const der = fromBase64(text);
    return der !== null && isDer(der) ? writePem(LABEL, der) : text;
  }
  const end = text.indexOf("-----END ", begin);
  // RFC 7468 section 2: the lines with BEGIN and END are lines of their own.
  if (end >= 0 && !/[\r\n]/.test(text.slice(begin, end)))
    throw malformed(`the line ends of its PEM text are lost; ${remedy}`);
  return text;
}

function malformed(reason: string): RequestError {
  return new RequestError("csr_malformed", `Cannot read CSR: ${reason}`);
}
