/**
 * JSON as Go reads and writes it, since Consul's clients see Go's texts and forms: errors worded by
 * encoding/json, integers that a JS number cannot hold kept as bigint, `<`, `>` and `&` escaped.
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

/** No body that we read nests deeper; a bomb does. */
const MAX_DEPTH = 64;
/** Keys and items of a whole text: ten times what the widest body that we read has. */
const MAX_ITEMS = 2000;

/**
 * Reads the first JSON value of a text; what follows it is ignored, as Go's Decoder does. A key
 * that comes twice in an object is refused: which of the two counts is what readers of JSON
 * disagree on (RFC 8259 §4).
 * @throws {RequestError} `request_malformed` with Go's text
 */
export function readJson(text: string): Json {
  const parser = new Parser(text);
  return parser.value(0);
}

/** The error of a body that is no JSON of the form wanted, with Consul's prefix. */
export function decodeFailed(reason: string): RequestError {
  return new RequestError("request_malformed", `Request decode failed: ${reason}`);
}

class Parser {
  readonly #text: string;
  #at = 0;
  #items = 0;

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

  /** The next character that is no white space; undefined at the end. */
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
    if (++this.#items > MAX_ITEMS) throw decodeFailed(`more than ${MAX_ITEMS} keys and items`);
  }

  #object(depth: number): Json {
    const entries = new Map<string, Json>();
    this.#at++;
    if (this.#skip() === "}") {
      this.#at++;
      return {};
    }
    while (true) {
      if (this.#skip() !== '"')
        throw this.#unexpected("looking for beginning of object key string");
      this.#count();
      const key = this.#string();
      if (entries.has(key))
        throw decodeFailed(`json: duplicate key ${JSON.stringify(key.slice(0, 64))}`);
      if (this.#skip() !== ":") throw this.#unexpected("after object key");
      this.#at++;
      entries.set(key, this.value(depth + 1));
      const next = this.#skip();
      if (next !== "," && next !== "}") throw this.#unexpected("after object key:value pair");
      this.#at++;
      if (next === "}") break;
    }
    return Object.fromEntries(entries);
  }

  #array(depth: number): Json {
    const items: Json[] = [];
    this.#at++;
    if (this.#skip() === "]") {
      this.#at++;
      return items;
    }
    while (true) {
      this.#count();
      items.push(this.value(depth + 1));
      const next = this.#skip();
      if (next !== "," && next !== "]") throw this.#unexpected("after array element");
      this.#at++;
      if (next === "]") return items;
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
    // Checked to be a JSON string.
    return JSON.parse(this.#text.slice(start, this.#at)) as string;
  }

  #number(): number | bigint {
    const start = this.#at;
    const digits = () => {
      while (/^[0-9]$/.test(this.#text[this.#at] ?? "")) this.#at++;
    };
    const oneDigit = (where: string) => {
      if (!/^[0-9]$/.test(this.#text[this.#at] ?? "")) throw this.#unexpected(where);
      digits();
    };
    if (this.#text[this.#at] === "-") this.#at++;
    if (this.#text[this.#at] === "0") this.#at++;
    else oneDigit("in numeric literal");
    let integer = true;
    if (this.#text[this.#at] === ".") {
      integer = false;
      this.#at++;
      oneDigit("after decimal point in numeric literal");
    }
    if (/^[eE]$/.test(this.#text[this.#at] ?? "")) {
      integer = false;
      this.#at++;
      if (/^[+-]$/.test(this.#text[this.#at] ?? "")) this.#at++;
      oneDigit("in exponent of numeric literal");
    }
    const literal = this.#text.slice(start, this.#at);
    const value = Number(literal);
    if (!Number.isFinite(value))
      throw decodeFailed(
        `json: cannot unmarshal number ${literal.slice(0, 40)} into Go value of type float64`,
      );
    return integer && !Number.isSafeInteger(value) ? BigInt(literal) : value;
  }
}

/** What Go calls the type of a JSON value in its errors. */
export function goKind(value: Json): string {
  if (Array.isArray(value)) return "array";
  if (typeof value === "bigint") return "number";
  if (typeof value === "boolean") return "bool";
  return value === null ? "null" : typeof value;
}

/**
 * Writes JSON as Go does: objects in the order of their keys here, 4 spaces and a final newline
 * when pretty.
 */
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

/** @param line the line end with the indentation of this level, or null for compact. */
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
 * A copy with the keys of every object in order, as Go writes maps. Integers beyond a JS number
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
