/**
 * The end of a command's output, for the log: bounded, and without keys and certificates.
 * @module
 */

/** Octets that are kept, and lines and characters of the text. */
const [MAX_OCTETS, MAX_LINES, MAX_CHARACTERS] = [4096, 10, 1000];
/** A line of base64 as PEM has it (RFC 7468 section 2: 64 characters, the last line fewer). */
const BASE64_LINE = /^[A-Za-z0-9+/]{20,}={0,2}$/;

export class OutputTail {
  #kept: Buffer = Buffer.alloc(0);
  #isCut = false;

  add(chunk: Buffer): void {
    const all = Buffer.concat([this.#kept, chunk]);
    this.#isCut ||= all.length > MAX_OCTETS;
    this.#kept = all.subarray(Math.max(0, all.length - MAX_OCTETS));
  }

  /** The last lines. The log escapes control characters. */
  text(): string {
    const lines = new TextDecoder().decode(this.#kept).split(/\r?\n/);
    // The first one may be the rest of a line with a secret.
    if (this.#isCut) lines.shift();
    return withoutPem(lines)
      .filter((line) => line.trim() !== "")
      .slice(-MAX_LINES)
      .join("\n")
      .slice(-MAX_CHARACTERS);
  }
}

/** Replaces PEM blocks, whole or cut, and other lines of base64. */
function withoutPem(lines: readonly string[]): string[] {
  const kept: string[] = [];
  let isInside = false;
  for (const line of lines) {
    const begins = line.includes("-----BEGIN ");
    const isHidden =
      isInside || begins || line.includes("-----END ") || BASE64_LINE.test(line.trim());
    isInside = (isInside || begins) && !line.includes("-----END ");
    if (!isHidden) kept.push(line);
    else if (kept.at(-1) !== HIDDEN) kept.push(HIDDEN);
  }
  return kept;
}

const HIDDEN = "[base64 removed]";
