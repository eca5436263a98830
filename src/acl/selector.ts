/**
 * Selectors and names of binding rules: Consul's expressions (go-bexpr's grammar.peg) and templates
 * (HIL) in their simple form. What is left out is refused: `any` and `all` of a list, and
 * everything in a template but a variable.
 * @module
 */
import { FormatError } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";
import { compileRegexp, MAX_TEXT } from "./regexp.ts";

/**
 * What a login shows of itself: texts and lists of texts by name, such as `value.name` and
 * `list.groups`.
 */
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
  get(fields: Fields): string | readonly string[];
}

class SelectorReader {
  readonly #tokens: readonly Token[];
  readonly #known: ReadonlyMap<string, "text" | "list">;
  #at = 0;

  /** @param tokens the last of which is the end. */
  constructor(tokens: readonly Token[], known: ReadonlyMap<string, "text" | "list">) {
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

  #peek(offset = 0): Token {
    return this.#tokens[Math.min(this.#at + offset, this.#tokens.length - 1)] as Token;
  }

  #next(): Token {
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
    // A value before `in`, quoted or not; a text that is not one is a field in the form of a JSON
    // pointer.
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

  #field(token: Token): Field {
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
  #fieldName(token: Token): string {
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
      if (index.kind !== "text") throw fault(index, "expected a text in quotes");
      name += `.${index.text}`;
      this.#expect("]");
    }
    return name;
  }
}

/** go-bexpr takes a word or a number for a text. */
function textOf(token: Token): string {
  if (token.kind === "text" || token.kind === "word" || token.kind === "number") return token.text;
  throw fault(
    token,
    "expected a value; one that is not a word or a number stands in double quotes",
  );
}

function isOperator({ kind, text }: Token, negated: boolean): boolean {
  if (kind === "word" && text === "matches") return true;
  return !negated && kind === "sign" && (text === "==" || text === "!=");
}

function contains({ get }: Field, wanted: string, negated: boolean): Selector {
  return (fields) => get(fields).includes(wanted) !== negated;
}

function matches({ get }: Field, token: Token, negated: boolean): Selector {
  const compiled = compile(token);
  return (fields) => {
    const found = get(fields);
    // What is longer than any name is not looked at, and selects nothing, whatever is said of it.
    if (typeof found !== "string" || found.length > MAX_TEXT) throw MISSING;
    return compiled(found) !== negated;
  };
}

function compile(token: Token): (text: string) => boolean {
  const pattern = textOf(token);
  try {
    return compileRegexp(pattern);
  } catch (error) {
    throw error instanceof FormatError ? fault(token, error.message) : error;
  }
}

/**
 * Blanks, texts in double quotes or backticks, words, numbers, signs: no two begin alike. A word
 * may have what names of services have.
 */
const TOKEN =
  /(\s+)|"((?:[^"\\\n]|\\["\\])*)"|`([^`]*)`|([A-Za-z_][A-Za-z0-9_./-]*)|(-?\d+(?:\.\d+)?)|(==|!=|[()[\]])/y;

function scan(text: string): Token[] {
  const tokens: Token[] = [];
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
  if (text === "" || text.length > 256)
    throw new FormatError("it is empty, or longer than 256 characters");
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
