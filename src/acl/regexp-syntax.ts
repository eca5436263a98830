/**
 * Parser of Go's regular expressions (golang.org/s/re2syntax). What Go refuses is refused with its
 * text; in addition `\C` is refused.
 * @module
 */
import { FormatError } from "../core/errors.ts";

/** Whether a code point is one of a set. */
export type CharTest = (codePoint: number) => boolean;
/** A zero-width assertion: Go's `^`, `$`, `\A`, `\z`, `\b`, `\B`. */
export type Assertion =
  | "text-start"
  | "text-end"
  | "line-start"
  | "line-end"
  | "word-boundary"
  | "no-word-boundary";

export type Node =
  | { readonly kind: "char"; readonly test: CharTest }
  | { readonly kind: "assertion"; readonly assertion: Assertion }
  | { readonly kind: "concatenation"; readonly parts: readonly Node[] }
  | { readonly kind: "alternation"; readonly parts: readonly Node[] }
  /** `max` null: any number. */
  | {
      readonly kind: "repeat";
      readonly part: Node;
      readonly min: number;
      readonly max: number | null;
    };

/** Go's own bound for a repetition. */
const MAX_REPEAT = 1000;
/** Go's `maxHeight`. */
const MAX_DEPTH = 1000;
const NEWLINE = 0x0a;

interface Flags {
  readonly fold: boolean;
  readonly multiLine: boolean;
  readonly dotAll: boolean;
}

const SPACE = "\\t\\n\\f\\r ";
const WORD = "0-9A-Za-z_";
const PERL: Readonly<Record<string, string>> = { d: "0-9", s: SPACE, w: WORD };
/** Go's ASCII classes. */
const POSIX: ReadonlyMap<string, string> = new Map([
  ["alnum", "0-9A-Za-z"],
  ["alpha", "A-Za-z"],
  ["ascii", "\\x00-\\x7F"],
  ["blank", "\\t "],
  ["cntrl", "\\x00-\\x1F\\x7F"],
  ["digit", "0-9"],
  ["graph", "!-~"],
  ["lower", "a-z"],
  ["print", " -~"],
  ["punct", "!-\\/:-@\\[-`\\{-~"],
  ["space", "\\t\\n\\v\\f\\r "],
  ["upper", "A-Z"],
  ["word", WORD],
  ["xdigit", "0-9A-Fa-f"],
]);
const CONTROLS: ReadonlyMap<string, number> = new Map([
  ["a", 0x07],
  ["f", 0x0c],
  ["n", 0x0a],
  ["r", 0x0d],
  ["t", 0x09],
  ["v", 0x0b],
]);
const ASSERTIONS: ReadonlyMap<string, Assertion> = new Map([
  ["A", "text-start"],
  ["z", "text-end"],
  ["b", "word-boundary"],
  ["B", "no-word-boundary"],
]);

/** Reads an expression. @throws {FormatError} with Go's text */
export function readRegexp(pattern: string): Node {
  return new RegexpReader(pattern).read();
}

class RegexpReader {
  /** One element a code point, as in Go. */
  readonly #chars: readonly string[];
  #at = 0;

  constructor(pattern: string) {
    this.#chars = [...pattern];
  }

  read(): Node {
    const node = this.#alternatives({ fold: false, multiLine: false, dotAll: false }, 0);
    if (this.#at < this.#chars.length) throw fault("unexpected )", this.#chars.join(""));
    return node;
  }

  #peek(offset = 0): string | undefined {
    return this.#chars[this.#at + offset];
  }

  /** Consumes a text if it is next. */
  #takes(text: string): boolean {
    for (let i = 0; i < text.length; i++) if (this.#peek(i) !== text[i]) return false;
    this.#at += text.length;
    return true;
  }

