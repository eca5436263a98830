/**
 * Selectors and names of binding rules: Consul's expressions (go-bexpr) and templates (HIL) in their simple form. What
 * is left out is refused: regular expressions, and everything in a template but a variable.
 * @module
 */
import { FormatError } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";

/** What a login shows of itself: texts and lists of texts by name, such as `value.name` and `list.groups`. */
export type Fields = ReadonlyMap<string, string | readonly string[]>;

/** Whether a login is selected. A field that it does not have selects nothing. */
export type Selector = (fields: Fields) => boolean;

/** An expression of fifty comparisons is as long. */
const MAX_LENGTH = 4096;
const MAX_DEPTH = 16;

interface Token {
  readonly kind: "word" | "text" | "sign" | "end";
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
    if (first.kind === "text") {
      const negated = takes("not");
      expect("in");
      return contains(field(next()).get, first.text, negated);
    }
    const { get, list } = field(first);
    if (takes("is")) {
      const negated = takes("not");
      expect("empty");
      return (fields) => (get(fields).length === 0) !== negated;
    }
    if (takes("contains")) return contains(get, value(), false);
    if (takes("not")) {
      expect("contains");
      return contains(get, value(), true);
    }
    const operator = next();
    if (operator.text !== "==" && operator.text !== "!=")
      throw fault(
        operator,
        operator.text === "matches" ? "regular expressions are not available" : "expected ==, !=, contains, in or is empty",
      );
    if (list) throw fault(first, `${first.text} is a list; use contains`);
    const wanted = value();
    return (fields) => (get(fields) === wanted) === (operator.text === "==");
  };

  const field = (token: Token) => {
    const kind = token.kind === "word" ? known.get(token.text) : undefined;
    if (kind === undefined) {
      const near = nearest(token.text, [...known.keys()]);
      throw fault(token, `unknown field ${JSON.stringify(token.text)}${near === null ? "" : `; did you mean ${near}?`}`);
    }
    const get = (fields: Fields): string | readonly string[] => {
      const found = fields.get(token.text);
      if (found === undefined) throw MISSING;
      return found;
    };
    return { get, list: kind === "list" };
  };
  const value = (): string => {
    const token = next();
    if (token.kind !== "text") throw fault(token, "a value stands in double quotes");
    return token.text;
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

/** Blanks, texts in double quotes or backticks, words, signs: no two begin alike. */
const TOKEN = /(\s+)|"((?:[^"\\\n]|\\["\\])*)"|`([^`]*)`|([A-Za-z_][A-Za-z0-9_.-]*)|(==|!=|[()])/y;

function scan(text: string): Token[] {
  const tokens: Token[] = [];
  for (let at = 0; at < text.length; at = TOKEN.lastIndex) {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (match === null) throw fault({ at }, `unexpected ${JSON.stringify(text[at])}`);
    const [, , quoted, raw, word, sign] = match;
    if (quoted !== undefined) tokens.push({ kind: "text", text: quoted.replace(/\\(.)/g, "$1"), at });
    else if (raw !== undefined) tokens.push({ kind: "text", text: raw, at });
    else if (word !== undefined) tokens.push({ kind: "word", text: word, at });
    else if (sign !== undefined) tokens.push({ kind: "sign", text: sign, at });
  }
  tokens.push({ kind: "end", text: "", at: text.length });
  return tokens;
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
