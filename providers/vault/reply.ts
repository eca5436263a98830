/**
 * Reads one HTTP/1.1 answer (RFC 9112) as its bytes come: strictly, within a limit, and to its end and no further.
 * @module
 */
import { concat } from "../../src/core/bytes.ts";
import { VaultError } from "./errors.ts";

/** More than any server of ours sends as status line and header fields. */
const MAX_HEAD = 65_536;

export interface Reply {
  readonly status: number;
  /** By name in lower case; values of one that is there twice are joined by a comma. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: Uint8Array;
  /** Whether the connection can be used for another exchange. */
  readonly reusable: boolean;
}

export interface ReplyReader {
  /** @returns the answer once it is whole. @throws {VaultError} `answer` */
  push(chunk: Uint8Array): Reply | null;
  /** The connection ended. @returns the answer where that is how it ends. */
  end(): Reply | null;
}

interface Head {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
  readonly keep: boolean;
  /** How long the body is, in bytes; `chunked`: as it says itself; `close`: until the connection ends. */
  readonly length: number | "chunked" | "close";
}

const latin1 = new TextDecoder("latin1");

/** @param maxBytes of a body. */
export function createReplyReader(maxBytes: number): ReplyReader {
  let held: Uint8Array = new Uint8Array();
  let head: Head | null = null;
  const parts: Uint8Array[] = [];
  let total = 0;
  /** Of a chunk: its size, then so many bytes, then a line end; behind the last one, lines up to an empty one. */
  let phase: "size" | "data" | "break" | "trailer" = "size";
  let left = 0;

  const take = (length: number) => {
    const part = held.subarray(0, length);
    total += part.length;
    if (total > maxBytes) throw new VaultError("answer", "Vault's answer is too long");
    parts.push(part);
    held = held.subarray(length);
    left -= part.length;
  };
  const line = (): string | null => {
    const end = held.indexOf(10);
    if (end < 0 && held.length > MAX_HEAD) throw malformed();
    if (end < 0) return null;
    if (held[end - 1] !== 13) throw malformed();
    const text = latin1.decode(held.subarray(0, end - 1));
    held = held.subarray(end + 1);
    return text;
  };
  /** @returns whether the last chunk is there. */
  const chunks = (): boolean => {
    for (;;) {
      if (phase === "data") {
        take(left);
        if (left > 0) return false;
        phase = "break";
      }
      const text = line();
      if (text === null) return false;
      if (phase === "trailer" && text === "") return true;
      if (phase === "break" && text !== "") throw malformed();
      if (phase === "break") phase = "size";
      else if (phase === "size") {
        const [, size] = /^([0-9a-f]{1,8})[ \t]*(?:;|$)/i.exec(text) ?? [];
        if (size === undefined) throw malformed();
        left = Number.parseInt(size, 16);
        phase = left === 0 ? "trailer" : "data";
      }
    }
  };
  const whole = ({ status, headers, keep, length }: Head): Reply => ({
    status,
    headers,
    body: parts.length === 1 ? (parts[0] as Uint8Array) : concat(...parts),
    reusable: keep && length !== "close" && held.length === 0,
  });

  return {
    push(chunk) {
      held = held.length === 0 ? chunk : concat(held, chunk);
      while (head === null) {
        const end = endOfHead(held);
        if (end < 0 && held.length > MAX_HEAD) throw malformed();
        if (end < 0) return null;
        const read = readHead(latin1.decode(held.subarray(0, end)));
        held = held.subarray(end + 4);
        // What is said meanwhile is not the answer (RFC 9110 §15.2).
        if (read.status < 200) continue;
        head = read;
        if (typeof read.length === "number") left = read.length;
      }
      if (head.length === "chunked") return chunks() ? whole(head) : null;
      take(head.length === "close" ? held.length : left);
      return head.length !== "close" && left === 0 ? whole(head) : null;
    },
    end: () => (head?.length === "close" ? whole(head) : null),
  };
}

function endOfHead(bytes: Uint8Array): number {
  for (let at = bytes.indexOf(13); at >= 0; at = bytes.indexOf(13, at + 1))
    if (bytes[at + 1] === 10 && bytes[at + 2] === 13 && bytes[at + 3] === 10) return at;
  return -1;
}

function readHead(text: string): Head {
  const [first = "", ...lines] = text.split("\r\n");
  const [, minor, code] = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: |$)/.exec(first) ?? [];
  if (code === undefined) throw malformed();
  const headers = new Map<string, string>();
  for (const line of lines) {
    const [, name, value] = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? [];
    if (name === undefined || value === undefined) throw malformed();
    const before = headers.get(name.toLowerCase());
    headers.set(name.toLowerCase(), before === undefined ? value : `${before}, ${value}`);
  }
  const status = Number(code);
  const keep = minor === "1" && !/(?:^|,)\s*close\s*(?:,|$)/i.test(headers.get("connection") ?? "");
  return { status, headers, keep, length: lengthOf(status, headers) };
}

/** RFC 9112 §6.3. */
function lengthOf(status: number, headers: ReadonlyMap<string, string>): Head["length"] {
  const [coding, length] = [headers.get("transfer-encoding"), headers.get("content-length")];
  if (status < 200 || status === 204 || status === 304) return 0;
  if (coding !== undefined) {
    // Both at once is how one answer is made to look like two.
    if (coding.toLowerCase() !== "chunked" || length !== undefined) throw malformed();
    return "chunked";
  }
  if (length === undefined) return "close";
  if (!/^\d{1,15}$/.test(length)) throw malformed();
  return Number(length);
}

function malformed(): VaultError {
  return new VaultError("answer", "Vault's answer is not of the form that HTTP/1.1 has");
}
