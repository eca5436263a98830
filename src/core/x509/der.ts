/**
 * DER (ITU-T X.690), as far as certificates, requests and keys need it: a strict reader over one
 * buffer, and a writer that computes every length first and then writes each octet once. They share
 * the tags, lengths and times, so they are one file.
 * @module
 */
import { type Bytes, latin1, utf8 } from "../bytes.ts";
import { FormatError } from "../errors.ts";

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utf8String: 0x0c,
  printableString: 0x13,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** `[number]` primitive, context-specific. */
export const contextPrimitive = (number: number): number => 0x80 | number;
/** `[number]` constructed, context-specific. */
export const contextConstructed = (number: number): number => 0xa0 | number;

/** Certificates and requests nest less deep; a limit against stack exhaustion. */
const MAX_DEPTH = 16;

/** A fault of an encoding. */
export class DerError extends FormatError {
  /** The fault as the predicate of a sentence whose subject is what was read: `ends too early`. */
  readonly predicate: string;

  constructor(predicate: string) {
    super(`DER ${predicate}`);
    this.predicate = predicate;
  }
}

/**
 * Gives a fault of an encoding its subject.
 * @param subject what was read, for example `its subject`.
 * @returns the error to throw: a FormatError for a DerError, and any other as it is.
 */
export function inWords(subject: string, error: unknown): unknown {
  return error instanceof DerError ? new FormatError(`${subject} ${error.predicate}`) : error;
}

/**
 * A cursor over the content of one constructed element. Offsets are into the shared buffer. Returned
 * octets are copies: up to some hundred octets a copy is cheaper than a view, for which engines first
 * move a small array's memory.
 */
export class DerReader {
  readonly #bytes: Bytes;
  readonly #end: number;
  readonly #depth: number;
  #position: number;
  /** The tag of the element read last. */
  tag = 0;
  /** Where the element read last starts, its tag included. */
  start = 0;
  /** Where the content of the element read last starts. */
  contentStart = 0;
  /** Where the element read last ends. */
  contentEnd = 0;

  constructor(bytes: Bytes, start = 0, end = bytes.length, depth = 0) {
    if (depth > MAX_DEPTH) throw new DerError(`is nested more than ${MAX_DEPTH} levels deep`);
    this.#bytes = bytes;
    this.#position = start;
    this.#end = end;
    this.#depth = depth;
  }

  /** Whether nothing is left. */
  get done(): boolean {
    return this.#position >= this.#end;
  }

