/**
 * JSON as Go's encoding/json reads and writes it, since Consul's clients see its texts and forms:
 * its errors, integers beyond a JS number as bigint, `<`, `>` and `&` escaped.
 * @module
 */
import { RequestError } from "../core/errors.ts";

export type Json =
  | null
  | boolean
  | number
  | bigint
  | string
  | readonly Json[]
  | { readonly [key: string]: Json };

/** Levels of nesting, more than any body needs: deeper JSON would exhaust the stack. */
const MAX_DEPTH = 64;
/** Keys and items of a whole text: ten times those of the largest body. */
const MAX_ITEMS = 2000;

/**
 * Reads the first JSON value of a text and ignores the rest, as Go's Decoder does. A repeated key of
 * an object is refused, since readers disagree on which value counts (RFC 8259 section 4).
 * @throws {RequestError} `request_malformed` with Go's text
 */
export function readJson(text: string): Json {
  return new Parser(text).value(0);
}

/**
 * Reads a text that is one JSON value, as Go's Unmarshal does.
 * @throws {RequestError} `request_malformed` with Go's text
 */
export function readWholeJson(text: string): Json {
  const parser = new Parser(text);
  const value = parser.value(0);
  parser.requireEnd();
  return value;
}

/** The error of a body that cannot be decoded, with Consul's prefix. */
export function decodeFailed(reason: string): RequestError {
  return new RequestError("request_malformed", `Request decode failed: ${reason}`);
}

class Parser {
  readonly #text: string;
  #at = 0;
  #itemCount = 0;

  constructor(text: string) {
    this.#text = text;
  }

  value(depth: number): Json {
    if (depth > MAX_DEPTH) throw decodeFailed("exceeded max depth");
    const start = this.#skip();
    if (start === undefined) throw decodeFailed(depth === 0 ? "EOF" : "unexpected EOF");
    if (start === "{") return this.#object(depth);
    if (start === "[") return this.#array(depth);
    if (start === '"') return this.#string();
    if (start === "-" || (start >= "0" && start <= "9")) return this.#number();
    if (start === "t") return this.#literal("true", true);
    if (start === "f") return this.#literal("false", false);
    if (start === "n") return this.#literal("null", null);
    throw this.#unexpected("looking for beginning of value");
  }

  requireEnd(): void {
    if (this.#skip() !== undefined) throw this.#unexpected("after top-level value");
  }

  /** Skips white space. @returns the next character; undefined at the end. */
  #skip(): string | undefined {
    while (" \t\r\n".includes(this.#text[this.#at] ?? "x")) this.#at++;
    return this.#text[this.#at];
  }

  #unexpected(where: string): RequestError {
    const char = this.#text[this.#at];
    if (char === undefined) return decodeFailed("unexpected EOF");
    const quoted =
      char === "'" ? "'\\''" : char === '"' ? "'\"'" : `'${JSON.stringify(char).slice(1, -1)}'`;
    return decodeFailed(`invalid character ${quoted} ${where}`);
  }

  #count(): void {
    if (++this.#itemCount > MAX_ITEMS) throw decodeFailed(`more than ${MAX_ITEMS} keys and items`);
  }

  #object(depth: number): Json {
    const entries = new Map<string, Json>();
    this.#items("}", "after object key:value pair", () => {
      if (this.#skip() !== '"')
        throw this.#unexpected("looking for beginning of object key string");
      this.#count();
      const key = this.#string();
      if (entries.has(key))
        throw decodeFailed(`json: duplicate key ${JSON.stringify(key.slice(0, 64))}`);
      if (this.#skip() !== ":") throw this.#unexpected("after object key");
      this.#at++;
      entries.set(key, this.value(depth + 1));
    });
    return Object.fromEntries(entries);
  }

