/**
 * PEM (RFC 7468): a strict reader and a writer for certificates, requests and keys.
 * @module
 */
import { type Bytes, base64, fromBase64 } from "./bytes.ts";
import { FormatError } from "./errors.ts";

export interface PemBlock {
  /** The words of the BEGIN line, for example `CERTIFICATE`. */
  readonly label: string;
  /** Empty if there are headers: the body is not read then. */
  readonly bytes: Bytes;
  /** Whether the block has RFC 1421 headers, as encrypted keys of old OpenSSL have. */
  readonly hasHeaders: boolean;
}

const BEGIN = /^\uFEFF?-----BEGIN ([A-Z0-9][A-Z0-9 ]*)-----[ \t]*$/gm;

/**
 * Reads every PEM block of a text. Text between blocks is skipped, as by RFC 7468 §2 and Go, and so is
 * a byte order mark, which Windows editors write.
 * @throws {FormatError} on a block without its END line, with another label there, or with a body
 * that is not base64.
 */
export function readPem(text: string): PemBlock[] {
  const blocks: PemBlock[] = [];
  BEGIN.lastIndex = 0;
  for (let match = BEGIN.exec(text); match !== null; match = BEGIN.exec(text)) {
    const label = match[1] as string;
    const end = `-----END ${label}-----`;
    const start = BEGIN.lastIndex;
    const stop = text.indexOf("-----", start);
    if (
      stop < 0 ||
      !/[\r\n]/.test(text[stop - 1] ?? "") ||
      !text.startsWith(end, stop) ||
      !/^[ \t]*(\r|\n|$)/.test(text.slice(stop + end.length, stop + end.length + 80))
    )
      throw new FormatError(`PEM block ${label} has no matching END line`);
    const body = text.slice(start, stop);
    const hasHeaders = body.includes(":");
    const bytes = hasHeaders ? new Uint8Array() : fromBase64(body);
    if (bytes === null || (bytes.length === 0 && !hasHeaders))
      throw new FormatError(`PEM block ${label} is not base64`);
    blocks.push({ label, bytes, hasHeaders });
    BEGIN.lastIndex = stop + end.length;
  }
  return blocks;
}

/** A BEGIN line and its body on one line: a shell or a form joined the lines, or escaped them twice. */
const JOINED = /-----BEGIN [A-Z0-9 ]{1,64}----- ?[A-Za-z0-9+/\\]/;

/** Why a text has no PEM block: Consul's text, or that its line ends are lost. */
export function noPemReason(text: string): string {
  return JOINED.test(text)
    ? "the line ends of its PEM text are lost; write each as \\n in JSON"
    : "no PEM-encoded data found";
}

/** Whether a text is exactly one PEM block, with white space around it. */
export function isOnePem(text: string): boolean {
  return /^\s*-----BEGIN ([A-Z0-9 ]+)-----[^-]*-----END \1-----\s*$/.test(text);
}

/** Writes one PEM block: 64 columns, with a final newline, as Go does. */
export function writePem(label: string, bytes: Uint8Array): string {
  const body = base64(bytes);
  let text = `-----BEGIN ${label}-----\n`;
  for (let i = 0; i < body.length; i += 64) text += `${body.slice(i, i + 64)}\n`;
  return `${text}-----END ${label}-----\n`;
}

/** Writes a certificate as PEM. */
export function certificatePem(der: Uint8Array): string {
  return writePem("CERTIFICATE", der);
}