  /** The tag of the next element, or 0 at the end. */
  peek(): number {
    return this.done ? 0 : (this.#bytes[this.#position] as number);
  }

  /**
   * Steps over the next element, of any tag, and points the public offsets at it.
   * @throws {FormatError} on a multi-byte tag, a length that is indefinite, not minimal or past the
   * end.
   */
  next(): void {
    const bytes = this.#bytes;
    let position = this.#position;
    if (position + 2 > this.#end) throw new DerError("ends too early");
    this.start = position;
    const tag = bytes[position++] as number;
    if ((tag & 0x1f) === 0x1f) throw new DerError("has a field of an unknown type");
    let length = bytes[position++] as number;
    if (length >= 0x80) {
      // X.690 §10.1: definite form, the fewest octets that hold the length.
      const count = length & 0x7f;
      if (count === 0) throw new DerError("is encoded in BER with indefinite lengths, not in DER");
      if (count > 3 || position + count > this.#end) throw new DerError("ends too early");
      length = 0;
      for (let i = 0; i < count; i++) length = (length << 8) | (bytes[position++] as number);
      if (length < 0x80 || length < 1 << (8 * (count - 1)))
        throw new DerError("is encoded in BER with overlong lengths, not in DER");
    }
    if (length > this.#end - position) throw new DerError("ends too early");
    this.tag = tag;
    this.contentStart = position;
    this.contentEnd = position + length;
    this.#position = position + length;
  }

  /** Steps over the next element, which must have this tag. @throws {FormatError} */
  expect(tag: number): void {
    if (this.#position >= this.#end || this.#bytes[this.#position] !== tag)
      throw new DerError(this.done ? "ends too early" : "has the wrong ASN.1 type");
    this.next();
  }

  /**
   * Steps over the next element if it has this tag. @returns whether it had.
   * @throws {FormatError}
   */
  optional(tag: number): boolean {
    if (this.done || this.peek() !== tag) return false;
    this.next();
    return true;
  }

  /**
   * Steps over the next element, which must have this tag, and reads its content.
   * @throws {FormatError}
   */
  enter(tag: number): DerReader {
    this.expect(tag);
    return this.inside();
  }

  /** As `enter`, of the last element: nothing is allowed to follow it. @throws {FormatError} */
  enterLast(tag: number): DerReader {
    const content = this.enter(tag);
    this.finish();
    return content;
  }

  /** Reads the content of the element read last. @throws {FormatError} when that is too deep. */
  inside(): DerReader {
    return new DerReader(this.#bytes, this.contentStart, this.contentEnd, this.#depth + 1);
  }

  /** A copy of the content of the element read last. */
  content(): Bytes {
    return this.#bytes.slice(this.contentStart, this.contentEnd);
  }

  /**
   * Whether the content of the element read last is these octets. Makes no copy, unlike `content`.
   */
  contentIs(octets: Bytes): boolean {
    return this.#are(this.contentStart, this.contentEnd, octets);
  }

  /** Whether the element read last, tag and length included, is these octets. */
  elementIs(octets: Bytes): boolean {
    return this.#are(this.start, this.contentEnd, octets);
  }

  #are(start: number, end: number, octets: Bytes): boolean {
    if (end - start !== octets.length) return false;
    for (let i = 0; i < octets.length; i++) if (this.#bytes[start + i] !== octets[i]) return false;
    return true;
  }

  /** A copy of the element read last, with its tag and length. */
  element(): Bytes {
    return this.#bytes.slice(this.start, this.contentEnd);
  }

  /** @throws {FormatError} when anything is left. */
  finish(): void {
    if (!this.done) throw new DerError("has trailing data");
  }

  /**
   * Steps over an INTEGER that must not be negative, and points the content offsets at its
   * magnitude: without the sign octet. @throws {FormatError}
   */
  expectUnsigned(): void {
    this.expect(TAG.integer);
    const length = this.contentEnd - this.contentStart;
    if (length === 0) throw new DerError("has an empty number");
    const first = this.#bytes[this.contentStart] as number;
    if (first >= 0x80) throw new DerError("is negative");
    if (first !== 0 || length === 1) return;
    if ((this.#bytes[this.contentStart + 1] as number) < 0x80)
      throw new DerError("has a number with needless leading zeros");
    this.contentStart++;
  }

  /** The magnitude of an INTEGER that must not be negative. @throws {FormatError} */
  unsigned(): Bytes {
    this.expectUnsigned();
    return this.content();
  }

  /**
   * A small non-negative INTEGER.
   * @throws {FormatError} when it is negative or does not fit 31 bits.
   */
  small(): number {
    this.expectUnsigned();
    const length = this.contentEnd - this.contentStart;
    if (length > 4 || (length === 4 && (this.#bytes[this.contentStart] as number) > 0x7f))
      throw new DerError("has a number that is too large");
    let value = 0;
    for (let i = this.contentStart; i < this.contentEnd; i++)
      value = (value << 8) | (this.#bytes[i] as number);
    return value;
  }

  /** A BOOLEAN (X.690 §11.1: 0x00 or 0xff). @throws {FormatError} */
  boolean(): boolean {
    this.expect(TAG.boolean);
    const value = this.#bytes[this.contentStart];
    if (this.contentEnd - this.contentStart !== 1 || (value !== 0x00 && value !== 0xff))
      throw new DerError("has a flag that is neither true nor false");
    return value === 0xff;
  }

  /** A Time (RFC 5280 §4.1.2.5), in whole seconds of UTC. @throws {FormatError} */
  time(): Date {
    this.next();
    const long = this.tag === TAG.generalizedTime;
    if (!long && this.tag !== TAG.utcTime)
      throw new DerError("is neither UTCTime nor GeneralizedTime (RFC 5280 §4.1.2.5)");
    const text = latin1(this.content());
    if (!(long ? /^\d{14}Z$/ : /^\d{12}Z$/).test(text))
      throw new DerError("is not in whole seconds of UTC (RFC 5280 §4.1.2.5)");
    // RFC 5280 §4.1.2.5.1: two-digit years from 50 on are 19YY.
    const digits = long ? text : `${text < "5" ? "20" : "19"}${text}`;
    const iso = digits.replace(/^(....)(..)(..)(..)(..)(..)Z$/, "$1-$2-$3T$4:$5:$6Z");
    const instant = new Date(iso);
    // Date accepts 30 February and 24 o'clock, as days after.
    if (Number.isNaN(instant.getTime()) || instant.toISOString() !== iso.replace("Z", ".000Z"))
      throw new DerError("has a time that is not a date");
    return instant;
  }

  /** Steps over an OBJECT IDENTIFIER that must be well formed. @throws {FormatError} */
  oid(): void {
    this.expect(TAG.oid);
    const bytes = this.#bytes;
    // X.690 §8.19: base 128, each subidentifier without leading zeros, the last octet ends one.
    let fresh = true;
    for (let i = this.contentStart; i < this.contentEnd; i++) {
      const byte = bytes[i] as number;
      if (fresh && byte === 0x80) throw new DerError("has a malformed object identifier");
      fresh = byte < 0x80;
    }
    if (!fresh || this.contentStart === this.contentEnd)
      throw new DerError("has a malformed object identifier");
  }

  /**
   * Whether the OBJECT IDENTIFIER read last has a number of 2^31 or more, which Go's reader refuses
   * (cryptobyte, readBase128Int).
   */
  get oidIsWide(): boolean {
    let value = 0;
    for (let i = this.contentStart; i < this.contentEnd; i++) {
      const octet = this.#bytes[i] as number;
      value = value * 128 + (octet & 0x7f);
      if (value >= 2 ** 31) return true;
      if (octet < 0x80) value = 0;
    }
    return false;
  }

  /** The octets of a BIT STRING without unused bits. @throws {FormatError} */
  bitString(): Bytes {
    this.expect(TAG.bitString);
    if (this.contentEnd === this.contentStart || this.#bytes[this.contentStart] !== 0)
      throw new DerError("has a bit string that is not of whole octets");
    return this.#bytes.slice(this.contentStart + 1, this.contentEnd);
  }
}

/** An element to write: a tag with content, or bytes that are DER already. */
export type DerNode = DerElement | Uint8Array;

interface DerElement {
  readonly tag: number;
  readonly length: number;
  readonly parts: readonly DerNode[];
}

/** How many octets the length of a content of `length` octets takes. */
export function lengthSize(length: number): number {
  return length < 0x80 ? 1 : length < 0x100 ? 2 : length < 0x10000 ? 3 : 4;
}

/** Writes a definite length at `offset` and returns the offset behind it (X.690 §10.1). */
export function writeLength(out: Uint8Array, offset: number, length: number): number {
  const size = lengthSize(length);
  if (size === 1) {
    out[offset] = length;
    return offset + 1;
  }
  out[offset] = 0x80 | (size - 1);
  for (let i = 1; i < size; i++) out[offset + i] = length >>> (8 * (size - 1 - i));
  return offset + size;
}

function sizeOf(node: DerNode): number {
  return node instanceof Uint8Array ? node.length : 1 + lengthSize(node.length) + node.length;
}

/**
 * An element whose content is `parts`, one behind the other. Raw bytes among them are taken as they
 * are.
 */
export function element(tag: number, ...parts: readonly DerNode[]): DerNode {
  let length = 0;
  for (const part of parts) length += sizeOf(part);
  return { tag, parts, length };
}

export const sequence = (...parts: readonly DerNode[]): DerNode => element(TAG.sequence, ...parts);
export const octetString = (...parts: readonly DerNode[]): DerNode =>
  element(TAG.octetString, ...parts);
export const bitString = (...parts: readonly DerNode[]): DerNode =>
  element(TAG.bitString, new Uint8Array(1), ...parts);
export const oid = (content: Uint8Array): DerNode => element(TAG.oid, content);

/**
 * A Time (RFC 5280 §4.1.2.5): UTCTime from 1950 through 2049, else GeneralizedTime; whole seconds
 * of UTC.
 */
export function time(instant: Date): DerNode {
  const digits = `${instant.toISOString().replace(/[-:T]/g, "").slice(0, 14)}Z`;
  const year = instant.getUTCFullYear();
  return year >= 2050 || year < 1950
    ? element(TAG.generalizedTime, utf8(digits))
    : element(TAG.utcTime, utf8(digits.slice(2)));
}

/** Cuts an instant to the whole second that a certificate can hold. */
export function wholeSecond(instant: Date): Date {
  return new Date(Math.floor(instant.getTime() / 1000) * 1000);
}

/** Encodes a node into one new buffer. */
export function encode(node: DerNode): Bytes {
  const out = new Uint8Array(sizeOf(node));
  write(out, 0, node);
  return out;
}

function write(out: Uint8Array, offset: number, node: DerNode): number {
  if (node instanceof Uint8Array) {
    out.set(node, offset);
    return offset + node.length;
  }
  out[offset] = node.tag;
  let position = writeLength(out, offset + 1, node.length);
  for (const part of node.parts) position = write(out, position, part);
  return position;
}

/**
 * Content octets of an OBJECT IDENTIFIER from its dotted form.
 * Constants only: the text is trusted.
 */
export function oidContent(dotted: string): Bytes {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  const octets: number[] = [];
  for (const arc of [first * 40 + second, ...rest]) {
    const digits = [arc & 0x7f];
    for (let value = Math.floor(arc / 128); value > 0; value = Math.floor(value / 128))
      digits.unshift((value & 0x7f) | 0x80);
    octets.push(...digits);
  }
  return Uint8Array.from(octets);
}
