/**
 * Selectors and name templates of binding rules: the simple form of Consul's expressions (go-bexpr's
 * grammar.peg) and templates (HIL). `any` and `all` of a list are refused, and in a template all
 * expressions but a variable.
 * @module
 */
import { FormatError } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";
import { compileRegexp, MAX_TEXT } from "./regexp.ts";

/** The fields of a login: strings and lists of strings by name, such as `value.name`, `list.groups`. */
export type LoginFields = ReadonlyMap<string, string | readonly string[]>;

/** Whether a login is selected. A comparison of a field that it lacks selects nothing. */
export type Selector = (fields: LoginFields) => boolean;

/** As long as fifty comparisons. */
const MAX_LENGTH = 4096;
/** Longer names are refused when they are used (Consul's `ServiceIdentityNameMaxLength`). */
const MAX_TEMPLATE = 256;
const MAX_DEPTH = 16;

interface Lexeme {
  readonly kind: "word" | "text" | "number" | "sign" | "end";
  readonly text: string;
  readonly at: number;
}

/** Thrown if a login lacks a field, which is not an error of the expression. */
const MISSING = Symbol("missing field");

/**
 * Reads a selector. An empty one selects every login.
 * @param known names of the fields that there may be, with whether each is a list.
 * @throws {FormatError} with the column
 */
export function readSelector(text: string, known: ReadonlyMap<string, "text" | "list">): Selector {
  if (text.trim() === "") return () => true;
  if (text.length > MAX_LENGTH)
    throw new FormatError(`the selector is longer than ${MAX_LENGTH} characters`);
  const selector = new SelectorReader(scan(text), known).read();
  return (fields) => {
    try {
      return selector(fields);
    } catch (error) {
      if (error === MISSING) return false;
      throw error;
    }
  };
}

/** A field that an expression names. */
interface Field {
  readonly name: string;
  readonly list: boolean;
  /** Throws MISSING if a login does not have it. */
  get(fields: LoginFields): string | readonly string[];
}

class SelectorReader {
  readonly #tokens: readonly Lexeme[];
  readonly #known: ReadonlyMap<string, "text" | "list">;
  #at = 0;

  /** @param tokens the last of which is the end. */
  constructor(tokens: readonly Lexeme[], known: ReadonlyMap<string, "text" | "list">) {
    this.#tokens = tokens;
    this.#known = known;
  }

  read(): Selector {
    const selector = this.#any(0);
    const rest = this.#peek();
    if (rest.kind !== "end")
      throw fault(rest, `found ${JSON.stringify(rest.text)}, expected "and" or "or"`);
    return selector;
  }

