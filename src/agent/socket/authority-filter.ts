/**
 * Makes the `:authority` of requests acceptable to HTTP/2 before it is parsed. grpc-java sends the
 * path of the Unix socket, whose slashes an authority must not have (RFC 3986 section 3.2, RFC 9113
 * section 8.3.1), and nghttp2 resets such a stream. Nothing here reads the authority: every octet
 * that it must not have becomes an underscore, in place, so that no length changes.
 *
 * grpc-java writes the value as a literal without Huffman code below 512 octets (Netty's
 * HpackEncoder), and a path has 107 at most. Later requests refer to the dynamic table, which then
 * has the changed value.
 * @module
 */
import { Buffer } from "node:buffer";

/** Octets of the connection preface of a client (RFC 9113 section 3.4). */
const PREFACE = 24;
/** Octets of a frame's header (RFC 9113 section 4.1). */
const FRAME_HEADER = 9;
/** RFC 9113 section 6.2. */
const HEADERS = 1;
const PADDED = 0x08;
const PRIORITY = 0x20;
/** The greatest payload without a setting that allows more (RFC 9113 section 4.2). */
const MAX_PAYLOAD = 16_384;
/** The entry of `:authority` in the static table (RFC 7541 appendix A). */
const AUTHORITY = 1;
const UNDERSCORE = 0x5f;

/** Octets of an authority (RFC 3986 section 3.2): unreserved, percent, sub-delims, `:`, `@`, `[`, `]`. */
const ALLOWED = new Set(
  Buffer.from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%!$&'()*+,;=:@[]"),
);

/** One direction of a connection: what a client sends. */
export class AuthorityFilter {
  /** Octets that pass as they are, before the next frame. */
  #skip = PREFACE;
  /** The begin of a frame that is not whole. */
  #held: Buffer = Buffer.alloc(0);

  /** @returns the octets to go on with: fewer if a frame with headers is not whole yet. */
  push(chunk: Buffer): Buffer {
    const data = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    let at = 0;
    while (at < data.length) {
      if (this.#skip > 0) {
        const passed = Math.min(this.#skip, data.length - at);
        this.#skip -= passed;
        at += passed;
        continue;
      }
      if (data.length - at < FRAME_HEADER) break;
      const length = data.readUIntBE(at, 3);
      // A frame that is too long is refused by HTTP/2 itself.
      if (data[at + 3] === HEADERS && length <= MAX_PAYLOAD) {
        if (data.length - at < FRAME_HEADER + length) break;
        const payload = data.subarray(at + FRAME_HEADER, at + FRAME_HEADER + length);
        cleanHeaders(payload, data[at + 4] ?? 0);
      }
      this.#skip = FRAME_HEADER + length;
    }
    this.#held = data.subarray(at);
    return data.subarray(0, at);
  }
}

/** Changes the payload of a HEADERS frame in place (RFC 9113 section 6.2). */
function cleanHeaders(payload: Buffer, flags: number): void {
  const padding = (flags & PADDED) === 0 ? 0 : (payload[0] ?? 0) + 1;
  const begin = ((flags & PADDED) === 0 ? 0 : 1) + ((flags & PRIORITY) === 0 ? 0 : 5);
  const end = payload.length - (padding === 0 ? 0 : padding - 1);
  if (begin < end) cleanBlock(new BlockReader(payload.subarray(begin, end)));
}

/** Walks over the fields of a block (RFC 7541 section 6) as far as it goes in this frame. */
function cleanBlock(block: BlockReader): void {
  while (!block.atEnd) {
    const first = block.peek;
    // Indexed, or a new size of the table: one number.
    if ((first & 0x80) !== 0) block.number(7);
    else if ((first & 0xe0) === 0x20) block.number(5);
    else {
      const name = block.number((first & 0x40) === 0 ? 4 : 6);
      if (name === 0) block.text();
      const value = block.text();
      if (name === AUTHORITY && value !== null) clean(value);
    }
  }
}

function clean(value: Buffer): void {
  for (const [i, octet] of value.entries()) if (!ALLOWED.has(octet)) value[i] = UNDERSCORE;
}

/** Reads numbers and texts of a block. Past its end everything is 0 and empty. */
class BlockReader {
  readonly #block: Buffer;
  #at = 0;

  constructor(block: Buffer) {
    this.#block = block;
  }

  get atEnd(): boolean {
    return this.#at >= this.#block.length;
  }

  get peek(): number {
    return this.#block[this.#at] ?? 0;
  }

  /** An integer with a prefix of so many bits (RFC 7541 section 5.1). */
  number(prefix: number): number {
    const most = 2 ** prefix - 1;
    let value = this.peek & most;
    this.#at++;
    if (value < most) return value;
    for (let factor = 1; !this.atEnd; factor *= 128) {
      const octet = this.peek;
      this.#at++;
      value += (octet & 0x7f) * factor;
      // Beyond any block: HTTP/2 itself refuses it.
      if ((octet & 0x80) === 0 || value > MAX_PAYLOAD) return value;
    }
    return value;
  }

  /** A string literal (RFC 7541 section 5.2); null if it is not whole, or has Huffman code. */
  text(): Buffer | null {
    const isHuffman = (this.peek & 0x80) !== 0;
    const length = this.number(7);
    const [from, to] = [this.#at, this.#at + length];
    this.#at = to;
    return isHuffman || to > this.#block.length ? null : this.#block.subarray(from, to);
  }
}
