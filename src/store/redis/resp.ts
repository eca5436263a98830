/**
 * RESP2, the wire format of Redis (https://redis.io/docs/latest/develop/reference/protocol-spec/):
 * encodes commands, and reads replies from chunks in time that is linear in their octets.
 * @module
 */
import { fromUtf8, utf8 } from "../../core/bytes.ts";

const CR = 13;
/** No value is complete yet. Not null, which is a reply. */
const INCOMPLETE = Symbol("incomplete");

/** A command as Redis reads it: an array of strings, each with its length in octets. */
export function encodeCommand(command: readonly string[]): Uint8Array {
  return utf8(
    [`*${command.length}`, ...command.flatMap((part) => [`$${utf8(part).length}`, part])]
      .map((line) => `${line}\r\n`)
      .join(""),
  );
}

/** An array whose items have not all come. */
interface OpenArray {
  readonly length: number;
  readonly items: unknown[];
}

export class ReplyReader {
  /** Octets `#start` to `#end` are not read yet. */
  #buffer: Uint8Array = new Uint8Array();
  #start = 0;
  #end = 0;
  /** No carriage return lies between `#start` and here. */
  #searched = 0;
  /** Whether the buffer is ours to write to, not a chunk of the socket. */
  #owned = false;
  /** The length of the bulk string that is coming, in octets. */
  #bulk: number | null = null;
  /** The arrays that are coming, the outermost first. */
  readonly #open: OpenArray[] = [];

  /**
   * Takes the next octets.
   * @returns the replies that are complete by them; an error reply is an Error.
   * @throws {TypeError} for octets that are not RESP2 @throws {FormatError} for text not in UTF-8
   */
  *read(chunk: Uint8Array): Generator<unknown> {
    this.#append(chunk);
    for (let value = this.#value(); value !== INCOMPLETE; value = this.#value()) {
      const reply = this.#complete(value);
      if (reply !== INCOMPLETE) yield reply;
    }
  }

  /** Each buffer is twice what it must hold, so that an octet is copied twice on average. */
  #append(chunk: Uint8Array): void {
    const unread = this.#end - this.#start;
    if (unread === 0) {
      this.#buffer = chunk;
      [this.#start, this.#end, this.#searched] = [0, chunk.length, 0];
      this.#owned = false;
      return;
    }
    if (!this.#owned || this.#buffer.length - this.#end < chunk.length) {
      const buffer = new Uint8Array(2 * (unread + chunk.length));
      buffer.set(this.#buffer.subarray(this.#start, this.#end));
      this.#buffer = buffer;
      [this.#searched, this.#start, this.#end] = [this.#searched - this.#start, 0, unread];
      this.#owned = true;
    }
    this.#buffer.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  /** The next value. An array with items is opened, and its first item is the value. */
  #value(): unknown {
    if (this.#bulk !== null) return this.#bulkString(this.#bulk);
    const line = this.#line();
    if (line === null) return INCOMPLETE;
    const text = line.slice(1);
    switch (line[0]) {
      case "+":
        return text;
      case "-":
        return new Error(text);
      case ":":
        return integer(text);
      case "$": {
        const length = integer(text);
        return length < 0 ? null : this.#bulkString(length);
      }
      case "*": {
        const length = integer(text);
        if (length <= 0) return length < 0 ? null : [];
        this.#open.push({ length, items: [] });
        return this.#value();
      }
      default:
        throw notResp();
    }
  }

  #bulkString(length: number): unknown {
    const end = this.#start + length;
    this.#bulk = length;
    if (this.#end < end + "\r\n".length) return INCOMPLETE;
    const text = fromUtf8(this.#buffer.subarray(this.#start, end));
    this.#bulk = null;
    this.#start = this.#searched = end + "\r\n".length;
    return text;
  }

  /** The next line without its end; null if that has not come. */
  #line(): string | null {
    const end = this.#buffer.subarray(0, this.#end).indexOf(CR, this.#searched);
    this.#searched = end < 0 ? this.#end : end;
    if (end < 0 || end + 1 >= this.#end) return null;
    const line = fromUtf8(this.#buffer.subarray(this.#start, end));
    this.#start = this.#searched = end + "\r\n".length;
    return line;
  }

  /** Adds a value to the innermost open array. @returns the reply that it completes, if it does. */
  #complete(value: unknown): unknown {
    let item = value;
    for (let array = this.#open.at(-1); array !== undefined; array = this.#open.at(-1)) {
      array.items.push(item);
      if (array.items.length < array.length) return INCOMPLETE;
      this.#open.pop();
      item = array.items;
    }
    return item;
  }
}

function integer(text: string): number {
  if (!/^[+-]?\d+$/.test(text)) throw notResp();
  return Number(text);
}

function notResp(): TypeError {
  return new TypeError("The reply is not RESP2");
}
