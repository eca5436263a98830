/**
 * Selectors and names of binding rules: Consul's expressions (go-bexpr's grammar.peg) and templates (HIL) in their simple
 * form. What is left out is refused: `any` and `all` of a list, and everything in a template but a variable.
 * @module
 */
import { FormatError } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";
import { compileRegexp, MAX_TEXT } from "./regexp.ts";

/** What a login shows of itself: texts and lists of texts by name, such as `value.name` and `list.groups`. */
export type Fields = ReadonlyMap<string, string | readonly string[]>;

/** Whether a login is selected. A field that it does not have selects nothing. */
export type Selector = (fields: Fields) => boolean;

/** An expression of fifty comparisons is as long. */
const MAX_LENGTH = 4096;
const MAX_DEPTH = 16;

interface Token {
  readonly kind: "word" | "text" | "number" | "sign" | "end";
  readonly text: string;
  readonly at: number;
}

/** Thrown where a field is not there; it is no error of the expression. */
const MISSING = Symbol("missing field");

/**
 * Reads a selector. An empty one selects every login.
 * @param known names of the fields that there may be, with whether each is a list.
 * @throws {FormatError} with the column
 */
export function readSelector(text: string, known: ReadonlyMap<string, "text" | "list">): Selector {
  if (text.trim() === "") return () => true;
  if (text.length > MAX_LENGTH) throw new FormatError(`it is longer than ${MAX_LENGTH} characters`);
  const tokens = scan(text);
  let at = 0;
  const peek = (): Token => tokens[at] as Token;
  const next = (): Token => tokens[at++] as Token;
  const takes = (word: string): boolean => {
    if (peek().kind === "text" || peek().text !== word) return false;
    at++;
    return true;
  };
  const expect = (word: string) => {
    if (!takes(word)) throw fault(peek(), `expected ${JSON.stringify(word)}`);
  };

  const any = (depth: number): Selector => {
    if (depth > MAX_DEPTH) throw fault(peek(), `nesting is deeper than ${MAX_DEPTH}`);
    const parts = [all(depth)];
    while (takes("or")) parts.push(all(depth));
    return (fields) => parts.some((part) => part(fields));
  };
  const all = (depth: number): Selector => {
    const parts = [one(depth)];
    while (takes("and")) parts.push(one(depth));
    return (fields) => parts.every((part) => part(fields));
  };
  const one = (depth: number): Selector => {
    if (depth > MAX_DEPTH) throw fault(peek(), `nesting is deeper than ${MAX_DEPTH}`);
    if (takes("not")) {
      const part = one(depth + 1);
      return (fields) => !part(fields);
    }
    if (takes("(")) {
      const part = any(depth + 1);
      expect(")");
      return part;
    }
    return comparison();
  };

  const comparison = (): Selector => {
    const first = next();
    // A value before `in`, quoted or not; a text that is none is a field in the form of a JSON pointer.
    if (isWord(peek(), "in") || (isWord(peek(), "not") && isWord(tokens[at + 1], "in"))) {
      const wanted = textOf(first);
      const negated = takes("not");
      expect("in");
      return contains(field(next()).get, wanted, negated);
    }
    if (first.kind === "text" && !first.text.startsWith("/")) throw fault(peek(), 'expected "in"');
    const { name, get, list } = field(first);
    if (takes("is")) {
      const negated = takes("not");
      expect("empty");
      return (fields) => (get(fields).length === 0) !== negated;
    }
    const negated = takes("not");
    if (takes("contains")) return contains(get, value(), negated);
    if (takes("matches")) {
      if (list) throw fault(first, `${name} is a list; use contains`);
      return matches(get, next(), negated);
    }
    const operator = next();
    if (negated || (operator.text !== "==" && operator.text !== "!="))
      throw fault(operator, negated ? "expected contains, matches or in" : "expected ==, !=, contains, matches, in or is empty");
    if (list) throw fault(first, `${name} is a list; use contains`);
    const wanted = value();
    return (fields) => (get(fields) === wanted) === (operator.text === "==");
  };

  const field = (token: Token) => {
    const name = nameOf(token);
    const kind = known.get(name);
    if (kind === undefined) {
      const near = nearest(name, [...known.keys()]);
      throw fault(token, `unknown field ${JSON.stringify(name)}${near === null ? "" : `; did you mean ${near}?`}`);
    }
    const get = (fields: Fields): string | readonly string[] => {
      const found = fields.get(name);
      if (found === undefined) throw MISSING;
      return found;
    };
    return { name, get, list: kind === "list" };
  };
  /** `value.name`, `value["name"]` or `"/value/name"`, as one name. */
  const nameOf = (token: Token): string => {
    if (token.kind === "text" && token.text.startsWith("/"))
      return token.text
        .slice(1)
        .split("/")
        .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"))
        .join(".");
    if (token.kind !== "word") throw fault(token, `unknown field ${JSON.stringify(token.text)}`);
    let name = token.text;
    while (takes("[")) {
      const index = next();
      if (index.kind !== "text") throw fault(index, "expected a text in quotes");
      name += `.${index.text}`;
      expect("]");
    }
    return name;
  };
  const value = (): string => textOf(next());
  /** go-bexpr takes a word or a number for a text. */
  const textOf = (token: Token): string => {
    if (token.kind === "text" || token.kind === "word" || token.kind === "number") return token.text;
    throw fault(token, "expected a value; one that is not a word or a number stands in double quotes");
  };
  const matches = (get: (fields: Fields) => string | readonly string[], token: Token, negated: boolean): Selector => {
    const pattern = textOf(token);
    let compiled: (text: string) => boolean;
    try {
      compiled = compileRegexp(pattern);
    } catch (error) {
      throw error instanceof FormatError ? fault(token, error.message) : error;
    }
    return (fields) => {
      const found = get(fields);
      // What is longer than any name is not looked at, and selects nothing, whatever is said of it.
      if (typeof found !== "string" || found.length > MAX_TEXT) throw MISSING;
      return compiled(found) !== negated;
    };
  };
  const contains =
    (get: (fields: Fields) => string | readonly string[], wanted: string, negated: boolean): Selector =>
    (fields) =>
      get(fields).includes(wanted) !== negated;

  const selector = any(0);
  if (peek().kind !== "end") throw fault(peek(), `found ${JSON.stringify(peek().text)}, expected "and" or "or"`);
  return (fields) => {
    try {
      return selector(fields);
    } catch (error) {
      if (error === MISSING) return false;
      throw error;
    }
  };
}