  #peek(offset = 0): Lexeme {
    return this.#tokens[Math.min(this.#at + offset, this.#tokens.length - 1)] as Lexeme;
  }

  #next(): Lexeme {
    const token = this.#peek();
    this.#at++;
    return token;
  }

  #takes(word: string): boolean {
    if (this.#peek().kind === "text" || this.#peek().text !== word) return false;
    this.#at++;
    return true;
  }

  #expect(word: string): void {
    if (!this.#takes(word)) throw fault(this.#peek(), `expected ${JSON.stringify(word)}`);
  }

  #any(depth: number): Selector {
    if (depth > MAX_DEPTH) throw fault(this.#peek(), `nesting is deeper than ${MAX_DEPTH}`);
    const parts = [this.#all(depth)];
    while (this.#takes("or")) parts.push(this.#all(depth));
    return (fields) => parts.some((part) => part(fields));
  }

  #all(depth: number): Selector {
    const parts = [this.#one(depth)];
    while (this.#takes("and")) parts.push(this.#one(depth));
    return (fields) => parts.every((part) => part(fields));
  }

  #one(depth: number): Selector {
    if (depth > MAX_DEPTH) throw fault(this.#peek(), `nesting is deeper than ${MAX_DEPTH}`);
    if (this.#takes("not")) {
      const part = this.#one(depth + 1);
      return (fields) => !part(fields);
    }
    if (this.#takes("(")) {
      const part = this.#any(depth + 1);
      this.#expect(")");
      return part;
    }
    return this.#comparison();
  }

  #comparison(): Selector {
    const first = this.#next();
    // A value before `in`, quoted or not; elsewhere a quoted text is a field as a JSON pointer.
    if (
      isWord(this.#peek(), "in") ||
      (isWord(this.#peek(), "not") && isWord(this.#peek(1), "in"))
    ) {
      const wanted = textOf(first);
      const negated = this.#takes("not");
      this.#expect("in");
      return contains(this.#field(this.#next()), wanted, negated);
    }
    if (first.kind === "text" && !first.text.startsWith("/"))
      throw fault(this.#peek(), 'expected "in"');
    const field = this.#field(first);
    if (this.#takes("is")) {
      const negated = this.#takes("not");
      this.#expect("empty");
      return (fields) => (field.get(fields).length === 0) !== negated;
    }
    const negated = this.#takes("not");
    if (this.#takes("contains")) return contains(field, textOf(this.#next()), negated);
    const operator = this.#next();
    if (!isOperator(operator, negated))
      throw fault(
        operator,
        negated
          ? "expected contains, matches or in"
          : "expected ==, !=, contains, matches, in or is empty",
      );
    if (field.list) throw fault(first, `${field.name} is a list; use contains`);
    const value = this.#next();
    if (operator.text === "matches") return matches(field, value, negated);
    const wanted = textOf(value);
    return (fields) => (field.get(fields) === wanted) === (operator.text === "==");
  }

  #field(token: Lexeme): Field {
    const name = this.#fieldName(token);
    const kind = this.#known.get(name);
    if (kind === undefined) {
      const near = nearest(name, [...this.#known.keys()]);
      throw fault(
        token,
        `unknown field ${JSON.stringify(name)}${near === null ? "" : `; did you mean ${near}?`}`,
      );
    }
    return {
      name,
      list: kind === "list",
      get(fields) {
        const found = fields.get(name);
        if (found === undefined) throw MISSING;
        return found;
      },
    };
  }

  /** `value.name`, `value["name"]` or `"/value/name"`, as one name. */
  #fieldName(token: Lexeme): string {
    if (token.kind === "text" && token.text.startsWith("/"))
      return token.text
        .slice(1)
        .split("/")
        .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"))
        .join(".");
    if (token.kind !== "word") throw fault(token, `unknown field ${JSON.stringify(token.text)}`);
    let name = token.text;
    while (this.#takes("[")) {
      const index = this.#next();
      if (index.kind !== "text") throw fault(index, "expected a string in quotes");
      name += `.${index.text}`;
      this.#expect("]");
    }
    return name;
  }
}

/** go-bexpr takes a word or a number for a text. */
function textOf(token: Lexeme): string {
  if (token.kind === "text" || token.kind === "word" || token.kind === "number") return token.text;
  throw fault(token, "expected a value; all but words and numbers are in double quotes");
}

function isOperator({ kind, text }: Lexeme, negated: boolean): boolean {
  if (kind === "word" && text === "matches") return true;
  return !negated && kind === "sign" && (text === "==" || text === "!=");
}

function contains({ get }: Field, wanted: string, negated: boolean): Selector {
  return (fields) => get(fields).includes(wanted) !== negated;
}

function matches({ get }: Field, token: Lexeme, negated: boolean): Selector {
  const compiled = compile(token);
  return (fields) => {
    const found = get(fields);
    // A text that is longer than any name selects nothing, negated or not.
    if (typeof found !== "string" || found.length > MAX_TEXT) throw MISSING;
    return compiled(found) !== negated;
  };
}

function compile(token: Lexeme): (text: string) => boolean {
  const pattern = textOf(token);
  try {
    return compileRegexp(pattern);
  } catch (error) {
    throw error instanceof FormatError ? fault(token, error.message) : error;
  }
}

/**
 * Blanks, texts in double quotes or backticks, words, numbers, signs: no two begin alike. A word has
 * the characters of service names.
 */
const TOKEN =
  /(\s+)|"((?:[^"\\\n]|\\["\\])*)"|`([^`]*)`|([A-Za-z_][A-Za-z0-9_./-]*)|(-?\d+(?:\.\d+)?)|(==|!=|[()[\]])/y;

function scan(text: string): Lexeme[] {
  const tokens: Lexeme[] = [];
  for (let at = 0; at < text.length; at = TOKEN.lastIndex) {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (match === null) throw fault({ at }, `unexpected ${JSON.stringify(text[at])}`);
    const [, , quoted, raw, word, number, sign] = match;
    if (quoted !== undefined)
      tokens.push({ kind: "text", text: quoted.replace(/\\(.)/g, "$1"), at });
    else if (raw !== undefined) tokens.push({ kind: "text", text: raw, at });
    else if (word !== undefined) tokens.push({ kind: "word", text: word, at });
    else if (number !== undefined) tokens.push({ kind: "number", text: number, at });
    else if (sign !== undefined) tokens.push({ kind: "sign", text: sign, at });
  }
  tokens.push({ kind: "end", text: "", at: text.length });
  return tokens;
}

function isWord(token: Lexeme | undefined, word: string): boolean {
  return token?.kind === "word" && token.text === word;
}

function fault({ at }: { readonly at: number }, message: string): FormatError {
  return new FormatError(`column ${at + 1}: ${message}`);
}

/** Consul's `BindName`: text with `${…}` for variables. */
export interface Template {
  readonly variables: readonly string[];
  /** Null if a variable is missing or a list. */
  fill(fields: LoginFields): string | null;
}

/** Reads a template. @throws {FormatError} */
export function readTemplate(text: string): Template {
  if (text === "") throw new FormatError("the template is empty");
  if (text.length > MAX_TEMPLATE)
    throw new FormatError(`the template is longer than ${MAX_TEMPLATE} characters`);
  const parts = [...text.matchAll(/([^$]+)|\$\{\s*([A-Za-z_][A-Za-z0-9_.-]*)\s*\}/gy)];
  if (parts.reduce((length, [whole]) => length + whole.length, 0) !== text.length)
    throw new FormatError('the template has a "$" that does not begin a variable');
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
