/**
 * Byte strings: their text forms (hex, colon hex, base64, UTF-8), and digests of them.
 * @module
 */
import { sha1 as nobleSha1 } from "@noble/hashes/legacy.js";
import { sha256 as nobleSha256 } from "@noble/hashes/sha2.js";
import { FormatError } from "./errors.ts";

/** A byte string that WebCrypto accepts as it is (never backed by shared memory). */
export type Bytes = Uint8Array<ArrayBuffer>;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** UTF-8 encodes a string. */
export function utf8(text: string): Bytes {
  return encoder.encode(text) as Bytes;
}

/** Decodes UTF-8. @throws {FormatError} */
export function fromUtf8(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch {
    throw new FormatError("the text is not UTF-8");
  }
}

/** Decodes each octet as one character (ISO 8859-1). */
export function latin1(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** Lower-case hexadecimal without separators. */
export function hex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += HEX[byte];
  return text;
}

/** Lower-case hexadecimal pairs joined by colons, as Consul writes identifiers. */
export function colonHex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += text === "" ? HEX[byte] : `:${HEX[byte]}`;
  return text;
}

/** Methods of ECMAScript 2026, which newer runtimes have and the compiler's library lacks. */
interface NativeBase64 {
  toBase64?(): string;
}
interface NativeBase64Constructor {
  fromBase64?(text: string, options: { lastChunkHandling: "strict" }): Bytes;
}

/** Standard base64 with padding (RFC 4648 §4). */
export function base64(bytes: Uint8Array & NativeBase64): string {
  if (bytes.toBase64 !== undefined) return bytes.toBase64();
  let binary = "";
  for (let start = 0; start < bytes.length; start += 8192)
    binary += String.fromCharCode(...bytes.subarray(start, start + 8192));
  return btoa(binary);
}

/**
 * Decodes standard base64 (RFC 4648 §4) with padding; white space is skipped.
 * @returns null if the text is not base64.
 */
export function fromBase64(text: string): Bytes | null {
  const native = (Uint8Array as NativeBase64Constructor).fromBase64;
  try {
    if (native !== undefined) return native.call(Uint8Array, text, { lastChunkHandling: "strict" });
    const compact = text.replace(/[\t\n\f\r ]/g, "");
    const binary = atob(compact);
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
    // atob accepts missing padding and unused bits in the last character, this reader does not.
    return base64(bytes) === compact ? bytes : null;
  } catch {
    return null;
  }
}

/** Joins byte strings into a new one. */
export function concat(...parts: readonly Uint8Array[]): Bytes {
  const joined = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    joined.set(part, offset);
    offset += part.length;
  }
  return joined;
}

/** Whether two byte strings are equal. Not for secrets: it stops at the first difference. */
export function equal(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

// One hasher is set back to its first state for every digest, and works in memory of its own:
// making a hasher, and views of small arrays, costs as much as a short digest.
const FRESH = nobleSha256.create();
const HASHER = FRESH.clone();
const INPUT = new Uint8Array(1024);
const OUTPUT = new Uint8Array(32);

/**
 * SHA-256 (FIPS 180-4), 32 octets. Synchronous, since a SHA-256 of a public key through WebCrypto
 * costs two to four times as much, and every leaf needs one.
 */
export function sha256(bytes: Uint8Array): Bytes {
  if (bytes.length > INPUT.length) return nobleSha256(bytes) as Bytes;
  INPUT.set(bytes);
  FRESH._cloneInto(HASHER).update(INPUT.subarray(0, bytes.length)).digestInto(OUTPUT);
  return OUTPUT.slice();
}

/**
 * SHA-1 (FIPS 180-4), 20 octets: for Consul's root IDs, and for the key identifiers of RFC 5280
 * §4.2.1.2. Never for anything that must be hard to forge.
 */
export function sha1(bytes: Uint8Array): Bytes {
  return nobleSha1(bytes) as Bytes;
}
