/**
 * A strict reader of the simple form of HCL 1 and of JSON, into one tree with the place of each name.
 * The maintained parsers on npm are Go compiled to WebAssembly. Interpolation and lists of pairs are
 * refused.
 * @module
 */
import { FormatError } from "../core/errors.ts";

/** A policy of a thousand rules is as long as this. */
export const MAX_LENGTH = 128 * 1024;
/** Policies have two levels, Consul's configuration has five. */
const MAX_DEPTH = 8;

export interface Place {
  readonly line: number;
  readonly column: number;
}

export type Value = string | number | boolean | null | readonly Value[] | Body;

/** `a "b" { … }` has two names and a body; `a = "b"` has one and a value. */
export interface Item extends Place {
  readonly names: readonly (Place & { readonly text: string })[];
  readonly value: Value;
  /** Written with `=` or `:`, which may stand once only. */
  readonly assigned: boolean;
}

export interface Body {
  readonly items: readonly Item[];
}

type Kind =
  | "word"
  | "string"
  | "heredoc"
  | "number"
  | "end"
  | "="
  | ":"
  | "{"
  | "}"
  | "["
  | "]"
  | ",";

interface Lexeme extends Place {
  readonly kind: Kind;
  readonly text: string;
}

/** A place as errors name it. */
export function placeOf({ line, column }: Place): string {
  return `line ${line}, column ${column}`;
}

/** Whether a value is a body. */
export function isBody(value: Value): value is Body {
  return typeof value === "object" && value !== null && "items" in value;
}

/**
 * Reads a text: JSON if it begins with a brace, as Consul does, otherwise HCL.
 * @param secretive whether errors quote nothing but names, since the text may have secrets.
 * @throws {FormatError} with the place
 */