  #array(depth: number): Json {
    const items: Json[] = [];
    this.#items("]", "after array element", () => {
      this.#count();
      items.push(this.value(depth + 1));
    });
    return items;
  }

  /** Reads the items of an object or array, separated by commas, and what closes it. */
  #items(close: "}" | "]", where: string, readItem: () => void): void {
    this.#at++;
    if (this.#skip() === close) {
      this.#at++;
      return;
    }
    for (let next: string | undefined; next !== close; this.#at++) {
      readItem();
      next = this.#skip();
      if (next !== "," && next !== close) throw this.#unexpected(where);
    }
  }

  #literal<T>(word: string, value: T): T {
    for (let i = 1; i < word.length; i++) {
      this.#at++;
      if (this.#text[this.#at] !== word[i])
        throw this.#unexpected(`in literal ${word} (expecting '${word[i]}')`);
    }
    this.#at++;
    return value;
  }

  #string(): string {
    const start = this.#at++;
    while (true) {
      const char = this.#text[this.#at];
      if (char === '"') break;
      if (char === undefined || char < " ") throw this.#unexpected("in string literal");
      this.#at++;
      if (char !== "\\") continue;
      const code = this.#text[this.#at];
      if (code === undefined || !'"\\/bfnrtu'.includes(code))
        throw this.#unexpected("in string escape code");
      this.#at++;
      if (code !== "u") continue;
      for (let i = 0; i < 4; i++, this.#at++)
        if (!/^[0-9a-fA-F]$/.test(this.#text[this.#at] ?? ""))
          throw this.#unexpected("in \\u hexadecimal character escape");
    }
    this.#at++;
    // It was checked above to be a JSON string.
    return JSON.parse(this.#text.slice(start, this.#at)) as string;
  }

  #number(): number | bigint {
    const start = this.#at;
    if (this.#text[this.#at] === "-") this.#at++;
    if (this.#text[this.#at] === "0") this.#at++;
    else this.#digits("in numeric literal");
    let integer = true;
    if (this.#text[this.#at] === ".") {
      integer = false;
      this.#at++;
      this.#digits("after decimal point in numeric literal");
    }
    if (/^[eE]$/.test(this.#text[this.#at] ?? "")) {
      integer = false;
      this.#at++;
      if (/^[+-]$/.test(this.#text[this.#at] ?? "")) this.#at++;
      this.#digits("in exponent of numeric literal");
    }
    const literal = this.#text.slice(start, this.#at);
    const value = Number(literal);
    if (!Number.isFinite(value))
      throw decodeFailed(
        `json: cannot unmarshal number ${literal.slice(0, 40)} into Go value of type float64`,
      );
    return integer && !Number.isSafeInteger(value) ? BigInt(literal) : value;
  }

  /** Reads one digit or more. */
  #digits(where: string): void {
    const start = this.#at;
    while (/^[0-9]$/.test(this.#text[this.#at] ?? "")) this.#at++;
    if (this.#at === start) throw this.#unexpected(where);
  }
}

/** The name of the type of a JSON value in Go's errors. */
export function goKind(value: Json): string {
  if (Array.isArray(value)) return "array";
  if (typeof value === "bigint") return "number";
  if (typeof value === "boolean") return "bool";
  return value === null ? "null" : typeof value;
}

/** Writes JSON as Go does; pretty, with an indentation of 4 spaces and a final newline. */
export function writeJson(value: Json, pretty: boolean): string {
  return pretty ? `${encode(value, "\n")}\n` : encode(value, null);
}

const ESCAPED = /[<>&\u2028\u2029]/;
const ALL_ESCAPED = new RegExp(ESCAPED, "g");

function encodeString(text: string): string {
  const quoted = JSON.stringify(text);
  return ESCAPED.test(quoted)
    ? quoted.replace(
        ALL_ESCAPED,
        (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
      )
    : quoted;
}

/** @param line the line end and indentation of this level; null: compact. */
function encode(value: Json, line: string | null): string {
  if (typeof value === "string") return encodeString(value);
  if (typeof value !== "object" || value === null)
    return typeof value === "bigint" ? value.toString() : JSON.stringify(value);
  const inner = line === null ? null : `${line}    `;
  let items = "";
  const add = (item: string) => {
    items += (items === "" ? "" : ",") + (inner ?? "") + item;
  };
  if (Array.isArray(value)) {
    for (const item of value as readonly Json[]) add(encode(item, inner));
    return items === "" ? "[]" : `[${items}${line ?? ""}]`;
  }
  const fields = value as { readonly [key: string]: Json };
  const colon = line === null ? ":" : ": ";
  for (const key of Object.keys(fields))
    add(encodeString(key) + colon + encode(fields[key] as Json, inner));
  return items === "" ? "{}" : `{${items}${line ?? ""}}`;
}

/**
 * A copy in which the keys of every object are sorted, as Go writes maps. Integers beyond a JS number
 * become floats, as in Go.
 */
export function sortKeys(value: Json): Json {
  if (typeof value === "bigint") return Number(value);
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(sortKeys);
  const entries = Object.entries(value as { readonly [key: string]: Json }).toSorted(([a], [b]) =>
    a < b ? -1 : 1,
  );
  return Object.fromEntries(entries.map(([key, item]) => [key, sortKeys(item)]));
}

/** An instant as Go writes a time.Time in UTC of whole seconds (RFC 3339). */
export function rfc3339(instant: Date): string {
  return `${instant.toISOString().slice(0, 19)}Z`;
}