  #since(start: number): string {
    return this.#chars.slice(start, this.#at).join("");
  }

  #alternatives(outer: Flags, depth: number): Node {
    if (depth > MAX_DEPTH) throw fault("expression nests too deeply", this.#chars.join(""));
    let flags = outer;
    const branches: Node[][] = [[]];
    let repeated: number | null = null;
    for (let char = this.#peek(); char !== undefined && char !== ")"; char = this.#peek()) {
      const parts = branches.at(-1) as Node[];
      const start = this.#at;
      if (char === "|") {
        this.#at++;
        branches.push([]);
        repeated = null;
        continue;
      }
      const bounds = this.#repetition();
      if (bounds !== null) {
        const part = parts.pop();
        if (part === undefined)
          throw fault("missing argument to repetition operator", this.#since(start));
        if (repeated !== null)
          throw fault("invalid nested repetition operator", this.#since(repeated));
        parts.push({ kind: "repeat", part, ...bounds });
        repeated = start;
        continue;
      }
      repeated = null;
      if (char === "(") {
        const group = this.#group(flags, depth);
        if ("flags" in group) flags = group.flags;
        else parts.push(group.node);
      } else parts.push(...this.#atom(flags));
    }
    const all = branches.map(
      (parts): Node => (parts.length === 1 ? (parts[0] as Node) : { kind: "concatenation", parts }),
    );
    return all.length === 1 ? (all[0] as Node) : { kind: "alternation", parts: all };
  }

  /**
   * `*`, `+`, `?`, `{n,m}`. A following `?` (non-greedy) does not change whether there is a match.
   */
  #repetition(): { min: number; max: number | null } | null {
    const start = this.#at;
    const char = this.#peek();
    let bounds: { min: number; max: number | null } | null = null;
    if (char === "*" || char === "+" || char === "?") {
      this.#at++;
      bounds = { min: char === "+" ? 1 : 0, max: char === "?" ? 1 : null };
    } else if (char === "{") {
      bounds = this.#count();
      if (bounds === null) return null;
      const { min, max } = bounds;
      if (min > MAX_REPEAT || (max !== null && (max > MAX_REPEAT || max < min)))
        throw fault("invalid repeat count", this.#since(start));
    } else return null;
    this.#takes("?");
    return bounds;
  }

  /** `{n}`, `{n,}` or `{n,m}`; any other brace is a literal. */
  #count(): { min: number; max: number | null } | null {
    const start = this.#at++;
    const min = this.#number();
    const comma = min !== null && this.#takes(",");
    const max = comma ? this.#number() : min;
    if (min === null || !this.#takes("}")) {
      this.#at = start;
      return null;
    }
    return { min, max };
  }

  #number(): number | null {
    const start = this.#at;
    while (/^[0-9]$/.test(this.#peek() ?? "")) this.#at++;
    const digits = this.#since(start);
    // Go does not allow leading zeros.
    if (digits === "" || (digits.length > 1 && digits.startsWith("0"))) return null;
    return digits.length > 8 ? Number.MAX_SAFE_INTEGER : Number(digits);
  }

  #group(flags: Flags, depth: number): { readonly node: Node } | { readonly flags: Flags } {
    const start = this.#at++;
    let inner = flags;
    if (this.#takes("?")) {
      if (
        this.#takes("P<") ||
        (this.#peek() === "<" && this.#peek(1) !== "=" && this.#peek(1) !== "!" && this.#takes("<"))
      )
        this.#groupName(start);
      else {
        inner = this.#flags(flags, start);
        if (this.#takes(")")) return { flags: inner };
        this.#at++;
      }
    }
    const node = this.#alternatives(inner, depth + 1);
    if (!this.#takes(")")) throw fault("missing closing )", this.#chars.join(""));
    return { node };
  }

  #groupName(start: number): void {
    const name = this.#at;
    while (/^\w$/.test(this.#peek() ?? "")) this.#at++;
    const empty = this.#at === name;
    if (!this.#takes(">") || empty)
      throw fault("invalid named capture", this.#chars.slice(start).join(""));
  }

  /** The letters of `(?flags)` and `(?flags:`, without the end. */
  #flags(outer: Flags, start: number): Flags {
    let { fold, multiLine, dotAll } = outer;
    let [on, some] = [true, false];
    for (;;) {
      const char = this.#peek();
      if (char === "i") fold = on;
      else if (char === "m") multiLine = on;
      else if (char === "s") dotAll = on;
      else if (char === "-" && on) [on, some] = [false, false];
      else if (char === ":" || char === ")") {
        // A minus needs a flag after it.
        if (on || some) return { fold, multiLine, dotAll };
        throw this.#perl(start);
      } else if (char !== "U") throw this.#perl(start);
      if (char !== "-") some = true;
      this.#at++;
    }
  }

  #perl(start: number): FormatError {
    this.#at = Math.min(this.#at + 1, this.#chars.length);
    return fault("invalid or unsupported Perl syntax", this.#since(start));
  }

  #atom(flags: Flags): Node[] {
    const char = this.#peek() as string;
    if (char === "[") return [{ kind: "char", test: this.#class(flags) }];
    this.#at++;
    if (char === "\\") return this.#escape(flags);
    if (char === ".")
      return [{ kind: "char", test: (codePoint) => flags.dotAll || codePoint !== NEWLINE }];
    if (char === "^")
      return [{ kind: "assertion", assertion: flags.multiLine ? "line-start" : "text-start" }];
    if (char === "$")
      return [{ kind: "assertion", assertion: flags.multiLine ? "line-end" : "text-end" }];
    return [literal(char, flags)];
  }

  #escape(flags: Flags): Node[] {
    const name = this.#peek();
    const assertion = ASSERTIONS.get(name ?? "");
    if (assertion !== undefined) {
      this.#at++;
      return [{ kind: "assertion", assertion }];
    }
    if (this.#takes("Q")) {
      const parts: Node[] = [];
      while (this.#peek() !== undefined && !this.#takes("\\E")) {
        parts.push(literal(this.#peek() as string, flags));
        this.#at++;
      }
      return parts;
    }
    const set = this.#namedSet(flags);
    if (set !== null) return [{ kind: "char", test: set }];
    return [literal(String.fromCodePoint(this.#escaped()), flags)];
  }

  /**
   * A class such as `\d` or `\pL`, after the backslash; null for anything else.
   * @throws {FormatError}
   */
  #namedSet({ fold }: Flags): CharTest | null {
    const name = this.#peek() ?? "";
    const perl = PERL[name.toLowerCase()];
    if (perl !== undefined) {
      this.#at++;
      return setOf(name === name.toLowerCase() ? `[${perl}]` : `[^${perl}]`, fold);
    }
    if (name !== "p" && name !== "P") return null;
    const start = this.#at - 1;
    this.#at++;
    let property = this.#peek() ?? "";
    this.#at++;
    if (property === "{") {
      const from = this.#at;
      while (/^[\w^]$/.test(this.#peek() ?? "")) this.#at++;
      property = this.#since(from);
      if (!this.#takes("}")) throw fault("invalid character class range", this.#since(start));
    }
    const negated = property.startsWith("^") !== (name === "P");
    const test = unicodeSet(property.replace("^", ""), fold);
    if (test === null) throw fault("invalid character class range", this.#since(start));
    return (codePoint) => test(codePoint) !== negated;
  }

  /** The code point of an escape, after the backslash. @throws {FormatError} */
  #escaped(): number {
    const start = this.#at - 1;
    const char = this.#peek();
    if (char === undefined) throw fault("trailing backslash at end of expression", "");
    this.#at++;
    const control = CONTROLS.get(char);
    if (control !== undefined) return control;
    if (char === "x") return this.#hexadecimal(start);
    if (/^[0-7]$/.test(char)) {
      // A single digit but zero would be a backreference.
      if (char !== "0" && !/^[0-7]$/.test(this.#peek() ?? ""))
        throw fault("invalid escape sequence", this.#since(start));
      let value = Number(char);
      for (let i = 0; i < 2 && /^[0-7]$/.test(this.#peek() ?? ""); i++, this.#at++)
        value = value * 8 + Number(this.#peek());
      return value;
    }
    if (char < "\x80" && !/^[0-9A-Za-z]$/.test(char)) return char.charCodeAt(0);
    throw fault("invalid escape sequence", this.#since(start));
  }

  #hexadecimal(start: number): number {
    const braces = this.#takes("{");
    const from = this.#at;
    while (/^[0-9A-Fa-f]$/.test(this.#peek() ?? "") && (braces || this.#at < from + 2)) this.#at++;
    const digits = this.#since(from);
    const value = Number.parseInt(digits, 16);
    const whole = braces
      ? digits !== "" && this.#takes("}") && value <= 0x10ffff
      : digits.length === 2;
    if (!whole) {
      // Go's text quotes the character that is not a digit.
      this.#at = Math.min(this.#at + 1, this.#chars.length);
      throw fault("invalid escape sequence", this.#since(start));
    }
    return value;
  }

  #class(flags: Flags): CharTest {
    const start = this.#at++;
    const negated = this.#takes("^");
    const tests: CharTest[] = [];
    for (let first = true; first || this.#peek() !== "]"; first = false) {
      if (this.#peek() === undefined)
        throw fault("missing closing ]", this.#chars.slice(start).join(""));
      tests.push(this.#classItem(flags));
    }
    this.#at++;
    return (codePoint) => tests.some((test) => test(codePoint)) !== negated;
  }

  #classItem(flags: Flags): CharTest {
    const start = this.#at;
    if (this.#takes("[:")) {
      const end = this.#chars.indexOf(":", this.#at);
      if (end >= 0 && this.#chars[end + 1] === "]") {
        const name = this.#chars.slice(this.#at, end).join("");
        this.#at = end + 2;
        const set = POSIX.get(name.replace("^", ""));
        if (set === undefined) throw fault("invalid character class range", this.#since(start));
        return setOf(name.startsWith("^") ? `[^${set}]` : `[${set}]`, flags.fold);
      }
      this.#at = start;
    }
    if (this.#peek() === "\\") {
      this.#at++;
      const set = this.#namedSet(flags);
      if (set !== null) return set;
      this.#at = start;
    }
    const low = this.#classChar();
    if (this.#peek() !== "-" || this.#peek(1) === "]" || this.#peek(1) === undefined)
      return rangeOf(low, low, flags);
    this.#at++;
    const high = this.#classChar();
    if (high < low) throw fault("invalid character class range", this.#since(start));
    return rangeOf(low, high, flags);
  }

  #classChar(): number {
    const char = this.#peek();
    if (char === undefined) throw fault("missing closing ]", this.#chars.join(""));
    this.#at++;
    return char === "\\" ? this.#escaped() : (char.codePointAt(0) as number);
  }
}

function literal(char: string, flags: Flags): Node {
  const codePoint = char.codePointAt(0) as number;
  return { kind: "char", test: rangeOf(codePoint, codePoint, flags) };
}

function rangeOf(low: number, high: number, { fold }: Flags): CharTest {
  if (!fold) return (codePoint) => codePoint >= low && codePoint <= high;
  return setOf(`[\\u{${low.toString(16)}}-\\u{${high.toString(16)}}]`, true);
}

/** A class of JavaScript's regular expressions: with one character they cannot backtrack. */
function setOf(set: string, fold: boolean): CharTest {
  const expression = new RegExp(`^${set}$`, fold ? "iu" : "u");
  return (codePoint) => expression.test(String.fromCodePoint(codePoint));
}

/** A Unicode general category or script, by its name in Go and JavaScript; null if unknown. */
function unicodeSet(name: string, fold: boolean): CharTest | null {
  if (name === "Any") return () => true;
  if (!/^[A-Z][A-Za-z_]*$/.test(name)) return null;
  for (const property of name.length <= 2 ? [`General_Category=${name}`] : [`Script=${name}`])
    try {
      return setOf(`\\p{${property}}`, fold);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
  return null;
}

function fault(what: string, where: string): FormatError {
  return new FormatError(`error parsing regexp: ${what}: \`${where}\``);
}