export function readHcl(text: string, secretive = false): Body {
  if (text.length > MAX_LENGTH)
    throw new FormatError(`the text is longer than ${MAX_LENGTH} characters`);
  const json = /^\s*\{/.test(text);
  return new HclReader(scan(text, json), json, secretive).read();
}

class HclReader {
  readonly #tokens: readonly Lexeme[];
  readonly #json: boolean;
  readonly #secretive: boolean;
  #at = 0;

  constructor(tokens: readonly Lexeme[], json: boolean, secretive: boolean) {
    this.#tokens = tokens;
    this.#json = json;
    this.#secretive = secretive;
  }

  read(): Body {
    if (!this.#json) return this.#body(0, "end");
    this.#expect("{");
    const whole = this.#members(1);
    this.#expect("end");
    return whole;
  }

  #peek(): Lexeme {
    return this.#tokens[this.#at] as Lexeme;
  }

  #next(): Lexeme {
    return this.#tokens[this.#at++] as Lexeme;
  }

  #describe(token: Lexeme): string {
    return (this.#secretive && QUIET[token.kind]) || quote(token);
  }

  #found(token: Lexeme, expected: string): FormatError {
    return fault(token, `found ${this.#describe(token)}, expected ${expected}`);
  }

  #expect(kind: Kind): Lexeme {
    const token = this.#next();
    if (token.kind !== kind) throw this.#found(token, JSON.stringify(kind));
    return token;
  }

  #deeper(depth: number): number {
    if (depth >= MAX_DEPTH) throw fault(this.#peek(), `nesting is deeper than ${MAX_DEPTH}`);
    return depth + 1;
  }

  #value(depth: number): Value {
    const token = this.#next();
    switch (token.kind) {
      case "string":
      case "heredoc":
        return token.text;
      case "number":
        return Number(token.text);
      case "word":
        if (token.text === "true" || token.text === "false") return token.text === "true";
        if (this.#json && token.text === "null") return null;
        throw this.#found(token, "a value; strings are in double quotes");
      case "[":
        return this.#list(this.#deeper(depth));
      case "{":
        return this.#json
          ? this.#members(this.#deeper(depth))
          : this.#body(this.#deeper(depth), "}");
      default:
        throw this.#found(token, "a value");
    }
  }

  #list(depth: number): Value[] {
    const values: Value[] = [];
    while (this.#peek().kind !== "]") {
      values.push(this.#value(depth));
      if (this.#peek().kind !== ",") break;
      const comma = this.#next();
      if (this.#json && this.#peek().kind === "]")
        throw fault(comma, "a JSON list must not end with a comma");
    }
    this.#expect("]");
    return values;
  }

  /** The members of a JSON object, up to its brace. */
  #members(depth: number): Body {
    const items: Item[] = [];
    if (this.#peek().kind !== "}")
      for (;;) {
        const name = this.#expect("string");
        this.#expect(":");
        items.push({ ...placed(name), names: [name], value: this.#value(depth), assigned: true });
        if (this.#peek().kind !== ",") break;
        this.#next();
      }
    this.#expect("}");
    requireOnce(items);
    return { items };
  }

  /** The items of an HCL body, up to its end. */
  #body(depth: number, end: "}" | "end"): Body {
    const items: Item[] = [];
    while (this.#peek().kind !== end) {
      const names: Lexeme[] = [];
      while (this.#peek().kind === "word" || this.#peek().kind === "string")
        names.push(this.#next());
      const first = names[0];
      if (first === undefined) throw this.#found(this.#peek(), "a name");
      const assigned = this.#peek().kind === "=";
      if (assigned) {
        if (names.length > 1) throw fault(this.#peek(), 'there must be one name before "="');
        this.#next();
      } else if (this.#peek().kind !== "{")
        throw this.#found(this.#peek(), `"=" or "{" after ${this.#describe(first)}`);
      items.push({ ...placed(first), names, value: this.#value(depth), assigned });
      if (this.#peek().kind === ",") this.#next();
    }
    this.#next();
    requireOnce(items);
    return { items };
  }
}

/** A name is assigned once, in JSON too; blocks can repeat it. */
function requireOnce(items: readonly Item[]): void {
  const seen = new Set<string>();
  for (const item of items) {
    const name = item.names[0]?.text ?? "";
    if (item.assigned && seen.has(name)) throw fault(item, `${JSON.stringify(name)} is set twice`);
    if (item.assigned) seen.add(name);
  }
}

function placed({ line, column }: Place): Place {
  return { line, column };
}

/** How errors name a value without quoting it. */
const QUIET: Readonly<Partial<Record<Kind, string>>> = {
  word: "a word",
  string: "a string",
  heredoc: "a heredoc",
  number: "a number",
};

function quote(token: Lexeme): string {
  return token.kind === "end"
    ? "the end"
    : JSON.stringify(token.text.length > 40 ? `${token.text.slice(0, 40)}…` : token.text);
}

function fault(place: Place, message: string): FormatError {
  return new FormatError(`${placeOf(place)}: ${message}`);
}

/** The first line of a heredoc. */
const HEREDOC = /<<(-?)([A-Za-z0-9_]+)\r?\n/y;

/**
 * White space, comments, strings, numbers, words, signs. Each alternative is linear, since no two
 * can begin alike.
 */
const TOKEN =
  /([ \t\r]+)|(\n)|(#[^\n]*|\/\/[^\n]*)|(\/\*)|(")|(-?\d+(?:\.\d+)?)|([A-Za-z_][A-Za-z0-9_.-]*)|([=:{}[\],])/y;

function scan(text: string, json: boolean): Lexeme[] {
  const tokens: Lexeme[] = [];
  let [line, lineStart, at] = [1, 0, 0];
  while (at < text.length) {
    const place = { line, column: at - lineStart + 1 };
    if (!json && text.startsWith("<<", at)) {
      const { value, lines, end } = readHeredoc(text, at, place);
      tokens.push({ ...place, kind: "heredoc", text: value });
      [line, lineStart, at] = [line + lines, end, end];
      continue;
    }
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (match === null) throw fault(place, `unexpected ${JSON.stringify(text[at])}`);
    const [whole, , newline, comment, open, quote, number, word, sign] = match;
    at += whole.length;
    if (json && (comment !== undefined || open !== undefined))
      throw fault(place, "JSON has no comments");
    if (newline !== undefined) [line, lineStart] = [line + 1, at];
    else if (open !== undefined) {
      const close = text.indexOf("*/", at);
      if (close < 0) throw fault(place, "the comment is not closed");
      for (
        let end = text.indexOf("\n", at);
        end >= 0 && end < close;
        end = text.indexOf("\n", end + 1)
      )
        [line, lineStart] = [line + 1, end + 1];
      at = close + 2;
    } else if (quote !== undefined) {
      const end = endOfString(text, at, place);
      tokens.push({ ...place, kind: "string", text: unquote(text.slice(at - 1, end + 1), place) });
      at = end + 1;
    } else if (number !== undefined) tokens.push({ ...place, kind: "number", text: number });
    else if (word !== undefined) tokens.push({ ...place, kind: "word", text: word });
    else if (sign !== undefined) tokens.push({ ...place, kind: sign as Kind, text: sign });
  }
  tokens.push({ line, column: at - lineStart + 1, kind: "end", text: "" });
  return tokens;
}

interface Heredoc {
  readonly value: string;
  /** How many lines it has, with its first and its last one. */
  readonly lines: number;
  /** Where the text goes on behind it. */
  readonly end: number;
}

/**
 * Reads `<<MARK` or `<<-MARK` up to the line that has nothing but the mark, as HCL 1.0.0 does
 * (hcl/scanner/scanner.go, hcl/token/token.go): the value ends with a line end and has no escapes;
 * `<<-` takes away the indentation of the last line if every line has it.
 */
function readHeredoc(text: string, at: number, place: Place): Heredoc {
  HEREDOC.lastIndex = at;
  const [opening = "", dash, mark = ""] = HEREDOC.exec(text) ?? [];
  if (opening === "")
    throw fault(
      place,
      "a heredoc must begin with << or <<-, a marker of letters and digits, and the end of the line",
    );
  const start = at + opening.length;
  let lines = 1;
  for (let from = start; from < text.length; lines++) {
    const newline = text.indexOf("\n", from);
    const end = newline < 0 ? text.length : newline;
    const line = text.slice(from, end).trim();
    if (line === mark) {
      const indent = text.slice(from, end).slice(0, text.slice(from, end).indexOf(mark));
      const body = text.slice(start, from);
      return {
        value: dash === "" ? body + indent : unindent(body, indent),
        lines: lines + 1,
        end: Math.min(end + 1, text.length),
      };
    }
    from = end + 1;
  }
  throw fault(place, "the heredoc is not closed: its last line must be the marker");
}

/** Takes the indentation away from every line, unless one of them lacks it. */
function unindent(body: string, indent: string): string {
  const lines = body.split("\n").slice(0, -1);
  return lines.every((line) => line.startsWith(indent))
    ? lines.map((line) => `${line.slice(indent.length)}\n`).join("")
    : body;
}

/** The index of the closing quote of a string. */
function endOfString(text: string, start: number, place: Place): number {
  for (let at = start; at < text.length; at++) {
    const char = text[at];
    if (char === "\\") at++;
    else if (char === '"') return at;
    else if (char === "\n") break;
    else if (char === "$" && text[at + 1] === "{")
      throw fault(place, "interpolation is not supported");
  }
  throw fault(place, "the string is not closed on its line");
}

/** HCL's escapes are among JSON's. */
function unquote(quoted: string, place: Place): string {
  try {
    return JSON.parse(quoted) as string;
  } catch {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
    const isControl = /[\x00-\x1f]/.test(quoted);
    throw fault(
      place,
      isControl ? "the string has a control character" : "the string has an unknown escape",
    );
  }
}
