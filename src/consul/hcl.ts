/**
 * A strict reader of HCL's simple form and of JSON, to one tree with the place of every name. It is
 * our own, since the kept parsers that were found on npm run Go as WebAssembly or GopherJS.
 *
 * What is left out of HCL 1 is refused, never guessed at: interpolation, and lists of pairs.
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

interface Token extends Place {
  readonly kind: Kind;
  readonly text: string;
}

/** `12:5`, as errors name a place. */
export function placeOf({ line, column }: Place): string {
  return `line ${line}, column ${column}`;
}

/** Whether a value is a body. */
export function isBody(value: Value): value is Body {
  return typeof value === "object" && value !== null && "items" in value;
}

/**
 * Reads a text: JSON where it begins with a brace, as Consul decides it, else HCL.
 * @param secretive whether errors repeat nothing of the text but names, since it may hold secrets.
 * @throws {FormatError} with the place
 */
export function readHcl(text: string, secretive = false): Body {
  if (text.length > MAX_LENGTH) throw new FormatError(`it is longer than ${MAX_LENGTH} characters`);
  const json = /^\s*\{/.test(text);
  const tokens = scan(text, json);
  let at = 0;
  const peek = (): Token => tokens[at] as Token;
  const next = (): Token => tokens[at++] as Token;
  const describe = (token: Token) => (secretive && QUIET[token.kind]) || quote(token);
  const expect = (kind: Kind): Token => {
    const token = next();
    if (token.kind !== kind)
      throw fault(token, `found ${describe(token)}, expected ${JSON.stringify(kind)}`);
    return token;
  };
  const deeper = (depth: number) => {
    if (depth >= MAX_DEPTH) throw fault(peek(), `nesting is deeper than ${MAX_DEPTH}`);
    return depth + 1;
  };

  const value = (depth: number): Value => {
    const token = next();
    switch (token.kind) {
      case "string":
      case "heredoc":
        return token.text;
      case "number":
        return Number(token.text);
      case "word":
        if (token.text === "true" || token.text === "false") return token.text === "true";
        if (json && token.text === "null") return null;
        throw fault(
          token,
          `found ${describe(token)}, expected a value; text stands in double quotes`,
        );
      case "[":
        return list(deeper(depth));
      case "{":
        return json ? members(deeper(depth)) : body(deeper(depth), "}");
      default:
        throw fault(token, `found ${describe(token)}, expected a value`);
    }
  };

  const list = (depth: number): Value[] => {
    const values: Value[] = [];
    while (peek().kind !== "]") {
      values.push(value(depth));
      if (peek().kind !== ",") break;
      const comma = next();
      if (json && peek().kind === "]") throw fault(comma, "nothing follows the comma");
    }
    expect("]");
    return values;
  };

  /** The members of a JSON object, up to its brace. */
  const members = (depth: number): Body => {
    const items: Item[] = [];
    if (peek().kind !== "}")
      for (;;) {
        const name = expect("string");
        expect(":");
        items.push({ ...placed(name), names: [name], value: value(depth), assigned: true });
        if (peek().kind !== ",") break;
        next();
      }
    expect("}");
    requireOnce(items);
    return { items };
  };

  /** The items of an HCL body, up to its end. */
  const body = (depth: number, end: "}" | "end"): Body => {
    const items: Item[] = [];
    while (peek().kind !== end) {
      const names: Token[] = [];
      while (peek().kind === "word" || peek().kind === "string") names.push(next());
      const first = names[0];
      if (first === undefined) throw fault(peek(), `found ${describe(peek())}, expected a name`);
      const assigned = peek().kind === "=";
      if (assigned) {
        if (names.length > 1) throw fault(peek(), "a value is given to one name");
        next();
      } else if (peek().kind !== "{")
        throw fault(
          peek(),
          `found ${describe(peek())}, expected "=" or "{" after ${describe(first)}`,
        );
      items.push({ ...placed(first), names, value: value(depth), assigned });
      if (peek().kind === ",") next();
    }
    next();
    requireOnce(items);
    return { items };
  };

  if (!json) return body(0, "end");
  expect("{");
  const whole = members(1);
  expect("end");
  return whole;
}

/** What is assigned is assigned once, in JSON too; blocks may stand several times. */
function requireOnce(items: readonly Item[]): void {
  const seen = new Set<string>();
  for (const item of items) {
    const name = item.names[0]?.text ?? "";
    if (item.assigned && seen.has(name))
      throw fault(item, `${JSON.stringify(name)} was set already`);
    if (item.assigned) seen.add(name);
  }
}

function placed({ line, column }: Place): Place {
  return { line, column };
}

/** What a value is called that is not repeated. */
const QUIET: Readonly<Partial<Record<Kind, string>>> = {
  word: "a word",
  string: "a text",
  heredoc: "a here document",
  number: "a number",
};

function quote(token: Token): string {
  return token.kind === "end"
    ? "the end"
    : JSON.stringify(token.text.length > 40 ? `${token.text.slice(0, 40)}…` : token.text);
}

function fault(place: Place, message: string): FormatError {
  return new FormatError(`${placeOf(place)}: ${message}`);
}

/** The first line of a here document. */
const HEREDOC = /<<(-?)([A-Za-z0-9_]+)\r?\n/y;

/**
 * White space, comments, strings, numbers, words, signs. Each alternative is linear, since no two
 * can begin alike.
 */
const TOKEN =
  /([ \t\r]+)|(\n)|(#[^\n]*|\/\/[^\n]*)|(\/\*)|(")|(-?\d+(?:\.\d+)?)|([A-Za-z_][A-Za-z0-9_.-]*)|([=:{}[\],])/y;

function scan(text: string, json: boolean): Token[] {
  const tokens: Token[] = [];
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
      if (close < 0) throw fault(place, "the comment does not end");
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
      "a here document begins with << or <<-, a mark of letters and digits, and the end of the line",
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
  throw fault(place, "the here document does not end: its last line has the mark alone");
}

/** Takes the indentation away from every line, unless one of them lacks it. */
function unindent(body: string, indent: string): string {
  const lines = body.split("\n").slice(0, -1);
  return lines.every((line) => line.startsWith(indent))
    ? lines.map((line) => `${line.slice(indent.length)}\n`).join("")
    : body;
}

/** Where the closing quote of a string is. */
function endOfString(text: string, start: number, place: Place): number {
  for (let at = start; at < text.length; at++) {
    const char = text[at];
    if (char === "\\") at++;
    else if (char === '"') return at;
    else if (char === "\n") break;
    else if (char === "$" && text[at + 1] === "{")
      throw fault(place, "interpolation is not available here");
  }
  throw fault(place, "the string does not end on its line");
}

/** HCL's escapes are among JSON's. */
function unquote(quoted: string, place: Place): string {
  try {
    return JSON.parse(quoted) as string;
  } catch {
    throw fault(place, "the string has an escape that is not known, or a control character");
  }
}