/** Blanks, texts in double quotes or backticks, words, numbers, signs: no two begin alike. A word may have what names of services have. */
const TOKEN = /(\s+)|"((?:[^"\\\n]|\\["\\])*)"|`([^`]*)`|([A-Za-z_][A-Za-z0-9_./-]*)|(-?\d+(?:\.\d+)?)|(==|!=|[()[\]])/y;

function scan(text: string): Token[] {
  const tokens: Token[] = [];
  for (let at = 0; at < text.length; at = TOKEN.lastIndex) {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (match === null) throw fault({ at }, `unexpected ${JSON.stringify(text[at])}`);
    const [, , quoted, raw, word, number, sign] = match;
    if (quoted !== undefined) tokens.push({ kind: "text", text: quoted.replace(/\\(.)/g, "$1"), at });
    else if (raw !== undefined) tokens.push({ kind: "text", text: raw, at });
    else if (word !== undefined) tokens.push({ kind: "word", text: word, at });
    else if (number !== undefined) tokens.push({ kind: "number", text: number, at });
    else if (sign !== undefined) tokens.push({ kind: "sign", text: sign, at });
  }
  tokens.push({ kind: "end", text: "", at: text.length });
  return tokens;
}

function isWord(token: Token | undefined, word: string): boolean {
  return token?.kind === "word" && token.text === word;
}

function fault({ at }: { readonly at: number }, message: string): FormatError {
  return new FormatError(`column ${at + 1}: ${message}`);
}

/** Consul's `BindName`: text with `${…}` for variables. */
export interface Template {
  readonly variables: readonly string[];
  /** Null where a variable is not there, or is a list. */
  fill(fields: Fields): string | null;
}

/** Reads a template. @throws {FormatError} */
export function readTemplate(text: string): Template {
  // Longer names are refused wherever they are used (Consul's ServiceIdentityNameMaxLength).
  if (text === "" || text.length > 256) throw new FormatError("it is empty, or longer than 256 characters");
  const parts = [...text.matchAll(/([^$]+)|\$\{\s*([A-Za-z_][A-Za-z0-9_.-]*)\s*\}/gy)];
  if (parts.reduce((length, [whole]) => length + whole.length, 0) !== text.length)
    throw new FormatError("it has something else than text and variables");
  return {
    variables: parts.flatMap(([, , variable]) => (variable === undefined ? [] : [variable])),
    fill(fields) {
      let filled = "";
      for (const [, literal, variable] of parts) {
        const found = variable === undefined ? literal : fields.get(variable);
        if (typeof found !== "string") return null;
        filled += found;
      }
      return filled;
    },
  };
}
